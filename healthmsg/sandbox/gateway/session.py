"""One connection of the gateway, from its handshake to its end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web
from attrs import define, field

from healthmsg.sandbox.call import ApiError
from healthmsg.sandbox.gateway.actions import MESSAGES, Member, authenticated, chat_in
from healthmsg.sandbox.gateway.faults import Gateway
from healthmsg.sandbox.gateway.frames import error_frame, frame, read_frame
from healthmsg.sandbox.gateway.outbox import Outbox
from healthmsg.sandbox.hub import GROUP_MESSAGE, Announcement
from healthmsg.sandbox.limits import SlidingWindow
from healthmsg.sandbox.records import JSON
from healthmsg.sandbox.state import State

# Seconds. The first three are documented [D].
_HANDSHAKE: Final = 10.0
_PING_EVERY: Final = 30.0
_PONG_WITHIN: Final = 10.0
_CLOSE_WITHIN: Final = 1.0
_LONGEST_SILENCE: Final = 300.0
_LOOK_EVERY: Final = 0.05
_TOO_MANY: Final = 429
_LARGEST_FRAME: Final = 1024 * 1024
# Of a client that does not read; it is dropped then [A].
_MOST_WAITING: Final = 10_000


@define(eq=False)
class Budget:
    """What one access token may still send [D]; that the handshake counts, too, is assumed [A]."""

    events: SlidingWindow = field(factory=lambda: SlidingWindow(250, 60.0))
    messages: SlidingWindow = field(factory=lambda: SlidingWindow(100, 60.0))

    def take(self, now: float, *, message: bool = False) -> None:
        """Count an event, or that an event is a message.

        Raises:
            ApiError: there are too many [A: code 429].
        """
        if (self.messages if message else self.events).admit(now) is not None:
            raise ApiError(_TOO_MANY, "rate_limit_exceeded", "Over the limit of events per minute.")


@define(eq=False)
class Session:
    """One connection; a `Line` of the `Gateway`."""

    _request: web.BaseRequest = field(repr=False)
    _state: State = field(repr=False)
    _gateway: Gateway = field(repr=False)
    _budget_of: Callable[[str], Budget] = field(repr=False)
    _session_id: str = field(repr=False)
    _socket: web.WebSocketResponse = field(init=False, repr=False)
    _member: Member | None = field(default=None, init=False, repr=False)
    _budget: Budget | None = field(default=None, init=False, repr=False)
    _outbox: Outbox = field(factory=Outbox, init=False, repr=False)
    _doomed_at: int | None = field(default=None, init=False)
    _is_dropped: bool = field(default=False, init=False)
    _ponged: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    _flooding: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    _silenced: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._socket = web.WebSocketResponse(
            timeout=_CLOSE_WITHIN,
            autoclose=False,
            autoping=False,
            compress=False,
            max_msg_size=_LARGEST_FRAME,
        )

    @property
    def user_id(self) -> str | None:
        """See `Line`."""
        return None if self._member is None else self._member.person.id

    @property
    def waiting(self) -> int:
        """See `Line`."""
        return len(self._outbox)

    @property
    def is_upgrade(self) -> bool:
        """Whether the request asks for a WebSocket."""
        return self._socket.can_prepare(self._request).ok

    async def run(self) -> web.StreamResponse:
        """Serve the client until either side ends."""
        with suppress(ConnectionError):  # the client has gone
            await self._socket.prepare(self._request)
            self._gateway.lines.append(self)
            try:
                if self._gateway.take_closing():
                    await self._close(WSCloseCode.GOING_AWAY)
                elif await self._authenticate():
                    await self._serve()
            finally:
                self._leave()
        if self._silenced.is_set():
            await asyncio.sleep(_LONGEST_SILENCE)
            self._abort()
        # A client that has gone before the upgrade is answered with anything: aiohttp wants an answer.
        return self._socket if self._socket.prepared else web.Response()

    def drop(self, *, silently: bool) -> None:
        """See `Line`."""
        if self._is_dropped:
            return
        self._is_dropped = True
        self._leave()
        if not silently:
            self._abort()
            return
        self._silenced.set()
        if self._request.transport is not None:
            with suppress(RuntimeError):  # it is closing
                self._request.transport.pause_reading()

    def flood(self) -> None:
        """See `Line`."""
        self._flooding.set()

    def hear(self, announcement: Announcement) -> None:
        """Send an event, if it is for this user; before `groupchat_subscribe` without a group's text [V]."""
        member = self._member
        if member is None or self._is_dropped or member.person not in announcement.people:
            return
        chat = announcement.chat
        data, late = announcement.data_for(member.person), 0.0
        if announcement.name == GROUP_MESSAGE and not member.has_whole(chat):
            del data["body"]  # the key is absent [V]
            late = self._state.options.habits.textless_lag.total_seconds()
        if chat is not None and member.person not in chat.members:
            member.subscribed.discard(chat.id)
        self._send_event(frame(announcement.name, data), late)

    def _send_event(self, text: str, late: float) -> None:
        gateway = self._gateway
        copies = 2 if gateway.duplicates is not None and gateway.duplicates.draw() else 1
        is_held = gateway.reordered is not None and gateway.reordered.draw()
        for _ in range(copies):
            if is_held:
                self._outbox.hold(text, delay=gateway.seconds_late)
            else:
                self._outbox.put(text, delay=gateway.seconds_late, late=late)
        if len(self._outbox) > _MOST_WAITING:
            self.drop(silently=False)

    async def _authenticate(self) -> bool:
        try:
            async with asyncio.timeout(_HANDSHAKE):
                text = await self._receive()
        except TimeoutError:
            await self._close(WSCloseCode.POLICY_VIOLATION)
            return False
        if text is None:
            return False
        try:
            name, data = read_frame(text, strict=self._state.options.strict)
            member = authenticated(self._state, name, data)
            self._budget = self._budget_of(data.text("token"))
            self._budget.take(self._now())
        except ApiError as error:
            await self._refuse(error)
            return False
        self._member = member
        if self._gateway.doomed is not None:
            self._doomed_at = self._gateway.doomed.draw()
        answer = {"user": member.person.to_json(), "session_id": self._session_id}
        await self._socket.send_str(frame("authenticated", answer))
        return True

    async def _serve(self) -> None:
        if self._gateway.is_flooding:
            self._flooding.set()
        await _until_one_ends(
            self._read(), self._write(), self._flood(), self._keep_alive(), self._silenced.wait()
        )

    async def _read(self) -> None:
        while (text := await self._receive()) is not None:
            try:
                answer = self._answer(text)
            except ApiError as error:
                await self._refuse(error)
                return
            if answer is not None:
                self._outbox.put(answer, delay=self._gateway.seconds_late)

    def _answer(self, text: str | bytes) -> str | None:
        """Carry an event of the client's out, and return the frame that answers it, if there is one.

        Raises:
            ApiError: the client has sent too many.
        """
        member, budget = self._member, self._budget
        assert member is not None and budget is not None  # noqa: S101, PT018 - since the handshake
        chat: JSON = {}
        try:
            budget.take(self._now())
            name, data = read_frame(text, strict=self._state.options.strict)
            chat = chat_in(data)
            if name in MESSAGES:
                budget.take(self._now(), message=True)
            return member.carry_out(name, data)
        except ApiError as error:
            if error.status == _TOO_MANY:
                raise
            return error_frame(error, chat)

    async def _receive(self) -> str | bytes | None:
        """Return the next frame of data; `None`: there will be none."""
        while True:
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    data: str | bytes = message.data
                    return data
                case WSMsgType.PING:
                    await self._socket.pong(message.data)
                case WSMsgType.PONG:
                    self._ponged.set()
                case WSMsgType.CLOSE:
                    await self._answer_close()
                    return None
                case _:
                    return None

    async def _answer_close(self) -> None:
        while self._gateway.is_flooding or self._gateway.ignores_close:
            if self._request.transport is None or self._request.transport.is_closing():
                return
            await asyncio.sleep(_LOOK_EVERY)
        await self._close(WSCloseCode.OK)

    async def _write(self) -> None:
        sent = 0
        while True:
            text = await self._outbox.next()
            sent += 1
            if sent == self._doomed_at and self._gateway.doomed is not None:
                self.drop(silently=self._gateway.doomed.silently)
                return
            await self._socket.send_str(text)

    async def _flood(self) -> None:
        while True:
            await self._flooding.wait()
            self._flooding.clear()
            text = frame("presence_update", {"user_id": self.user_id, "status": "online"})
            while self._gateway.is_flooding:
                await self._socket.send_str(text)
                await asyncio.sleep(0)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_PING_EVERY)
            self._ponged.clear()
            await self._socket.ping()
            try:
                async with asyncio.timeout(_PONG_WITHIN):
                    await self._ponged.wait()
            except TimeoutError:
                self.drop(silently=False)
                return

    async def _refuse(self, error: ApiError) -> None:
        """Say what is wrong, and disconnect [D]."""
        await self._socket.send_str(error_frame(error))
        await self._close(WSCloseCode.POLICY_VIOLATION)

    async def _close(self, code: int) -> None:
        try:
            async with asyncio.timeout(2 * _CLOSE_WITHIN):
                await self._socket.close(code=code)
        except TimeoutError:
            self._abort()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    def _leave(self) -> None:
        with suppress(ValueError):  # it has left already
            self._gateway.lines.remove(self)

    def _now(self) -> float:
        clock = self._state.options.clock
        return asyncio.get_running_loop().time() if clock is None else clock()


async def _until_one_ends(*parts: Awaitable[object]) -> None:
    """Run these parts of a connection until one ends, and end the others.

    Raises:
        Exception: what one of them ended with.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    failed = [task.exception() for task in tasks if not task.cancelled()]
    for error in failed:
        if error is not None:
            raise error
