"""The limit step: 30 calls in any second, as the server counts them.

The server counts arrivals, not departures, so spacing calls is not enough: jitter on the way can push 31
of them into one second. Besides the spacing there are therefore 30 slots, and a slot comes back one second
after the latest moment at which its call can have arrived.
"""

import asyncio
import math
from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Final

from aiolimiter import AsyncLimiter
from attrs import field, frozen

from healthmsg.errors import ConnectError, RateLimitedError
from healthmsg.pipeline.exchange import Lane, Request, Response, Send
from healthmsg.settings import at_least_one, positive

# Just over one call, so that a late wake-up can be made good by the next call, but never a pair.
_BUCKET: Final = 1.06
# An answer's way back takes at least this share of the shortest round trip seen.
_SHARE_OF_ROUND_TRIP: Final = 0.8


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
    """One call's place among the calls that the server may count within one interval."""

    __slots__ = ("_limiter", "_sent_at", "due")

    def __init__(self, limiter: "Limiter") -> None:
        self._limiter = limiter
        self._sent_at: float | None = None
        self.due = math.inf
        """When the slot comes back; infinite while that is open."""

    def sent(self) -> None:
        """Note that the call leaves now: it has arrived after `arrival` seconds at the latest."""
        self._sent_at = self._limiter.now()
        self._come_back(self._sent_at + self._limiter.rate.arrival)

    def answered(self) -> None:
        """Note that an answer is here: the call had arrived a way back earlier."""
        now = self._limiter.now()
        if self._sent_at is None:
            self._come_back(now)
            return
        self._come_back(now - self._limiter.shortest_way_back(now - self._sent_at))

    def abandoned(self) -> None:
        """Note that no answer will come: the call may still arrive."""
        if self._sent_at is None:
            self._come_back(self._limiter.now() + self._limiter.rate.arrival)

    def never_left(self) -> None:
        """Note that the call was not sent at all: the slot is free at once."""
        if self._sent_at is None:
            self._come_back(-math.inf)

    async def before_last_chunk(self) -> None:
        """Take a second slot for a long upload, which the server may count when it is complete."""
        if self._sent_at is None or self._limiter.now() - self._sent_at <= self._limiter.rate.arrival:
            return
        second = await self._limiter.acquire(Lane.INTERACTIVE)
        second.sent()

    def _come_back(self, arrived: float) -> None:
        due = arrived + self._limiter.rate.per
        if due < self.due:
            self.due = due
            self._limiter.expect(self, due)


class Limiter:
    """Lets calls go as fast as the limit allows, first in first out within two lanes.

    One dispatcher takes a slot, then the spacing, and only then picks whom to let go, so that an interactive
    call never stands behind a bulk run. It runs only while somebody waits.
    """

    def __init__(self, rate: RateLimit) -> None:
        self.rate = rate
        self._spacing = AsyncLimiter(_BUCKET, _BUCKET * rate.per / rate.calls)
        self._free = rate.calls
        self._expected: list[tuple[float, int, CallSlot]] = []
        self._order = count()
        self._shortest_round_trip = math.inf
        self._pause_until = -math.inf
        self._lanes: dict[Lane, deque[asyncio.Future[CallSlot]]] = {lane: deque() for lane in Lane}
        self._waiting = 0
        self._dispatcher: asyncio.Task[None] | None = None
        self._wake_up: asyncio.Future[None] | None = None

    @staticmethod
    def now() -> float:
        """Give the running loop's clock."""
        return asyncio.get_running_loop().time()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._waiting

    async def acquire(self, lane: Lane) -> CallSlot:
        """Wait for a turn. Cancelling the wait costs nobody anything."""
        if not self._waiting and self._take_slot() and self._spacing.has_capacity():
            self._free -= 1
            await self._spacing.acquire()  # does not wait: there is capacity
            return CallSlot(self)
        return await self._wait_in(lane)

    def pause(self, seconds: float) -> None:
        """Let nobody go for that long; the longest pause asked for wins."""
        self._pause_until = max(self._pause_until, self.now() + seconds)

    def expect(self, slot: CallSlot, due: float) -> None:
        """Have a slot come back at a moment, or earlier than was expected before."""
        heappush(self._expected, (due, next(self._order), slot))
        if self._wake_up is not None and self._expected[0][2] is slot:
            self._wake()

    def shortest_way_back(self, round_trip: float) -> float:
        """Give the least time that an answer takes, learning from one more round trip."""
        self._shortest_round_trip = min(self._shortest_round_trip, round_trip)
        return _SHARE_OF_ROUND_TRIP * self._shortest_round_trip

    def _take_slot(self) -> bool:
        """Tell whether a slot can be had now."""
        now = self.now()
        while self._expected and self._expected[0][0] <= now:
            due, _, slot = heappop(self._expected)
            if due == slot.due:  # else it has come back already, earlier than first expected
                self._free += 1
        return self._free > 0 and now >= self._pause_until

    async def _wait_in(self, lane: Lane) -> CallSlot:
        waiter: asyncio.Future[CallSlot] = asyncio.get_running_loop().create_future()
        self._lanes[lane].append(waiter)
        self._waiting += 1
        if self._dispatcher is None:
            self._dispatcher = asyncio.create_task(self._dispatch(), name="healthmsg limit")
            self._dispatcher.add_done_callback(self._fail_waiters)
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

    def _fail_waiters(self, dispatcher: asyncio.Task[None]) -> None:
        # Nothing in it is known to fail; if something ever does, nobody may wait for ever.
        if dispatcher.cancelled() or (error := dispatcher.exception()) is None:
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
            waiter = self._next_waiter() if self.now() >= self._pause_until else None
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
        while not self._take_slot():
            when = self._pause_until
            if not self._free:
                when = max(when, self._expected[0][0] if self._expected else math.inf)
            await self._sleep_until(when)

    async def _sleep_until(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        self._wake_up = loop.create_future()
        timer = loop.call_at(when, self._wake) if when < math.inf else None
        try:
            await self._wake_up
        finally:
            self._wake_up = None
            if timer:
                timer.cancel()

    def _wake(self) -> None:
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)


class LimitStep:
    """Waits for a turn, and tells the limiter what became of the call."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go when it is this call's turn, and take note of how it ends."""
        asked = self._limiter.now()
        slot = await self._limiter.acquire(request.lane)
        request.slot = slot
        request.waited = self._limiter.now() - asked
        try:
            return await proceed(request)
        except ConnectError:
            slot.never_left()
            raise
        except RateLimitedError as error:
            wait = self._limiter.rate.per if error.retry_after is None else error.retry_after
            self._limiter.pause(wait)
            raise
        finally:
            slot.abandoned()
