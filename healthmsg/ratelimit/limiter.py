"""The limit step: 30 calls in any second, as the server counts them.

The server counts arrivals, not departures, so spacing calls is not enough: jitter on the way can push 31
of them into one second. Besides the spacing there are therefore 30 slots, and a slot comes back one second
after the latest moment at which its call can have arrived.

All of that is by the event loop's clock, which stands still while the machine sleeps: what was sent before
may still be on its way, so nothing comes back early by that. A pause that the service asks for also counts
the time in which the machine sleeps.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from aiolimiter import AsyncLimiter
from attrs import Attribute, field, frozen

from healthmsg.aio import start
from healthmsg.errors import (
    ConfigurationError,
    WrongEventLoopError,
)
from healthmsg.pipeline.request import Lane
from healthmsg.ratelimit.adaptive import Pace
from healthmsg.ratelimit.queue import Caller, Lanes, Waiter
from healthmsg.ratelimit.window import CallSlot, Slots
from healthmsg.validation import at_least_one, positive

# Beyond the burst, so that a late wake-up can be made good by the next call, but never a pair.
_CATCH_UP: Final = 0.06
# Seconds after which a long pause is looked at again: it may be over, since the machine has slept.
_LOOK_AGAIN: Final = 10.0


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
    """Lets calls go as fast as the limit allows, first in first out within each lane.

    A client makes its own. Make one yourself to have several clients of one event loop keep one limit
    together, since the service counts per application [A]: `Client(…, rate_limit=limiter)`. Closing a client
    leaves it to the others.

    Raises:
        WrongEventLoopError: a call waits for it in another event loop than the first one did.
    """

    # One dispatcher takes a slot, then the spacing, and only then picks whom to let go, so that an
    # interactive call never stands behind a bulk run. Who finds nobody waiting dispatches until its own turn;
    # only if others are left then, a task goes on with it.

    def __init__(self, rate: RateLimit | None = None) -> None:
        self.rate: RateLimit = rate or RateLimit()
        """What it keeps to."""
        calls, per, burst = self.rate.calls, self.rate.per, self.rate.burst
        capacity = burst + _CATCH_UP
        self.pace: Pace = Pace(calls, per, self.rate.arrival)
        """How far apart calls leave at present."""
        self._spacing = AsyncLimiter(capacity, capacity * per / calls)
        self._slots = Slots(calls, per, now=self.now, wake=self._wake, acquire=self.acquire)
        self._slots.assume_arrival(self.rate.arrival)
        # Only for single calls: the spacing alone knows how much of a burst is left.
        self._at_once_from = -math.inf if burst == 1 else math.inf
        self._lanes = Lanes()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_led = False
        self._dispatcher: asyncio.Task[None] | None = None
        self._wake_up: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Limiter {self.rate!r} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._lanes.waiting

    def now(self) -> float:
        """Give the time by the event loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    async def acquire(self, lane: Lane) -> CallSlot:
        """Wait for a turn. Cancelling the wait costs nobody anything."""
        return self.acquire_at_once(lane) or await self.queue(lane)

    def acquire_at_once(self, lane: Lane) -> CallSlot | None:
        """Give a turn if there is one without waiting.

        This costs less than the spacing itself, which is for calls that queue: whoever comes next has to wait
        for a beat.
        """
        if self._loop is not asyncio.get_running_loop():
            self._settle_in()
        slots = self._slots
        now = slots.now()
        if self._lanes.waiting or now < self._at_once_from or not slots.is_one_free(now):
            return None
        slots.free -= 1
        self.pace.pause_until = self._at_once_from = now + self.pace.beat
        return CallSlot(slots, lane)

    async def queue(self, lane: Lane, caller: Caller | None = None) -> CallSlot:
        """Wait for a turn behind those who wait already.

        Raises:
            LongPause: there is a longer pause than the caller waits for.
        """
        asked = self._slots.now()
        waiter = self._lanes.join(lane, caller)
        try:
            if self._dispatcher is None and not self._is_led:
                await self._lead(waiter)
            slot = await waiter
        except BaseException:
            if self._lanes.leave(waiter):
                self._stop_if_nobody_waits()
            elif waiter.exception() is None:
                waiter.result().never_left()  # it was let go, but its caller has been cancelled since
            raise
        slot.waited = self._slots.now() - asked
        return slot

    def dismiss(self, caller: Caller, error: Callable[[], Exception]) -> None:
        """Let nobody wait on that caller's behalf any more."""
        self._dismiss(lambda waiting_for: waiting_for is caller, error)

    def pause(self, seconds: float) -> None:
        """Let nobody go for that long; the longest pause asked for wins."""
        self.pace.pause(self._slots.now() + seconds)
        self._at_once_from = max(self._at_once_from, self.pace.pause_until)

    def obey(self, seconds: float) -> None:
        """Let nobody go for as long as the service asked, and nobody wait for whom that is too long."""
        self._count_sleep()  # for an earlier pause
        self.pace.obey(self._slots.now() + seconds)
        self._at_once_from = max(self._at_once_from, self.pace.pause_until)
        left = self.asked_pause_left()
        self._dismiss(lambda caller: caller.longest_pause < left, LongPause)

    def asked_pause_left(self) -> float:
        """Give how many seconds are left of the pause that the service asked for."""
        self._count_sleep()
        return max(0.0, self.pace.asked_until - self._slots.now())

    def _count_sleep(self) -> None:
        """Shorten the pause that the service asked for by the time in which the machine has slept."""
        before = self.pace.pause_until
        self.pace.count_sleep(self._slots.now())
        if self._at_once_from == before:
            self._at_once_from = self.pace.pause_until

    def refused(self, slot: CallSlot, retry_after: float | None) -> None:
        """Take in a 429: pause, for as long as the service asked if it did, and go on more slowly."""
        now = self._slots.now()
        left_at = now if slot.sent_at is None else slot.sent_at
        self.pace.refused(now, left_at)
        self._slots.assume_arrival(self.pace.arrival)
        backoff = self.pace.backoff(now, left_at)
        if retry_after is None:
            self.pause(backoff)
        else:
            self.obey(retry_after)

    def passed(self, slot: CallSlot) -> None:
        """Take in a good answer, if that can make any difference."""
        if self.pace.is_recovering and slot.sent_at is not None:
            self.pace.passed(slot.sent_at)
            self._slots.assume_arrival(self.pace.arrival)

    def _settle_in(self) -> None:
        if self._loop is not None:
            raise WrongEventLoopError
        self._loop = asyncio.get_running_loop()
        self._slots.now = self._loop.time

    def _dismiss(self, is_meant: Callable[[Caller], bool], error: Callable[[], Exception]) -> None:
        self._lanes.dismiss(is_meant, error)
        self._stop_if_nobody_waits()
        self._wake()  # the one that leads may be among them

    def _stop_if_nobody_waits(self) -> None:
        if self._dispatcher is not None and not self._lanes.waiting:
            self._dispatcher.cancel()
            self._dispatcher = None

    async def _lead(self, waiter: Waiter) -> None:
        self._is_led = True
        try:
            began = self._slots.now()
            await asyncio.sleep(0)
            await self._dispatch(began, until=waiter)
        finally:
            self._is_led = False
            if self._lanes.waiting > (not waiter.done()):
                self._start_dispatcher()

    def _start_dispatcher(self) -> None:
        self._dispatcher = start(self._dispatch(self._slots.now()), name="healthmsg limit")
        self._dispatcher.add_done_callback(self._dispatcher_ended)

    def _dispatcher_ended(self, dispatcher: asyncio.Task[None]) -> None:
        if dispatcher.cancelled():
            if self._dispatcher is dispatcher:  # by somebody who cancels all tasks, but not all of them end
                self._start_dispatcher()
            return
        # Nothing in it is known to fail; if something ever does, nobody may wait for ever.
        if (error := dispatcher.exception()) is None:
            return
        self._dispatcher = None
        self._lanes.dismiss_all(error)

    async def _dispatch(self, began: float, until: Waiter | None = None) -> None:
        slots, pace, lanes = self._slots, self.pace, self._lanes
        if began < self._at_once_from and slots.now() - began > _CATCH_UP * pace.beat:
            # The event loop is busy, and has held up the call before as well: it leaves only now.
            self.pause(pace.beat)
        while lanes.waiting and not (until and until.done()):
            if not self._may_one_go():
                await self._sleep_until(self._next_chance())
                continue
            slots.free -= 1
            try:
                await self._spacing.acquire()
            except asyncio.CancelledError:
                slots.free += 1
                raise
            now = slots.now()
            next_one = lanes.next_one() if now >= pace.pause_until else None
            if next_one is None:
                slots.free += 1
                continue
            self._at_once_from = max(self._at_once_from, now + pace.beat)
            if pace.is_slowed:
                pace.pause(now + pace.beat)
            lane, waiter = next_one
            waiter.set_result(CallSlot(slots, lane))
        self._dispatcher = None

    def _may_one_go(self) -> bool:
        now = self._slots.now()
        return self._slots.is_one_free(now) and now >= self.pace.pause_until

    def _next_chance(self) -> float:
        self._count_sleep()
        now = self._slots.now()
        is_free = self._slots.is_one_free(now)
        chance = max(self.pace.pause_until, -math.inf if is_free else self._slots.next_due())
        return min(chance, now + _LOOK_AGAIN) if self.pace.asked_until > now else chance

    async def _sleep_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._wake_up = wake_up = loop.create_future()
        self._slots.asleep_until = when
        timer = loop.call_at(when, self._wake) if when < math.inf else None
        try:
            await wake_up
        finally:
            if self._wake_up is wake_up:
                self._wake_up, self._slots.asleep_until = None, -math.inf
            if timer:
                timer.cancel()

    def _wake(self) -> None:
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)


class LongPause(Exception):  # noqa: N818 - it never leaves the limit
    """A pause has begun that is longer than the caller waits for."""
