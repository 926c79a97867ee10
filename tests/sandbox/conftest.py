"""Fixtures of the tests of the sandbox."""

from pathlib import Path

import pytest

from healthmsg.sandbox import Sandbox
from tests.caller import Caller
from tests.sandbox.helpers import Talk


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what schemathesis thinks up when slow tests are not wanted: that takes it seconds."""
    is_quick = config.getoption("markexpr") == "not slow"
    return True if is_quick and collection_path.name == "test_openapi_answers.py" else None


@pytest.fixture
def chat(sandbox: Sandbox) -> str:
    return f"conversations/{sandbox.add_conversation()}"


@pytest.fixture
def talk(call: Caller, sandbox: Sandbox) -> Talk:
    patient = sandbox.add_user("Piet", "Patiënt")
    return Talk(call, f"conversations/{sandbox.add_conversation(user=patient, aux_id='bed 7')}", patient)
