"""Small servers over real sockets, a stopped clock, and what else the tests of this folder share."""

import asyncio
import itertools
import logging
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from ssl import SSLContext
from typing import Any, Self

import looptime
import pytest
from attrs import define, field, frozen

from healthmsg.pipeline.request import Content, Multipart, Request, Response
from healthmsg.transport.http import Wire
from healthmsg.transport.timeouts import Timeout

# When a plain test runs first, looptime asks for the present event loop, and asyncio makes one that stays
# open, unless it was said once that there is none.
asyncio.set_event_loop(None)

TOKEN, BODY, AUX_ID, PATIENT, COOKIE = CANARIES = (
    "t0ken-canary",
    "b0dy-canary",
    "aux-canary-7",
    "Jansen-canary",
    "c00kie-canary",
)
ROUTE = "aux/conversations/{id}/messages"
PATH = f"aux/conversations/{AUX_ID}%2F{PATIENT}/messages"
JSON = Content("application/json", f'{{"body": "{BODY}"}}'.encode())
METHODS = ("GET", "POST", "PUT", "DELETE")


def a_request(method: str = "POST", body: Content | Multipart | None = JSON) -> Request:
    """Make a request that is full of what must not be seen."""
    body = None if method == "GET" else body
    request = Request(f"{method} {ROUTE}", method, PATH, body=body)
    request.query = {"q": PATIENT}
    request.cookie = COOKIE
    request.current.token = TOKEN
    return request


@frozen
class Received:
    """A request as it came in."""

    method: str
    target: str
    headers: Mapping[str, list[str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower(), [])
        assert len(values) < 2
        return values[0] if values else None


class Incoming:
    """One connection, from the server's side."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def head(self) -> Received:
        """Read a request as far as its body."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers: dict[str, list[str]] = {}
        for name, _, value in (line.partition(":") for line in lines):
            headers.setdefault(name.lower(), []).append(value.strip())
        received = Received(method, target, headers)
        self.server.begun.append(received)
        return received

    async def request(self) -> Received:
        """Read a whole request; it counts as executed."""
        head = await self.head()
        if head.header("Transfer-Encoding") is None:
            body = await self.reader.readexactly(int(head.header("Content-Length") or 0))
        else:
            body = await self._chunks()
        received = Received(head.method, head.target, head.headers, body)
        self.server.executed.append(received)
        return received

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def answer(self, status: int = 200, body: bytes = b"{}", *headers: str, length: int = -1) -> None:
        lines = (f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length < 0 else length}", *headers)
        self.writer.write("\r\n".join((*lines, "\r\n")).encode() + body)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection, so that the other side notices."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Handler = Callable[[Incoming], Awaitable[None]]


@define(eq=False)
class Server:
    """A server that does with each connection what its handler says."""

    handler: Handler
    url: str = ""
    begun: list[Received] = field(factory=list)
    executed: list[Received] = field(factory=list)
    opened: int = 0
    open: int = 0
    tasks: set[asyncio.Task[Any]] = field(factory=set)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self.open += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.handler(Incoming(self, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self.tasks.discard(task)
            writer.close()

    async def until(self, is_so: Callable[[Self], bool]) -> None:
        async with asyncio.timeout(30):
            while not is_so(self):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)


@asynccontextmanager
async def serve(handler: Handler, tls: SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a server on a free port of this machine."""
    server = Server(handler)
    listening = await asyncio.start_server(server, "127.0.0.1", 0, ssl=tls)
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        tasks = list(server.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listening.wait_closed()


def answering(status: int = 200, body: bytes = b"{}", *headers: str) -> Handler:
    """Answer each request alike."""

    async def handler(incoming: Incoming) -> None:
        while True:
            await incoming.request()
            await incoming.answer(status, body, *headers)

    return handler


async def hang(incoming: Incoming) -> None:
    """Read everything and never say a word."""
    while await incoming.reader.read(65536):
        pass


@asynccontextmanager
async def wire_to(url: str, patience: Timeout | None = None, **options: Any) -> AsyncIterator[Wire]:
    wire = Wire(url, timeout=patience or Timeout(), **options)
    try:
        yield wire
    finally:
        await wire.close()


def response(status: int = 200, body: bytes = b"{}", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(f"GET {ROUTE}", status, named, body)


def let_the_clock_tick() -> None:
    """Let fake time move a nanosecond with each look at it, as a real clock does.

    aiolimiter waits for ever by a clock that stands still, since its sums are not exact.
    """
    loop = asyncio.get_running_loop()
    base, looks = loop.time, itertools.count()
    loop.time = lambda: base() + next(looks) * 1e-9  # type: ignore[method-assign]


def in_fake_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run something in a loop of its own, whose time is fake, and see that it leaves nothing behind."""
    loop = looptime.patch_event_loop(asyncio.SelectorEventLoop(), noop_cycles=0)

    async def watched() -> None:
        let_the_clock_tick()
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    try:
        loop.run_until_complete(watched())
    finally:
        loop.close()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Return an exception and all that hang on it."""
    seen: set[int] = set()
    found = [error]
    while found:
        this = found.pop()
        if this is not None and id(this) not in seen:
            seen.add(id(this))
            yield this
            found += [this.__cause__, this.__context__]
            found += this.exceptions if isinstance(this, BaseExceptionGroup) else ()


def assert_tells_nothing(text: str) -> None:
    assert not [canary for canary in CANARIES if canary in text]


def assert_error_tells_nothing(error: BaseException) -> None:
    for each in chain(error):
        assert type(each).__module__.startswith(("healthmsg.", "builtins", "asyncio")), type(each)
        own = {name: value for name, value in vars(each).items() if not name.startswith("server_")}
        assert_tells_nothing(f"{each!r} {each} {each.args!r} {own!r}")
    assert_tells_nothing("".join(traceback.format_exception(error)))


@contextmanager
def nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See that nothing private is logged meanwhile, at whatever level."""
    for name in ("healthmsg", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    yield
    assert_tells_nothing(caplog.text)
    for record in caplog.records:
        assert_tells_nothing(f"{record.getMessage()} {vars(record)!r}")


# What a server can do to a call instead of answering it.


async def reset_at_once(incoming: Incoming) -> None:
    incoming.reset()


async def reset_in_the_body(incoming: Incoming) -> None:
    await incoming.head()
    incoming.reset()


async def reset_after_the_call(incoming: Incoming) -> None:
    await incoming.request()
    incoming.reset()


async def close_after_the_call(incoming: Incoming) -> None:
    await incoming.request()


async def cut_the_answer(incoming: Incoming) -> None:
    await incoming.request()
    await incoming.answer(200, b'{"id":', length=99)


async def stop_in_the_answer(incoming: Incoming) -> None:
    await incoming.request()
    await incoming.answer(200, b'{"id":', length=99)
    await hang(incoming)


async def speak_no_http(incoming: Incoming) -> None:
    await incoming.request()
    incoming.writer.write(f"SSH-2.0 {TOKEN} {BODY}\r\n\r\n".encode())
    await hang(incoming)
