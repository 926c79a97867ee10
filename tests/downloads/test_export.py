"""The archive of a chat: `chat.json`, `messages.jsonl` and the attachments."""

import asyncio
import json
import re
import signal
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from healthmsg import Client, Environment, Export, ForbiddenError, InvalidInputError, NotFoundError, RateLimit
from healthmsg.errors import ClientClosedError, ClientUsageError, ExportIncompleteError, InternalServerError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, Garbage, Sandbox
from tests.at_once import AtOnce
from tests.downloads.archives import (
    FILE,
    LINK,
    MESSAGES,
    FailsAfterFirstPage,
    Pages,
    Stalls,
    content_of,
    fill,
    names,
    tree,
    unhurried,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=None) as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    async with unhurried(sandbox) as client:
        yield client


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "messages.jsonl").read_text("utf-8").splitlines()]


def fetched_files(sandbox: Sandbox) -> int:
    return sum(call.template == FILE for call in sandbox.calls)


# --- what is in it


async def test_an_archive_has_the_chat_its_messages_and_its_files(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await chat.send("één")
    await fill(chat, 3)
    await chat.send("laatste\nregel")
    folder = tmp_path / "archief"

    export = await chat.export(to=folder)

    assert export == Export(folder, messages=5, attachments=3, fetched=3)
    assert json.loads((folder / "chat.json").read_bytes())["id"] == chat.id
    written = lines(folder)
    assert [line["body"] for line in written] == [
        *("één", "bericht 0", "bericht 1", "bericht 2"),
        "laatste\nregel",
    ]
    assert [line["id"] for line in written] == [message.id for message in sandbox.messages(chat.address)]
    for number, line in enumerate(written[1:4]):
        (attachment,) = line["attachments"]
        assert attachment["name"] == "uitslag.pdf"
        assert attachment["size"] == len(content_of(number))
        assert attachment["file"].startswith("attachments/uitslag-")
        assert (folder / attachment["file"]).read_bytes() == content_of(number)
    assert len(tree(folder)) == 5
    assert names(folder) == ["attachments", "chat.json", "messages.jsonl"]


async def test_messages_are_oldest_first_over_many_pages(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat_id = sandbox.add_conversation(messages=[str(number) for number in range(457)])

    export = await chat.__class__(chat._api, type(chat.address)(chat.address.kind, chat_id)).export(
        to=tmp_path
    )

    assert export.messages == 457
    assert [line["body"] for line in lines(tmp_path)] == [str(number) for number in range(457)]


async def test_every_field_survives_unknown_ones_too(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    message = {
        "id": "m1",
        "body": "x",
        "user": {"id": "u1", "first_name": "Zoë", "pager": 7},
        "attachments": [{"id": "a1", "name": "a.pdf", "size": 4, "mime_type": "x/y", "scan": {"ok": None}}],
        "mentions": [{"id": "@all"}],
        "payload": {"type": "survey", "stars": 5},
        "created_at": "2026-01-02T03:04:05+00:00",
        "liked_by": [{"id": "u2"}],
        "urgent": True,
        "thread": {"parent": "m0", "depth": None},
    }
    sandbox.faults.add(kind=Garbage(json.dumps([message]).encode()), template=MESSAGES, times=None)
    await _put_attachment(tmp_path, message["attachments"][0])  # type: ignore[index]

    await chat.export(to=tmp_path)

    (written,) = lines(tmp_path)
    file = written["attachments"][0].pop("file")
    assert written == message
    assert (tmp_path / file).read_bytes() == b"%PDF"


async def _put_attachment(folder: Path, document: dict[str, Any]) -> None:
    from healthmsg import Attachment
    from healthmsg.files.targets import stored_name

    (folder / "attachments").mkdir()
    name = stored_name(Attachment(document["id"], document["name"]))
    (folder / "attachments" / name).write_bytes(b"%PDF")


async def test_an_attachment_of_two_messages_is_one_file(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    (message,) = sandbox.messages(chat.address)
    attachment = {"id": message.attachments[0].id, "name": "uitslag.pdf", "size": len(content_of(0))}
    pages = tuple([{"id": f"m{number}", "attachments": [attachment]}] for number in range(3))
    sandbox.faults.add(kind=Pages(pages), template=MESSAGES, times=None)

    export = await chat.export(to=tmp_path)

    assert (export.messages, export.attachments, export.fetched) == (3, 1, 1)
    assert len({line["attachments"][0]["file"] for line in lines(tmp_path)}) == 1
    assert fetched_files(sandbox) == 1


async def test_an_attachment_that_goes_by_two_names_is_there_under_both(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    (message,) = sandbox.messages(chat.address)
    attachments = [{"id": message.attachments[0].id, "name": name} for name in ("a.pdf", "b.pdf")]
    body = json.dumps([{"id": "m1", "attachments": attachments}])
    sandbox.faults.add(kind=Garbage(body.encode()), template=MESSAGES, times=None)

    await chat.export(to=tmp_path)

    files = [attachment["file"] for attachment in lines(tmp_path)[0]["attachments"]]
    assert [(tmp_path / file).read_bytes() for file in files] == [content_of(0)] * 2


async def test_an_empty_chat_has_an_archive(chat: Chat, tmp_path: Path) -> None:
    export = await chat.export(to=tmp_path)

    assert (export.messages, export.attachments) == (0, 0)
    assert (tmp_path / "messages.jsonl").read_bytes() == b""


async def test_a_group_chat_has_an_archive(client: Client, sandbox: Sandbox, tmp_path: Path) -> None:
    group = client.groupchats(sandbox.add_group_chat("Afdeling 3", messages=["x"]))

    await group.export(to=tmp_path)

    assert json.loads((tmp_path / "chat.json").read_bytes())["subject"] == "Afdeling 3"
    assert [line["body"] for line in lines(tmp_path)] == ["x"]


async def test_an_archive_is_the_users_alone(chat: Chat, tmp_path: Path) -> None:
    await fill(chat, 1)

    await chat.export(to=tmp_path / "new")

    folders = [tmp_path / "new", tmp_path / "new" / "attachments"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_the_repr_of_an_export_shows_no_folder(chat: Chat, tmp_path: Path) -> None:
    shown = repr(await chat.export(to=tmp_path / "s3cret"))

    assert "s3cret" not in shown


async def test_messages_that_arrive_meanwhile_are_left_out_and_hide_none(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    chat_id = sandbox.add_conversation(messages=[str(number) for number in range(350)])
    other = chat.__class__(chat._api, type(chat.address)(chat.address.kind, chat_id))
    sandbox.faults.add(kind=Arrival(other), template=MESSAGES, times=None)

    export = await other.export(to=tmp_path)

    bodies = [line["body"] for line in lines(tmp_path)]
    assert [body for body in bodies if body != "new"] == [str(number) for number in range(350)]
    assert export.messages == len(bodies) <= 351


class Arrival:
    """A fault that lets a message arrive before each page but the first is read."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.is_sending = False

    async def answer(self, request: Any, execute: Any) -> web.Response | None:
        response: web.Response = await execute()
        if request.method == "GET" and not self.is_sending:
            self.is_sending = True
            await self.chat.send("new")
            self.is_sending = False
        return response


async def test_no_log_tells_which_chat_or_file_it_is(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await fill(chat, 3, name="s3cret.pdf")
    sandbox.faults.add(kind=AnswerStatus(403), template=LINK)
    with pytest.raises(ExportIncompleteError) as caught:
        await chat.export(to=tmp_path / "s3cret")

    ours = " ".join(record.getMessage() for record in caplog.records if record.name == "healthmsg")
    ours += str(caught.value) + repr(caught.value) + repr(caught.value.failures)
    assert "s3cret" not in ours
    assert chat.id not in ours


# --- again, and going on


async def test_a_second_export_fetches_nothing_and_brings_what_is_new(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 3)
    await chat.export(to=tmp_path)
    await chat.send("nieuw")
    sandbox.reset_calls()

    export = await chat.export(to=tmp_path)

    assert (export.messages, export.attachments, export.fetched) == (4, 3, 0)
    assert fetched_files(sandbox) == 0
    assert lines(tmp_path)[-1]["body"] == "nieuw"


async def test_what_could_not_be_fetched_is_reported_and_all_else_is_done(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 5)
    sandbox.faults.add(kind=AnswerStatus(403), template=LINK)
    sandbox.faults.add(kind=AnswerStatus(404), template=FILE)

    with pytest.raises(ExportIncompleteError, match="could not be fetched: 2;") as caught:
        await chat.export(to=tmp_path)

    assert {type(failed.error) for failed in caught.value.failures} == {ForbiddenError, NotFoundError}
    assert "uitslag" not in str(caught.value)
    assert "Export into the same folder again" in str(caught.value)
    assert len(tree(tmp_path / "attachments")) == 3
    assert names(tmp_path) == ["attachments", "chat.json"]

    export = await chat.export(to=tmp_path)

    assert (export.messages, export.attachments, export.fetched) == (5, 5, 2)
    assert len(lines(tmp_path)) == 5


async def test_an_earlier_archive_stays_when_a_later_export_is_not_complete(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    await chat.export(to=tmp_path)
    before = (tmp_path / "messages.jsonl").read_bytes()
    await fill(chat, 1)
    sandbox.faults.add(kind=AnswerStatus(403), template=LINK)

    with pytest.raises(ExportIncompleteError):
        await chat.export(to=tmp_path)

    assert (tmp_path / "messages.jsonl").read_bytes() == before


async def test_a_list_that_breaks_off_leaves_no_messages_and_is_read_again(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 120)
    sandbox.faults.add(kind=FailsAfterFirstPage(), template=MESSAGES, times=None)

    with pytest.raises(InternalServerError):
        await chat.export(to=tmp_path)

    assert list(tree(tmp_path)) == ["chat.json"]
    sandbox.faults.clear()
    assert (await chat.export(to=tmp_path)).messages == 120


async def test_a_line_that_is_cut_in_the_middle_is_gone_on_from(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 4)
    sandbox.faults.add(kind=AtOnce(0), template=FILE, times=2)
    stalls = Stalls()
    sandbox.faults.add(kind=stalls, template=FILE, times=None)
    exporting = asyncio.create_task(chat.export(to=tmp_path, concurrency=1))
    await stalls.begun.wait()

    exporting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await exporting
    assert len(tree(tmp_path / "attachments")) == 2
    assert names(tmp_path) == ["attachments", "chat.json"]
    sandbox.faults.clear()
    assert (await chat.export(to=tmp_path)).fetched == 2


async def test_a_client_that_is_closed_meanwhile_leaves_no_messages(
    chat: Chat, client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 6)
    stalls = Stalls()
    sandbox.faults.add(kind=stalls, template=FILE, times=None)
    exporting = asyncio.create_task(chat.export(to=tmp_path, concurrency=1))
    await stalls.begun.wait()

    await client.close()

    with pytest.raises(ClientClosedError):
        await exporting
    assert list(tree(tmp_path)) == ["chat.json"]


# --- what is refused


async def test_two_exports_into_one_folder_at_once_are_refused(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    slow = AtOnce(0.3)
    sandbox.faults.add(kind=slow, template=FILE)
    first = asyncio.create_task(chat.export(to=tmp_path))
    await until(lambda: slow.now)

    with pytest.raises(ClientUsageError, match="another export into this folder is under way"):
        await chat.export(to=tmp_path)

    assert (await first).attachments == 1
    assert (await chat.export(to=tmp_path)).fetched == 0


async def test_a_lock_that_was_left_behind_is_none(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / ".export.lock").touch()

    await chat.export(to=tmp_path)

    assert not (tmp_path / ".export.lock").exists()


@pytest.mark.parametrize("there", ["another chat", "not JSON", "a list", "messages alone"])
async def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    chat: Chat, client: Client, sandbox: Sandbox, tmp_path: Path, there: str
) -> None:
    await fill(chat, 1)
    if there == "another chat":
        await client.conversations(sandbox.add_conversation(messages=["x"])).export(to=tmp_path)
    elif there == "messages alone":
        (tmp_path / "messages.jsonl").write_text("mine")
    else:
        (tmp_path / "chat.json").write_text({"not JSON": "{", "a list": "[]"}[there])
    before = tree(tmp_path)

    with pytest.raises(InvalidInputError, match="of something else than this chat"):
        await chat.export(to=tmp_path)

    assert tree(tmp_path) == before
    assert fetched_files(sandbox) == 0


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a folder", "a file"])
@pytest.mark.parametrize("name", ["attachments", "chat.json", "messages.jsonl", ".export.lock"])
async def test_what_is_planted_in_the_folder_is_refused_and_not_followed(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, name: str, kind: str
) -> None:
    folder, elsewhere = tmp_path / "archief", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "theirs").write_bytes(b"theirs")
    planted = folder / name
    if kind.startswith("a link"):
        to = elsewhere if name == "attachments" else elsewhere / "theirs"
        planted.symlink_to(to if kind == "a link" else elsewhere / "new")
    elif (kind == "a folder") is (name != "attachments"):
        planted.mkdir() if kind == "a folder" else planted.touch()
    else:
        return  # as an export leaves it

    with pytest.raises(InvalidInputError, match=f"{re.escape(name)} in the folder is not what an export"):
        await chat.export(to=folder)

    assert not sandbox.calls
    assert tree(elsewhere) == {"theirs": b"theirs"}
    assert names(folder) == [name]


async def test_a_link_that_is_planted_among_the_files_is_replaced(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    folder, elsewhere = tmp_path / "archief", tmp_path / "elsewhere"
    await chat.export(to=folder)
    (file,) = (folder / "attachments").iterdir()
    elsewhere.write_bytes(b"theirs")
    file.unlink()
    file.symlink_to(elsewhere)

    assert (await chat.export(to=folder)).fetched == 1

    assert elsewhere.read_bytes() == b"theirs"
    assert file.read_bytes() == content_of(0)
    assert not file.is_symlink()


async def test_the_folder_itself_may_be_a_link(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "archief").symlink_to(tmp_path / "disk")

    await chat.export(to=tmp_path / "archief")

    assert names(tmp_path / "disk") == ["attachments", "chat.json", "messages.jsonl"]


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"progress": 7}])
async def test_what_cannot_be_right_is_refused_before_anything_is_made(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await chat.export(to=tmp_path / "new", **wrong)

    assert not (tmp_path / "new").exists()
    assert not sandbox.calls


async def test_a_chat_that_is_not_there_leaves_an_empty_folder(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        await client.conversations("n0ne").export(to=tmp_path)

    assert tree(tmp_path) == {}


# --- Ctrl-C

INTERRUPTED = """
import asyncio, sys
from healthmsg import Client, Environment

async def main(url, token, chat, folder):
    async with Client(token, environment=Environment("sandbox", url)) as client:
        await client.conversations(chat).export(to=folder)

try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_an_export_that_was_killed_or_interrupted_can_be_gone_on_with(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, how: signal.Signals
) -> None:
    await fill(chat, 4)
    stalls = Stalls()
    sandbox.faults.add(kind=AtOnce(0), template=FILE, times=1)
    sandbox.faults.add(kind=stalls, template=FILE, times=None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", INTERRUPTED),
        *(sandbox.environment.api_url, sandbox.issue_token(), chat.id, str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        await stalls.begun.wait()
        # One that is complete: parts of files are there from the start.
        await until(lambda: [name for name in tree(tmp_path / "attachments") if not name.startswith(".")])
        process.send_signal(how)
        output, problems = await process.communicate()

    assert not (tmp_path / "messages.jsonl").exists()
    if how == signal.SIGINT:
        assert output == b"interrupted\n"
        assert [line for line in problems.decode().splitlines() if "attachments have" not in line] == []
        assert len(tree(tmp_path)) == 2
    sandbox.faults.clear()
    export = await chat.export(to=tmp_path)
    assert (export.attachments, export.fetched) == (4, 3)


# --- any number of messages


async def test_memory_does_not_grow_with_what_the_messages_say(tmp_path: Path) -> None:
    count = 20_000

    async def answer(request: web.BaseRequest) -> web.Response:
        if not request.path.endswith("/messages"):
            return web.json_response({"id": "c1"})
        first = int(request.query["page"]) * 100
        page = [
            {"id": f"m{number}", "body": f"{number} " + "x" * 3000}
            for number in range(first, min(first + 100, count))
        ]
        return web.json_response(page)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    limit = RateLimit(10_000, burst=1000)
    async with Client("t0ken", environment=Environment("own", f"{site.name}/v1"), rate_limit=limit) as client:
        tracemalloc.start()
        try:
            export = await client.conversations("c1").export(to=tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            await runner.cleanup()

    assert export.messages == count
    assert (tmp_path / "messages.jsonl").stat().st_size > 60_000_000
    written = lines(tmp_path)
    assert [line["id"] for line in written] == [f"m{number}" for number in reversed(range(count))]
    # Of more than 60 MB that were said. Python 3.14 lets garbage lie a little longer.
    assert peak < 40_000_000
