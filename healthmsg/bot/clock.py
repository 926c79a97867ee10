"""The time of day that a bot goes by."""

import asyncio
from datetime import UTC, datetime
from typing import Final, Protocol

_LOOK_AGAIN: Final = 30.0
"""Seconds after which the time of day is looked at again: the machine may have slept, its clock been set."""


class BotClock(Protocol):
    """Tells the time of day, and waits for moments of it."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        """Wait until that moment, or until `changed` is set; with `None`, for the latter alone."""


class SystemClock:
    """The clock of this machine.

    After the machine has slept, or its clock was set, what is due by then is seen within 30 seconds.
    """

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(UTC)

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        """Wait until that moment, or until `changed` is set; with `None`, for the latter alone."""
        if until is None:
            await changed.wait()
            return
        while not changed.is_set() and (left := (until - self.now()).total_seconds()) > 0:
            try:
                async with asyncio.timeout(min(left, _LOOK_AGAIN)):
                    await changed.wait()
            except TimeoutError:
                continue
