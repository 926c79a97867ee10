"""An event loop whose time stands still while its process is stopped, as CLOCK_MONOTONIC does in suspend."""

import asyncio
import time
from typing import Final

SLEEPS: Final = "HEALTHMSG_TEST_SLEEPS"
"""The environment variable that has a sender use this loop."""
# Seconds that pass at most between two looks at the time. More is taken for sleep.
_LONGEST_GAP: Final = 0.5


class SleepingLoop(asyncio.SelectorEventLoop):
    """For a program of its own, which a test stops with SIGSTOP and lets go on with SIGCONT."""

    def __init__(self) -> None:
        self._slept = 0.0
        self._looked_at = time.monotonic()
        super().__init__()

    def time(self) -> float:
        before, self._looked_at = self._looked_at, time.monotonic()
        self._slept += max(0.0, self._looked_at - before - _LONGEST_GAP)
        return self._looked_at - self._slept
