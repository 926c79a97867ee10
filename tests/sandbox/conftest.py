"""What the tests of the sandbox share."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what schemathesis thinks up when slow tests are not wanted: that takes it seconds."""
    is_quick = config.getoption("markexpr") == "not slow"
    return True if is_quick and collection_path.name == "test_openapi_answers.py" else None
