"""A gateway without a socket, and one that listens, for tests in fake time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import orjson
from attrs import define, field

from healthmsg.errors import CallError, ConnectionLostError, HealthmsgError
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.connection import GatewayConnection
from healthmsg.models import User
from healthmsg.transport.websocket import Opcode, Socket

TOKEN, TEXT, NAME = CANARIES = ("t0ken-canary", "text-canary", "Jansen-canary")
ME = {"id": "u1", "first_name": NAME, "last_name": NAME}
URL = "wss://gateway.example/v1/gateway"


def text_of(name: str, **data: object) -> bytes:
    return orjson.dumps({"event": name, "data": data})


AUTHENTICATED = text_of("authenticated", user=ME, session_id="s1")
MESSAGE = text_of("conversation_new_message", conversation_id="c1", message_id="m1", user_id="u2", body=TEXT)


@define(eq=False)
class FakeSocket:
    """The other side answers the handshake and pings as long as it is asked to."""

    answers_handshake: bool = True
    answers_pings: bool = True
    answers_close: bool = True
    takes: bool = True
    """Whether what is sent gets off this machine."""
    sent: list[tuple[Opcode, bytes]] = field(factory=list)
    is_aborted: bool = False
    handshakes: list[str] = field(factory=list)
    incoming: "asyncio.Queue[tuple[Opcode, bytes] | None]" = field(factory=asyncio.Queue)

    async def receive(self) -> tuple[Opcode, bytes]:
        frame = await self.incoming.get()
        if frame is None:
            raise ConnectionLostError("GET gateway", "the connection was lost")
        return frame

    async def send(self, opcode: Opcode, data: bytes) -> None:
        if self.is_aborted:
            raise ConnectionLostError("GET gateway", "the connection was lost")
        if not self.takes:
            await asyncio.Event().wait()
        self.sent.append((opcode, data))
        if opcode is Opcode.TEXT and (document := orjson.loads(data))["event"] == "handshake":
            self.handshakes.append(document["data"]["token"])
            if self.answers_handshake:
                self.say(AUTHENTICATED)
        elif opcode is Opcode.PING and self.answers_pings:
            self.incoming.put_nowait((Opcode.PONG, data))
        elif opcode is Opcode.CLOSE and self.answers_close:
            self.incoming.put_nowait((Opcode.CLOSE, data))

    def abort(self) -> None:
        self.is_aborted = True

    def say(self, data: bytes) -> None:
        self.incoming.put_nowait((Opcode.TEXT, data))

    def break_off(self) -> None:
        self.incoming.put_nowait(None)

    def close(self, code: int = 1001) -> None:
        self.incoming.put_nowait((Opcode.CLOSE, code.to_bytes(2, "big")))

    @property
    def texts(self) -> list[dict[str, Any]]:
        return [orjson.loads(data) for opcode, data in self.sent if opcode is Opcode.TEXT]


@define(eq=False)
class Ear:
    """Notes what it is handed, and when, by the event loop's clock."""

    users: list[User] = field(factory=list)
    frames: list[tuple[str, Mapping[str, object]]] = field(factory=list)
    unread: int = 0
    losses: list[tuple[float, str]] = field(factory=list)
    fails: bool = False

    def authenticated(self, user: User) -> None:
        self.users.append(user)

    def frame(self, name: str, data: Mapping[str, object]) -> None:
        if self.fails:
            raise ZeroDivisionError
        self.frames.append((name, data))

    def unreadable(self) -> None:
        self.unread += 1

    def lost(self, reason: str) -> None:
        self.losses.append((asyncio.get_running_loop().time(), reason))


@define(eq=False)
class Tokens:
    """Tokens by turns: `renew` goes on to the next, as long as there is one."""

    values: list[str] = field(factory=lambda: [TOKEN])
    renewals: list[str] = field(factory=list)
    failures: list[HealthmsgError] = field(factory=list)
    hangs: bool = False

    async def current(self) -> str:
        return self.values[0]

    async def renew(self, refused: str) -> bool:
        self.renewals.append(refused)
        if self.hangs:
            await asyncio.Event().wait()
        if self.failures:
            raise self.failures.pop(0)
        if len(self.values) > 1:
            del self.values[0]
            return True
        return False


Opener = Callable[[int], "FakeSocket | CallError | Awaitable[Socket]"]


@define(eq=False)
class Gateway:
    """What opens fake sockets: the n-th time whatever `make` returns for n; an error is raised."""

    make: Opener = lambda _: FakeSocket()
    sockets: list[FakeSocket] = field(factory=list)
    opened_at: list[float] = field(factory=list)

    async def __call__(self, url: str) -> Socket:
        assert url == URL
        self.opened_at.append(asyncio.get_running_loop().time())
        made = self.make(len(self.opened_at) - 1)
        if isinstance(made, CallError):
            raise made
        if not isinstance(made, FakeSocket):
            return await made
        self.sockets.append(made)
        return made


@define(eq=False)
class Running:
    """A connection that runs."""

    connection: GatewayConnection
    ear: Ear
    tokens: Tokens
    task: "asyncio.Task[None]"

    async def until(self, condition: Callable[[Self], object]) -> None:
        async with asyncio.timeout(10_000):
            while not condition(self):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running(
    open_socket: Callable[[str], Awaitable[Socket]],
    *,
    url: str = URL,
    tokens: Tokens | None = None,
    is_settled: bool = True,
    backoff: Backoff | None = None,
) -> AsyncIterator[Running]:
    ear, tokens = Ear(), tokens or Tokens()
    connection = GatewayConnection(
        url,
        open_socket=open_socket,
        token=tokens.current,
        renew=tokens.renew,
        listener=ear,
        settled=lambda: is_settled,
        backoff=backoff,
    )
    task = asyncio.create_task(connection.run())
    try:
        yield Running(connection, ear, tokens, task)
    finally:
        await connection.close()
        await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        assert task.result() is None
