"""How many messages are noted as begun before the limit lets them go."""

import asyncio
from typing import Any, Final

from healthmsg.ratelimit.limiter import RateLimit

# Seconds' worth of calls, and how many that is at least and at most: enough that the limit never waits for
# the journal, and few enough that hardly any is in doubt without having been sent when the process ends.
_AHEAD: Final = 0.25
_LEAST: Final = 8
_MOST: Final = 64


class Departures:
    """Room for a few messages that have been begun and wait for the limit."""

    def __init__(self, rate: RateLimit) -> None:
        self._room = asyncio.Semaphore(min(max(_LEAST, int(_AHEAD * rate.calls / rate.per)), _MOST))
        self._waiting: set[asyncio.Task[Any] | None] = set()

    async def enter(self) -> None:
        """Wait until there is room, and take it until this task's call leaves."""
        await self._room.acquire()
        self._waiting.add(asyncio.current_task())

    def leave(self, task: "asyncio.Task[Any] | None") -> None:
        """Make room, if that was not done yet."""
        if task in self._waiting:
            self._waiting.remove(task)
            self._room.release()
