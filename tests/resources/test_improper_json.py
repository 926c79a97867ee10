"""What a service answers in JSON that is not quite JSON is read all the same."""

from pathlib import Path

import orjson
import pytest

from healthmsg import Client
from healthmsg.sandbox import AnswerStatus, Garbage, Sandbox

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "answer", [BOM + b'{"id": "m1"}', b'{"id": "m1", "note": "a\tb\xff"}', b'{"id":"m1","n":NaN}']
)
async def test_a_message_that_was_accepted_is_delivered_however_its_answer_is_written(
    client: Client, sandbox: Sandbox, answer: bytes
) -> None:
    chat = sandbox.add_conversation()
    sandbox.faults.add(kind=Garbage(answer), method="POST")

    assert (await client.conversations(chat).send("Tot morgen")).id == "m1"
    assert len(sandbox.messages(f"conversations/{chat}")) == 1


async def test_a_chat_with_improper_messages_is_read_and_exported(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = sandbox.add_conversation()
    page = rb"""[{"id": "m2", "body": "Dank u \ud83d", "liked_by": NaN, "odd": ["\udc00"]},
        {"id": "m1", "body": "Regel 1
Regel 2", "attachments": [{"id": "a1", "size": -Infinity, "name": "wond \ud83d.png"}]}]"""
    for number, body in enumerate([page, b"[]"] * 2):
        fault = AnswerStatus(200, BOM * (number % 2) + body, {"Content-Type": "application/json"})
        sandbox.faults.add(kind=fault, template="conversations/{id}/messages")

    async with client.conversations(chat).messages() as pager:
        messages = [message async for message in pager]
    sandbox.faults.add(kind=AnswerStatus(200, b"png"), path_contains="/files/")
    sandbox.faults.add(
        kind=AnswerStatus(200, BOM + orjson.dumps({"link": f"{sandbox.url}/files/x"})),
        template="conversations/{id}/attachments/{attachment_id}",
    )
    exported = await client.conversations(chat).export(to=tmp_path)

    assert [message.body for message in messages] == ["Dank u \ufffd", "Regel 1\nRegel 2"]
    assert (exported.messages, exported.attachments) == (2, 1)
    written = (tmp_path / "messages.jsonl").read_text(encoding="utf-8").splitlines()
    assert [orjson.loads(line)["body"] for line in written] == ["Regel 1\nRegel 2", "Dank u \ufffd"]


async def test_an_export_goes_on_though_an_editor_gave_its_description_a_mark(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat = client.conversations(sandbox.add_conversation(messages=["Dag"]))
    await chat.export(to=tmp_path)
    description = tmp_path / "chat.json"
    description.write_bytes(BOM + description.read_bytes())

    assert (await chat.export(to=tmp_path)).messages == 1
