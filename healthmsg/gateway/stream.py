"""`client.events()`: what happens in the user's chats, as it happens, and what happened meanwhile."""

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import datetime
from enum import Enum
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from attrs import define

from healthmsg.aio import AsyncIterationOnly, start
from healthmsg.api import Api
from healthmsg.clock import SteadyClock
from healthmsg.errors import (
    CallError,
    ClientClosedError,
    ConfigurationError,
    InvalidInputError,
    JournalError,
)
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.events import (
    ChatEvent,
    Event,
    GroupChatCreated,
    Incomplete,
    MessageCreated,
    event_of_frame,
)
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.catch_up import SETTLE, CatchUp
from healthmsg.gateway.connection import GatewayConnection, GatewayState
from healthmsg.gateway.inbox import Inbox
from healthmsg.gateway.inbox.base import Change
from healthmsg.gateway.jobs import Jobs, is_passing
from healthmsg.gateway.questions import Questions
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.json_text import JSONObject
from healthmsg.live import EventsStats, Presence
from healthmsg.log import log
from healthmsg.models import User
from healthmsg.routes import GET_ME
from healthmsg.validation import check_count

T = TypeVar("T")
Subscribe = Literal["active", "all", "none"]
"""Of which group chats messages come whole and at once."""
MOST_IN_MEMORY: Final = 1000
"""Events that memory holds. More wait on the disk, or in the service's lists."""
_LARGEST_BATCH: Final = 500
_GROUP_CHATS: Final = "groupchats/"


class EventsState(Enum):
    """What a stream of events is doing."""

    STANDING_BY = "standing by"
    """Another process has the store; this one takes over when that one ends."""
    CONNECTING = "connecting"
    WAITING = "waiting"
    """The connection was lost, or could not be made: it is tried again after a while."""
    CATCHING_UP = "catching up"
    """Events come, those of chats that are still to be read are held."""
    LIVE = "live"
    CLOSED = "closed"


@define(eq=False)
class _Counters:
    handed_out: int = 0
    frames: int = 0
    unreadable: int = 0
    dropped: int = 0


@define(eq=False)
class _Sender:
    """Sends over the connection of a stream, once there is one."""

    stats: Callable[[], EventsStats]
    connection: GatewayConnection | None = None

    def send_typing(self, chat: ChatAddress) -> bool:
        return self.connection is not None and self.connection.send_typing(chat)

    def send_typing_stopped(self, chat: ChatAddress) -> bool:
        return self.connection is not None and self.connection.send_typing_stopped(chat)

    def send_presence(self, status: Presence) -> bool:
        return self.connection is not None and self.connection.send_presence(status)


class Events(AsyncIterationOnly):
    """What happens in the user's chats. Use it as `async with client.events(…) as events:`.

    `async for event in events` hands out one event after another. An event is done when the loop asks for
    the next one. If the loop's body raises, or leaves the loop, or the process dies, the event comes again,
    with a higher `attempt`: in the next loop over this stream, or when the store is opened the next time.
    Without a store, only what the process has not lost. `batches` hands out several at once, which costs less
    with a store.
    """

    _called = "stream of events"

    def __init__(  # noqa: PLR0913 - what it is made of, by keyword
        self,
        api: Api,
        *,
        connect: Callable[["Events"], GatewayConnection],
        inbox: Callable[[], AbstractAsyncContextManager[Inbox]],
        kinds: Collection[type[Event]] | None,
        subscribe: Subscribe,
        service_time: Callable[[], datetime | None],
        settle: float = SETTLE,
    ) -> None:
        self._api, self._live, self._sender = api, api.live, _Sender(self.stats)
        self._connect = connect
        self._open = inbox
        self._kinds, self._subscribe = None if kinds is None else tuple(kinds), subscribe
        self._service_time, self._settle = service_time, settle
        self._clock, self._counters, self._stack = SteadyClock(), _Counters(), AsyncExitStack()
        self._core: CatchUp | None = None
        self._inbox: Inbox | None = None
        self._connection: GatewayConnection | None = None
        self._jobs: Jobs | None = None
        self._pending: deque[Change] = deque()
        self._pending_events, self._has_passed = 0, False
        self.moment: Callable[[], datetime] = self._clock.moment
        """Return the time of day by this machine's clock, as if it had never been set since the start."""
        self.on_own_message: Callable[[MessageCreated], object] = lambda _: None
        """Is called at once with each message of the user's own that comes over the connection."""
        self._passing: deque[Event] = deque()
        """Events that come at most once."""
        self._to_write, self._written = asyncio.Event(), asyncio.Event()
        self._written.set()
        self._arrived = asyncio.Event()
        self._is_prepared = False  # until this process has the store, and what a dead one held is new again
        self._work: asyncio.Task[None] | None = None
        self._loop: weakref.ref[AsyncGenerator[object, None]] | None = None
        self._running: list[Event] = []
        self._state = EventsState.CONNECTING
        self._groups: set[str] = set()
        """Group chats that are subscribed to, or are to be."""

    def __repr__(self) -> str:
        return f"<Events {self.state.value}>"

    # --- what a program sees

    @property
    def state(self) -> EventsState:
        """What the stream is doing."""
        connection, core = self._connection, self._core
        if self._state is not EventsState.CONNECTING or connection is None or core is None:
            return self._state
        if connection.state is GatewayState.LIVE:
            return EventsState.LIVE if core.is_settled else EventsState.CATCHING_UP
        return EventsState(connection.state.value)

    @property
    def connected_since(self) -> datetime | None:
        """Since when the gateway is connected, by this machine's clock (aware); `None`: it is not."""
        return None if self._connection is None else self._connection.connected_since

    @property
    def behind(self) -> int:
        """How many chats are still being read."""
        return 0 if self._core is None else self._core.behind

    def stats(self) -> EventsStats:
        """Return the figures as of now."""
        core, counters = self._core, self._counters
        return EventsStats(
            handed_out=counters.handed_out,
            frames=counters.frames,
            unreadable=counters.unreadable,
            connects=0 if self._connection is None else self._connection.connects,
            missed=0 if core is None else core.missed,
            late=0 if core is None else core.late,
            dropped=counters.dropped,
            behind=self.behind,
        )

    async def __aenter__(self) -> Self:
        if self._live.sender is not None:
            raise ConfigurationError("a stream of this user's events is open already: one is enough for all")
        if self._work is not None or self._state is EventsState.CLOSED:
            raise InvalidInputError("a stream of events is opened once: call events() again")
        self._live.sender = self._sender
        try:
            await self._open_inbox()
            self._work = self._api.spawn(self._go_on())
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @hides_awaited_arguments  # a store's URL may have a password in it
    async def _open_inbox(self) -> None:
        self._inbox = await self._stack.enter_async_context(self._open())
        self._inbox.on_taken_back = self._arrived.set

    async def close(self) -> None:
        """End the connection within 5 seconds. What was not handled to its end comes again."""
        closing = start(self._close(), name="healthmsg events closing")
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await asyncio.wait([closing])
            raise

    async def _close(self) -> None:
        self._state = EventsState.CLOSED
        self._arrived.set()
        work, self._work = self._work, None
        try:
            if self._connection is not None:
                await self._connection.close()
            if work is not None:
                work.cancel()
                await asyncio.wait([work])
                if not work.cancelled() and (failure := work.exception()) is not None:
                    # A loop that asks for the next event gets it; one that was left does not.
                    log(logging.INFO, "the events ended with %(error)s", error=type(failure).__name__)
            # What fails here is caught up on, and handed out again, at the next start.
            with suppress(JournalError):
                await self._write_all()
                await self._release()
        finally:
            if self._live.sender is self._sender:
                self._live.sender = None
            await self._stack.aclose()

    async def _release(self) -> None:
        """Have what was handed out and not done handed out again."""
        running, self._running = self._running, []
        if running and self._inbox is not None:
            await self._inbox.release([event.id for event in running if event.durable])

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._only_loop(self._one_by_one())

    def batches(self, most: int = 100) -> AsyncIterator[list[Event]]:
        """Yield up to `most` events at once, as soon as there is one.

        All of them are done when the next batch is asked for. With a store, a batch is one transaction
        instead of one for each event.

        Raises:
            InvalidInputError: `most` is not a number of 1 or more.
        """
        return self._only_loop(self._in_batches(check_count(most, "most", at_least=1)))

    async def _one_by_one(self) -> AsyncGenerator[Event, None]:
        await self._release()  # another loop was left before
        while True:
            for event in await self._next(1):
                yield event

    async def _in_batches(self, most: int) -> AsyncGenerator[list[Event], None]:
        await self._release()
        while True:
            yield await self._next(most)

    def _only_loop(self, loop: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Refuse a second loop while one goes on: each would note as done what the other has in hand."""
        other = None if self._loop is None else self._loop()
        if other is not None and getattr(other, "ag_frame", None) is not None:  # else it has ended
            raise InvalidInputError("one loop at a time reads a stream of events: another one still goes on")
        self._loop = weakref.ref(loop)
        return loop

    async def _next(self, most: int) -> list[Event]:
        """Note that the last events are done, and return the next ones."""
        inbox = self._inbox
        if inbox is None:
            raise InvalidInputError("a stream of events is entered with `async with` before it is read")
        done = [event.id for event in self._running if event.durable]
        self._running = []
        while True:
            self._arrived.clear()
            if not self._is_prepared:
                # Until then, another process may have the store, or its events be another account's.
                await self._wait()
                continue
            if self._passing and not self._has_passed:
                # Every other time: who types much must keep no message waiting.
                self._has_passed = True
                passing = [self._passing.popleft() for _ in range(min(most, len(self._passing)))]
                if done:
                    await inbox.next(0, done)
                return self._handed_out(passing)
            self._has_passed = False
            events = await inbox.next(most, done)
            wanted = events if self._kinds is None else [one for one in events if self._is_wanted(one)]
            if wanted:
                self._running = events
                return self._handed_out(wanted)
            done = [event.id for event in events]
            if not events and not self._passing:
                await self._wait()

    async def _wait(self) -> None:
        self._require_going_on()
        await self._arrived.wait()

    def _handed_out(self, events: list[Event]) -> list[Event]:
        self._counters.handed_out += len(events)
        return events

    def _is_wanted(self, event: Event) -> bool:
        return self._kinds is None or isinstance(event, self._kinds)

    def _require_going_on(self) -> None:
        if self._work is None or self._work.done():
            self._state = EventsState.CLOSED
            if self._work is not None and not self._work.cancelled():
                self._work.result()
            raise ClientClosedError

    # --- what the gateway says; see `GatewayListener`

    def authenticated(self, user: User) -> None:
        """Take note that frames come from now on."""
        assert self._core is not None  # noqa: S101 - the connection is made after it
        self._core.connected(self._clock.now(), user.id)
        self._subscribe_again()
        self._wake()

    def lost(self, reason: str) -> None:
        """Take note that no frames come any more."""
        assert self._core is not None  # noqa: S101 - as above
        self._core.lost()
        log(logging.INFO, "the gateway's connection was lost: %(reason)s", reason=reason)

    def unreadable(self) -> None:
        """Take note of a frame that could not be read."""
        self._counters.frames += 1
        self._counters.unreadable += 1
        assert self._core is not None  # noqa: S101 - as above
        self._core.unreadable(self._clock.now())
        self._wake()

    def frame(self, name: str, data: JSONObject) -> None:
        """Take a frame."""
        core = self._core
        assert core is not None  # noqa: S101 - as above
        self._counters.frames += 1
        now = self._clock.now()
        event = event_of_frame(name, data, me=core.me, now=self._clock.moment(now))
        if event is None:
            self._protocol_frame(name, data, now)
        elif isinstance(event, Incomplete):
            core.incomplete(event, now)
            self._active_group(event.chat.text)
            self._wake()
        elif event.durable:
            if isinstance(event, MessageCreated) and event.is_own:
                self.on_own_message(event)
            self._write(core.event(event, now, has_room=self._room() > 0))
            if isinstance(event, ChatEvent) and event.chat.kind is ChatKind.GROUP_CHAT:
                self._active_group(event.chat.text, is_new=isinstance(event, GroupChatCreated))
            if core.has_news:
                self._wake()
        elif self._is_wanted(event):
            self._pass_on(core.event(event, now))

    def _pass_on(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for event in change.events:
                if event.durable:
                    continue
                if len(self._passing) >= MOST_IN_MEMORY:
                    self._counters.dropped += 1
                else:
                    self._passing.append(event)
        self._arrived.set()

    def _protocol_frame(self, name: str, data: JSONObject, now: float) -> None:
        group = data.get("groupchat_id") if isinstance(data, dict) else None
        if not isinstance(group, str) or not group or self._core is None:
            return
        key = f"{_GROUP_CHATS}{group}"
        if name == "groupchat_subscribed":
            # What was sent just before may have come neither whole nor without its text.
            self._core.gap(key, now)
        elif name == "error":
            self._groups.discard(group)
            self._core.look_for(key)
        self._wake()

    # --- group chats

    def _active_group(self, key: str, *, is_new: bool = False) -> None:
        wanted = self._subscribe == "active" or (self._subscribe == "all" and is_new)
        if wanted and key.startswith(_GROUP_CHATS):
            group = key.removeprefix(_GROUP_CHATS)
            if group not in self._groups and self._connection is not None:
                self._groups.add(group)
                self._connection.subscribe(group)

    def _subscribe_again(self) -> None:
        for group in self._groups:
            if self._connection is not None:
                self._connection.subscribe(group)

    def _subscribe_listed(self) -> None:
        if self._subscribe == "all" and self._core is not None:
            for key in self._core.keys:
                self._active_group(key, is_new=True)

    # --- what goes on meanwhile

    async def _go_on(self) -> None:
        assert self._inbox is not None  # noqa: S101 - it was entered
        try:
            self._state = EventsState.STANDING_BY
            await self._inbox.hold()
            self._state = EventsState.CONNECTING
            await self._prepare(self._inbox)
            self._is_prepared = True
            self._arrived.set()
            async with asyncio.TaskGroup() as group:
                assert self._connection is not None  # noqa: S101 - it was just made
                group.create_task(self._connection.run())
                group.create_task(self._keep_writing())
                assert self._jobs is not None  # noqa: S101 - it was just made
                group.create_task(self._jobs.run())
        except* Exception as failed:  # noqa: BLE001 - it is raised in the consumer
            failure = failed.exceptions[0]
            while isinstance(failure, ExceptionGroup):  # of a task that has tasks itself
                failure = failure.exceptions[0]
            self._state = EventsState.CLOSED
        else:
            return
        finally:
            self._arrived.set()
        raise failure

    async def _prepare(self, inbox: Inbox) -> None:
        me = await self._me()
        started_at = self._service_time()
        start_state = await inbox.start(me.id, self._api.url, started_at)
        self._core = CatchUp(
            dict(await inbox.keys()),
            Questions(await inbox.open_questions(), me=me.id, moment=self._clock.moment),
            is_first_start=not start_state.has_baseline,
            started_at=start_state.started_at,
            moment=self._clock.moment,
            settle=self._settle,
        )
        self._jobs = Jobs(
            self._api,
            self._core,
            inbox,
            now=self._clock.now,
            moment=self._clock.moment,
            write=self._write,
            written=self._wait_until_written,
            room=self._room,
            listed=self._subscribe_listed,
        )
        self._connection = self._sender.connection = self._connect(self)

    async def _me(self) -> User:
        """Ask whose token it is, and wait for a service that is away."""
        backoff = Backoff()
        while True:
            try:
                return await self._api.read(User, GET_ME)
            except CallError as error:
                if not is_passing(error):
                    raise
                reason, asked_for = error.problem, getattr(error, "retry_after", None)
            wait = backoff.next_wait(asked_for=asked_for)
            self._state = EventsState.WAITING
            message = "A stream of events cannot begin: %(reason)s; the next try is in %(seconds).1f s"
            log(logging.WARNING, message, reason=reason, seconds=round(wait, 1))
            await asyncio.sleep(wait)
            self._state = EventsState.CONNECTING

    def _wake(self) -> None:
        if self._jobs is not None:
            self._jobs.wake()

    # --- writing

    def _room(self) -> int:
        assert self._inbox is not None  # noqa: S101 - it was entered
        held = 0 if self._core is None else self._core.held
        return min(self._inbox.room(), MOST_IN_MEMORY) - self._pending_events - held

    def _write(self, changes: Sequence[Change]) -> None:
        """Write changes in the order in which they come; nothing waits for it here."""
        if not changes:
            return
        for change in changes:
            self._pending.append(change)
            self._pending_events += len(change.events)
        self._written.clear()
        self._to_write.set()

    async def _keep_writing(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            await self._write_all()

    async def _write_all(self) -> None:
        inbox = self._inbox
        while self._pending and inbox is not None:
            some = [self._pending[index] for index in range(min(_LARGEST_BATCH, len(self._pending)))]
            # Also where none seems new: after a lost connection it may have been written twice. A consumer
            # that waits asks before this is written, so that it is handed out in the same transaction.
            if any(change.events for change in some):
                self._arrived.set()
            await inbox.apply(some)
            for change in some:
                self._pending.popleft()
                self._pending_events -= len(change.events)
        self._written.set()

    async def _wait_until_written(self) -> None:
        await self._written.wait()
