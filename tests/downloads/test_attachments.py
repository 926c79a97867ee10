"""Fetching every attachment of a chat, over the sandbox."""

import asyncio
import json
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from healthmsg import (
    Attachment,
    Client,
    DownloadAll,
    DownloadResult,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UploadFile,
)
from healthmsg.errors import ClientClosedError, DownloadError, InternalServerError
from healthmsg.files.targets import stored_name
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, CutBody, Delay, Garbage, Sandbox
from tests.at_once import AtOnce
from tests.downloads.archives import (
    FILE,
    LINK,
    MESSAGES,
    FailsAfterFirstPage,
    Stalls,
    content_of,
    fill,
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


def fetched_files(sandbox: Sandbox) -> int:
    return sum(call.template == FILE for call in sandbox.calls)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "healthmsg"]


# --- every attachment


async def test_every_attachment_is_fetched_once_into_a_file_of_its_own(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 12)

    results = await chat.download_all(to=tmp_path / "new").all()

    files = tree(tmp_path / "new")
    assert sorted(files.values()) == sorted(content_of(number) for number in range(12))
    assert all(name.startswith("uitslag-") and name.endswith(".pdf") for name in files)
    assert {str(result.path) for result in results} == {str(tmp_path / "new" / name) for name in files}
    assert [result.error for result in results] == [None] * 12
    assert not any(result.skipped for result in results)
    for result in results:
        assert result.path is not None
        assert result.path.read_bytes() == sandbox.file_content(result.attachment.id)


async def test_the_newest_is_begun_first_and_pages_are_read_to_the_end(
    chat: Chat, tmp_path: Path, sandbox: Sandbox
) -> None:
    await chat.upload(*_many(3))
    for _ in range(120):
        await chat.send("x")
    await fill(chat, 3)

    results = await chat.download_all(to=tmp_path, concurrency=1).all()

    contents = [sandbox.file_content(result.attachment.id) for result in results]
    assert contents[:3] == [content_of(2), content_of(1), content_of(0)]
    assert len(contents) == 6


def _many(count: int) -> list[UploadFile]:
    return [UploadFile(b"x" * (number + 1), "scan.png") for number in range(count)]


async def test_a_folder_that_is_made_is_the_users_alone(chat: Chat, tmp_path: Path) -> None:
    await fill(chat, 1)

    (result,) = await chat.download_all(to=tmp_path / "new").all()

    assert result.path is not None
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(result.path.stat().st_mode) == 0o600


async def test_a_folder_that_exists_keeps_what_is_in_it(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "uitslag.pdf").write_bytes(b"mine")
    await fill(chat, 1)

    await chat.download_all(to=str(tmp_path)).all()

    assert (tmp_path / "uitslag.pdf").read_bytes() == b"mine"
    assert len(tree(tmp_path)) == 2


async def test_an_attachment_of_two_messages_is_fetched_once(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    (message,) = sandbox.messages(chat.address)
    attachment = {"id": message.attachments[0].id, "name": "uitslag.pdf"}
    body = json.dumps([{"id": f"m{number}", "attachments": [attachment]} for number in range(3)])
    sandbox.faults.add(kind=Garbage(body.encode()), template=MESSAGES, times=None)

    results = await chat.download_all(to=tmp_path).all()

    assert len(results) == 1
    assert fetched_files(sandbox) == 1


async def test_a_chat_without_attachments_gives_no_results(chat: Chat, tmp_path: Path) -> None:
    await chat.send("x")

    assert await chat.download_all(to=tmp_path).all() == []


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_never_more_are_fetched_at_once_than_was_asked_for(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, concurrency: int
) -> None:
    await fill(chat, 8)
    counting = AtOnce()
    sandbox.faults.add(kind=counting, template=FILE, times=None)

    results = await chat.download_all(to=tmp_path, concurrency=concurrency).all()

    assert len(results) == 8
    assert counting.most == concurrency


async def test_messages_that_arrive_while_files_are_fetched_hide_none(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 250)
    first = True
    done = 0

    async for result in chat.download_all(to=tmp_path, concurrency=1):
        if first:
            first = False
            for _ in range(200):  # two pages full
                await chat.send("x")
        done += result.error is None

    assert done == 250


# --- what is there


async def test_what_is_there_with_the_right_size_is_skipped(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 4)
    first = await chat.download_all(to=tmp_path).all()
    await chat.upload(*_many(1))
    sandbox.reset_calls()

    second = await chat.download_all(to=tmp_path).all()

    assert sorted(result.skipped for result in second) == [False, True, True, True, True]
    assert {result.path for result in first} == {result.path for result in second if result.skipped}
    assert fetched_files(sandbox) == 1


@pytest.mark.parametrize("kind", ["smaller", "larger", "a link"])
async def test_what_is_there_otherwise_is_fetched_again(
    chat: Chat, sandbox: Sandbox, tmp_path: Path, kind: str
) -> None:
    await fill(chat, 1)
    (result,) = await chat.download_all(to=tmp_path / "a").all()
    assert result.path is not None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"y" * len(content_of(0)))
    if kind == "a link":
        result.path.unlink()
        result.path.symlink_to(elsewhere)
    else:
        result.path.write_bytes(content_of(0)[:-1] if kind == "smaller" else content_of(0) + b"x")

    (again,) = await chat.download_all(to=tmp_path / "a").all()

    assert not again.skipped
    assert again.path == result.path
    assert result.path.read_bytes() == content_of(0)
    assert not result.path.is_symlink()
    assert elsewhere.read_bytes() == b"y" * len(content_of(0))


async def test_an_attachment_of_an_unknown_size_is_there_if_its_file_is(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    body = b'[{"id":"m1","attachments":[{"id":"a1","name":"a.pdf"}]}]'
    await fill(chat, 1)
    sandbox.faults.add(kind=Garbage(body), template=MESSAGES, times=None)
    sandbox.faults.add(kind=Garbage(b"%PDF"), template=LINK, times=None)
    (failed,) = await chat.download_all(to=tmp_path).all()
    assert failed.error is not None
    there = tmp_path / stored_name(Attachment("a1", "a.pdf"))
    there.write_bytes(b"%PDF")

    (result,) = await chat.download_all(to=tmp_path).all()

    assert result.skipped
    assert result.path == there


# --- what goes wrong for one


async def test_one_that_fails_does_not_stop_the_others_and_leaves_nothing(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 6)
    sandbox.faults.add(kind=CutBody(), template=FILE)
    sandbox.faults.add(kind=AnswerStatus(403), template=LINK)
    sandbox.faults.add(kind=AnswerStatus(404), template=FILE)

    results = await chat.download_all(to=tmp_path, concurrency=1).all()

    failed = [result for result in results if result.error is not None]
    assert {type(result.error) for result in failed} >= {ForbiddenError, NotFoundError}
    assert [(result.path, result.skipped) for result in failed] == [(None, False)] * 3
    assert len(tree(tmp_path)) == 3
    assert await _all_are_there(chat, tmp_path) == 3


async def _all_are_there(chat: Chat, folder: Path) -> int:
    """Fetch again, and give how many were missing."""
    results = await chat.download_all(to=folder).all()
    assert [result.error for result in results] == [None] * len(results)
    return sum(not result.skipped for result in results)


async def test_a_folder_in_the_place_of_a_file_is_left_alone(chat: Chat, tmp_path: Path) -> None:
    await fill(chat, 1)
    (first,) = await chat.download_all(to=tmp_path).all()
    assert first.path is not None
    first.path.unlink()
    first.path.mkdir()

    (result,) = await chat.download_all(to=tmp_path).all()

    assert isinstance(result.error, IsADirectoryError)
    assert list(first.path.iterdir()) == []


async def test_the_repr_of_a_result_shows_no_name(tmp_path: Path) -> None:
    shown = repr(DownloadResult(Attachment("a1", "s3cret.pdf"), tmp_path / "s3cret.pdf"))

    assert "s3cret" not in shown


# --- what goes wrong for all


async def test_an_error_in_reading_the_chat_is_raised_after_the_results(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 120)
    sandbox.faults.add(kind=FailsAfterFirstPage(), template=MESSAGES, times=None)
    seen: list[DownloadResult] = []

    async def read() -> None:
        async for result in chat.download_all(to=tmp_path):
            seen.append(result)  # noqa: PERF401 - it raises on the way

    with pytest.raises(InternalServerError):
        await read()

    assert len(seen) == len(tree(tmp_path)) == 100


async def test_a_folder_that_cannot_be_made_is_an_error_and_nothing_is_fetched(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    (tmp_path / "file").write_bytes(b"mine")

    with pytest.raises(NotADirectoryError, match="is not a folder"):
        await chat.download_all(to=tmp_path / "file").all()
    with pytest.raises(FileNotFoundError):
        await chat.download_all(to=tmp_path / "typo" / "new").all()

    assert tree(tmp_path) == {"file": b"mine"}
    assert fetched_files(sandbox) == 0


@pytest.mark.parametrize("wrong", [0, -1, True, "4", None])
async def test_a_concurrency_that_cannot_be_one_is_refused(chat: Chat, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="concurrency"):
        chat.download_all(to=tmp_path, concurrency=wrong)


async def test_progress_that_cannot_be_called_is_refused(chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="progress"):
        chat.download_all(to=tmp_path, progress=7)  # type: ignore[arg-type]


# --- leaving


@pytest.mark.parametrize("closes", ["the run", "the client"])
async def test_leaving_ends_what_is_being_fetched_and_leaves_no_part_of_it(
    chat: Chat, client: Client, sandbox: Sandbox, tmp_path: Path, closes: str
) -> None:
    await fill(chat, 6)
    stalls = Stalls()
    sandbox.faults.add(kind=AtOnce(0), template=FILE, times=2)
    sandbox.faults.add(kind=stalls, template=FILE, times=None)
    seen: list[DownloadResult] = []
    run = chat.download_all(to=tmp_path, concurrency=2)
    async with run:
        async for result in run:
            seen.append(result)
            if len(seen) == 2:
                break
        await stalls.begun.wait()
        if closes == "the client":
            await client.close()

    rest = await _rest_of(run)
    assert [result.error for result in seen] == [None, None]
    assert [type(result.error) for result in rest] == [DownloadError] * len(rest)
    assert "the run was ended" in str(rest[0].error)
    assert len(rest) <= 2
    assert len(tree(tmp_path)) == 2


async def _rest_of(run: DownloadAll) -> list[DownloadResult]:
    async with asyncio.timeout(5):
        return [result async for result in run]


async def test_leaving_does_not_wait_for_the_rest_of_the_list(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
) -> None:
    await fill(chat, 1)
    sandbox.faults.add(kind=Delay(60), template=MESSAGES, times=None)
    async with asyncio.timeout(5), chat.download_all(to=tmp_path):
        await until(lambda: (sandbox.calls[-1].template, sandbox.calls[-1].method) == (MESSAGES, "GET"))


async def test_cancelling_leaves_no_part_of_a_file(chat: Chat, sandbox: Sandbox, tmp_path: Path) -> None:
    await fill(chat, 3)
    stalls = Stalls()
    sandbox.faults.add(kind=stalls, template=FILE, times=None)
    waiting = asyncio.create_task(chat.download_all(to=tmp_path).all())
    await stalls.begun.wait()

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert tree(tmp_path) == {}


async def test_a_run_that_was_not_iterated_is_logged(
    chat: Chat, client: Client, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat.download_all(to=tmp_path / "new")
    await client.close()

    assert logged(caplog) == ["a download_all was closed without being iterated: it has fetched nothing"]
    assert not sandbox.calls
    assert not (tmp_path / "new").exists()


async def test_a_closed_client_fetches_nothing(chat: Chat, client: Client, tmp_path: Path) -> None:
    await client.close()

    with pytest.raises(ClientClosedError):
        await chat.download_all(to=tmp_path / "new").all()
    assert not (tmp_path / "new").exists()


# --- progress


async def test_progress_adds_up_what_is_fetched_and_leaves_out_what_is_there(
    chat: Chat, tmp_path: Path
) -> None:
    await fill(chat, 3)
    await chat.download_all(to=tmp_path).all()
    await fill(chat, 3)
    reported: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        reported.append((done, total))

    await chat.download_all(to=tmp_path, progress=progress).all()

    whole = sum(len(content_of(number)) for number in range(3))
    assert reported[-1] == (whole, whole)


async def test_progress_that_raises_harms_no_download(chat: Chat, tmp_path: Path) -> None:
    await fill(chat, 2)

    def progress(done: int, total: int | None) -> None:
        raise LookupError

    results = await chat.download_all(to=tmp_path, progress=progress).all()

    assert [result.error for result in results] == [None] * 2


# --- Ctrl-C

INTERRUPTED = """
import asyncio, sys
from healthmsg import Client, Environment

async def main(url, token, chat, folder):
    async with Client(token, environment=Environment("sandbox", url)) as client:
        async for result in client.conversations(chat).download_all(to=folder, concurrency=2):
            print(result.error or "fetched", flush=True)

try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


async def test_ctrl_c_leaves_whole_files_and_no_part_of_one(
    chat: Chat, sandbox: Sandbox, tmp_path: Path
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
    assert process.stdout is not None
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"fetched\n"
        await stalls.begun.wait()
        process.send_signal(signal.SIGINT)
        output, problems = await process.communicate()

    assert output == b"interrupted\n"
    assert [line for line in problems.decode().splitlines() if "attachments have been" not in line] == []
    (content,) = tree(tmp_path).values()
    assert content in {content_of(number) for number in range(4)}
