"""A service over real sockets that fails as it is ordered to, and counts what it carried out."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from ssl import SSLContext
from typing import Any

import pytest
from attrs import define, frozen

from healthmsg import CallRecord, Client, Environment, OAuthApp, Retries, Token, TokenManager
from tests.servers import Incoming, Received, Server, hang, serve

Fault = Callable[[Incoming], Awaitable[None]]
TRIES = 3
ALWAYS = 10**6
BODY = b'{"id": "u1"}'
NEW_TOKEN = json.dumps({"access_token": "new", "token_type": "bearer"}).encode()
# More than all buffers between here and there hold.
LARGE = 12_000_000


@frozen
class Call:
    """One kind of call."""

    name: str
    make: Callable[[Client, str], Awaitable[object]]

    def __str__(self) -> str:
        return self.name


SAFE = Call("safe", lambda client, _: client.me.get())
IDEMPOTENT = Call("idempotent", lambda client, text: client.groupchats("g1").rename(text))
ONCE_DELETE = Call("once-DELETE", lambda client, text: client.groupchats("g1").remove_members([text]))
ONCE_POST = Call("once-POST", lambda client, text: client.conversations("c1").send(text))
CALLS = (SAFE, IDEMPOTENT, ONCE_DELETE, ONCE_POST)


@define(eq=False)
class Script:
    """Does the fault with the first so many tries, and then answers as it should."""

    fault: Fault
    times: int = ALWAYS

    async def __call__(self, incoming: Incoming) -> None:
        while True:
            fault, self.times = self.fault if self.times > 0 else answer, self.times - 1
            await fault(incoming)


@frozen
class Course:
    """What a call led to."""

    executed: int
    records: list[CallRecord]
    waits: list[float]
    """Seconds from the end of each try to that of the next."""
    end: object
    """What was returned or raised."""


@asynccontextmanager
async def client_of(
    server: Server, *, can_renew: bool = False, scheme: str = "http", **options: Any
) -> AsyncIterator[Client]:
    url = f"{scheme}://localhost:{server.url.rpartition(':')[2]}"
    environment = Environment("test", f"{url}/v1", f"{url}/authorize", f"{url}/token")
    app = OAuthApp("id", "secret", "https://your.app/callback", environment)
    tokens = TokenManager(Token("old", refresh_token="r1"), app=app if can_renew else None)
    async with Client(tokens, environment=environment, **options) as client:
        yield client


async def course_of(
    call: Call,
    script: Script,
    *,
    large: bool = False,
    is_second: bool = False,
    tls: SSLContext | None = None,
    **options: Any,
) -> Course:
    """Make one call; if it is the second, over the connection of a first one."""
    records: list[CallRecord] = []
    ended: list[float] = []

    def on_call(record: CallRecord) -> None:
        if "oauth" not in record.call:
            records.append(record)
            ended.append(asyncio.get_running_loop().time())

    settings: dict[str, Any] = {"retries": Retries(attempts=TRIES), "on_call": on_call} | options
    text = "x" * LARGE if large else "x"
    async with serve(script, tls) as server, client_of(server, **settings) as client:
        if is_second:
            await SAFE.make(client, text)
            server.executed.clear()
            records.clear()
        end: object
        try:
            end = await call.make(client, text)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            end = error
        executed = sum(received.target.startswith("/v1/") for received in server.executed)
    waits = [after - before for before, after in pairwise(ended)]
    return Course(executed, records, waits, end)


# --- what can be done with a try


async def receive(incoming: Incoming) -> Received:
    """Read a whole request without carrying it out."""
    head = await incoming.head()
    await incoming.reader.readexactly(int(head.header("Content-Length") or 0))
    return head


async def answer(incoming: Incoming) -> None:
    await incoming.request()
    await incoming.answer(200, BODY)


def refuse(status: int, *headers: str) -> Fault:
    async def refused(incoming: Incoming) -> None:
        await receive(incoming)
        await incoming.answer(status, b"{}", *headers)

    return refused


def fail(status: int, *headers: str) -> Fault:
    """Carry the call out, and say that it failed."""

    async def failed(incoming: Incoming) -> None:
        await incoming.request()
        await incoming.answer(status, b"{}", *headers)

    return failed


def in_turn(*faults: Fault) -> Fault:
    left = list(faults)

    async def next_fault(incoming: Incoming) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(incoming)

    return next_fault


def unless_renewed(then: Fault, *, renewal: Fault) -> Fault:
    """Refuse the old token, do with a token call what `renewal` says, and with any other token `then`."""

    async def by_token(incoming: Incoming) -> None:
        head = await incoming.head()
        body = await incoming.reader.readexactly(int(head.header("Content-Length") or 0))
        again = asyncio.StreamReader()
        names = (f"{name}: {value}\r\n" for name, values in head.headers.items() for value in values)
        again.feed_data(f"{head.method} {head.target} HTTP/1.1\r\n{''.join(names)}\r\n".encode() + body)
        incoming.server.begun.pop()
        if head.target == "/token":
            fault = renewal
        else:
            fault = refuse(401) if head.header("Authorization") == "Bearer old" else then
        reader, incoming.reader = incoming.reader, again
        try:
            await fault(incoming)
        finally:
            incoming.reader = reader

    return by_token


async def give_token(incoming: Incoming) -> None:
    await receive(incoming)
    await incoming.answer(200, NEW_TOKEN)


async def no_token(incoming: Incoming) -> None:
    await receive(incoming)
    await incoming.answer(503, b"{}")


async def reset_at_once(incoming: Incoming) -> None:
    incoming.reset()
    raise ConnectionResetError


async def reset_in_the_body(incoming: Incoming) -> None:
    await incoming.head()
    await reset_at_once(incoming)


async def reset_after_the_body(incoming: Incoming) -> None:
    await incoming.request()
    await reset_at_once(incoming)


async def close_after_the_body(incoming: Incoming) -> None:
    await incoming.request()
    raise ConnectionResetError


def _half_an_answer(then: Fault) -> Callable[..., Fault]:
    def with_status(status: int, *headers: str, runs: bool = True) -> Fault:
        async def half(incoming: Incoming) -> None:
            await (incoming.request() if runs else receive(incoming))
            await incoming.answer(status, BODY[:5], *headers, length=len(BODY))
            await then(incoming)

        return half

    return with_status


async def close(_: Incoming) -> None:
    raise ConnectionResetError


reset_in_the_answer = _half_an_answer(reset_at_once)
cut_the_answer = _half_an_answer(close)
stop_in_the_answer = _half_an_answer(hang)


async def stop_reading(incoming: Incoming) -> None:
    await incoming.head()
    await asyncio.sleep(10_000)


async def never_answer(incoming: Incoming) -> None:
    await incoming.request()
    await hang(incoming)


async def speak_no_http(incoming: Incoming) -> None:
    await incoming.request()
    incoming.writer.write(b"SSH-2.0\r\n\r\n")
    raise ConnectionResetError


async def speak_no_tls(incoming: Incoming) -> None:
    await incoming.reader.read(1)
    await incoming.answer(400)
    raise ConnectionResetError


async def say_no_json(incoming: Incoming) -> None:
    await incoming.request()
    await incoming.answer(200, b"<html>")


# --- what can go wrong before there is a connection


def fail_to_connect(monkeypatch: pytest.MonkeyPatch, how: str, *, times: int = ALWAYS) -> None:
    """Have the first so many connections fail."""
    left = iter(range(times))
    connect = "aiohttp.connector.aiohappyeyeballs.start_connection"
    from aiohappyeyeballs import start_connection

    async def start(addr_infos: Any, **options: Any) -> socket.socket:
        if next(left, None) is None:
            return await start_connection(addr_infos, **options)
        if how == "connecting takes too long":
            await asyncio.sleep(10_000)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            unreachable = (socket.AF_INET, socket.SOCK_STREAM, 0, "", unused.getsockname())
            return await start_connection([unreachable], **options)

    loop = asyncio.get_running_loop()
    getaddrinfo = loop.getaddrinfo

    async def resolve(*where: Any, **options: Any) -> Any:
        if next(left, None) is None:
            return await getaddrinfo(*where, **options)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    if how == "no such host":
        monkeypatch.setattr(loop, "getaddrinfo", resolve)
    else:
        monkeypatch.setattr(connect, start)
