"""An event loop whose time stands still while its process is stopped, as CLOCK_MONOTONIC does in suspend."""

import asyncio
import signal
import time


class SleepingLoop(asyncio.SelectorEventLoop):
    """For a program of its own: a test stops it with SIGSTOP and lets it go on with SIGCONT."""

    def __init__(self) -> None:
        self._slept = 0.0
        self._looked_at = time.monotonic()
        super().__init__()
        signal.signal(signal.SIGCONT, self._wake_up)

    def time(self) -> float:
        self._looked_at = time.monotonic()
        return self._looked_at - self._slept

    def _wake_up(self, *_: object) -> None:
        self._slept += time.monotonic() - self._looked_at
