"""Whatever the sandbox is asked, it answers as the OpenAPI file says: schemathesis thinks the calls up."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import field, frozen
from hypothesis import HealthCheck, settings
from requests import Session
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.records import PROVIDERS
from tests.openapi_contract import JSON, load

pytestmark = pytest.mark.slow

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    unsupported_method,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# The same calls in every run.
GENERATION: Final = {"deterministic": True, "database": "none", "max-examples": 4, "no-shrink": True}
CONFIG: Final = SchemathesisConfig.from_dict({"seed": 1, "generation": GENERATION})
# What is generated does not depend on how fast this machine is, and the fixture is for all calls of one
# operation.
NOT_CHECKED: Final = [
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.function_scoped_fixture,
]


def prepared_sandbox() -> Sandbox:
    """Make a sandbox in which there is something of everything; its ids are the same each time."""
    sandbox = Sandbox(rate_limit=None)
    store, members = sandbox.store, [*sandbox.store.people.values()][1:4]
    group = sandbox.add_group_chat("MDO", members=[member.id for member in members], aux_id="mdo/é")
    sandbox.close_chat(f"groupchats/{sandbox.add_group_chat('Oud', aux_id='oud')}")
    me = store.people[sandbox.user_id]
    file = store.new_file("a.txt", "text/plain", b"a")
    store.post(store.chats[group], me, "Zie de bijlage, @all", files=[file])
    return sandbox


def real_ids() -> dict[str, list[str]]:
    """Return ids that lead somewhere, by the name of their schema; few, so that they fit each other."""
    sandbox = prepared_sandbox()
    chats = [*sandbox.store.chats.values()]
    conversation = next(chat for chat in chats if not chat.is_group and any(m.files for m in chat.messages))
    groups = chats[-2:]
    messages = [conversation.messages[-1], *groups[0].messages]
    me = sandbox.store.people[sandbox.user_id]
    patient = conversation.other_side(me)
    assert patient.aux_id is not None
    return {
        "ConversationId": [conversation.id],
        "GroupChatId": [group.id for group in groups],
        "UserAuxId": [patient.aux_id],
        "GroupChatAuxId": ["mdo/é", "oud"],
        "UserId": [patient.id, *(member.id for member in groups[0].members[1:])],
        "MessageId": [message.id for message in messages],
        "AttachmentId": [file.id for message in messages for file in message.files],
        "ProviderId": [provider.id for provider in PROVIDERS],
    }


def with_real_ids(document: JSON) -> JSON:
    """Make two of three generated ids real ones."""
    for name, ids in real_ids().items():
        schema = document["components"]["schemas"][name]
        document["components"]["schemas"][name] = {"anyOf": [{"enum": ids}, {"enum": ids}, schema]}
    return document


SCHEMA: Final = schemathesis.openapi.from_dict(with_real_ids(load()), config=CONFIG)


@frozen
class Running:
    """A sandbox for one operation, and what it has answered to that."""

    sandbox: Sandbox
    session: Session
    statuses: set[int] = field(factory=set)


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    # The sandbox runs in a thread: schemathesis waits for its answers without a loop.
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def running(portal: BlockingPortal) -> Iterator[Running]:
    with portal.wrap_async_context_manager(prepared_sandbox()) as sandbox, Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {sandbox.issue_token()}"
        running = Running(sandbox, session)
        yield running
    assert min(running.statuses) < 400, "every call was refused"


@SCHEMA.parametrize()
@settings(deadline=None, suppress_health_check=NOT_CHECKED)
def test_every_answer_is_one_that_the_file_describes(case: Case[Any], running: Running) -> None:
    answer = case.call(running.sandbox.environment.api_url, running.session, allow_redirects=False)
    if case.method == case.operation.method.upper():  # some try another method
        running.statuses.add(answer.status_code)
    case.validate_response(answer, checks=CHECKS)
