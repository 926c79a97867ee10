"""The time by the service's clock, learnt from the `Date` of its answers."""

import asyncio
import math
from datetime import UTC, datetime, timedelta

from healthmsg.pipeline.headers import http_date

# Seconds: how far this machine's clock is trusted while the service has told no time.
_TRUSTED = 60.0


class ServerClock:
    """Between which two moments the service's clock stands now.

    An answer's `Date` is a whole second, which its clock showed at some moment between the call's departure
    and the answer's arrival. The moments at which the second changes tell more than a single answer does, so
    the more calls are made, the less is uncertain.
    """

    def __init__(self) -> None:
        self._last: tuple[str, float, float] | None = None
        self._least = -math.inf
        self._most = math.inf

    def now(self) -> float:
        """Give the time by the event loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    def seen(self, date: str | None, sent_at: float) -> None:
        """Take in the `Date` of an answer that has just come; `sent_at` is by the event loop's clock."""
        if date is None:
            return
        last, self._last = self._last, (date, sent_at, self.now())
        if last is None or last[0] != date:  # within one second the last answer tells as much as all of them
            if last is not None:
                self._narrow(*last)
            self._narrow(*self._last)

    def earliest(self, at: float | None = None) -> datetime:
        """Give a moment that the service's clock has certainly passed, now or at that event loop's time."""
        self._take_last()
        now = self.now()
        at = now if at is None else at
        if math.isinf(self._least):
            return datetime.now(UTC) - timedelta(seconds=_TRUSTED + now - at)
        return datetime.fromtimestamp(at + self._least, UTC)

    def latest(self) -> datetime:
        """Give a moment that the service's clock has certainly not reached."""
        self._take_last()
        if math.isinf(self._most):
            return datetime.now(UTC) + timedelta(seconds=_TRUSTED)
        return datetime.fromtimestamp(self.now() + self._most, UTC)

    def _take_last(self) -> None:
        if self._last is not None:
            self._narrow(*self._last)

    def _narrow(self, date: str, sent_at: float, arrived_at: float) -> None:
        moment = http_date(date)
        if moment is None:
            return
        least, most = moment.timestamp() - arrived_at, moment.timestamp() + 1 - sent_at
        if least > self._most or most < self._least:  # one of the clocks has been set
            self._least, self._most = least, most
        else:
            self._least, self._most = max(least, self._least), min(most, self._most)
