"""The sliding window: each call holds one of its slots, and until when.

| how a call ends                           | its slot comes back                                       |
|-------------------------------------------|-----------------------------------------------------------|
| cancelled while it waits for its turn     | it has none                                               |
| no connection was made                    | at once                                                   |
| cancelled while it may be leaving         | an interval after `arrival` seconds from then             |
| answered                                  | an interval after it had arrived, at the latest as below  |
| cut, cancelled or timed out after it left | an interval after `arrival` seconds from when it left     |
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from heapq import heappop, heappush
from typing import Final

from attrs import frozen

from healthmsg.ratelimit.queue import Priority

# An answer's way back takes at least this share of the shortest round trip seen.
_SHARE_OF_ROUND_TRIP: Final = 0.8
# A difference between round trips is forgotten by that much with each call: by half after 70.
_MEMORY: Final = 0.99
# Seconds. A server does not wait for ever for the end of an upload.
_LONGEST_WAIT: Final = 60.0


@frozen
class LimitStats:
    """Where the slots of the limit come from, at one moment."""

    source: str
    """`local`: this process has the whole limit. `postgresql`, `redis`: it is shared over such a store."""
    held: int | None = None
    """Of leases: how many slots this process has now, those that its calls hold included."""
    workers: int | None = None
    """How many processes share the limit, as far as this one knows."""
    store_away_for: float | None = None
    """For how many seconds the store has not answered; `None`: it answers, or there is none."""


class Slot:
    """One call's place among the calls that the server may count within one interval.

    It comes back once, whatever is reported how often and in whatever order.
    """

    # Defaults of the class cost nothing for each call.
    waited: float = 0.0
    """Seconds spent waiting for it."""
    sent_at: float | None = None
    """When the call left, by the event loop's clock."""
    due: float = math.inf
    """When the slot comes back without an answer."""
    held: bool = True
    """Whether the slot is still to come back."""
    _second: "Slot | None" = None

    def __init__(self, window: "SlidingWindow", priority: Priority) -> None:
        self._window = window
        self._priority = priority

    def sent(self) -> bool:
        """Note that the call leaves now: it has arrived after `arrival` seconds at the latest.

        Return whether it may: a shared slot may be another worker's by now. Then nothing was noted.
        """
        if self.sent_at is None:
            window = self._window
            self.sent_at = now = window.now()
            self.due = due = now + window.longest_hold
            window.under_way.append(self)
            if due < window.asleep_until:
                window.wake()
        return True

    def answered(self) -> None:
        """Note that an answer is here: the call had arrived a way back earlier."""
        if self._second is not None:  # which tells more of the way; this one comes back when it is due
            self._second.answered()
        elif self.held:
            window, sent_at = self._window, self.sent_at
            now = window.now()
            way_back = 0.0 if sent_at is None else window.least_way_back(now - sent_at)
            window.take_back(self, now - way_back + window.per)

    def abandoned(self) -> None:
        """Note that no answer will come: the call may still arrive."""
        if self.held and self.sent_at is None:
            self._window.take_back(self, self._window.now() + self._window.longest_hold)

    def release_unused(self) -> None:
        """Note that the call was not sent at all: the slot is free at once."""
        if self.held and self.sent_at is None:
            self._window.take_back(self, -math.inf)

    async def before_last_chunk(self) -> None:
        """Take a second slot for a long upload, which the server may count when it is complete.

        In a long pause it goes on without one in the end: the service then says whether it takes the upload.
        """
        window = self._window
        if self.sent_at is None or window.now() - self.sent_at <= window.arrival:
            return
        priority = Priority.INTERACTIVE if self._priority is Priority.INTERACTIVE else Priority.FINISHING
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_WAIT):
                self._second = await window.acquire(priority)
                self._second.sent()


class SlidingWindow:
    """As many slots as calls are allowed within one interval: the source of slots of one process alone.

    `wake` is called when one comes back before `asleep_until`; `acquire` waits for another one.
    """

    make_slot: Callable[["SlidingWindow", Priority], Slot] = Slot
    """Makes the slot that was just taken out of `free`."""
    generation: int = 0
    """Goes up when all slots are lost, free or not; they never are where they are one process's own."""
    bulk_from: float = -math.inf
    """Before that moment no call of the background takes a slot, though one be free."""

    def __init__(
        self,
        calls: int,
        per: float,
        *,
        now: Callable[[], float],
        wake: Callable[[], None],
        acquire: Callable[[Priority], Awaitable[Slot]],
    ) -> None:
        self.per: float = per
        self.now: Callable[[], float] = now
        self.acquire: Callable[[Priority], Awaitable[Slot]] = acquire
        self.asleep_until: float = -math.inf
        self.free: int = calls
        self.total: int = calls
        """How many there are, free or not."""
        self.arrival: float = 0.0
        self.longest_hold: float = per
        self._calls = calls
        self.wake: Callable[[], None] = wake
        self.under_way: deque[Slot] = deque()
        """Calls that have left, oldest first; some have been answered since."""
        self.coming_back: list[float] = []
        """A heap: when those come back whose calls have ended."""
        self._round_trips_seen = 0
        self._least_round_trip = math.inf
        self._difference = 0.0

    def assume_arrival(self, seconds: float) -> None:
        """Set how long a call that leaves from now on may be under way."""
        self.arrival = seconds
        self.longest_hold = seconds + self.per

    def take_back(self, slot: Slot, due: float) -> None:
        """Let a slot come back at that moment, or when it was due anyway if that is sooner."""
        slot.held = False
        if slot.due < due:  # noqa: PLR1730 - a third of the time of min()
            due = slot.due
        heappush(self.coming_back, due)
        if due < self.asleep_until:
            self.wake()

    def least_way_back(self, round_trip: float) -> float:
        """Return the least time that an answer takes, learning from one more round trip.

        That is nothing until an interval's worth of them is known, and less the more they have differed of
        late: the least one of a jittery path may owe its length to its way there.
        """
        least, difference = self._least_round_trip, self._difference * _MEMORY
        if round_trip < least:
            self._least_round_trip = least = round_trip
        if round_trip - least > difference:  # noqa: PLR1730 - a third of the time of max()
            difference = round_trip - least
        self._difference = difference
        if self._round_trips_seen < self._calls:
            self._round_trips_seen += 1
            return 0.0
        way_back = _SHARE_OF_ROUND_TRIP * least - difference
        return way_back if way_back > 0 else 0.0

    def is_one_free(self, now: float) -> bool:
        """Return whether there is a slot for a call that leaves now."""
        # Those that came back meanwhile need not be counted before they are needed.
        return self.free > 0 or self.count_returned(now)

    def count_returned(self, now: float) -> bool:
        """Count the slots that have come back by now among the free ones; return whether there is one."""
        coming_back, under_way = self.coming_back, self.under_way
        while coming_back and coming_back[0] <= now:
            heappop(coming_back)
            self.free += 1
        while under_way:
            oldest = under_way[0]
            if oldest.held:
                if oldest.due > now:
                    break
                oldest.held = False
                self.free += 1
            under_way.popleft()
        return self.free > 0

    def busy_until(self, now: float) -> list[float]:
        """Return when each slot that is taken comes back at the latest, as if all that have one left now."""
        self.count_returned(now)
        known = [*self.coming_back, *(slot.due for slot in self.under_way if slot.held)]
        unsent = max(0, self.total - self.free - len(known))
        return [*known, *[now + self.longest_hold] * unsent]

    def carry_over(self, busy: list[float]) -> None:
        """Count calls that another source let leave: as many slots are taken until these moments."""
        for due in busy:
            self.occupy(due)

    def occupy(self, due: float) -> None:
        """Let a free slot be taken until that moment, for a call that another source let leave."""
        if self.free > 0:
            self.free -= 1
            heappush(self.coming_back, due)

    def next_due(self) -> float:
        """Return the moment at which the next slot comes back, as far as is known."""
        first_back = self.coming_back[0] if self.coming_back else math.inf
        # The oldest one is still held: `count_returned` has removed all before it that are not.
        return min(first_back, self.under_way[0].due if self.under_way else math.inf)
