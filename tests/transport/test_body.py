import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from aiohttp.http_writer import StreamWriter

from healthmsg import Token
from healthmsg.errors import (
    CallError,
    CallTimeoutError,
    ConnectError,
    ConnectionLostError,
    Outcome,
    PreconditionFailedError,
    RateLimitedError,
    UnauthorizedError,
    UploadFileError,
)
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.request import FilePart, Multipart, Request, Send
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.ratelimit.window import Slot
from healthmsg.transfer import Meter
from healthmsg.transport.multipart import FileSource, PieceSource
from healthmsg.transport.timeouts import Timeout
from tests.servers import (
    PATIENT,
    Handler,
    Incoming,
    Server,
    a_request,
    answering,
    assert_error_tells_nothing,
    close_after_the_call,
    hang,
    reset_in_the_body,
    serve,
    wire_to,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")
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
    return part(lambda: Source(content, **kwargs), len(content), name, content_type)


def part(
    opened: Callable[[], BinaryIO], size: int | None, name: str = PATIENT, content_type: str = "a/b"
) -> FilePart:
    return FilePart("files", name, content_type, size, FileSource(opened))


class Pieces:
    """An async iterable that notes how far it was read, and can do something in the end."""

    def __init__(self, *pieces: Any, then: Callable[[], Awaitable[None]] | None = None) -> None:
        self.pieces = pieces
        self.then = then
        self.given = 0
        self.began = asyncio.Event()
        self.is_left = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Any]:
        self.began.set()
        try:
            for piece in self.pieces:
                self.given += 1
                yield piece
            if self.then is not None:
                await self.then()
        finally:
            self.is_left.set()


def once(pieces: Pieces, size: int | None = None) -> FilePart:
    return FilePart("files", "a.bin", "a/b", size, PieceSource(pieces))


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
    async with wire_to(server.url) as wire:
        await wire(upload(part(lambda: path.open("rb"), size)))
    assert LARGE[:size] in server.executed[0].body


def shrinks(source: Source, chunk: bytes) -> bytes:
    return chunk if source.reads < 3 else b""


def grows(source: Source, chunk: bytes) -> bytes:
    return chunk or b"more"


def fails(source: Source, chunk: bytes) -> bytes:
    if source.reads == 3:
        raise OSError(5, "Input/output error", PATIENT)
    return chunk


class Unready(BytesIO):
    """As a pipe that does not block, when nothing is in it."""

    def read(self, _: int | None = -1, /) -> Any:
        return None


def vanished() -> BinaryIO:
    raise FileNotFoundError(2, "No such file or directory", PATIENT)


FEWER = "a file gave fewer bytes than its size: it was changed, or its size was wrong"
MORE = "a file gave more bytes than its size: it was changed, or its size was wrong"
BAD_FILES = [
    pytest.param(file(LARGE, read=shrinks), FEWER, id="shrinks"),
    pytest.param(file(LARGE, read=grows), MORE, id="grows"),
    pytest.param(file(b"x", read=grows), MORE, id="a small one grows"),
    pytest.param(part(BytesIO, 9), FEWER, id="empty"),
    pytest.param(part(BytesIO, None), "a file is empty", id="empty, of unknown size"),
    pytest.param(part(Unready, None), "a file gave NoneType where bytes are needed", id="not ready"),
    pytest.param(
        part(Unready, 9), "a file gave NoneType where bytes are needed", id="not ready, of known size"
    ),
    pytest.param(
        file(LARGE, read=fails), "a file could not be read while it was sent (Input/output error)", id="fails"
    ),
    pytest.param(
        part(vanished, 9),
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


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, MemoryError, asyncio.CancelledError])
async def test_a_source_that_fails_in_another_way_never_counts_as_sent(
    server: Server, kind: type[BaseException]
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
        wire._time_for = lambda form: 0.1  # type: ignore[method-assign] # noqa: ARG005
        with pytest.raises(CallError) as caught:
            await wire(upload(file(LARGE)))
    assert caught.value.outcome is Outcome.UNKNOWN


@pytest.mark.slow
async def test_each_try_sends_the_whole_form(sources: list[Source]) -> None:
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

    renewed = 0

    async def renew(self, stale: Token, _: Send) -> Token:
        assert stale.value == "old"
        self.renewed += 1
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


async def test_after_a_401_the_whole_upload_goes_again_once(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(LARGE)

    async def refuse_old(incoming: Incoming) -> None:
        while True:
            call = await incoming.request()
            await incoming.answer(401 if call.header("Authorization") == "Bearer old" else 201)

    request = upload(part(lambda: path.open("rb"), len(LARGE)))
    async with serve(refuse_old) as server, wire_to(server.url) as wire:
        assert (await fold([AuthStep(Tokens(), wire), CheckStep()], wire)(request)).status == 201
        first, second = server.executed
    assert (first.header("Authorization"), second.header("Authorization")) == ("Bearer old", "Bearer new")
    assert all(LARGE in call.body for call in (first, second))
    assert len(first.body) == len(second.body)


async def test_an_early_refusal_is_raised_as_itself() -> None:
    async with serve(early(412)) as server, wire_to(server.url) as wire:
        with pytest.raises(PreconditionFailedError):
            await fold([RetryStep(Retries()), CheckStep()], wire)(upload(file(LARGE)))
        assert len(server.begun) == 1


class NotedSlot(Slot):
    """A place in the limit that notes when it is asked."""

    def __init__(self, server: Server, *, wait: float = 0.05) -> None:
        self.server = server
        self.wait = wait
        self.reported: list[str] = []

    def sent(self) -> bool:
        self.reported.append("sent")
        return True

    def answered(self) -> None:
        self.reported.append("answered")

    async def before_last_chunk(self) -> None:
        self.reported.append("before the last chunk")
        await asyncio.sleep(self.wait)
        assert not self.server.executed


async def test_an_upload_waits_for_the_limit_before_its_end(server: Server) -> None:
    request = upload(file(LARGE))
    request.current.slot = slot = NotedSlot(server)
    async with wire_to(server.url) as wire:
        await wire(request)
    assert slot.reported == ["sent", "before the last chunk", "answered"]
    assert len(server.executed) == 1
    assert request.current.body_sent


@pytest.mark.looptime
async def test_its_wait_for_the_limit_does_not_count_for_how_long_an_upload_may_take(server: Server) -> None:
    request = upload(once(Pieces(b"x"), 1))
    request.current.slot = NotedSlot(server, wait=1000)
    async with wire_to(server.url, Timeout(total=5)) as wire:
        assert (await wire(request)).status == 201


async def never_answer(incoming: Incoming) -> None:
    await incoming.request()
    await hang(incoming)


@pytest.mark.looptime
async def test_all_else_of_an_upload_counts() -> None:
    limits = Timeout(total=5, read=900, write=900)
    async with serve(never_answer) as server, wire_to(server.url, limits) as wire:
        request = upload(once(Pieces(b"x"), 1))
        request.current.slot = NotedSlot(server, wait=50)
        began = asyncio.get_running_loop().time()
        with pytest.raises(CallTimeoutError):
            await wire(request)
        took = asyncio.get_running_loop().time() - began
        assert took == pytest.approx(5 + 50, abs=1)


async def a_patients_name() -> None:
    raise ValueError(PATIENT)


async def a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (lambda: once(Pieces(b"12", b"3"), 4), FEWER),
        (lambda: once(Pieces(b"12", b"3"), 2), MORE),
        (lambda: once(Pieces(), 2), FEWER),
        (lambda: once(Pieces()), "a file is empty"),
        (lambda: once(Pieces(b"")), "a file is empty"),
        (lambda: once(Pieces(b"12", PATIENT)), "a file gave str where bytes are needed"),
        (lambda: once(Pieces(bytearray(b"12"))), "a file gave bytearray where bytes are needed"),
        (lambda: once(Pieces(b"12", None), 2), "a file gave NoneType where bytes are needed"),
        (
            lambda: once(Pieces(LARGE, b"12", then=a_patients_name)),
            "a file could not be read while it was sent (ValueError)",
        ),
        (
            lambda: once(Pieces(LARGE, then=a_cancelled_future)),
            "a file could not be read while it was sent (CancelledError)",
        ),
        (
            lambda: once(Pieces(then=a_patients_name), 7),
            "a file could not be read while it was sent (ValueError)",
        ),
    ],
)
async def test_an_iterable_at_fault_is_named_so_and_the_service_gets_no_complete_call(
    server: Server, bad: Callable[[], FilePart], problem: str
) -> None:
    at_fault = bad()
    async with wire_to(server.url) as wire:
        with pytest.raises(UploadFileError) as caught:
            await wire(upload(file(b"good"), at_fault))
        await server.until(lambda server: server.open == 0)
    assert (caught.value.problem, caught.value.outcome) == (problem, Outcome.NOT_SENT)
    assert_error_tells_nothing(caught.value)
    assert not server.executed
    await at_fault.source.release()


async def test_what_all_sizes_are_known_of_is_sent_with_its_length_and_all_else_in_chunks(
    server: Server,
) -> None:
    async with wire_to(server.url) as wire:
        await wire(upload(file(b"one"), once(Pieces(b"12", b"", LARGE), 2 + len(LARGE))))
        await wire(upload(file(b"one"), once(Pieces(b"12", b"", LARGE))))
    known, unknown = server.executed
    assert known.header("Content-Length") == str(len(known.body))
    assert "transfer-encoding" not in known.headers
    assert unknown.header("Transfer-Encoding") == "chunked"
    assert "content-length" not in unknown.headers
    assert len(known.body) == len(unknown.body)
    for call in (known, unknown):
        assert b"\r\n\r\n12" + LARGE + b"\r\n--" in call.body


async def test_a_connection_that_breaks_at_the_very_end_is_reported_by_the_call_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_eof = StreamWriter.write_eof

    async def when_the_connection_is_lost(writer: StreamWriter, chunk: bytes = b"") -> None:
        assert writer.transport is not None
        writer.transport.abort()
        await write_eof(writer, chunk)

    monkeypatch.setattr(StreamWriter, "write_eof", when_the_connection_is_lost)
    async with serve(hang) as server, wire_to(server.url) as wire:
        with pytest.raises(ConnectionLostError) as caught:
            await wire(upload(once(Pieces(b"1"))))
    assert caught.value.outcome is Outcome.UNKNOWN


async def refused_after_the_call(incoming: Incoming) -> None:
    await incoming.request()
    await incoming.answer(429, b"{}", "Retry-After: 0")
    await answering(201)(incoming)


async def test_a_call_that_read_from_an_iterable_is_not_repeated() -> None:
    pieces = Pieces(b"1", b"2")
    async with serve(refused_after_the_call) as server, wire_to(server.url) as wire:
        with pytest.raises(RateLimitedError) as caught:
            await fold([RetryStep(Retries()), CheckStep()], wire)(upload(once(pieces, 2)))
        assert len(server.executed) == 1
    assert caught.value.attempts == 1
    assert pieces.given == 2


async def test_a_call_that_read_from_an_iterable_is_not_repeated_with_a_newer_token() -> None:
    tokens = Tokens()
    async with serve(answering(401)) as server, wire_to(server.url) as wire:
        with pytest.raises(UnauthorizedError) as caught:
            await fold([AuthStep(tokens, wire), CheckStep()], wire)(upload(once(Pieces(b"1"), 1)))
        assert len(server.executed) == 1
    assert_error_tells_nothing(caught.value)
    assert tokens.renewed == 1  # for the program's own second try


async def test_a_call_that_did_not_come_to_its_iterable_is_repeated() -> None:
    async def refuse_at_the_head(incoming: Incoming) -> None:
        if incoming.server.opened == 1:
            await early(429)(incoming)
        await answering(201)(incoming)

    pieces = Pieces(b"1")
    request = upload(file(LARGE * 3), once(pieces, 1))
    async with serve(refuse_at_the_head) as server, wire_to(server.url) as wire:
        await fold([RetryStep(Retries(max_wait=0.01)), CheckStep()], wire)(request)
        assert len(server.executed) == 1
    assert (request.current.number, pieces.given) == (2, 1)


async def test_a_call_with_an_iterable_that_found_no_connection_is_repeated(unused_tcp_port: int) -> None:
    pieces = Pieces(b"1")
    request = upload(once(pieces, 1))
    async with wire_to(f"http://127.0.0.1:{unused_tcp_port}") as wire:
        with pytest.raises(ConnectError):
            await fold([RetryStep(Retries(attempts=3, max_wait=0)), CheckStep()], wire)(request)
    assert (request.current.number, pieces.given) == (3, 0)


async def test_a_second_reading_never_sends_what_is_left(server: Server) -> None:
    pieces = Pieces(b"1", b"2")
    file_part = once(pieces)
    async with wire_to(server.url) as wire:
        chunks = file_part.source.chunks()
        await anext(chunks)
        with pytest.raises(UploadFileError, match="only once"):
            await wire(upload(file_part))
        await chunks.aclose()
    assert not server.executed


@pytest.mark.parametrize("handler", [hang, read_nothing])
async def test_a_cancelled_upload_leaves_its_iterable(handler: Handler) -> None:
    pieces = Pieces(*[bytes(MIB)] * 64, then=asyncio.Event().wait)  # type: ignore[arg-type]
    part = once(pieces)
    async with serve(handler) as server, wire_to(server.url) as wire:
        call = asyncio.create_task(wire(upload(part)))
        await pieces.began.wait()
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await part.source.release()
        assert pieces.is_left.is_set()
        if handler is hang:
            await server.until(lambda server: server.open == 0)


async def test_an_iterable_that_never_waits_does_not_hold_up_the_event_loop(server: Server) -> None:
    turns, pieces = 0, Pieces(*[b"x"] * 1000)

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    async with wire_to(server.url) as wire:
        await wire(upload(once(pieces, 1000)))
    counting.cancel()
    assert turns > 1000


async def test_a_thread_that_waits_for_a_pipe_keeps_neither_the_call_nor_the_program() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as pipe, open(writing, "wb", buffering=0) as other:  # noqa: ASYNC230, PTH123 - they are no paths
        began = threading.Event()

        class Pipe(BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                began.set()
                return pipe.read(size) or b""

        async with serve(hang) as server, wire_to(server.url) as wire:
            call = asyncio.create_task(wire(upload(part(Pipe, None))))
            await asyncio.to_thread(began.wait)
            (thread,) = (thread for thread in threading.enumerate() if thread.name == "healthmsg upload")
            assert thread.daemon
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
        other.write(b"x")
        await asyncio.to_thread(thread.join)


async def test_a_further_try_does_not_touch_an_open_file_that_the_one_before_still_reads() -> None:
    is_reading, go_on = threading.Event(), threading.Event()

    class Slow(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            is_reading.set()
            go_on.wait(5)
            return super().read(size)

    file = Slow(b"content")
    source = FileSource(lambda: file, is_lent=True)
    before, after = source.chunks(), source.chunks()
    reading = asyncio.ensure_future(anext(before))
    await asyncio.to_thread(is_reading.wait)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    further = asyncio.ensure_future(anext(after))
    for _ in range(10):
        await asyncio.sleep(0)
    threads = [thread for thread in threading.enumerate() if thread.name == "healthmsg upload"]
    go_on.set()

    assert len(threads) == 1
    await asyncio.gather(further, return_exceptions=True)
    await after.aclose()


async def test_a_try_takes_back_the_progress_of_the_one_before() -> None:
    reported: list[tuple[int, int | None]] = []
    meter = Meter(lambda done, total: reported.append((done, total)))
    (transfer,) = meter.begin_all([len(LARGE)])
    source = FileSource(lambda: Source(LARGE))
    request = upload(FilePart("files", "a", "a/b", len(LARGE), source, transfer))
    async with serve(refused_after_the_call) as server, wire_to(server.url) as wire:
        await fold([RetryStep(Retries()), CheckStep()], wire)(request)
        assert len(server.executed) == 2
    meter.finish()
    assert reported[-1] == (len(LARGE), len(LARGE))
    assert max(done for done, _ in reported) <= len(LARGE)
