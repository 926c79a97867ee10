"""The service's clock, as the `Date` of its answers shows it, beside ours."""

import math
from datetime import datetime, timedelta
from typing import Final

from healthmsg.clock import SteadyClock
from healthmsg.pipeline.headers import http_date

# Seconds. Two clocks that drift apart differ by less between two answers: this one was set.
_SET: Final = 1.0


class ServerClock:
    """Our steady clock, by how much the service's is ahead of it, and whether that one was set.

    An answer's `Date` is a whole second, which the service's clock showed at some moment between the call's
    departure and the answer's arrival. The moments at which the second changes say more than a single answer
    does, so the more calls are made, the less is uncertain.
    """

    def __init__(self) -> None:
        self._steady = SteadyClock()
        self._day_start = self._steady.moment(0.0).timestamp()
        self._last: tuple[str, float, float] | None = None
        self._least = -math.inf
        self._most = math.inf
        self._set_at = -math.inf
        self._first_at = math.inf

    def now(self) -> float:
        """Return the seconds of our clock, which goes on while the machine sleeps."""
        return self._steady.now()

    def moment(self, at: float | None = None) -> datetime:
        """Return such a moment, or the present one, as the time of day by our clock (aware)."""
        return self._steady.moment(at)

    def seen(self, date: str | None, departed_at: float, answered_at: float) -> None:
        """Take in the `Date` of an answer to a call that was under way between these moments."""
        if date is None:
            return
        last, self._last = self._last, (date, departed_at, answered_at)
        if last is None or last[0] != date:  # within one second the last answer says as much as all of them
            if last is not None:
                self._narrow(*last)
            self._narrow(*self._last)

    def offset(self) -> tuple[timedelta, timedelta] | None:
        """Return the least and the most by which `Date` is ahead of our clock; `None`: it is not known."""
        self._take_last()
        if math.isinf(self._least):
            return None
        return timedelta(seconds=self._least), timedelta(seconds=self._most)

    def date_ahead(self) -> timedelta | None:
        """Return about how much `Date` is ahead of our clock; `None`: it is not known."""
        offset = self.offset()
        return None if offset is None else (offset[0] + offset[1]) / 2

    def was_set_since(self, at: float) -> bool:
        """Return whether `Date` shows no steady clock since that moment: it was set, or not known then."""
        self._take_last()
        return self._set_at >= at or self._first_at > at

    def last_set_at(self) -> float:
        """Return when it was last seen that the service's clock had been set; minus infinity if never."""
        self._take_last()
        return self._set_at

    def _take_last(self) -> None:
        if self._last is not None:
            self._narrow(*self._last)

    def _narrow(self, date: str, departed_at: float, answered_at: float) -> None:
        moment = http_date(date)
        if moment is None:
            return
        shown = moment.timestamp() - self._day_start
        least, most = shown - answered_at, shown + 1 - departed_at
        self._first_at = min(self._first_at, answered_at)
        if least > self._most + _SET or most < self._least - _SET:
            self._set_at = answered_at
        if least > self._most or most < self._least:
            self._least, self._most = least, most
        else:
            self._least, self._most = max(least, self._least), min(most, self._most)
