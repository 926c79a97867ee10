"""A time-out for many calls at the price of one timer.

A timer for each call costs a fifteenth of the whole call. But calls that may all take equally long end in the
order in which they began, so that one timer, for the oldest, will do.
"""

import asyncio


class Deadline:
    """Cancels the task of a call that takes longer than `seconds`. A task makes one call at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        """When the time of each call is up, oldest first."""
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: "asyncio.Task[object]") -> None:
        """Watch a call."""
        loop = asyncio.get_running_loop()
        self._ends[task] = end = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def end(self, task: "asyncio.Task[object]") -> bool:
        """Watch a call no longer, and tell whether its time was up."""
        if self._ends.pop(task, None) is not None or task not in self._expired:
            return False
        self._expired.discard(task)
        return True

    def close(self) -> None:
        """Stop watching, once the calls under way are over: over a session that goes on, they go on too."""
        if self._timer is not None and not self._ends:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for task, end in tuple(self._ends.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._look)
                return
            del self._ends[task]
            self._expired.add(task)
            task.cancel()
