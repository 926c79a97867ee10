"""The limit step: 30 calls in any second, as the server counts them.

The server counts arrivals, not departures, so spacing calls is not enough: jitter on the way can push 31
of them into one second. Besides the spacing there are therefore 30 slots, and a slot comes back one second
after the latest moment at which its call can have arrived.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from aiolimiter import AsyncLimiter
from attrs import field, frozen

from healthmsg.errors import ConnectError, QuotaExceededError, RateLimitedError
from healthmsg.pipeline.exchange import Lane, Request, Response, Send
from healthmsg.settings import at_least_one, positive

# Just over one call, so that a late wake-up can be made good by the next call, but never a pair.
_BUCKET: Final = 1.06
# An answer's way back takes at least this share of the shortest round trip seen.
_SHARE_OF_ROUND_TRIP: Final = 0.8
# A difference between round trips is forgotten by that much with each call: by half after 70.
_MEMORY: Final = 0.99


@frozen
class RateLimit:
    """How many calls the service allows: 30 per second [D], per application [A].

    `per` is in seconds. `arrival` is the longest, in seconds, that a call may be under way from here to the
    service: with more than that on your network, calls can bunch up there.

    Raises:
        ConfigurationError: a number that cannot be a limit.
    """

    calls: int = field(default=30, validator=at_least_one)
    per: float = field(default=1.0, validator=positive)
    arrival: float = field(default=0.1, validator=positive)


class CallSlot:
    """One call's place among the calls that the server may count within one interval.

    It comes back once, whatever is reported how often and in whatever order.
    """

    __slots__ = ("_limiter", "_sent_at", "held", "waited")

    def __init__(self, limiter: "Limiter") -> None:
        self._limiter = limiter
        self.waited: float = 0.0
        """Seconds spent waiting for it."""
        self._sent_at: float | None = None
        self.held: bool = True
        """Whether the slot is still to come back."""

    def sent(self) -> None:
        """Note that the call leaves now: it has arrived after `arrival` seconds at the latest."""
        if self._sent_at is None:
            self._sent_at = self._limiter.now()
            self._limiter.count_under_way(self, self._sent_at)

    def answered(self) -> None:
        """Note that an answer is here: the call had arrived a way back earlier."""
        if self.held:
            now = self._limiter.now()
            way_back = 0.0 if self._sent_at is None else self._limiter.least_way_back(now - self._sent_at)
            self._limiter.take_back(self, arrived=now - way_back)

    def abandoned(self) -> None:
        """Note that no answer will come: the call may still arrive."""
        if self.held and self._sent_at is None:
            self._limiter.take_back(self, arrived=self._limiter.now() + self._limiter.rate.arrival)

    def never_left(self) -> None:
        """Note that the call was not sent at all: the slot is free at once."""
        if self.held and self._sent_at is None:
            self._limiter.take_back(self, arrived=-math.inf)

    async def before_last_chunk(self) -> None:
        """Take a second slot for a long upload, which the server may count when it is complete."""
        limiter = self._limiter
        if self._sent_at is not None and limiter.now() - self._sent_at > limiter.rate.arrival:
            second = await limiter.acquire(Lane.INTERACTIVE)
            second.sent()


class Limiter:
    """Lets calls go as fast as the limit allows, first in first out within two lanes.

    One dispatcher takes a slot, then the spacing, and only then picks whom to let go, so that an interactive
    call never stands behind a bulk run. It runs only while somebody waits.
    """

    def __init__(self, rate: RateLimit) -> None:
        self.rate = rate
        self.now: Callable[[], float] = self._time_of_running_loop
        """The event loop's clock."""
        self._longest_hold = rate.arrival + rate.per
        self._beat = rate.per / rate.calls
        self._next_beat = -math.inf
        self._spacing = AsyncLimiter(_BUCKET, _BUCKET * self._beat)
        self._free = rate.calls
        self._under_way: dict[CallSlot, float] = {}
        """Calls without an answer yet, oldest first, and when their slot comes back without one."""
        self._coming_back: list[float] = []
        self._round_trips_seen = 0
        self._least_round_trip = math.inf
        self._difference = 0.0
        self._pause_until = -math.inf
        self._lanes: dict[Lane, deque[asyncio.Future[CallSlot]]] = {lane: deque() for lane in Lane}
        self._waiting = 0
        self._dispatcher: asyncio.Task[None] | None = None
        self._asleep_until = -math.inf
        self._wake_up: asyncio.Future[None] | None = None

    def _time_of_running_loop(self) -> float:
        self.now = asyncio.get_running_loop().time
        return self.now()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._waiting

    def count_under_way(self, slot: CallSlot, sent_at: float) -> None:
        """Have a slot come back an interval after its call must have arrived, should no answer come."""
        self._under_way[slot] = due = sent_at + self._longest_hold
        if self._wake_up is not None:
            self._wake_for(due)

    def take_back(self, slot: CallSlot, arrived: float) -> None:
        """Have a slot come back an interval after its call has arrived."""
        slot.held = False
        due = min(arrived + self.rate.per, self._under_way.pop(slot, math.inf))
        heappush(self._coming_back, due)
        if self._wake_up is not None:
            self._wake_for(due)

    def least_way_back(self, round_trip: float) -> float:
        """Give the least time that an answer takes, learning from one more round trip.

        That is nothing until an interval's worth of them is known, and less the more they have differed of
        late: the least one of a jittery path may owe its length to its way there.
        """
        least = self._least_round_trip
        if round_trip < least:
            self._least_round_trip = least = round_trip
        self._difference *= _MEMORY
        if round_trip - least > self._difference:  # noqa: PLR1730 - a third of the time of max()
            self._difference = round_trip - least
        if self._round_trips_seen < self.rate.calls:
            self._round_trips_seen += 1
            return 0.0
        way_back = _SHARE_OF_ROUND_TRIP * least - self._difference
        return way_back if way_back > 0 else 0.0

    async def acquire(self, lane: Lane) -> CallSlot:
        """Wait for a turn. Cancelling the wait costs nobody anything."""
        return self.acquire_at_once() or await self.queue(lane)

    def acquire_at_once(self) -> CallSlot | None:
        """Give a turn if there is one without waiting.

        This costs less than the spacing itself, which is for calls that queue: whoever comes next has to wait
        for a beat.
        """
        now = self.now()
        if self._waiting or now < self._next_beat or not self._is_slot_free(now):
            return None
        self._free -= 1
        self._pause_until = now + self._beat
        return CallSlot(self)

    async def queue(self, lane: Lane) -> CallSlot:
        """Wait for a turn behind those who wait already."""
        asked = self.now()
        slot = await self._wait_in(lane)
        slot.waited = self.now() - asked
        return slot

    def pause(self, seconds: float) -> None:
        """Let nobody go for that long; the longest pause asked for wins."""
        self._pause_until = max(self._pause_until, self.now() + seconds)

    def _is_slot_free(self, now: float) -> bool:
        while self._coming_back and self._coming_back[0] <= now:
            heappop(self._coming_back)
            self._free += 1
        while self._under_way:
            slot, due = next(iter(self._under_way.items()))
            if due > now:
                break
            del self._under_way[slot]
            slot.held = False
            self._free += 1
        return self._free > 0 and now >= self._pause_until

    async def _wait_in(self, lane: Lane) -> CallSlot:
        waiter: asyncio.Future[CallSlot] = asyncio.get_running_loop().create_future()
        self._lanes[lane].append(waiter)
        self._waiting += 1
        if self._dispatcher is None:
            self._start_dispatcher()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._leave_lane()
            else:  # it was let go, but its caller has been cancelled since
                waiter.result().never_left()
            raise

    def _leave_lane(self) -> None:
        self._waiting -= 1
        if not self._waiting and self._dispatcher is not None:
            self._dispatcher.cancel()
            self._dispatcher = None
            for waiters in self._lanes.values():
                waiters.clear()

    def _start_dispatcher(self) -> None:
        self._dispatcher = asyncio.create_task(self._dispatch(), name="healthmsg limit")
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
        while waiter := self._next_waiter():
            self._waiting -= 1
            waiter.set_exception(error)

    async def _dispatch(self) -> None:
        while self._waiting:
            await self._until_slot_free()
            self._free -= 1
            try:
                await self._spacing.acquire()
            except asyncio.CancelledError:
                self._free += 1
                raise
            now = self.now()
            self._next_beat = now + self._beat
            waiter = self._next_waiter() if now >= self._pause_until else None
            if waiter is None:
                self._free += 1
                continue
            self._waiting -= 1
            waiter.set_result(CallSlot(self))
        self._dispatcher = None

    def _next_waiter(self) -> "asyncio.Future[CallSlot] | None":
        for lane in Lane:
            waiters = self._lanes[lane]
            while waiters:
                waiter = waiters.popleft()
                if not waiter.done():
                    return waiter
        return None

    async def _until_slot_free(self) -> None:
        # In a loop: some event loops' timers fire early.
        while not self._is_slot_free(self.now()):
            await self._sleep_until(max(self._pause_until, -math.inf if self._free else self._next_due()))

    def _next_due(self) -> float:
        first_back = self._coming_back[0] if self._coming_back else math.inf
        return min(first_back, next(iter(self._under_way.values()), math.inf))

    async def _sleep_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._wake_up, self._asleep_until = loop.create_future(), when
        timer = loop.call_at(when, self._wake) if when < math.inf else None
        try:
            await self._wake_up
        finally:
            self._wake_up = None
            if timer:
                timer.cancel()

    def _wake_for(self, due: float) -> None:
        if due < self._asleep_until:
            self._wake()

    def _wake(self) -> None:
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)


class LimitStep:
    """Waits for a turn, and tells the limiter what became of the call."""

    def __init__(self, limiter: Limiter, *, longest_pause: float) -> None:
        self._limiter = limiter
        # A call that was told to wait longer fails; the others find out for themselves, and do not hang.
        self._longest_pause = longest_pause

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go when it is this call's turn, and take note of how it ends."""
        slot = self._limiter.acquire_at_once() or await self._limiter.queue(request.lane)
        request.slot = slot
        request.waited = slot.waited
        try:
            return await proceed(request)
        except ConnectError:
            slot.never_left()
            raise
        except QuotaExceededError:
            raise
        except RateLimitedError as error:
            wait = self._limiter.rate.per if error.retry_after is None else error.retry_after
            self._limiter.pause(min(wait, self._longest_pause))
            raise
        finally:
            if slot.held:
                slot.abandoned()
