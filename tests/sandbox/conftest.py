"""Fixtures of the tests of the sandbox."""

import pytest

from healthmsg.sandbox import Sandbox
from tests.caller import Caller
from tests.sandbox.helpers import Talk


@pytest.fixture
def chat(sandbox: Sandbox) -> str:
    return f"conversations/{sandbox.add_conversation()}"


@pytest.fixture
def talk(call: Caller, sandbox: Sandbox) -> Talk:
    patient = sandbox.add_user("Piet", "Patiënt")
    return Talk(call, f"conversations/{sandbox.add_conversation(user=patient, aux_id='bed 7')}", patient)
