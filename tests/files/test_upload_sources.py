"""Uploading from all that can be uploaded, over the sandbox."""

import asyncio
import io
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
from aiohttp import web
from attrs import frozen

from healthmsg import (
    Client,
    ConnectError,
    Environment,
    InvalidInputError,
    Outcome,
    RateLimitedError,
    Retries,
    UploadFile,
)
from healthmsg.errors import BadRequestError, EmptyMessageError, InvalidFileError, UploadFileError
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, Sandbox
from healthmsg.sandbox.faults import Execute

LARGE = bytes(range(256)) * 100_000
# aiohttp's own, on the sandbox's side, when a form comes in small pieces.
pytestmark = pytest.mark.filterwarnings("ignore:unread_data:DeprecationWarning")
Kind = Literal["path", "bytes", "open file", "iterable", "sized iterable", "pipe"]
REPEATABLE: list[Kind] = ["path", "bytes", "open file"]
READ_ONCE: list[Kind] = ["iterable", "sized iterable", "pipe"]


@frozen
class RefusesInTheEnd:
    """Takes all of a call before it says that it is one too many."""

    async def answer(self, request: web.BaseRequest, _: Execute) -> web.Response:
        async for _chunk in request.content.iter_any():
            pass
        return web.Response(status=429, headers={"Retry-After": "0"})


REFUSAL = RefusesInTheEnd()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


@pytest.fixture
def every_chunk_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.transfer._BETWEEN_CALLS", 0)


def delivered(sandbox: Sandbox, chat: Chat) -> list[list[bytes]]:
    return [
        [sandbox.file_content(file.id) for file in message.attachments]
        for message in sandbox.messages(chat.address)
    ]


class Pieces:
    """An async generator that is seen to be closed; it can do something before it gives its last piece."""

    def __init__(self, content: bytes, then: Callable[[], Any] = lambda: None) -> None:
        self.content = content
        self.then = then
        self.closed = 0
        self.began = False
        self._pieces = self._generated()

    async def _generated(self) -> AsyncIterator[bytes]:
        self.began = True
        middle = len(self.content) // 2
        for start in range(0, middle, 100_000):
            yield self.content[start : min(start + 100_000, middle)]
        done = self.then()
        if done is not None:
            await done
        yield self.content[middle:]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def aclose(self) -> None:
        await self._pieces.aclose()  # type: ignore[attr-defined] # it is a generator
        self.closed += 1


def a_file(kind: Kind, path: Path) -> Any:
    match kind:
        case "path":
            return path
        case "bytes":
            return UploadFile(LARGE, "a.bin")
        case "open file":
            return path.open("rb")
        case "iterable":
            return UploadFile(Pieces(LARGE), "a.bin")
        case "sized iterable":
            return UploadFile(Pieces(LARGE), "a.bin", size=len(LARGE))
        case "pipe":
            return UploadFile(a_pipe(LARGE), "a.bin")


def a_pipe(content: bytes) -> Any:
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), open(writing, "wb") as pipe:  # noqa: PTH123 - no path
            pipe.write(content)

    threading.Thread(target=write, daemon=True).start()
    return open(reading, "rb")  # noqa: PTH123 - no path


def close(file: Any) -> None:
    source = getattr(file, "source", file)
    if hasattr(source, "fileno"):
        assert not source.closed, "an upload closes no file that it did not open"
        source.close()


def upload_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "healthmsg upload"]


def open_files() -> set[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("cannot see open files here")
    found = set()
    for number in folder.iterdir():
        with suppress(OSError):
            found.add(str(number.readlink()))
    return found


@pytest.mark.slow
async def test_all_kinds_of_sources_can_be_one_message(chat: Chat, sandbox: Sandbox, path: Path) -> None:
    files = [a_file(kind, path) for kind in (*REPEATABLE, *READ_ONCE)]

    await chat.upload(*files, body="Bijlagen")

    assert delivered(sandbox, chat) == [[LARGE] * 6]
    assert [file.name for file in sandbox.messages(chat.address)[0].attachments] == [
        "large.bin",
        "a.bin",
        "large.bin",
        *["a.bin"] * 3,
    ]
    for file in files:
        close(file)


@pytest.mark.slow
@pytest.mark.parametrize("kind", REPEATABLE)
async def test_what_can_be_opened_again_is_sent_again_after_a_429(
    chat: Chat, sandbox: Sandbox, path: Path, kind: Kind
) -> None:
    file = a_file(kind, path)
    for _ in range(2):
        sandbox.faults.add(kind=REFUSAL, method="POST")

    await chat.upload(file)

    assert [call.status for call in sandbox.calls] == [429, 429, 201]
    assert delivered(sandbox, chat) == [[LARGE]]
    close(file)


@pytest.mark.parametrize("kind", READ_ONCE)
async def test_what_can_be_read_once_is_not_sent_again_after_a_429(
    chat: Chat, sandbox: Sandbox, path: Path, kind: Kind
) -> None:
    file = a_file(kind, path)
    sandbox.faults.add(kind=REFUSAL, method="POST")

    with pytest.raises(RateLimitedError) as caught:
        await chat.upload(file)

    assert caught.value.attempts == 1
    assert [call.status for call in sandbox.calls] == [429]
    assert delivered(sandbox, chat) == []
    close(file)


async def test_an_iterable_that_no_connection_was_found_for_is_not_read_and_is_closed(
    unused_tcp_port: int,
) -> None:
    pieces = Pieces(LARGE)
    nowhere = Environment("nowhere", f"http://127.0.0.1:{unused_tcp_port}/v1")
    async with Client("token", environment=nowhere, retries=Retries(attempts=3, max_wait=0)) as client:
        with pytest.raises(ConnectError) as caught:
            await client.conversations("c1").upload(UploadFile(pieces, "a"))

    assert caught.value.attempts == 3
    assert (pieces.began, pieces.closed) == (False, 1)


async def test_an_iterable_is_closed_however_its_upload_ends(
    chat: Chat, sandbox: Sandbox, path: Path
) -> None:
    def fail() -> NoReturn:
        raise ValueError("canary")

    wrong: Any = 7
    endings: list[tuple[type[Exception] | None, Pieces, dict[str, Any], list[Any]]] = [
        (None, Pieces(LARGE), {}, []),
        (InvalidFileError, Pieces(LARGE), {}, [path.parent]),
        (InvalidInputError, Pieces(LARGE), {"body": wrong}, []),
        (InvalidInputError, Pieces(LARGE), {"body": "\ud800"}, []),
        (UploadFileError, Pieces(LARGE, fail), {}, []),
        (UploadFileError, Pieces(b""), {}, []),
    ]
    for error, pieces, options, others in endings:
        upload = chat.upload(*others, UploadFile(pieces, "a.bin"), **options)
        if error is None:
            await upload
        else:
            with pytest.raises(error) as caught:
                await upload
            assert "canary" not in f"{caught.value} {caught.value.__context__!r}"
        assert pieces.closed == 1

    assert delivered(sandbox, chat) == [[LARGE]]


@pytest.mark.parametrize("size", [len(LARGE) - 1, len(LARGE) + 1])
async def test_an_iterable_that_has_not_the_size_it_was_said_to_have_is_not_delivered(
    chat: Chat, sandbox: Sandbox, size: int
) -> None:
    with pytest.raises(UploadFileError, match="bytes than its size"):
        await chat.upload(UploadFile(Pieces(LARGE), "a.bin", size=size))

    assert delivered(sandbox, chat) == []
    assert [call.status for call in sandbox.calls if call.status == 201] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [lambda path: os.truncate(path, 1), lambda path: path.write_bytes(LARGE * 2)]
)
@pytest.mark.usefixtures("every_chunk_is_reported")
async def test_a_file_that_is_changed_while_it_is_read_is_not_delivered(
    chat: Chat, sandbox: Sandbox, path: Path, change: Callable[[Path], object]
) -> None:
    changed: list[object] = []

    def progress(done: int, _: int | None) -> None:
        if done and not changed:
            changed.append(change(path))

    with pytest.raises(UploadFileError, match="bytes than its size") as caught:
        await chat.upload(path, UploadFile(b"x", "last"), progress=progress)

    assert path.name not in str(caught.value)
    assert delivered(sandbox, chat) == []


@pytest.mark.slow
@pytest.mark.usefixtures("every_chunk_is_reported")
@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.with_name("new").replace(path)])
async def test_a_file_that_is_replaced_while_it_is_read_is_not_delivered(
    chat: Chat, sandbox: Sandbox, path: Path, change: Callable[[Path], object]
) -> None:
    # That what was read is what it held when it was given, nothing proves any more.
    path.with_name("new").write_bytes(LARGE[::-1])
    changed: list[object] = []

    with pytest.raises(UploadFileError, match="changed or replaced"):
        await chat.upload(
            path, progress=lambda done, _: changed.append(change(path)) if done and not changed else None
        )

    assert delivered(sandbox, chat) == []


@pytest.mark.usefixtures("every_chunk_is_reported")
async def test_a_file_that_is_rewritten_while_it_is_read_never_arrives_mixed(
    chat: Chat, sandbox: Sandbox, path: Path
) -> None:
    before = path.stat()  # noqa: ASYNC240 - quick
    changed: list[int] = []

    def progress(done: int, _: int | None) -> None:
        if done and not changed:
            changed.append(path.write_bytes(LARGE[::-1]))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(UploadFileError, match="changed or replaced") as caught:
        await chat.upload(path, progress=progress)

    assert caught.value.outcome is Outcome.NOT_SENT
    assert path.name not in str(caught.value)
    assert delivered(sandbox, chat) == []


@pytest.mark.parametrize("size", [1000, 5_000_000])
async def test_what_is_uploaded_is_what_a_file_held_at_the_call(
    client: Client, sandbox: Sandbox, tmp_path: Path, size: int
) -> None:
    path, chats = tmp_path / "brief.pdf", [client.conversations(sandbox.add_conversation()) for _ in range(5)]

    def render(number: int) -> Path:
        path.write_bytes(bytes([number]) * size)
        return path

    uploads = [chat.upload(render(number)) for number, chat in enumerate(chats)]
    results = await asyncio.gather(*uploads, return_exceptions=True)

    assert [type(result).__name__ for result in results] == ["InvalidFileError"] * 4 + ["SentMessage"]
    assert [delivered(sandbox, chat) for chat in chats] == [[]] * 4 + [[[bytes([4]) * size]]]


async def test_a_buffer_that_is_used_again_is_refused(chat: Chat, sandbox: Sandbox) -> None:
    buffer = io.BytesIO(b"brief voor A")
    upload = chat.upload(UploadFile(buffer, "brief.pdf"))
    buffer.write(b"brief voor B")
    buffer.seek(0)

    with pytest.raises(UploadFileError, match="changed or replaced"):
        await upload

    assert delivered(sandbox, chat) == []


@pytest.mark.parametrize("kind", ["path", "open file", "iterable"])
async def test_an_upload_that_is_cancelled_in_the_middle_leaves_nothing(
    chat: Chat, sandbox: Sandbox, path: Path, kind: Kind
) -> None:
    middle = asyncio.Event()

    async def wait_for_ever() -> None:
        middle.set()
        await asyncio.Event().wait()

    pieces = Pieces(LARGE, wait_for_ever)
    os.truncate(path, 400_000_000)
    file = UploadFile(pieces, "a.bin") if kind == "iterable" else a_file(kind, path)
    upload = asyncio.create_task(
        chat.upload(file, progress=lambda done, _: middle.set() if done > 2_000_000 else None)
    )
    await middle.wait()
    if kind == "open file":
        assert str(path) in open_files()

    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    if kind == "iterable":
        assert pieces.closed == 1
    close(file)
    for thread in upload_threads():
        await asyncio.to_thread(thread.join, 2)
    assert not upload_threads()
    assert str(path) not in open_files()
    await chat.send("Daarna")
    assert delivered(sandbox, chat) == [[]]


async def test_a_cancelled_upload_waits_until_nothing_reads_an_open_file_that_its_owner_may_close_now(
    chat: Chat,
) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if size:
                began.set()
                go_on.wait(5)
            return super().read(size)

    with Slow(LARGE) as file:
        upload = asyncio.create_task(chat.upload(UploadFile(file, "a.bin")))
        await asyncio.to_thread(began.wait)
        upload.cancel()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not upload.done()

        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await upload


async def test_progress_ends_with_all_bytes_of_the_files(chat: Chat, path: Path) -> None:
    reported: list[tuple[int, int | None]] = []

    await chat.upload(
        path, UploadFile(b"123", "a"), body="Niet geteld", progress=lambda *now: reported.append(now)
    )

    total = len(LARGE) + 3
    assert reported[0] == (0, total)
    assert reported[-1] == (total, total)
    assert reported == sorted(reported)


async def test_progress_of_an_unknown_size_has_no_total_before_its_end(chat: Chat, path: Path) -> None:
    reported: list[tuple[int, int | None]] = []

    await chat.upload(path, UploadFile(Pieces(LARGE), "a"), progress=lambda *now: reported.append(now))

    assert reported[0] == (0, None)
    assert reported[-1] == (2 * len(LARGE), 2 * len(LARGE))


@pytest.mark.usefixtures("every_chunk_is_reported")
async def test_a_further_try_takes_progress_back(chat: Chat, sandbox: Sandbox, path: Path) -> None:
    reported: list[int] = []
    sandbox.faults.add(kind=REFUSAL, method="POST")

    await chat.upload(path, path, progress=lambda done, _: reported.append(done))

    assert reported[-1] == 2 * len(LARGE)
    assert max(reported) == 2 * len(LARGE)
    assert any(later < earlier for earlier, later in pairwise(reported))


async def test_progress_that_raises_harms_no_upload(
    chat: Chat, sandbox: Sandbox, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def progress(*_: object) -> NoReturn:
        raise ValueError("canary")

    await chat.upload(path, progress=progress)

    assert delivered(sandbox, chat) == [[LARGE]]
    assert "progress raised ValueError" in caplog.text
    assert "canary" not in caplog.text


async def test_what_cannot_tell_progress_is_refused_before_anything_is_sent(
    chat: Chat, sandbox: Sandbox, path: Path
) -> None:
    progress: Any = 7
    with pytest.raises(InvalidInputError):
        await chat.upload(path, progress=progress)
    with pytest.raises(EmptyMessageError):
        await chat.upload(progress=print)
    assert not sandbox.calls


@pytest.mark.parametrize("kind", [*REPEATABLE, *READ_ONCE])
async def test_a_picture_of_a_group_chat_can_come_from_anywhere(
    client: Client, sandbox: Sandbox, path: Path, kind: Kind
) -> None:
    file = a_file(kind, path)

    await client.groupchats(sandbox.add_group_chat("Zorg")).set_avatar(file)

    assert [call.status for call in sandbox.calls] == [200]
    close(file)


async def test_one_open_file_cannot_go_into_two_uploads_at_once(
    chat: Chat, sandbox: Sandbox, path: Path
) -> None:
    with path.open("rb") as opened:
        results = await asyncio.gather(chat.upload(opened), chat.upload(opened), return_exceptions=True)

        assert [type(result).__name__ for result in results] == ["SentMessage", "InvalidFileError"]
        assert delivered(sandbox, chat) == [[LARGE]]
        opened.seek(0)
        await chat.upload(opened)
    assert delivered(sandbox, chat) == [[LARGE]] * 2


class Leftovers:
    """An async iterator that cannot be closed, and breaks off once."""

    def __init__(self) -> None:
        self.pieces: list[bytes | Exception] = [b"for A", ValueError("canary"), b" and A"]

    def __aiter__(self) -> "Leftovers":
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece


async def test_what_is_left_of_one_upload_is_never_another(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    chats = [client.conversations(sandbox.add_conversation()) for _ in range(2)]
    leftovers = UploadFile(Leftovers(), "a.bin")
    pipe = UploadFile(a_pipe(LARGE), "a.bin", size=1000)

    for file in (leftovers, pipe):
        with pytest.raises(UploadFileError):
            await chats[0].upload(file)
        with pytest.raises(InvalidFileError, match="read only once, and was read before"):
            await chats[1].upload(file)

    assert [delivered(sandbox, chat) for chat in chats] == [[], []]
    close(pipe)


async def test_an_open_file_stands_where_it_stood_when_its_upload_fails(
    chat: Chat, sandbox: Sandbox, path: Path
) -> None:
    sandbox.faults.add(kind=AnswerStatus(400), method="POST")
    with path.open("rb") as opened:
        opened.seek(5)
        with pytest.raises(BadRequestError):
            await chat.upload(opened)
        assert opened.tell() == 5
        await chat.upload(opened)

    assert delivered(sandbox, chat) == [[LARGE[5:]]]


def swallow(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        head = connection.recv(10_000)
        # Not "0\\r\\n\\r\\n" alone: a head ends like that when its boundary ends in 0.
        end = b"--\r\n\r\n0\r\n\r\n" if b"chunked" in head else b"--\r\n"
        received = head
        while not received.endswith(end):
            received = received[-len(end) :] + connection.recv(1_000_000)
        connection.sendall(b'HTTP/1.1 201 Created\r\nContent-Length: 11\r\n\r\n{"id":"m1"}')


UPLOAD = """
import asyncio, sys
from pathlib import Path
from healthmsg import Client, Environment, UploadFile

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024

async def pieces():
    for _ in range(512):
        yield bytes(1024 * 1024)

async def main(url, path, kind):
    async with Client("token", environment=Environment("test", url + "/v1")) as client:
        source = {"path": path, "open file": open(path, "rb"), "iterable": pieces()}[kind]
        file = UploadFile(source, "a.bin")
        before = peak()
        await client.conversations("c1").upload(file)
        print(peak() - before)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="cannot see the peak of memory here")
@pytest.mark.parametrize("kind", ["path", pytest.param("open file", marks=pytest.mark.thorough), "iterable"])
def test_memory_stays_flat_whatever_the_size(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, 512 * 1024 * 1024)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=swallow, args=(listener,), daemon=True).start()
        done = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, "-c", UPLOAD, url, str(path), kind], capture_output=True, text=True, check=False
        )

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 16
