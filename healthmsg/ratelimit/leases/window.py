"""The window of what is held on lease: their number changes, and none is free after the lease."""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import Final

from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import SlidingWindow, Slot

_LANES: Final = {
    Priority.INTERACTIVE: 0,
    Priority.FINISHING: 0,
    Priority.CATCH_UP: 1,
    Priority.BACKGROUND: 2,
}
# The background's calls are spread over the interval, so that one slot or another comes back soon.
# A little closer than evenly: only the slots themselves are to hold them up.
_CLOSER: Final = 0.96


class LeasedSlot(Slot):
    """One call's place, which is lost when the lease is."""

    def __init__(self, window: "LeasedWindow", priority: Priority) -> None:
        super().__init__(window, priority)
        self.generation: int = window.generation
        self._leased = window
        window.used(priority)

    def sent(self) -> bool:
        """Note that the call leaves now, unless the lease is over."""
        window = self._leased
        if self.generation != window.generation or window.machine_now() >= window.usable_until:
            return False
        return super().sent()


class LeasedWindow(SlidingWindow):
    """As many slots as this process holds now.

    `machine_now` is a clock that goes on while the machine sleeps; `when_paid` is called when a slot that is
    owed has come back.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        calls: int,
        per: float,
        *,
        now: Callable[[], float],
        machine_now: Callable[[], float],
        wake: Callable[[], None],
        acquire: Callable[[Priority], Awaitable[Slot]],
    ) -> None:
        super().__init__(calls, per, now=now, wake=wake, acquire=acquire)
        # Such slots are made with such a window only.
        self.make_slot: Callable[[SlidingWindow, Priority], Slot] = LeasedSlot  # type: ignore[assignment]
        self.free: int = 0
        self.total: int = 0
        """How many slots this process holds."""
        self.bulk_from: float = -math.inf
        self.machine_now: Callable[[], float] = machine_now
        self.usable_until: float = -math.inf
        """By the machine's clock: the end of the lease."""
        self.generation: int = 0
        self.owed: int = 0
        """How many slots that are under way are taken out when they come back."""
        self.paid: list[float] = []
        """When those come back that were taken out."""
        self.when_paid: Callable[[], None] = _nothing
        self.hold_off: Callable[[float], None] = _nothing_until
        self._left: tuple[deque[float], ...] = (deque(), deque(), deque())
        """When calls of each lane left."""
        self._carried: list[float] = []

    # --- what the limiter asks

    def is_one_free(self, now: float) -> bool:
        """Return whether there is a slot for a call that leaves now."""
        if self.free <= 0 or self.owed:
            self.count_returned(now)
        return self.free > 0 and self.machine_now() < self.usable_until

    def count_returned(self, now: float) -> bool:
        """Count the slots that have come back by now, and take out what is owed of them."""
        super().count_returned(now)
        if self.owed and self.free > 0:
            self._take_out(min(self.owed, self.free), now)
            self.when_paid()
        return self.free > 0

    def next_due(self) -> float:
        """Return the moment at which the next slot comes back; infinity if the lease is over."""
        return super().next_due() if self.machine_now() < self.usable_until else math.inf

    def take_back(self, slot: Slot, due: float) -> None:
        """Let a slot come back at that moment, unless it is lost."""
        if isinstance(slot, LeasedSlot) and slot.generation != self.generation:
            slot.held = False
        else:
            super().take_back(slot, due)
            if self.owed and due <= self.now():
                self.wake()

    def carry_over(self, busy: list[float]) -> None:
        """Let the next slots not be free before these moments."""
        self._carried = sorted([*self._carried, *busy])

    def used(self, priority: Priority) -> None:
        """Note that a call of that priority leaves."""
        now = self.now()
        self._left[_LANES[priority]].append(now)
        if priority is Priority.BACKGROUND and self.total:
            interval = _CLOSER * self.per / self.total
            self.bulk_from = max(self.bulk_from, now - interval / 2) + interval
            self.hold_off(self.bulk_from)

    def left_in(self, now: float) -> tuple[int, int, int]:
        """Return how many calls of each lane have left of late, so that they hold a slot."""
        for moments in self._left:
            while moments and moments[0] <= now - self.longest_hold:
                moments.popleft()
        return len(self._left[0]), len(self._left[1]), len(self._left[2])

    # --- what the holder asks

    def add(self, rests: list[float]) -> None:
        """Add slots that may be used after so many seconds."""
        now = self.now()
        for rest in rests:
            due = now + rest
            if self._carried:
                due = max(due, self._carried.pop())
            self.total += 1
            if due > now:
                heappush(self.coming_back, due)
                if due < self.asleep_until:
                    self.wake()
            else:
                self.free += 1
        if self.free > 0:
            self.wake()

    def owe(self, number: int) -> None:
        """Take out that many slots, those that come back first; what is under way as soon as it is back."""
        now = self.now()
        self.owed = 0
        self.count_returned(now)
        self.owed = number
        self._take_out(min(number, self.free), now)
        while self.owed and self.coming_back:
            self._note(heappop(self.coming_back))

    def drop(self, number: int) -> None:
        """Lose that many slots."""
        before = len(self.paid)
        self.owe(number)
        del self.paid[before:]

    def empty(self) -> list[float]:
        """Take out all; return when each comes back at the latest."""
        self.owed = 0
        busy = self.busy_until(self.now())
        dues = [*self.paid, *([-math.inf] * self.free), *busy]
        self.clear()
        return dues

    def clear(self) -> None:
        """Lose all."""
        for slot in self.under_way:
            slot.held = False
        self.under_way.clear()
        self.coming_back.clear()
        self.paid.clear()
        self.free = self.total = self.owed = 0
        self.generation += 1

    def _take_out(self, number: int, now: float) -> None:
        for _ in range(number):
            self.free -= 1
            self._note(now)

    def _note(self, due: float) -> None:
        self.total -= 1
        self.owed -= 1
        self.paid.append(due)


def _nothing() -> None:
    """Do nothing."""


def _nothing_until(until: float) -> None:
    """Do nothing."""
