import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from aiohttp import ClientTimeout
from servers import (
    PATIENT,
    Handler,
    Incoming,
    Server,
    a_request,
    answering,
    assert_error_tells_nothing,
    close_after_the_call,
    hang,
    nothing_reaches_the_event_loop,
    reset_in_the_body,
    serve,
    wire_to,
)

from healthmsg.auth import Token
from healthmsg.errors import CallError, ConnectionLostError, PreconditionFailedError, UploadFileError
from healthmsg.outcome import Outcome
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.exchange import FilePart, Multipart, Request, Send
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.pipeline.timeout import Timeout

pytestmark = pytest.mark.usefixtures(nothing_reaches_the_event_loop.__name__)
__all__ = ["nothing_reaches_the_event_loop"]
MIB = 1024 * 1024
FILES = 'Content-Disposition: form-data; name="files"'
LARGE = bytes(range(256)) * (12 * MIB // 256) + b"the end"


class Source(BytesIO):
    """A file that can do what files do, and that is seen to be closed."""

    opened: list["Source"]

    def __init__(self, content: bytes, read: Callable[["Source", bytes], bytes] | None = None) -> None:
        super().__init__(content)
        self._change = read
        self.reads = 0
        self.opened.append(self)

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        chunk = super().read(size)
        return self._change(self, chunk) if self._change else chunk


@pytest.fixture(autouse=True)
def sources() -> Iterator[list[Source]]:
    """See that whatever was opened is closed in the end, by the thread that read it."""
    Source.opened = []
    yield Source.opened
    for thread in threading.enumerate():
        if thread.name.startswith("healthmsg upload"):
            thread.join(2)
    assert all(source.closed for source in Source.opened)


def file(content: bytes, name: str = "scan.png", content_type: str = "image/png", **kwargs: Any) -> FilePart:
    return FilePart("files", name, content_type, len(content), lambda: Source(content, **kwargs))


def upload(*files: FilePart, message: str = "Bijlagen é") -> Request:
    return a_request(body=Multipart((("message", message),), files))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(answering(201)) as server:
        yield server


async def test_a_form_goes_out_as_a_browser_would_send_it(server: Server) -> None:
    request = upload(
        file(b"one", 'a "b" é\r\n.png'), file(b"\r\n--two--\r\n", "uitslag.pdf", "application/pdf")
    )
    async with wire_to(server.url) as wire:
        await wire(request)
    (call,) = server.executed
    kind, _, boundary = (call.header("Content-Type") or "").partition("; boundary=")
    assert kind == "multipart/form-data"
    parts = (
        'Content-Disposition: form-data; name="message"\r\n\r\nBijlagen é',
        f'Content-Type: image/png\r\n{FILES}; filename="a %22b%22 é%0D%0A.png"\r\n\r\none',
        f'Content-Type: application/pdf\r\n{FILES}; filename="uitslag.pdf"\r\n\r\n\r\n--two--\r\n',
    )
    expected = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    assert call.body.decode() == expected
    assert call.header("Content-Length") == str(len(expected.encode()))
    assert "transfer-encoding" not in call.headers


@pytest.mark.parametrize("size", [1, MIB - 1, MIB, MIB + 1, 3 * MIB, len(LARGE)])
async def test_a_file_of_any_size_arrives_whole(server: Server, size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE[:size])
    part = FilePart("files", "f", "a/b", size, lambda: path.open("rb"))
    async with wire_to(server.url) as wire:
        await wire(upload(part))
    assert LARGE[:size] in server.executed[0].body


def shrinks(source: Source, chunk: bytes) -> bytes:
    return chunk if source.reads < 3 else b""


def grows(source: Source, chunk: bytes) -> bytes:
    return chunk or b"more"


def fails(source: Source, chunk: bytes) -> bytes:
    if source.reads == 3:
        raise OSError(5, "Input/output error", PATIENT)
    return chunk


def vanished() -> BinaryIO:
    raise FileNotFoundError(2, "No such file or directory", PATIENT)


SIZE_CHANGED = "a file changed its size while it was sent"
BAD_FILES = [
    pytest.param(file(LARGE, read=shrinks), SIZE_CHANGED, id="shrinks"),
    pytest.param(file(LARGE, read=grows), SIZE_CHANGED, id="grows"),
    pytest.param(file(b"x", read=grows), SIZE_CHANGED, id="a small one grows"),
    pytest.param(FilePart("files", PATIENT, "a/b", 9, BytesIO), SIZE_CHANGED, id="empty"),
    pytest.param(
        file(LARGE, read=fails), "a file could not be read while it was sent (Input/output error)", id="fails"
    ),
    pytest.param(
        FilePart("files", PATIENT, "a/b", 9, vanished),
        "a file could not be read while it was sent (No such file or directory)",
        id="vanished",
    ),
]


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize(("bad", "problem"), BAD_FILES)
async def test_a_file_at_fault_is_named_so_and_the_service_gets_no_complete_call(
    server: Server, bad: FilePart, problem: str, *, is_last: bool
) -> None:
    good = file(b"good")
    files = (good, bad) if is_last else (bad, good)
    async with wire_to(server.url) as wire:
        with pytest.raises(UploadFileError) as caught:
            await wire(upload(*files))
        await server.until(lambda server: server.open == 0)
    assert (caught.value.problem, caught.value.outcome) == (problem, Outcome.NOT_SENT)
    assert_error_tells_nothing(caught.value)
    assert len(server.begun) == 1
    assert not server.executed


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, MemoryError])
async def test_a_source_that_fails_in_another_way_never_counts_as_sent(
    server: Server, kind: type[Exception]
) -> None:
    def breaks(source: Source, chunk: bytes) -> bytes:
        raise kind(PATIENT)

    async with wire_to(server.url) as wire:
        with pytest.raises(CallError) as caught:
            await wire(upload(file(LARGE, read=breaks)))
    assert_error_tells_nothing(caught.value)
    assert not server.executed


@pytest.mark.parametrize("handler", [reset_in_the_body, close_after_the_call])
async def test_a_broken_connection_is_not_blamed_on_the_file(handler: Handler) -> None:
    async with serve(handler) as server, wire_to(server.url) as wire:
        with pytest.raises(ConnectionLostError) as caught:
            await wire(upload(file(LARGE)))
    assert caught.value.outcome is Outcome.UNKNOWN


async def read_nothing(incoming: Incoming) -> None:
    await incoming.head()
    await asyncio.sleep(5)


@pytest.mark.parametrize("handler", [hang, read_nothing])
async def test_a_cancelled_upload_leaves_no_connection_no_task_and_no_open_file(
    handler: Handler, sources: list[Source]
) -> None:
    async with serve(handler) as server, wire_to(server.url) as wire:
        call = asyncio.create_task(wire(upload(file(LARGE))))
        async with asyncio.timeout(5):
            while not sources:  # noqa: ASYNC110 - a thread opens it
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        assert call.cancelled()
        if handler is hang:
            await server.until(lambda server: server.open == 0)


async def test_an_upload_that_takes_too_long_is_closed_too() -> None:
    async with serve(read_nothing) as server, wire_to(server.url, Timeout(total=0.1)) as wire:
        wire._timeout_of = lambda request: ClientTimeout(total=0.1)  # type: ignore[method-assign] # noqa: ARG005
        with pytest.raises(CallError) as caught:
            await wire(upload(file(LARGE)))
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_each_try_sends_the_whole_form_anew(sources: list[Source]) -> None:
    async def refuse_twice(incoming: Incoming) -> None:
        while True:
            await incoming.request()
            refused = len(incoming.server.executed) < 3
            await incoming.answer(429 if refused else 201, b"{}", "Retry-After: 0")

    async with serve(refuse_twice) as server, wire_to(server.url) as wire:
        answer = await fold([RetryStep(Retries()), CheckStep()], wire)(upload(file(LARGE)))
        first, second, third = (call.body for call in server.executed)
    assert answer.status == 201
    assert len(first) == len(second) == len(third)
    assert LARGE in third
    assert len(sources) == 3


def early(status: int) -> Handler:
    """Answer when only the head is here."""

    async def handler(incoming: Incoming) -> None:
        await incoming.head()
        await incoming.answer(status)
        await hang(incoming)

    return handler


@pytest.mark.parametrize("status", [401, 412, 413])
async def test_an_answer_that_comes_before_the_end_of_an_upload_counts(status: int) -> None:
    async with serve(early(status)) as server, wire_to(server.url) as wire:
        answer = await wire(upload(file(LARGE)))
        assert answer.status == status
        # What is left of the upload is not taken for the head of the next call.
        assert (await wire(a_request())).status == status
        assert server.opened == 2


class Tokens:
    async def current(self, _: Send) -> Token:
        return Token("old")

    async def renew(self, stale: Token, _: Send) -> Token:
        assert stale.value == "old"
        return Token("new")


async def test_after_an_early_401_the_whole_upload_goes_again() -> None:
    async def refuse_old(incoming: Incoming) -> None:
        if incoming.server.opened == 1:
            await early(401)(incoming)
        await answering(201)(incoming)

    async with serve(refuse_old) as server, wire_to(server.url) as wire:
        answer = await fold([AuthStep(Tokens(), wire), CheckStep()], wire)(upload(file(LARGE)))
        (call,) = server.executed
    assert answer.status == 201
    assert LARGE in call.body
    assert call.header("Authorization") == "Bearer new"


async def test_an_early_refusal_is_raised_as_itself() -> None:
    async with serve(early(412)) as server, wire_to(server.url) as wire:
        with pytest.raises(PreconditionFailedError):
            await fold([RetryStep(Retries()), CheckStep()], wire)(upload(file(LARGE)))
        assert len(server.begun) == 1


class NotedSlot:
    """A place in the limit that notes when it is asked."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.told: list[str] = []

    def sent(self) -> None:
        self.told.append("sent")

    def answered(self) -> None:
        self.told.append("answered")

    async def before_last_chunk(self) -> None:
        self.told.append("before the last chunk")
        await asyncio.sleep(0.05)
        assert not self.server.executed


async def test_an_upload_waits_for_the_limit_before_its_end(server: Server) -> None:
    request = upload(file(LARGE))
    request.slot = slot = NotedSlot(server)
    async with wire_to(server.url) as wire:
        await wire(request)
    assert slot.told == ["sent", "before the last chunk", "answered"]
    assert len(server.executed) == 1
