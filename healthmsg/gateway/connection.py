"""Staying connected: one task opens one connection after the other, for as long as the program wants it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Final, Protocol

from attrs import frozen

from healthmsg.clock import Stopwatch
from healthmsg.errors import (
    AuthorizationError,
    CallError,
    ProxyAuthenticationError,
    RateLimitedError,
    ReauthorizationRequiredError,
    StatusError,
    TokenRequestError,
)
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.budget import Budget
from healthmsg.gateway.line import SHORTEST, Line
from healthmsg.gateway.protocol import (
    Authenticated,
    Cause,
    Ended,
    GatewayProtocol,
    Happening,
    Received,
)
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject
from healthmsg.live import Presence
from healthmsg.log import log
from healthmsg.models import User
from healthmsg.transport.websocket import OpenSocket

# Seconds between two looks at the clock that goes on while the machine sleeps.
_LOOK: Final = 1.0
# Seconds with an accepted token, after which the next refusal may be answered with a renewal again.
_TRUSTED: Final = 60.0
_REFUSED: Final = (
    "The gateway refused the token (error 403), and no other could be had, or it refused that one too: the"
    " user has to authorize again."
)


class GatewayState(Enum):
    """What a connection to the gateway is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    WAITING = "waiting"
    CLOSED = "closed"


class GatewayListener(Protocol):
    """What happens on the gateway is handed to it. Its methods are quick: nothing else is read meanwhile."""

    def authenticated(self, user: User) -> None:
        """Take note of a new connection, of this user. What happened before has to be read."""

    def frame(self, name: str, data: JSONObject) -> None:
        """Take a frame, between `authenticated` and `lost`; `error` and `groupchat_subscribed` too."""

    def unreadable(self) -> None:
        """Take note of a frame that cannot be read: anything may have happened."""

    def lost(self, reason: str) -> None:
        """Take note that the connection is over, after `authenticated`; not when it was closed on purpose.

        The reason has nothing private in it.
        """


@frozen
class _Failure:
    """Why there is no connection any more, or none yet."""

    reason: str
    is_limited: bool = False
    asked_for: float | None = None
    """Seconds that the service asks to wait."""
    is_worth_a_try: bool = False
    """Whether another token makes a difference at once."""


class GatewayConnection:
    """Keeps a connection to the gateway, and opens another one whenever it is lost.

    One task runs it: `run`. The listener is called in that task or its reader's, one call at a time. `token`
    returns one that can be sent; `renew` is given one that was refused, and returns whether there is another
    now. `settled` says whether the catch-up after the present connection's start has ended.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        url: str,
        *,
        open_socket: OpenSocket,
        token: Callable[[], Awaitable[str]],
        renew: Callable[[str], Awaitable[bool]],
        listener: GatewayListener,
        settled: Callable[[], bool],
        backoff: Backoff | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._url = url
        self._open_socket = open_socket
        self._token = token
        self._renew = renew
        self._listener = listener
        self._settled = settled
        self._backoff = backoff or Backoff()
        self._now = now
        self._budget = Budget()
        self._protocol: GatewayProtocol | None = None
        self._line: Line | None = None
        self._lived: Stopwatch | None = None  # since the present connection is live
        self._refused: str | None = None  # the token that was refused last
        self._has_renewed = False
        self._scope: asyncio.Timeout | None = None
        self._over = asyncio.Event()
        self._is_closing = False
        self.state: GatewayState = GatewayState.CONNECTING
        self.connected_since: datetime | None = None
        """Since when it is live (aware); `None` when it is not."""
        self.connects: int = 0
        """How many times the service has accepted the token."""
        self.unreadable: int = 0
        """How many frames could not be read: over 1 MiB, or not what the gateway's frames look like."""

    def __repr__(self) -> str:
        return f"<GatewayConnection {self.state.value}>"

    @hides_awaited_arguments
    async def run(self) -> None:
        """Stay connected until `close` is called, or this is cancelled. Call it once.

        Raises:
            ReauthorizationRequiredError: the service refused the token, and there is no other, or it refused
                that one too.
            TokenRequestError: the token cannot be renewed, and trying again is futile.
            ProxyAuthenticationError: the proxy wants other credentials.
            ConfigurationError, ClientUsageError: a setting cannot work, or the client was closed.
        """
        try:
            async with asyncio.timeout(None) as self._scope:
                if not self._is_closing:
                    await self._stay_connected()
        except TimeoutError:
            if not self._is_closing:
                raise
        finally:
            self.state = GatewayState.CLOSED
            self._over.set()

    async def close(self) -> None:
        """End the connection, and wait for the end of `run`: at most 5 seconds, whatever the service does."""
        if not self._is_closing:
            self._is_closing = True
            if self._scope is not None and not self._over.is_set():
                # As `asyncio.timeout` does: `run` alone is interrupted, wherever it waits.
                self._scope.reschedule(asyncio.get_running_loop().time())
        if self._scope is None:
            self.state = GatewayState.CLOSED
        else:
            await self._over.wait()

    def send_typing(self, chat: ChatAddress) -> bool:
        """Tell the chat that the user types. False: it was dropped, for want of a connection or budget.

        Also for a chat under an auxiliary id, which the gateway does not know.
        """
        return self._send_of(chat, "typing")

    def send_typing_stopped(self, chat: ChatAddress) -> bool:
        """Tell the chat that the user types no more. False: as `send_typing`."""
        return self._send_of(chat, "stop_typing")

    def send_presence(self, status: Presence) -> bool:
        """Tell the user's contacts how present the user is. False: as `send_typing`."""
        return self._send("presence_update", {"status": status})

    def subscribe(self, group_id: str) -> None:
        """Ask for a group chat's whole messages: at most 200 a minute leave, in the order asked for.

        Does nothing when not live: a new connection has no subscriptions, so ask again after `authenticated`.
        """
        self._change_subscription(group_id, wanted=True)

    def unsubscribe(self, group_id: str) -> None:
        """Ask for no more of them."""
        self._change_subscription(group_id, wanted=False)

    def _change_subscription(self, group_id: str, *, wanted: bool) -> None:
        if self._protocol is not None and self._line is not None:
            self._protocol.subscribe(group_id, wanted=wanted)
            self._line.wake()

    def _send_of(self, chat: ChatAddress, name: str) -> bool:
        if chat.kind.is_auxiliary:
            return False
        return self._send(name, {"groupchat_id" if chat.kind.is_group else "conversation_id": chat.id})

    def _send(self, name: str, data: JSONObject) -> bool:
        if self._protocol is None or self._line is None:
            return False
        is_taken = self._protocol.send_now(name, data, asyncio.get_running_loop().time())
        if is_taken:
            self._line.wake()
        return is_taken

    async def _stay_connected(self) -> None:
        while True:
            self.state = GatewayState.CONNECTING
            failure = await self._connect()
            if failure.is_worth_a_try:
                log(logging.WARNING, "The gateway: %(reason)s; it is renewed", reason=failure.reason)
                continue
            wait = self._backoff.next_wait(is_limited=failure.is_limited, asked_for=failure.asked_for)
            self.state = GatewayState.WAITING
            message = "No connection to the gateway: %(reason)s; the next try is in %(seconds).1f s"
            log(logging.WARNING, message, reason=failure.reason, seconds=round(wait, 1))
            await _rest(wait)

    async def _connect(self) -> _Failure:
        """Open a connection and keep it as long as it lasts."""
        try:
            token = await self._usable_token()
            socket = await self._open_socket(self._url)
        except (ReauthorizationRequiredError, CallError, AuthorizationError) as error:
            if _is_final(error):
                raise
            return _failure_of(error)
        self._protocol = GatewayProtocol(token, budget=self._budget, now=asyncio.get_running_loop().time())
        self._line = Line(socket, self._protocol, self._report)
        try:
            ended = await self._line.run(lambda: self._is_closing)
        finally:
            self._line = self._protocol = None
            lived, self._lived, self.connected_since = self._lived, None, None
        if lived is not None:
            self._backoff.note_alive(lived.seconds(), is_settled=self._settled())
            self._listener.lost(ended.reason)
        return self._judged(ended, token, 0.0 if lived is None else lived.seconds())

    def _judged(self, ended: Ended, token: str, lived: float) -> _Failure:
        if lived >= _TRUSTED:  # however it ended: the refusal may come to the next one's handshake
            self._has_renewed = False
        if ended.cause is not Cause.TOKEN_REFUSED:
            return _Failure(ended.reason, is_limited=ended.cause is Cause.LIMIT)
        if self._has_renewed:
            raise ReauthorizationRequiredError(_REFUSED)
        self._refused, self._has_renewed = token, True
        return _Failure(ended.reason, is_worth_a_try=True)

    async def _usable_token(self) -> str:
        """Return a token that was not refused, renewed once if need be."""
        token = await self._token()
        if token == self._refused and await self._renew(token):
            token = await self._token()
        if token == self._refused:
            raise ReauthorizationRequiredError(_REFUSED)
        return token

    def _report(self, happening: Happening) -> None:
        if isinstance(happening, Received):
            self._listener.frame(happening.name, happening.data)
        elif isinstance(happening, Authenticated):
            self.state, self.connected_since = GatewayState.LIVE, self._now()
            self._lived = Stopwatch()
            self.connects += 1
            log(logging.INFO, "Connected to the gateway")
            self._listener.authenticated(happening.user)
        elif not isinstance(happening, Ended):
            self.unreadable += 1
            message = "The gateway sent a frame that cannot be read (%(size)d bytes)"
            log(logging.WARNING, message, size=happening.size)
            self._listener.unreadable()


async def _rest(seconds: float) -> None:
    """Wait that long by the clock that goes on while the machine sleeps."""
    waited = Stopwatch()
    while (left := seconds - waited.seconds()) > 0:  # noqa: ASYNC110 - a clock has no event
        await asyncio.sleep(min(max(left, SHORTEST), _LOOK))


def _is_final(error: Exception) -> bool:
    if isinstance(error, StatusError):  # a 401 too: the upgrade carries no token
        return False
    if isinstance(error, TokenRequestError):
        return error.is_final
    return isinstance(error, ReauthorizationRequiredError | ProxyAuthenticationError)


def _failure_of(error: CallError | AuthorizationError) -> _Failure:
    reason = error.problem if isinstance(error, CallError) else type(error).__name__
    asked_for = getattr(error, "retry_after", None)
    return _Failure(reason, isinstance(error, RateLimitedError), asked_for)
