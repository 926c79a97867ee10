"""The time of day that a bot goes by."""

import asyncio
from datetime import datetime
from typing import Protocol


class BotClock(Protocol):
    """Tells the time of day, and waits for moments of it."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        """Wait until that moment, or until `changed` is set; with `None`, for the latter alone."""
