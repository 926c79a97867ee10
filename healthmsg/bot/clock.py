"""The time of day that a bot goes by."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol

_LOOK_AGAIN: Final = 30.0
"""Seconds after which the time of day is looked at again: the machine may have slept, its clock been set."""


class BotClock(Protocol):
    """Tells the time of day, and waits for moments of it."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        """Wait until that moment, until `changed` is set, or until the clock was set back.

        With `None` it is for `changed` alone.
        """


class SystemClock:
    """The clock of this machine.

    After the machine has slept, or its clock was set, that is seen within 30 seconds.
    """

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(UTC)

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        """Wait until that moment, until `changed` is set, or until the clock was set back.

        With `None` it is for `changed` alone.
        """
        if until is None:
            await changed.wait()
            return
        before = now = self.now()
        while not changed.is_set() and before <= now < until:
            before = now
            with suppress(TimeoutError):
                async with asyncio.timeout(min((until - now).total_seconds(), _LOOK_AGAIN)):
                    await changed.wait()
            now = self.now()
