"""Fixtures for the tests of the command line."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a file of recipients goes."""
    return tmp_path / "lijst.csv"
