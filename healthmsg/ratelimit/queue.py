"""Who waits for the limit, and who goes next."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from healthmsg.pipeline.request import Lane
from healthmsg.ratelimit.window import CallSlot

Waiter = asyncio.Future[CallSlot]

# While everybody else wants to go too: which share of the turns is for uploads that are nearly done.
_ONE_IN: Final = 10


class Caller(Protocol):
    """On whose behalf somebody waits."""

    @property
    def longest_pause(self) -> float:
        """The longest pause, in seconds, that is waited for."""


class Lanes:
    """Those who wait, first in first out within each lane, and one lane before the other.

    The end of an upload holds a connection: it must not wait for ever behind interactive calls.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[tuple[Waiter, Caller | None]]] = {lane: deque() for lane in Lane}
        self._turns_before_finishing = _ONE_IN
        self.waiting: int = 0
        """How many wait."""

    def join(self, lane: Lane, caller: Caller | None) -> Waiter:
        """Stand at a lane's end."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._lanes[lane].append((waiter, caller))
        self.waiting += 1
        return waiter

    def leave(self, waiter: Waiter) -> bool:
        """Wait no longer, because the wait was cancelled; tell whether `waiter` still did."""
        if waiter.done() and not waiter.cancelled():
            return False
        waiter.cancel()
        self._one_less()
        return True

    def next_one(self) -> tuple[Lane, Waiter] | None:
        """Take out who goes next, if anybody waits."""
        for lane in self._in_turn():
            waiters = self._lanes[lane]
            while waiters:
                waiter, _ = waiters.popleft()
                if not waiter.done():
                    self._one_less()
                    return lane, waiter
        return None

    def dismiss(self, is_meant: Callable[[Caller], bool], error: Callable[[], Exception]) -> None:
        """Fail those who wait on behalf of such callers."""
        for waiters in self._lanes.values():
            for waiter, caller in tuple(waiters):
                if caller is not None and not waiter.done() and is_meant(caller):
                    waiter.set_exception(error())
                    self._one_less()

    def dismiss_all(self, error: BaseException) -> None:
        """Fail everybody."""
        while next_one := self.next_one():
            next_one[1].set_exception(error)

    def _one_less(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            for waiters in self._lanes.values():
                waiters.clear()

    def _in_turn(self) -> tuple[Lane, ...]:
        if not self._lanes[Lane.FINISHING]:
            return _ORDER
        self._turns_before_finishing -= 1
        if self._turns_before_finishing:
            return _ORDER
        self._turns_before_finishing = _ONE_IN
        return _FINISHING_FIRST


_ORDER: Final = tuple(Lane)
_FINISHING_FIRST: Final = (Lane.FINISHING, *_ORDER)
