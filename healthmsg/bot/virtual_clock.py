"""A time of day that stands still until a test moves it."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from attrs import define, field

START: Final = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday, ten o'clock in Amsterdam."""


@define(eq=False)
class VirtualClock:
    """A `BotClock` that a test moves."""

    _now: datetime = START
    _moved: asyncio.Event = field(factory=asyncio.Event, init=False)
    _awaited: list[datetime] = field(factory=list, init=False)

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return self._now

    def next_awaited(self) -> datetime | None:
        """Return the first moment that something waits for, after now; `None`: nothing does."""
        return min((moment for moment in self._awaited if moment > self._now), default=None)

    def move_to(self, moment: datetime) -> None:
        """Go on to a moment; never back."""
        self._now = max(self._now, moment.astimezone(UTC))
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        """Wait until the clock is moved so far, or until `changed` is set."""
        if until is not None:
            self._awaited.append(until)
        try:
            while not changed.is_set() and (until is None or self._now < until):
                waits = [asyncio.ensure_future(one.wait()) for one in (changed, self._moved)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for one in waits:
                        one.cancel()
                    await asyncio.wait(waits)
        finally:
            if until is not None:
                self._awaited.remove(until)
