"""The limiter: hands out slots in turn, spaced, and pauses when the service asks for it."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from attrs import Attribute, field, frozen

from healthmsg.aio import start
from healthmsg.errors import ConfigurationError, WrongEventLoopError
from healthmsg.ratelimit.adaptive import AdaptiveRate
from healthmsg.ratelimit.queue import Owner, Priority, PriorityQueue
from healthmsg.ratelimit.source import SharedSource
from healthmsg.ratelimit.window import LimitStats, SlidingWindow, Slot
from healthmsg.validation import at_least_one, positive

# Room beyond the burst: the next call makes up for a late wake-up, but two never leave together.
_CATCH_UP: Final = 0.06
# Seconds after which a long pause is looked at again: it may be over, since the machine has slept.
_LOOK_AGAIN: Final = 10.0
_ALONE: Final = LimitStats("local")


def _at_most_calls(rate: "RateLimit", attribute: "Attribute[int]", burst: int) -> None:
    at_least_one(rate, attribute, burst)
    if burst > rate.calls:
        raise ConfigurationError("burst must be at most calls")


@frozen
class RateLimit:
    """How many calls the service allows: 30 per second [D], per application [A].

    `per` is in seconds. `burst` is how many calls may leave close together after a rest: with 1 they are
    spaced evenly, which every way of counting admits; with more they are not, but no interval of `per`
    seconds holds more than `calls` either. `arrival` is the longest, in seconds, that a call may be under way
    from here to the service [A]: with more than that on your network, or when the way there has just become
    shorter, calls can bunch up there.

    Raises:
        ConfigurationError: a number that cannot be a limit.
    """

    calls: int = field(default=30, validator=at_least_one)
    per: float = field(default=1.0, validator=positive)
    burst: int = field(default=1, validator=_at_most_calls)
    arrival: float = field(default=0.1, validator=positive)


class Limiter:
    """Lets calls leave as fast as the limit allows, first in first out within each priority.

    A client makes its own. Make one yourself to have several clients of one event loop keep one limit
    together, since the service counts per application [A]: `Client(…, rate_limit=limiter)`. Closing a client
    leaves it to the others.

    Raises:
        WrongEventLoopError: a call waits for it in another event loop than the first one did.
    """

    # A caller that finds the queue empty dispatches until its own turn comes. A task is started only if
    # others wait by then.

    def __init__(self, rate: RateLimit | None = None) -> None:
        from aiolimiter import AsyncLimiter  # noqa: PLC0415 - programs start faster

        self.rate: RateLimit = rate or RateLimit()
        """What the service allows."""
        calls, per, burst = self.rate.calls, self.rate.per, self.rate.burst
        capacity = burst + _CATCH_UP
        self.adaptive: AdaptiveRate = AdaptiveRate(calls, per, self.rate.arrival)
        """How far apart calls leave, and which pauses there are."""
        self._spacing = AsyncLimiter(capacity, capacity * per / calls)
        self._local = SlidingWindow(calls, per, now=self.now, wake=self.wake, acquire=self.acquire)
        self._window: SlidingWindow = self._local
        self._window.assume_arrival(self.rate.arrival)
        # From when on `try_acquire` may succeed. With a burst, only the spacing knows whether one is left.
        self._free_from = -math.inf if burst == 1 else math.inf
        self._source: SharedSource | None = None
        self._queue = PriorityQueue[Slot]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_dispatching = False
        self._dispatcher: asyncio.Task[None] | None = None
        self._wake_up: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Limiter {self.rate!r} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._queue.waiting

    def waiting_in(self) -> tuple[int, int, int]:
        """Return how many calls wait before the catching up, in it, and in the background."""
        return self._queue.waiting_in()

    @property
    def is_shared(self) -> bool:
        """Whether its slots come from a source that other processes use too."""
        return self._source is not None

    def stats(self) -> LimitStats:
        """Return where its slots come from."""
        return _ALONE if self._source is None else self._source.stats()

    def use(self, source: SharedSource) -> None:
        """Take slots from that source from now on. What calls under way hold counts there."""
        now = self._window.now() if self._loop else 0.0
        busy = self._window.busy_until(now) if self._loop else []
        source.attach(self)
        self._source, self._window = source, source.window
        self._window.now = self._local.now
        self._window.assume_arrival(self.adaptive.arrival)
        self._window.carry_over(busy)
        if self._loop is not None:
            source.start()
        self.wake()

    async def use_own(self) -> None:
        """Take slots from this process alone again, and close the source."""
        source, self._source = self._source, None
        if source is None:
            return
        if self._loop is not None:
            for due in self._window.busy_until(self._window.now()):
                self._local.occupy(due)
        self._window = self._local
        self._window.assume_arrival(self.adaptive.arrival)
        self.wake()
        await source.close()

    async def close(self) -> None:
        """Return what a shared source has lent. Without one there is nothing to close."""
        if self._source is not None:
            await self._source.close()

    def hold_off(self, until: float) -> None:
        """Let calls before that moment go through the queue, which knows their priorities."""
        self._free_from = max(self._free_from, until)

    def pause_for_others(self, seconds: float, *, asked: bool) -> None:
        """Let no call leave for that long, since another process was refused; `asked`: by the service."""
        if asked:
            self._pause_as_asked(seconds)
        else:
            self.pause(seconds)

    def fail_waiting(self, error: Callable[[], Exception]) -> None:
        """Raise an error in all who wait."""
        self._queue.fail_all(error)
        self._stop_if_none_waits()
        self.wake()

    def now(self) -> float:
        """Return the time by the event loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    async def acquire(self, priority: Priority) -> Slot:
        """Wait for a slot. A wait that is cancelled takes none."""
        return self.try_acquire(priority) or await self.acquire_in_turn(priority)

    def try_acquire(self, priority: Priority) -> Slot | None:
        """Return a slot if there is one without waiting.

        This costs less than the spacing itself, which is for calls that queue: the next call is only held off
        for an interval.
        """
        if self._loop is not asyncio.get_running_loop():
            self._bind_to_loop()
        window = self._window
        now = window.now()
        if self._queue.waiting or now < self._free_from or not window.is_one_free(now):
            return None
        window.free -= 1
        self.adaptive.pause_until = self._free_from = now + self.adaptive.interval
        return window.make_slot(window, priority)

    async def acquire_in_turn(self, priority: Priority, owner: Owner | None = None) -> Slot:
        """Wait for a slot in the queue.

        Raises:
            LongPauseError: there is a longer pause than the owner waits for.
            StoreAwayError: what the limit is shared over cannot be reached.
        """
        asked = self._window.now()
        waiter = self._queue.put(priority, owner)
        if self._source is not None:
            self._ask_for_more(self._source, waiter)
        try:
            if self._dispatcher is None and not self._is_dispatching:
                await self._dispatch_until(waiter)
            slot = await waiter
        except BaseException:
            if self._queue.remove(waiter):
                self._stop_if_none_waits()
            elif waiter.exception() is None:
                waiter.result().release_unused()  # it got a slot, but has been cancelled since
            raise
        slot.waited = self._window.now() - asked
        return slot

    def _ask_for_more(self, source: SharedSource, waiter: asyncio.Future[Slot]) -> None:
        if (problem := source.problem()) is not None:
            self._queue.remove(waiter)
            raise problem
        source.demand_changed()
        self.wake()  # the dispatcher may sleep for the background's sake

    def fail_waiters(self, owner: Owner, error: Callable[[], Exception]) -> None:
        """Raise an error in all who wait on that owner's behalf."""
        self._fail(lambda waiting_for: waiting_for is owner, error)

    def pause(self, seconds: float) -> None:
        """Let no call leave for that long; the longest pause wins."""
        self.adaptive.pause(self._window.now() + seconds)
        self._free_from = max(self._free_from, self.adaptive.pause_until)

    def pause_as_asked(self, seconds: float) -> None:
        """Let no call leave for as long as the service asked: those that do not wait so long fail."""
        self._pause_as_asked(seconds)
        if self._source is not None:
            self._source.paused(seconds, asked=True)

    def _pause_as_asked(self, seconds: float) -> None:
        self._count_sleep()  # for an earlier pause
        self.adaptive.pause_as_asked(self._window.now() + seconds)
        self._free_from = max(self._free_from, self.adaptive.pause_until)
        left = self.asked_pause_left()
        self._fail(lambda owner: owner.longest_pause < left, LongPauseError)

    def asked_pause_left(self) -> float:
        """Return how many seconds are left of the pause that the service asked for."""
        self._count_sleep()
        return max(0.0, self.adaptive.asked_until - self._window.now())

    def _count_sleep(self) -> None:
        """Shorten the pause that the service asked for by the time in which the machine has slept."""
        before = self.adaptive.pause_until
        self.adaptive.count_sleep(self._window.now())
        if self._free_from == before:
            self._free_from = self.adaptive.pause_until

    def record_429(self, slot: Slot, retry_after: float | None) -> None:
        """Record a 429: pause, for as long as the service asked if it did, and go on more slowly."""
        now = self._window.now()
        left_at = now if slot.sent_at is None else slot.sent_at
        self.adaptive.record_429(now, left_at)
        self._window.assume_arrival(self.adaptive.arrival)
        backoff = self.adaptive.backoff(now, left_at)
        if retry_after is not None:
            self.pause_as_asked(retry_after)
            return
        self.pause(backoff)
        if self._source is not None:
            self._source.paused(backoff, asked=False)

    def record_success(self, slot: Slot) -> None:
        """Record a good answer, if that can make any difference."""
        if self.adaptive.is_recovering and slot.sent_at is not None:
            self.adaptive.record_success(slot.sent_at)
            self._window.assume_arrival(self.adaptive.arrival)

    def _bind_to_loop(self) -> None:
        if self._loop is not None:
            raise WrongEventLoopError
        self._loop = asyncio.get_running_loop()
        self._local.now = self._window.now = self._loop.time
        if self._source is not None:
            self._source.start()

    def _fail(self, is_meant: Callable[[Owner], bool], error: Callable[[], Exception]) -> None:
        self._queue.fail(is_meant, error)
        self._stop_if_none_waits()
        self.wake()  # the one that dispatches may be among them

    def _stop_if_none_waits(self) -> None:
        if self._dispatcher is not None and not self._queue.waiting:
            self._dispatcher.cancel()
            self._dispatcher = None

    async def _dispatch_until(self, waiter: asyncio.Future[Slot]) -> None:
        self._is_dispatching = True
        try:
            began = self._window.now()
            await asyncio.sleep(0)
            await self._dispatch(began, until=waiter)
        finally:
            self._is_dispatching = False
            if self._queue.waiting > (not waiter.done()):
                self._start_dispatcher()

    def _start_dispatcher(self) -> None:
        self._dispatcher = start(self._dispatch(self._window.now()), name="healthmsg limit")
        self._dispatcher.add_done_callback(self._dispatcher_ended)

    def _dispatcher_ended(self, dispatcher: asyncio.Task[None]) -> None:
        if dispatcher.cancelled():
            if (
                self._dispatcher is dispatcher
            ):  # a program cancelled all tasks, and not all of them end by that
                self._start_dispatcher()
            return
        # Nothing in it is known to fail; if something ever does, no caller may wait for ever.
        if (error := dispatcher.exception()) is None:
            return
        self._dispatcher = None
        self._queue.fail_all(lambda: error)

    async def _dispatch(self, began: float, until: asyncio.Future[Slot] | None = None) -> None:
        window, adaptive, queue = self._window, self.adaptive, self._queue
        if began < self._free_from and window.now() - began > _CATCH_UP * adaptive.interval:
            # The event loop was busy, so the call before is only sent now as well.
            self.pause(adaptive.interval)
        while queue.waiting and not (until and until.done()):
            window = self._window  # another source may have taken its place
            if not self._is_one_due():
                await self._sleep_until(self._next_chance())
                continue
            if not await self._space(window):
                continue
            now = window.now()
            following = queue.pop() if now >= adaptive.pause_until else None
            if following is None:
                window.free += 1
                continue
            self._free_from = max(self._free_from, now + adaptive.interval)
            if adaptive.is_slowed:
                adaptive.pause(now + adaptive.interval)
            priority, waiter = following
            waiter.set_result(window.make_slot(window, priority))
        self._dispatcher = None

    async def _space(self, window: SlidingWindow) -> bool:
        """Take a slot and wait for the spacing; return whether the slot is still there after that."""
        window.free -= 1
        generation = window.generation
        try:
            await self._spacing.acquire()
        except asyncio.CancelledError:
            if window.generation == generation:
                window.free += 1
            raise
        if window.generation != generation:
            return False  # a lease was lost meanwhile, and all slots with it
        if window is not self._window:
            window.free += 1  # another source has taken its place
            return False
        return True

    def _is_one_due(self) -> bool:
        window = self._window
        now = window.now()
        if now < window.bulk_from and not self._queue.has_before_background():
            return False
        return window.is_one_free(now) and now >= self.adaptive.pause_until

    def _next_chance(self) -> float:
        self._count_sleep()
        now = self._window.now()
        is_free = self._window.is_one_free(now)
        chance = max(self.adaptive.pause_until, -math.inf if is_free else self._window.next_due())
        if self._window.bulk_from > chance and not self._queue.has_before_background():
            chance = self._window.bulk_from
        return min(chance, now + _LOOK_AGAIN) if self.adaptive.asked_until > now else chance

    async def _sleep_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._wake_up = wake_up = loop.create_future()
        self._window.asleep_until = when
        timer = loop.call_at(when, self.wake) if when < math.inf else None
        try:
            await wake_up
        finally:
            if self._wake_up is wake_up:
                self._wake_up, self._window.asleep_until = None, -math.inf
            if timer:
                timer.cancel()

    def wake(self) -> None:
        """Let the dispatcher look again: something came back sooner than was known."""
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)


class LongPauseError(Exception):
    """A pause has begun that is longer than the owner waits for."""
