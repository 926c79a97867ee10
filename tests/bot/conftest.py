"""What tests of bots leave to the thorough run."""

import pytest

# `test_work_killed.py` shows in CI on PostgreSQL what these show once more: the same store, killed at random.
_OF_FILES = ("tests/bot/store/", "tests/bot/outbox/", "tests/bot/test_work_killed.py::test_an_event")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Count what shows on PostgreSQL what it shows on SQLite, too, as thorough."""
    if item.nodeid.startswith(_OF_FILES) and "postgresql" in item.name:
        item.add_marker(pytest.mark.thorough)
