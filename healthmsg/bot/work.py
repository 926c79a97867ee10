"""The work loop of a bot: each event is handled once, in the order of its chat, 64 chats at once."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import CodeType
from typing import Final

from attrs import define

from healthmsg.aio import start
from healthmsg.bot.clock import BotClock
from healthmsg.bot.origin import Origin
from healthmsg.bot.queues import CHATS_AT_ONCE, LEAST_ROOM, MOST_OF_A_CHAT, ChatQueues, Next, Passing
from healthmsg.bot.signals import LONGEST, ParkThis, RetryLater
from healthmsg.bot.standing import standing
from healthmsg.bot.store.effects import (
    Begin,
    Effect,
    Finish,
    Fire,
    Park,
    Postpone,
    PutTimer,
    Unpark,
)
from healthmsg.bot.store.records import TimerRecord, Waiting
from healthmsg.bot.work_needs import WorkEvents, WorkStore
from healthmsg.errors import ClientUsageError, HealthmsgError, InvalidInputError
from healthmsg.events import Event, TimerDue
from healthmsg.ids import ChatAddress
from healthmsg.log import class_name, log

Handle = Callable[[Event], Awaitable[Sequence[Effect]]]
"""Handles an event. Its effects are committed together with the event's end, and that is the end of it."""
Again = Callable[[TimerRecord, datetime], TimerRecord | None]
"""Returns the timer that follows one that fires, at that time of day."""
SetBack = Callable[[datetime], Awaitable[None]]
"""Sees to timers when the clock was set back to this."""

MOST_CRASHES: Final = 3
_CRASHED: Final = "it was being handled each time the process died, three times"
_MOST_AT_ONCE: Final = 64
"""Timers, or chats on the disk, that are taken before anything is begun."""
_ALONE_FOR: Final = 10.0
"""Seconds for which nothing is begun beside an event that was in hand when the process died."""
_ALL_ALONE_FOR: Final = 60.0
"""Seconds after which all of those may run beside others."""
_ENDS_WITHIN: Final = 10.0
"""Seconds that a handler has to end when it is cancelled."""
_DOES_NOT_END: Final = (
    "%(handler)s was cancelled %(seconds).0f s ago and has not ended: it stands at %(place)s. The bot ends"
    " without it. Its event is handled again at the next start, as after a kill."
)
_STILL_RUNS: Final = (
    "the bot is to end, and waits for %(handler)s, which was begun before and stands at %(place)s. A second"
    " signal ends the process at once: its event is handled again at the next start."
)
_CANCELLED: Final = (
    "A task of the bot was cancelled by other code than the bot's own, so it ends. What was in hand is"
    " handled again at the next start."
)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_NOTICED: Final = timedelta(seconds=1)
"""By how much a clock is set back at least for anything to be done about it."""
_AT_ONCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""A moment that has come by every clock: the next process may run on another machine."""


@define(eq=False)
class WorkCounters:
    """What the work loop has done since its start."""

    begun: int = 0
    """Starts of handling an event, repeated ones included."""
    finished: int = 0
    postponed: int = 0
    parked: int = 0
    fired: int = 0
    """Timers."""


_Ended = tuple[tuple[Effect, ...], datetime | None]
"""How an attempt ended: what is to be committed, and until when its chat waits."""


class WorkLoop:
    """Takes events from the store and hands them to `handle`.

    `undo` is called with an event of which nothing was committed but that it was begun: what it has changed
    in memory is to be forgotten. No event waits for more than `longest`: one that seems to was put off while
    the clock was wrong.

    `Begin` is on the disk before the handler starts, and the end of an event shares a transaction with the
    beginning of the next one. Of what was in hand when the process died, one at a time is handled at first,
    so that an event that kills it is known from those beside it: after three times it is parked.

    Events that come at most once are not stored: they are handled in their chat's order, and dropped where
    the chat has more than a few to do.
    """

    def __init__(  # noqa: PLR0913 - its parts, and two options by keyword
        self,
        store: WorkStore,
        events: WorkEvents,
        handle: Handle,
        clock: BotClock,
        *,
        chats_at_once: int = CHATS_AT_ONCE,
        again: Again = lambda _timer, _now: None,
        set_back: SetBack | None = None,
        longest: Callable[[], timedelta] = lambda: LONGEST,
        most_crashes: int | None = MOST_CRASHES,
        origins: Callable[[], Mapping[CodeType, Origin]] = dict,
        undo: Callable[[Event], object] = lambda _event: None,
        ends_within: float = _ENDS_WITHIN,
    ) -> None:
        self.counters: WorkCounters = WorkCounters()
        self._store, self._events, self._handle, self._clock = store, events, handle, clock
        self._chats_at_once, self._most_crashes, self._longest = chats_at_once, most_crashes, longest
        self._again, self._set_back, self._rested = again, set_back, asyncio.Event()
        self._queues = ChatQueues()
        self._after = 0
        """The sequence up to which the inbox was read."""
        self._seen = -1
        """The sequence up to which there is nothing more to be read."""
        self._next_due, self._looked_at = _NEVER, _AT_ONCE
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        """Workers that have not taken anything yet."""
        self._in_hand: dict[int, asyncio.Task[object] | None] = {}
        """The events in hand, and what handles them."""
        self._origins, self._undo, self._ends_within = origins, undo, ends_within
        self._giving_up: asyncio.TimerHandle | None = None
        """What ends the wait for handlers that were cancelled."""
        self._naming: asyncio.TimerHandle | None = None
        """What names the handlers that a bot that is to end waits for."""
        self._failure: BaseException | None = None
        self._is_draining = self._has_begun = self._is_ending = self._has_ended = False
        self._main: asyncio.Task[object] | None = None

    @property
    def running(self) -> int:
        """How many events are being handled."""
        return len(self._tasks)

    @property
    def dropped(self) -> int:
        """How many events that come at most once were dropped."""
        return self._queues.dropped

    def drain(self) -> None:
        """Begin nothing new: what runs is finished, then `run` returns.

        What still runs ten seconds later is named in the log.
        """
        if self._main is not None and not (self._is_draining or self._has_ended):
            loop = self._main.get_loop()
            self._naming = loop.call_later(self._ends_within, self._name_those_that_run)
        self._is_draining = True
        self._wake()

    def _name_those_that_run(self) -> None:
        """Name the handlers that the end waits for."""
        for task in () if self._is_ending else self._tasks:
            handler, place = standing(task, self._origins())
            log(logging.WARNING, _STILL_RUNS, handler=handler, place=place)

    def cut_short(self) -> None:
        """Cancel what runs as well: it is handled again at the next start, and that counts as no crash.

        What has not ended ten seconds later is named in the log, and not waited for: see `run`.
        """
        if self._is_ending:
            return
        self._is_draining = self._is_ending = True
        for task in self._tasks:
            task.cancel()
        self._giving_up = asyncio.get_running_loop().call_later(self._ends_within, self._wake)
        self._wake()

    async def idle(self) -> None:
        """Wait until nothing is in hand, and nothing waits that is due; or until `run` has ended."""
        while not (self._has_ended or self._is_at_rest()):
            self._rested.clear()
            await self._rested.wait()

    async def run(self) -> None:
        """Work until drained, or until the store or the stream fails. It runs once.

        When it is cancelled, so are the handlers; their events come again. A handler that swallows that is
        left behind after ten seconds: its event counts as one that was in hand when the process died.

        Raises:
            HealthmsgError: what has ended the stream, or the store's failure.
        """
        if self._has_begun:
            raise InvalidInputError("a work loop runs once")
        self._has_begun, self._main = True, asyncio.current_task()
        try:
            await self._wait_until_prepared()
            if self._is_draining:
                return
            self._store.watchers.add_for(PutTimer, self._note_timer)
            self._store.watchers.add_for(Fire, self._note_fired)
            self._store.watchers.add_for(Unpark, lambda _: self._wake())
            self._next_due = await self._store.next_due() or _NEVER
            self._queues.longest = self._longest()
            await self._handle_crashed()
            while not self._is_drained():
                await self._go_on()
        finally:
            self._has_ended = True
            self._rested.set()
            await self._end()

    # --- one turn

    async def _go_on(self) -> None:
        self._events.arrived.clear()
        self._check()
        if not self._is_draining:
            self._take_passing()
            await self._look_at_the_clock()
            await self._fire()
            await self._read_rests()
            await self._read()
            self._begin()
        if self._is_draining or not self._has_more():
            self._rested.set()
            until = None if self._is_draining else self._next_moment()
            await self._clock.wait(until, self._events.arrived)

    async def _wait_until_prepared(self) -> None:
        while not (self._events.is_prepared or self._is_draining):
            self._events.arrived.clear()
            self._events.require_going_on()
            await self._events.arrived.wait()

    def _is_drained(self) -> bool:
        return self._is_draining and (not self._tasks or self._time_left() <= 0)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._events.require_going_on()

    def _wake(self) -> None:
        self._events.arrived.set()

    def _take_passing(self) -> None:
        for event in self._events.take_passing():
            self._queues.add_passing(event)

    async def _look_at_the_clock(self) -> None:
        """See to what waits for a moment, if the clock was set back: it may be years away now."""
        now, before = self._clock.now(), self._looked_at
        self._looked_at = now
        if before - now < _NOTICED:
            return
        log(
            logging.WARNING,
            "the clock was set back by %(seconds).0f s",
            seconds=(before - now).total_seconds(),
        )
        self._queues.set_back(now)
        if self._set_back is not None:
            await self._set_back(now)
        await self._look_for_due()

    async def _fire(self) -> None:
        """Have what is due come into the inbox."""
        now = self._clock.now()
        if self._next_due > now:
            return
        if due := await self._store.due(now, _MOST_AT_ONCE):
            await self._store.commit(
                *(Fire(one.id, _event_of(one, now), self._again(one, now)) for one in due)
            )
            self.counters.fired += len(due)
        await self._look_for_due()

    async def _look_for_due(self) -> None:
        self._next_due = _NEVER  # what is set while this is asked for counts as well
        self._next_due = min(await self._store.next_due() or _NEVER, self._next_due)

    async def _read_rests(self) -> None:
        """Read what there is on the disk of chats that have nothing in memory."""
        now = self._clock.now()
        self._queues.go_on(now)
        for key in [*self._queues.to_read][:_MOST_AT_ONCE]:
            if self._queues.room < MOST_OF_A_CHAT:
                return
            place = self._queues.place_of(key, self._after)
            found = await self._store.waiting(place.after, MOST_OF_A_CHAT, chat=place.chat, until=place.until)
            self._queues.add_rest(key, found, is_all=len(found) < MOST_OF_A_CHAT, now=now)

    async def _read(self) -> None:
        """Read what is new in the inbox, as far as memory takes it."""
        if not self._wants_to_read():
            return
        newest, most, now = self._store.newest, self._queues.room, self._clock.now()
        found = await self._store.waiting(self._after, most)
        for one in found:
            self._after = one.sequence
            self._queues.add(one, now)
        if len(found) < most:
            self._seen = newest

    def _wants_to_read(self) -> bool:
        return self._store.newest > self._seen and self._queues.room >= LEAST_ROOM

    def _begin(self) -> None:
        """Start as many workers as there are for what is ready. One that never waits does it alone."""
        running = len(self._tasks)
        most = min(max(running, 1), self._chats_at_once - running, self._queues.ready - self._starting)
        for _ in range(most):
            self._starting += 1
            self._start(None)

    def _start(self, following: Next | None) -> "asyncio.Task[None]":
        task = start(self._work(following), name="healthmsg bot")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._failure = self._failure or task.exception()
        elif not self._is_ending:
            self._failure = self._failure or ClientUsageError(_CANCELLED)
        self._wake()

    # --- what there is to do

    def _has_more(self) -> bool:
        """Whether another turn finds something to do at once."""
        is_free = len(self._tasks) < self._chats_at_once
        return (
            self._failure is not None
            or self._next_due <= self._clock.now()
            or (is_free and self._queues.ready > 0 and not self._starting)
            or (bool(self._queues.to_read) and self._queues.room >= MOST_OF_A_CHAT)
            or self._wants_to_read()
        )

    def _is_at_rest(self) -> bool:
        moment = self._next_moment()
        return (
            self._has_begun
            and self._events.is_prepared
            and not (self._tasks or self._queues.held or self._queues.to_read)
            and not self._events.arrived.is_set()
            and self._events.is_written
            and not self._wants_to_read()
            and (moment is None or moment > self._clock.now())
        )

    def _next_moment(self) -> datetime | None:
        moment = min(self._next_due, self._queues.next_moment or _NEVER)
        return None if moment == _NEVER else moment

    def _note_timer(self, put: PutTimer) -> None:
        """Learn of a timer that was set, and wake up for it."""
        self._next_due = min(self._next_due, put.timer.due)
        self._wake()

    def _note_fired(self, fired: Fire) -> None:
        """Wake up for an event that a timer has become, and learn of the timer that follows."""
        if fired.again is not None:
            self._next_due = min(self._next_due, fired.again.due)
        self._wake()

    # --- after the process has died

    async def _handle_crashed(self) -> None:
        """Handle one at a time what was in hand when the process died, but not for ever."""
        crashed = await self._store.crashed()
        most = self._most_crashes
        guilty = [] if most is None else [one for one in crashed if one.crashes >= most]
        if guilty:
            await self._store.commit(*(Park(one.sequence, _CRASHED) for one in guilty))
            for one in guilty:
                self._note_parked(one, _CRASHED)
        loop = asyncio.get_running_loop()
        end = loop.time() + _ALL_ALONE_FOR
        now = self._clock.now()
        for one in crashed:
            if one in guilty or self._queues.has_to_wait(one, now):
                continue
            left = min(_ALONE_FOR, end - loop.time())
            if self._is_draining or left <= 0:
                return
            await asyncio.wait([self._start(self._queues.take_alone(one))], timeout=left)
            self._check()

    # --- one event after the other

    async def _work(self, following: Next | None) -> None:
        """Handle an event, and then whatever is next, until there is nothing or the loop is drained."""
        if following is None:
            self._starting -= 1
            following = None if self._is_draining else self._queues.next()
            if following is None:
                return
            if self._queues.ready:
                self._wake()  # for more of them, if any of it is ready by then
        (_, item), task = following, asyncio.current_task()
        if begins := self._take_up(item, task):
            await self._store.commit(*begins)
        now: Next | None = following
        while now is not None:
            now = await self._handle_one(now, task)

    async def _handle_one(self, now: Next, task: "asyncio.Task[object] | None") -> Next | None:
        """Handle what has begun; return what has begun in the same transaction with its end."""
        self.counters.begun += 1
        self._events.note_handed_out(1)
        (key, item), not_before = now, None
        try:
            effects = await self._handle(item.event)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a handler's, whatever it is: an exit would come again
            effects, not_before = self._failed(item, error)
        else:
            self.counters.finished += 1
            if type(item) is Waiting:
                effects = [*effects, Finish(item.sequence)]
        if task is not None and task.cancelling() and not self._is_cancelled():
            await _take_back_cancelling(task)
        following = None if self._is_draining else self._following(key, not_before)
        begins = () if following is None else self._take_up(following[1], task)
        if effects or begins:
            try:
                await self._store.commit(*effects, *begins)
            except InvalidInputError:
                await self._refused(item, begins)
        if type(item) is Waiting:
            self._in_hand.pop(item.sequence, None)
        if following is None or following[0] != key:
            self._done(key, not_before)
        return following

    def _done(self, key: str, not_before: datetime | None) -> None:
        """Let a chat go on. Wake up for its moment, and for what is on the disk: of it, or in its place."""
        self._queues.done(key, not_before)
        if not_before is not None or self._queues.to_read or self._wants_to_read():
            self._wake()

    def _following(self, key: str, not_before: datetime | None) -> Next | None:
        """Return what this worker does next: what has waited longest, or else what is next in the chat."""
        if len(self._tasks) > self._chats_at_once:
            return None
        following = self._queues.next()
        return following if following or not_before else self._queues.next_of(key)

    def _take_up(self, item: Waiting | Passing, task: "asyncio.Task[object] | None") -> tuple[Begin, ...]:
        """Have an event in hand. Return what says so on the disk, if the event is there."""
        if type(item) is not Waiting:
            return ()
        self._in_hand[item.sequence] = task
        return (Begin(item.sequence),)

    def _failed(self, item: Waiting | Passing, error: BaseException) -> _Ended:
        """Return what becomes of an event whose handler has raised this."""
        self._undo(item.event)
        besides: tuple[Effect, ...] = ()
        reason = shown = class_name(error)
        if isinstance(error, RetryLater):
            return self._postponed(item, error.after)
        if isinstance(error, ParkThis):
            reason, shown = error.reason, "`healthmsg bot show` says why"  # in words that may be private
            besides = tuple(error.effects)
        elif isinstance(error, asyncio.CancelledError) and self._is_cancelled():
            raise error
        self._note_parked(item, shown)
        return (*besides, Park(item.sequence, reason)) if isinstance(item, Waiting) else (), None

    def _is_cancelled(self) -> bool:
        """Whether it is the bot that ends, and not a handler that has cancelled its own task."""
        return self._is_ending or (self._main is not None and self._main.cancelling() > 0)

    def _postponed(self, item: Waiting | Passing, after: timedelta) -> _Ended:
        if isinstance(item, Passing):
            self._note_parked(item, "it comes at most once, and is not handled again")
            return (), None
        self.counters.postponed += 1
        not_before = self._clock.now() + after
        return (Postpone(item.sequence, not_before),), not_before

    async def _refused(self, item: Waiting | Passing, begins: tuple[Begin, ...]) -> None:
        """Park an event whose handler wanted something to be written that the store refused, all of it."""
        self._undo(item.event)
        reason = "what its handler wanted to be written was refused"
        self._note_parked(item, reason)
        parked = (Park(item.sequence, reason),) if isinstance(item, Waiting) else ()
        await self._store.commit(*parked, *begins)

    def _note_parked(self, item: Waiting | Passing, shown: str) -> None:
        kind = item.event.kind
        if isinstance(item, Passing):
            log(logging.WARNING, "%(kind)s could not be handled: %(reason)s", kind=kind, reason=shown)
            return
        self.counters.parked += 1
        message = "an event of a bot was parked: %(kind)s, number %(number)s: %(reason)s"
        log(logging.WARNING, message, kind=kind, number=item.sequence, reason=shown)

    # --- the end

    async def _end(self) -> None:
        """Cancel what still runs, and have its events come again."""
        self.cut_short()
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=max(self._time_left(), 0.0))
        for timer in filter(None, (self._giving_up, self._naming)):
            timer.cancel()
        for task in self._tasks:
            handler, place = standing(task, self._origins())
            seconds = self._ends_within
            log(logging.ERROR, _DOES_NOT_END, handler=handler, seconds=seconds, place=place)
        ended = [sequence for sequence, task in self._in_hand.items() if task not in self._tasks]
        if ended:
            # Else each would count as one in hand when the process died.
            with suppress(HealthmsgError):
                await self._store.commit(*(Postpone(one, _AT_ONCE) for one in ended))

    def _time_left(self) -> float:
        """Return for how many seconds handlers that were cancelled are waited for."""
        if self._giving_up is None:
            return math.inf
        return self._giving_up.when() - asyncio.get_running_loop().time()


async def _take_back_cancelling(task: "asyncio.Task[object]") -> None:
    """Let the next event not be cancelled because the handler of this one has cancelled its own task."""
    while task.uncancel():
        pass
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # one that is still to be raised is raised here


def _event_of(timer: TimerRecord, now: datetime) -> TimerDue:
    return TimerDue(
        id=timer.event_id,
        received_at=now,
        timer=timer.id,
        due=timer.due,
        chat=None if timer.chat is None else ChatAddress.of_text(timer.chat),
        user_id=timer.user,
        dialog=timer.dialog,
        timer_kind=timer.kind,
        document=timer.document,
    )
