"""The window of slots that are granted one by one, each to be used within moments."""

import math
from collections.abc import Awaitable, Callable
from typing import Final

from attrs import frozen

from healthmsg.clock import machine_seconds
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import SlidingWindow, Slot

IN_HAND: Final = 0.5
"""Seconds for which a call that has its grant may go on making its connection, before it leaves."""


@frozen
class Grant:
    """A slot of the store's that this process may use for a moment."""

    id: str
    start: float
    """By the event loop's clock: from when on."""
    end: float
    """By the machine's, which goes on while it sleeps: until when it is kept for a call here, ..."""
    last: float
    """... and until when that call may leave."""


class GrantedSlot(Slot):
    """One call's place, which must leave while its grant is good."""

    def __init__(self, window: "GrantWindow", priority: Priority) -> None:
        super().__init__(window, priority)
        self._granted = window
        self.grant: Grant | None = window.pop()

    def sent(self) -> bool:
        """Note that the call leaves now, unless that is too late."""
        if self.sent_at is not None:
            return True
        if self.grant is None or machine_seconds() > self.grant.last:
            return False
        super().sent()
        # The store has counted it for as long as the call might have taken to leave.
        self._granted.note_due(self)
        return True


class GrantWindow(SlidingWindow):
    """The grants that are not used yet, and what is to be said of those that were.

    `when_back` is called when there is something to say, `when_used` when a grant is used or was lost.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        calls: int,
        per: float,
        *,
        now: Callable[[], float],
        wake: Callable[[], None],
        acquire: Callable[[Priority], Awaitable[Slot]],
        when_back: Callable[[], None],
        when_used: Callable[[], None],
    ) -> None:
        super().__init__(calls, per, now=now, wake=wake, acquire=acquire)
        # Such slots are made with such a window only.
        self.make_slot: Callable[[SlidingWindow, Priority], Slot] = GrantedSlot  # type: ignore[assignment]
        self.free: int = 0
        self.grants: list[Grant] = []
        """Not used yet, those first that can be used first."""
        self.back: dict[str, float] = {}
        """When used ones come back at the latest, by the event loop's clock; minus infinity: unused."""
        self.taken: list[float] = []
        """When calls come back that another source let leave."""
        self._when_back = when_back
        self._when_used = when_used

    def is_one_free(self, now: float) -> bool:
        """Return whether there is a slot for a call that leaves now."""
        return self.count_returned(now)

    def count_returned(self, now: float) -> bool:
        """Count the grants that can be used now; what came too late goes back."""
        under_way = self.under_way
        while under_way and not (under_way[0].held and under_way[0].due > now):
            under_way.popleft().held = False
        if self.grants:
            self._drop_late()
        self.free = sum(grant.start <= now for grant in self.grants)
        return self.free > 0

    def next_due(self) -> float:
        """Return when the next grant can be used; infinity if there is none."""
        return self.grants[0].start if self.grants else math.inf

    def take_back(self, slot: Slot, due: float) -> None:
        """Note when a slot comes back."""
        slot.held = False
        if isinstance(slot, GrantedSlot) and slot.grant is not None:
            self._give_back(slot.grant, min(due, slot.due))

    def note_due(self, slot: GrantedSlot) -> None:
        """Note that a call has left, and when its slot comes back without an answer."""
        if slot.grant is not None:
            self._give_back(slot.grant, slot.due)

    def add(self, grants: list[Grant]) -> None:
        """Put in what was granted."""
        self.grants += grants
        self.grants.sort(key=lambda grant: grant.start)
        self.wake()

    def pop(self) -> Grant | None:
        """Take out a grant for a call, though it waited for the spacing; `None`: all are too old now."""
        self._drop_late(IN_HAND)
        grant = None
        if self.grants and self.grants[0].start <= self.now():
            grant = self.grants.pop(0)
        self._when_used()
        return grant

    def give_all_back(self) -> None:
        """Take out all grants."""
        for grant in self.grants:
            self._give_back(grant, -math.inf)
        self.grants.clear()
        self.free = 0

    def busy_until(self, now: float) -> list[float]:
        """Return when each slot that is taken comes back at the latest."""
        self.count_returned(now)
        held = [slot for slot in self.under_way if slot.held]
        noted = {slot.grant.id for slot in held if isinstance(slot, GrantedSlot) and slot.grant is not None}
        back = [due for id_, due in self.back.items() if due > now and id_ not in noted]
        return [*(slot.due for slot in held), *back, *self.taken]

    def carry_over(self, busy: list[float]) -> None:
        """Count calls that another source let leave."""
        self.taken += busy
        if busy:  # else there may be no event loop yet
            self._when_back()

    def occupy(self, due: float) -> None:
        """Count a call that another source let leave."""
        self.carry_over([due])

    def _drop_late(self, more: float = 0.0) -> None:
        machine = machine_seconds()
        late = [grant for grant in self.grants if min(grant.end + more, grant.last) < machine]
        for grant in late:
            self.grants.remove(grant)
            self._give_back(grant, -math.inf)
        if late:
            self._when_used()

    def _give_back(self, grant: Grant, due: float) -> None:
        self.back[grant.id] = due
        self._when_back()
