"""A sandbox in another process."""

from itertools import count
from typing import Any

import pytest
from aiohttp import ClientSession

from healthmsg import ConfigurationError
from healthmsg.sandbox import Sandbox, SandboxFile
from healthmsg.sandbox.remote import RemoteSandbox
from tests.caller import Answer, Caller
from tests.sandbox.helpers import Talk


async def admin(call: Caller, method: str, path: str, **kwargs: Any) -> Answer:
    return await call(
        method, f"/sandbox/{path}", headers={"x-sandbox-secret": call.sandbox.client_secret}, **kwargs
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "log"), ("GET", "report"), ("POST", "conversations"), ("POST", "reset-log")],
)
@pytest.mark.parametrize("headers", [{}, {"x-sandbox-secret": "wrong"}])
async def test_the_secret_is_needed(call: Caller, method: str, path: str, headers: dict[str, str]) -> None:
    answer = await call(method, f"/sandbox/{path}", headers=headers)
    assert (answer.status, answer.document["error"]) == (403, "secret_required")


async def test_conversations_are_added_in_bulk(call: Caller, sandbox: Sandbox) -> None:
    rows = [{"first_name": "Zoë", "last_name": f"Nummer {n}", "aux_id": f"bed {n}"} for n in range(200)]
    added = await admin(call, "POST", "conversations", json=rows)
    assert added.status == 201
    assert len(added.document) == 200
    assert (await call("GET", "aux/conversations/bed%207")).document["id"] == added.document[7]


@pytest.mark.parametrize("rows", [{}, [{"first_name": "Zoë"}], [5]])
async def test_rows_that_cannot_be_are_refused_and_none_is_added(
    call: Caller, sandbox: Sandbox, rows: object
) -> None:
    before = len(sandbox.store.people)
    assert (await admin(call, "POST", "conversations", json=rows)).status == 400
    assert len(sandbox.store.people) == before


async def test_the_report_counts_copies_calls_and_refusals(session: ClientSession) -> None:
    ticks = count()
    async with Sandbox(clock=lambda: next(ticks) / 64) as sandbox:
        await check_report(Caller(sandbox, session), sandbox)


async def check_report(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation(messages=["a", "b", "a"])
    for _ in range(32):
        await call("GET", "me")
    report = (await admin(call, "GET", "report")).document
    assert report["copies"][f"conversations/{chat}"] == {"a": 2, "b": 1}
    assert (report["calls"], report["rejected"], report["max_calls_in_any_second"]) == (32, 2, 32)
    assert report["calls_per_second"] == 64.0
    log = (await admin(call, "GET", "log")).document
    assert [row["sequence"] for row in log] == list(range(32))
    assert log[31]["status"] == 429
    assert (await admin(call, "POST", "reset-log")).status == 200
    report = (await admin(call, "GET", "report")).document
    assert (report["calls"], report["calls_per_second"]) == (0, 0.0)
    assert report["copies"]


async def test_another_path_is_not_found(call: Caller) -> None:
    assert (await admin(call, "GET", "nothing")).status == 404


async def test_another_process_can_add_files(call: Caller, sandbox: Sandbox) -> None:
    chat = sandbox.add_conversation()
    remote = RemoteSandbox(sandbox.url, sandbox.client_id, sandbox.client_secret)
    sent = await remote.say(None, chat, files=[SandboxFile("scan.png", 1000), SandboxFile("a.txt", b"abc")])
    assert [len(sandbox.file_content(file.id)) for file in sent.attachments] == [1000, 3]


async def test_another_process_can_play_the_other_side(talk: Talk, sandbox: Sandbox) -> None:
    remote = RemoteSandbox(sandbox.url, sandbox.client_id, sandbox.client_secret)
    question = {"options": [{"name": name, "label": name} for name in ("yes", "no")], "multi_answer": True}
    asked = await talk.call("POST", f"{talk.path}/messages", json={"body": "?", "question": question})
    (provider, _) = await talk.read("providers")
    request = await talk.ask_for(provider["provider_id"])
    heard: list[str] = []
    sandbox.store.hub.listen(lambda announcement: heard.append(announcement.name))

    await remote.type(talk.patient, talk.path)
    await remote.type(None, talk.path, stopped=True)
    sent = await remote.say(talk.patient, talk.path, "Dag")
    await remote.answer(talk.patient, asked.document["id"], "yes")
    await remote.answer(None, asked.document["id"], ["yes", "no"])
    await remote.verify(None, request.document["id"])

    assert sandbox.messages(talk.path)[-1] == sent
    assert (await talk.payload(asked.document["id"]))["answers"] == [
        {"user_id": talk.patient, "options": ["yes", "no"]}
    ]
    assert heard == [
        "typing",
        "stop_typing",
        "conversation_new_message",
        "conversation_question_answer",
        "conversation_question_answer",
        "conversation_verification_accepted",
    ]


async def test_another_process_hears_why_it_cannot(talk: Talk, sandbox: Sandbox) -> None:
    remote = RemoteSandbox(sandbox.url, sandbox.client_id, sandbox.client_secret)
    with pytest.raises(KeyError, match="no such user"):
        await remote.say("none", talk.path, "x")
    with pytest.raises(ValueError, match="a text or a file"):
        await remote.say(None, talk.path)
    with pytest.raises(ConfigurationError, match="403"):
        await RemoteSandbox(sandbox.url, sandbox.client_id, "wrong").say(None, talk.path, "x")
    with pytest.raises(ConfigurationError, match="404"):
        await RemoteSandbox(f"{sandbox.url}/elsewhere", sandbox.client_id, "x").say(None, talk.path, "x")
