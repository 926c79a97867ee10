"""What tests of bots leave to the thorough run."""

import pytest

# `test_work_killed.py` shows in CI on PostgreSQL what these show once more: the same store, killed at random.
_OF_FILES = ("tests/bot/store/", "tests/bot/outbox/", "tests/bot/test_work_killed.py::test_an_event")


# And `test_killed.py` on SQLite what the work loop alone shows there.
_KILLED_AT_RANDOM = "tests/bot/test_work_killed.py::test_what_is_killed_at_random"


def pytest_itemcollected(item: pytest.Item) -> None:
    """Count what shows on one database what is shown on it otherwise as thorough."""
    is_postgresql = "postgresql" in item.name
    if item.nodeid.startswith(_OF_FILES if is_postgresql else _KILLED_AT_RANDOM):
        item.add_marker(pytest.mark.thorough)
