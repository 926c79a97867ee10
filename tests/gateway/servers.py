"""Gateways that misbehave, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any

import orjson
from aiohttp import WSMsgType, web
from attrs import define, field

from tests.gateway.fakes import AUTHENTICATED, CANARIES, MESSAGE, TEXT, TOKEN, text_of

Behaviour = Callable[["Session"], Awaitable[None]]


@define(eq=False)
class Session:
    """One connection, from the server's side."""

    socket: web.WebSocketResponse
    server: "Server"
    number: int

    async def handshake(self) -> None:
        """Read the handshake, and accept whatever token it has."""
        document = orjson.loads(await self.socket.receive_str())
        assert document["event"] == "handshake"
        self.server.tokens.append(document["data"]["token"])
        await self.say(AUTHENTICATED)

    async def say(self, data: bytes) -> None:
        await self.socket.send_frame(data, WSMsgType.TEXT)

    async def listen(self) -> None:
        """Answer pings and a CLOSE, and note what is said, until the end."""
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                self.server.heard.append(orjson.loads(message.data))

    async def hang(self) -> None:
        """Neither read nor write."""
        await asyncio.Event().wait()


@define(eq=False)
class Server:
    url: str = ""
    upgrades: list[dict[str, str]] = field(factory=list)
    """The headers of each."""
    tokens: list[str] = field(factory=list)
    heard: list[dict[str, Any]] = field(factory=list)
    endings: list[int | None] = field(factory=list)
    """With which code the client closed each connection; `None`: it just ended."""
    tasks: "set[asyncio.Task[Any]]" = field(factory=set)


@asynccontextmanager
async def serve(
    behaviour: Behaviour, *, tls: SSLContext | None = None, status: int | None = None
) -> AsyncIterator[Server]:
    """Run a gateway on a free port of this machine; with a status it refuses each upgrade with that."""
    server = Server()

    async def answer(request: web.Request) -> web.StreamResponse:
        server.upgrades.append({name.lower(): value for name, value in request.headers.items()})
        if status is not None:
            headers = {"Location": "/elsewhere", "X-Echo": TOKEN}
            return web.Response(status=status, text=" ".join(CANARIES), headers=headers)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        server.tasks.add(task)
        with suppress(ConnectionError, TypeError):  # TypeError: the connection has ended
            await behaviour(Session(socket, server, len(server.upgrades)))
        server.endings.append(socket.close_code)
        server.tasks.discard(task)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.url = f"ws{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/v1/gateway"
    try:
        yield server
    finally:
        for task in list(server.tasks):
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)
        await runner.cleanup()


async def behave(session: Session) -> None:
    await session.handshake()
    await session.listen()


async def accept_and_close(session: Session) -> None:
    await session.socket.close(code=1001)


async def never_answer_the_handshake(session: Session) -> None:
    await session.listen()


async def flood(session: Session) -> None:
    """Send without end, and read nothing, so that no CLOSE is ever answered."""
    await session.handshake()
    while True:
        await session.say(MESSAGE)


async def stop_reading(session: Session) -> None:
    """Keep the connection, and read nothing more."""
    await session.handshake()
    await session.hang()


async def break_off(session: Session) -> None:
    await session.handshake()
    transport = session.socket._req.transport if session.socket._req else None
    assert transport is not None
    transport.abort()


def saying(*frames: bytes, closes: bool = False) -> Behaviour:
    """Accept the token, say something, and close or go on listening."""

    async def behaviour(session: Session) -> None:
        await session.handshake()
        for frame in frames:
            await session.say(frame)
        if closes:
            await session.socket.close()
        await session.listen()

    return behaviour


async def refuse_the_token(session: Session) -> None:
    document = orjson.loads(await session.socket.receive_str())
    session.server.tokens.append(document["data"]["token"])
    await session.say(text_of("error", code=403, error=f"forbidden {TOKEN} {TEXT}"))
    await session.listen()


async def send_garbage(session: Session) -> None:
    """Send what is no frame of RFC 6455 at all, after one that is."""
    await session.handshake()
    transport = session.socket._req.transport if session.socket._req else None
    assert transport is not None
    transport.write(b"\xff\xff garbage " + " ".join(CANARIES).encode())
    await session.listen()
