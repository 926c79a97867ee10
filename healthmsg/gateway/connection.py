"""The connection to the gateway, from the first attempt to the end: one task owns it and makes it again.

The reader never waits for what becomes of a frame: its listener is called, and has to be quick.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from enum import Enum
from random import Random
from typing import Final, NoReturn
from typing import Protocol as TypingProtocol

from healthmsg.aio import start
from healthmsg.clock import SteadyClock, machine_seconds
from healthmsg.errors import CallError, ReauthorizationRequiredError, TokenRequestError, TokenStoreError
from healthmsg.gateway.protocol import (
    EVENTS_A_MINUTE,
    SUBSCRIPTIONS_A_MINUTE,
    Authenticated,
    Budget,
    Protocol,
    Received,
    Refused,
    Unreadable,
)
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject
from healthmsg.log import log
from healthmsg.models import User
from healthmsg.transport.websocket import Ping, Pong, SocketClosedError, WebSocket

OpenSocket = Callable[[], Awaitable[WebSocket]]
_FIRST_WAIT: Final = 5.0
_LONGEST_WAIT: Final = 60.0
_AFTER_LIMIT_ERROR: Final = 60.0
_ALIVE_FOR: Final = 60.0
"""Seconds after which a connection that has caught up counts as a good one."""
_LOOK_EVERY: Final = 1.0
_SLEEP: Final = 5.0
"""Seconds by which the machine's clock has gone further than the event loop's: it has slept."""
_MOST_TO_SEND: Final = 100


class GatewayState(Enum):
    """What a connection is doing. The values are those of `EventsState`."""

    CONNECTING = "connecting"
    WAITING = "waiting"
    LIVE = "live"
    CLOSED = "closed"


class GatewayListener(TypingProtocol):
    """Is called with what the gateway says. It must be quick."""

    def authenticated(self, user: User) -> None:
        """Take note that frames come from now on."""

    def frame(self, name: str, data: JSONObject) -> None:
        """Take a frame."""

    def unreadable(self) -> None:
        """Take note of a frame that could not be read."""

    def lost(self, reason: str) -> None:
        """Take note that no frames come any more; only after `authenticated`."""


class Backoff:
    """How long to wait before the next connection: full jitter, up to a minute."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()  # noqa: S311 - it only spreads clients out
        self._failures = 0

    def wait(self) -> float:
        """Return the seconds to wait now, and wait longer the next time."""
        most = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)
        return self._random.uniform(0, most)

    def record_success(self) -> None:
        """Note a connection that was a good one."""
        self._failures = 0


class GatewayConnection:
    """Connects to the gateway, and again whenever the connection is lost.

    `token` returns the access token; `renew` is called with one that was refused, and returns whether there
    is another one now. `is_caught_up` says whether what was missed before this connection has been read.
    """

    def __init__(  # noqa: PLR0913 - what it works with, by keyword
        self,
        *,
        open_socket: OpenSocket,
        token: Callable[[], Awaitable[str]],
        renew: Callable[[str], Awaitable[bool]],
        listener: GatewayListener,
        is_caught_up: Callable[[], bool],
        clock: SteadyClock | None = None,
        random: Random | None = None,
    ) -> None:
        self._open_socket = open_socket
        self._token = token
        self._renew = renew
        self._listener = listener
        self._is_caught_up = is_caught_up
        self._clock = clock or SteadyClock()
        self._backoff = Backoff(random)
        self._budget = Budget(EVENTS_A_MINUTE)
        self._subscriptions = Budget(SUBSCRIPTIONS_A_MINUTE)
        self._protocol: Protocol | None = None
        self._line: _Line | None = None
        self._was_refused = False
        self._was_renewed = False
        """Whether the token was renewed since the gateway accepted one."""
        self.state: GatewayState = GatewayState.CONNECTING
        self.connected_since: datetime | None = None
        """Since when frames come, by this machine's clock (aware)."""
        self.connects: int = 0
        """How many connections were made."""

    # --- what is sent

    def send_typing(self, chat: ChatAddress) -> bool:
        """Say that the user types; return whether it was sent."""
        return self._sent(lambda protocol, now: protocol.about_chat("typing", chat, now))

    def send_typing_stopped(self, chat: ChatAddress) -> bool:
        """Say that the user types no more; return whether it was sent."""
        return self._sent(lambda protocol, now: protocol.about_chat("stop_typing", chat, now))

    def send_presence(self, status: str) -> bool:
        """Say whether the user is there; return whether it was sent."""
        return self._sent(lambda protocol, now: protocol.presence(status, now))

    def subscribe(self, group: str) -> None:
        """Have a group chat's messages come whole and at once, as soon as the budget allows."""
        if self._protocol is not None and self._line is not None:
            self._protocol.subscribe(group)
            self._send_subscriptions()

    def _sent(self, make: Callable[[Protocol, float], str | None]) -> bool:
        if self._protocol is None or self._line is None or not self._line.has_room:
            return False
        frame = make(self._protocol, self._clock.now())
        if frame is not None:
            self._line.send(frame)
        return frame is not None

    def _send_subscriptions(self) -> None:
        protocol, line = self._protocol, self._line
        while protocol is not None and line is not None and line.has_room:
            frame = protocol.next_subscription(self._clock.now())
            if frame is None:
                return
            line.send(frame)

    # --- connecting

    async def run(self) -> NoReturn:
        """Connect until it is cancelled.

        Raises:
            ReauthorizationRequiredError: the gateway does not accept the token, and there is no other one.
        """
        try:
            while True:
                wait = await self._connect_once()
                self.state = GatewayState.WAITING
                await _sleep(wait)
                self.state = GatewayState.CONNECTING
        finally:
            self.state = GatewayState.CLOSED

    async def _connect_once(self) -> float:
        """Hold one connection as long as it lasts; return how long to wait before the next one."""
        token = ""
        try:
            token = await self._token()
            socket = await self._open_socket()
        except (CallError, TokenRequestError, TokenStoreError) as error:
            if isinstance(error, ReauthorizationRequiredError):
                raise
            log(logging.INFO, "no connection to the gateway: %(error)s", error=type(error).__name__)
            return self._backoff.wait()
        self.connects += 1
        line = _Line(socket)
        self._line = line
        self._protocol = protocol = Protocol(self._budget, self._subscriptions, self._clock.now())
        began = self._clock.now()
        try:
            reason, was_asleep = await self._hold(line, protocol, token)
        finally:
            if protocol.is_authenticated and self._clock.now() - began >= _ALIVE_FOR and self._is_caught_up():
                self._backoff.record_success()
            self._line = self._protocol = self.connected_since = None
            await _ended(line)
        if protocol.is_authenticated:
            self._listener.lost(reason)
        if self._was_refused:
            await self._renew_or_give_up(token)
            return self._backoff.wait() if protocol.is_authenticated else 0.0
        if protocol.had_error:
            return _AFTER_LIMIT_ERROR + self._backoff.wait()
        return 0.0 if was_asleep else self._backoff.wait()

    async def _renew_or_give_up(self, token: str) -> None:
        """Renew a token that was refused, once: one that was just renewed is of no use either.

        Raises:
            ReauthorizationRequiredError: there is no other token.
        """
        self._was_refused = False
        was_renewed, self._was_renewed = self._was_renewed, True
        if was_renewed or not await self._renew(token):
            raise ReauthorizationRequiredError(
                "The gateway does not accept the access token: the user has to authorize again."
            )

    async def _hold(self, line: "_Line", protocol: Protocol, token: str) -> tuple[str, bool]:
        line.send(protocol.handshake(token, self._clock.now()))
        watch = _Watch(line, protocol, self._clock, self._send_subscriptions)
        writing = start(line.write(), name="healthmsg gateway writer")
        try:
            while True:
                self._take(await line.socket.receive(), line, protocol)
                if self._was_refused:
                    return "the token was refused", False
        except SocketClosedError as error:
            return watch.reason or str(error), watch.was_asleep
        finally:
            watch.stop()
            writing.cancel()
            await asyncio.wait([writing])

    def _take(self, received: str | bytes | Ping | Pong, line: "_Line", protocol: Protocol) -> None:
        if isinstance(received, Ping | Pong):
            protocol.pong()
            if isinstance(received, Ping):
                line.answer(received)
            return
        outcome = protocol.received(received)
        if isinstance(outcome, Received):
            self._listener.frame(outcome.name, outcome.data)
        elif isinstance(outcome, Authenticated):
            self._was_renewed = False
            self.state = GatewayState.LIVE
            self.connected_since = self._clock.moment()
            self._listener.authenticated(outcome.user)
        elif isinstance(outcome, Refused):
            self._was_refused = True
        elif isinstance(outcome, Unreadable):
            log(logging.INFO, "a frame of %(size)d bytes could not be read", size=len(received))
            if protocol.is_authenticated:
                self._listener.unreadable()


class _Line:
    """A socket, and what is to be sent over it: one task writes."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self._to_send: deque[str | Ping | Pong] = deque()
        self._wake = asyncio.Event()

    @property
    def has_room(self) -> bool:
        return len(self._to_send) < _MOST_TO_SEND

    def send(self, frame: str) -> None:
        self._to_send.append(frame)
        self._wake.set()

    def ping(self) -> None:
        self._to_send.append(Pong())
        self._wake.set()

    def answer(self, ping: Ping) -> None:
        if self.has_room:  # a server that pings without end is not answered without end
            self._to_send.append(ping)
            self._wake.set()

    async def write(self) -> None:
        """Write until it is cancelled, or the socket is closed: the reader notices that too."""
        with suppress(SocketClosedError):
            while True:
                while self._to_send:
                    one = self._to_send.popleft()
                    if isinstance(one, str):
                        await self.socket.send(one)
                    elif isinstance(one, Ping):
                        await self.socket.pong(one.data)
                    else:
                        await self.socket.ping()
                self._wake.clear()
                await self._wake.wait()


class _Watch:
    """Looks every second whether the connection is alive, and whether the machine has slept."""

    def __init__(
        self, line: _Line, protocol: Protocol, clock: SteadyClock, send_subscriptions: Callable[[], None]
    ) -> None:
        self._line = line
        self._protocol = protocol
        self._clock = clock
        self._send_subscriptions = send_subscriptions
        self._loop = asyncio.get_running_loop()
        self._ahead = self._machine_ahead()
        self.reason = ""
        """Why it has ended the connection."""
        self.was_asleep = False
        self._timer = self._loop.call_later(_LOOK_EVERY, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _machine_ahead(self) -> float:
        return machine_seconds() - self._loop.time()

    def _look(self) -> None:
        now = self._clock.now()
        before, self._ahead = self._ahead, self._machine_ahead()
        if self._ahead - before > _SLEEP:
            self.was_asleep = True
            self.reason = "this machine has slept"
        else:
            self.reason = self._protocol.what_is_wrong(now) or ""
        if self.reason:
            self._line.socket.abort()
            return
        if self._protocol.is_ping_due(now):
            self._line.ping()
        self._send_subscriptions()
        self._timer = self._loop.call_later(_LOOK_EVERY, self._look)


async def _ended(line: _Line) -> None:
    """Close a socket, also when this is being cancelled: that takes two seconds at most."""
    closing = start(line.socket.close(), name="healthmsg gateway closing")
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise


async def _sleep(seconds: float) -> None:
    """Wait; a machine that sleeps meanwhile counts as time that passes."""
    clock = SteadyClock()
    clock.now()
    until = clock.now() + seconds
    while (left := until - clock.now()) > 0:  # noqa: ASYNC110 - a clock is looked at
        await asyncio.sleep(min(left, _LOOK_EVERY))
