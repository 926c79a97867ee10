"""What tests of bots leave to the thorough run."""

import pytest

# With PostgreSQL, `test_work_killed.py` shows in CI what these show once more: the same store, killed.
_OF_FILES = ("tests/bot/store/", "tests/bot/outbox/")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Count what shows on PostgreSQL what it shows on SQLite, too, as thorough."""
    if item.nodeid.startswith(_OF_FILES) and "postgresql" in item.name:
        item.add_marker(pytest.mark.thorough)
