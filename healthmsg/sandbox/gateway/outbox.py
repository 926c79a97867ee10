"""What waits to be sent over one connection: in order, unless it is late or made to change places."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Final

from attrs import define, field

# Seconds after which a frame that was to change places with the next one goes without it.
_LONGEST_HOLD: Final = 0.5


@define(order=True)
class _Entry:
    due: float
    number: int
    frame: str | None = field(order=False, repr=False)
    """`None`: it was given another place."""


def _now() -> float:
    return asyncio.get_running_loop().time()


@define(eq=False)
class Outbox:
    """The frames that wait, by the moment (on the event loop's clock) at which each is due."""

    _entries: list[_Entry] = field(factory=list, init=False, repr=False)
    _numbers: Callable[[], int] = field(factory=lambda: count().__next__, init=False, repr=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False, repr=False)
    _held: _Entry | None = field(default=None, init=False, repr=False)
    _last_due: float = field(default=0.0, init=False)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, frame: str, *, delay: float = 0.0, late: float = 0.0) -> None:
        """Add a frame, after all others; `late` seconds let others overtake it, `delay` does not."""
        due = max(_now() + delay, self._last_due)
        self._last_due = due
        self._push(due + late, frame)
        held, self._held = self._held, None
        if held is not None and held.frame is not None:
            self._push(due, held.frame)
            held.frame = None

    def hold(self, frame: str, *, delay: float = 0.0) -> None:
        """Add a frame that goes after the one that is put next; at the latest it goes after half a second."""
        if self._held is not None and self._held.frame is not None:
            self.put(frame, delay=delay)
        else:
            self._held = self._push(_now() + delay + _LONGEST_HOLD, frame)

    async def next(self) -> str:
        """Wait for the next frame that is due, and take it out."""
        while True:
            self._changed.clear()
            wait = self._entries[0].due - _now() if self._entries else None
            if wait is not None and wait <= 0:
                entry = heappop(self._entries)
                frame, entry.frame = entry.frame, None
                if frame is not None:
                    return frame
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _push(self, due: float, frame: str) -> _Entry:
        entry = _Entry(due, self._numbers(), frame)
        heappush(self._entries, entry)
        self._changed.set()
        return entry
