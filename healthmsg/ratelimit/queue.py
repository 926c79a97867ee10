"""A priority queue of callers who wait, first in first out within each priority."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Final, Generic, Protocol, TypeVar

T = TypeVar("T")

# While calls of every priority wait: which share of the turns is for uploads that are nearly done.
_ONE_IN: Final = 10


class Priority(IntEnum):
    """Which call goes first when calls wait for the limit."""

    INTERACTIVE = 0
    FINISHING = 1
    """The last chunk of an upload in the background, which holds a connection and should not stand still."""
    CATCH_UP = 2
    """Reading what was missed, for `client.events()`."""
    BACKGROUND = 3
    """Bulk sending: it gets what the others leave."""


class Owner(Protocol):
    """On whose behalf a caller waits."""

    @property
    def longest_pause(self) -> float:
        """The longest pause, in seconds, that is waited for."""


class PriorityQueue(Generic[T]):
    """Futures of those who wait, a queue for each priority.

    The end of an upload holds a connection: it must not wait for ever behind interactive calls.
    """

    def __init__(self) -> None:
        self._queues: dict[Priority, deque[tuple[asyncio.Future[T], Owner | None]]] = {
            priority: deque() for priority in Priority
        }
        self._turns_before_finishing = _ONE_IN
        self.waiting: int = 0
        """How many wait."""

    def put(self, priority: Priority, owner: Owner | None) -> "asyncio.Future[T]":
        """Add a waiter at the end of its priority's queue."""
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queues[priority].append((waiter, owner))
        self.waiting += 1
        return waiter

    def remove(self, waiter: "asyncio.Future[T]") -> bool:
        """Remove a waiter whose wait was cancelled; return whether it was still waiting."""
        if waiter.done() and not waiter.cancelled():
            return False
        waiter.cancel()
        self._one_less()
        return True

    def pop(self) -> "tuple[Priority, asyncio.Future[T]] | None":
        """Take out the next waiter, if there is one."""
        for priority in self._in_turn():
            waiters = self._queues[priority]
            while waiters:
                waiter, _ = waiters.popleft()
                if not waiter.done():
                    self._one_less()
                    return priority, waiter
        return None

    def waiting_in(self) -> tuple[int, int, int]:
        """Return how many wait in front of the catching up, in it, and in the background."""
        ends, queues = Priority.FINISHING, self._queues
        return (
            len(queues[Priority.INTERACTIVE]) + len(queues[ends]),
            len(queues[Priority.CATCH_UP]),
            len(queues[Priority.BACKGROUND]),
        )

    def has_before_background(self) -> bool:
        """Return whether one waits that goes before the background."""
        return any(self._queues[priority] for priority in _ORDER[: Priority.BACKGROUND])

    def fail(self, is_meant: Callable[[Owner], bool], error: Callable[[], Exception]) -> None:
        """Raise an error in those who wait on behalf of such owners."""
        for waiters in self._queues.values():
            for waiter, owner in tuple(waiters):
                if owner is not None and not waiter.done() and is_meant(owner):
                    waiter.set_exception(error())
                    self._one_less()

    def fail_all(self, error: Callable[[], BaseException]) -> None:
        """Raise an error in all who wait, each its own."""
        while following := self.pop():
            following[1].set_exception(error())

    def _one_less(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            for waiters in self._queues.values():
                waiters.clear()

    def _in_turn(self) -> tuple[Priority, ...]:
        if not self._queues[Priority.FINISHING]:
            return _ORDER
        self._turns_before_finishing -= 1
        if self._turns_before_finishing:
            return _ORDER
        self._turns_before_finishing = _ONE_IN
        return _FINISHING_FIRST


_ORDER: Final = tuple(Priority)
_FINISHING_FIRST: Final = (Priority.FINISHING, *_ORDER)
