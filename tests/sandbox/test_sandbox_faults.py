"""Faults to order."""

import json
import time

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError
from caller import Caller

from healthmsg.sandbox import (
    AnswerStatus,
    CutAfter,
    CutBefore,
    CutBody,
    Delay,
    Fault,
    Garbage,
    Sandbox,
    WrongShape,
)

HELLO = {"body": "Hallo"}


@pytest.fixture
def chat(sandbox: Sandbox) -> str:
    return f"conversations/{sandbox.add_conversation()}"


async def test_a_status_is_answered_once_and_nothing_is_done(
    call: Caller, sandbox: Sandbox, chat: str
) -> None:
    sandbox.faults.add(method="POST", kind=AnswerStatus(503, b"later", {"Retry-After": "3"}))
    assert (await call("GET", chat)).status == 200
    struck = await call("POST", f"{chat}/messages", json=HELLO)
    assert (struck.status, struck.body, struck.headers["Retry-After"]) == (503, b"later", "3")
    assert sandbox.messages(chat) == ()
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201


@pytest.mark.parametrize(("kind", "sent"), [(CutBefore(), 0), (CutAfter(), 1)])
async def test_a_line_is_cut_before_or_after_the_call_took_effect(
    call: Caller, sandbox: Sandbox, chat: str, kind: Fault, sent: int
) -> None:
    sandbox.faults.add(kind=kind)
    with pytest.raises(ClientConnectionError):
        await call("POST", f"{chat}/messages", json=HELLO)
    assert len(sandbox.messages(chat)) == sent
    assert sandbox.calls[-1].status is None
    assert (await call("GET", "me")).status == 200


async def test_half_a_body_arrives_and_then_nothing(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=CutBody())
    with pytest.raises(ClientPayloadError):
        await call("POST", f"{chat}/messages", json=HELLO)
    assert len(sandbox.messages(chat)) == 1


@pytest.mark.parametrize("after", [False, True])
async def test_a_delay_delays(call: Caller, sandbox: Sandbox, chat: str, *, after: bool) -> None:
    sandbox.faults.add(kind=Delay(0.02, after=after))
    started = time.perf_counter()
    assert (await call("POST", f"{chat}/messages", json=HELLO)).status == 201
    assert time.perf_counter() - started >= 0.019
    assert len(sandbox.messages(chat)) == 1


async def test_garbage_keeps_the_status_and_is_no_json(call: Caller, sandbox: Sandbox, chat: str) -> None:
    sandbox.faults.add(kind=Garbage(), times=2)
    sent = await call("POST", f"{chat}/messages", json=HELLO)
    assert (sent.status, (await call("GET", "me")).status) == (201, 200)
    with pytest.raises(ValueError, match=r"."):
        json.loads(sent.body)
    assert len(sandbox.messages(chat)) == 1


async def test_a_wrong_shape_is_json_of_the_other_kind(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=WrongShape(), times=2)
    assert isinstance((await call("GET", "me")).document, list)
    assert isinstance((await call("GET", "conversations")).document, dict)


async def test_a_fault_can_be_for_a_template_or_a_piece_of_a_path(call: Caller, sandbox: Sandbox) -> None:
    sandbox.faults.add(template="conversations/{id}/messages", kind=AnswerStatus(500))
    sandbox.faults.add(path_contains="users/abc", kind=AnswerStatus(502))
    sandbox.faults.add(template="oauth/token", kind=AnswerStatus(503), times=None)
    assert (await call("GET", "conversations")).status == 200
    assert (await call("GET", "users/abc")).status == 502
    assert (await call("GET", "conversations/x/messages")).status == 500
    assert [(await call("POST", "/oauth/token")).status for _ in range(3)] == [503] * 3
    sandbox.faults.clear()
    assert (await call("POST", "/oauth/token")).status == 400


async def test_a_download_can_be_cut_in_half(call: Caller, sandbox: Sandbox) -> None:
    stored, message = next(
        (stored, message)
        for stored in sandbox.store.chats.values()
        for message in stored.messages
        if message.files
    )
    link = await call("GET", f"{stored.address}/attachments/{message.files[0].id}")
    cookie = "; ".join(f"{name}={value}" for name, value in link.cookies.items())
    sandbox.faults.add(template="files/{key}", kind=CutBody())
    with pytest.raises(ClientPayloadError):
        await call("GET", link.document["link"], headers={"Cookie": cookie})
