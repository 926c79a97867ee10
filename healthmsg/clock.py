"""The clocks of this machine and of the service, and the moments that the service writes."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final

# Linux has a clock that goes on during suspend; `time.monotonic` stands still there. On macOS it is
# CLOCK_MONOTONIC that goes on, and not `time.monotonic`. On Windows that one goes on.
_CLOCK_ID: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


machine_seconds: Callable[[], float] = (
    time.monotonic if _CLOCK_ID is None else partial(time.clock_gettime, _CLOCK_ID)
)
"""Return the seconds of a clock that is never set, and that goes on while the machine sleeps."""


class Stopwatch:
    """How long something has lasted, by the clock that has gone further: the machine's or the event loop's.

    The machine's goes on while the machine sleeps, the event loop's does not; that one goes further where
    tests fake the time. To start one and to read it costs some 0.3 µs each. Use it inside a running event
    loop.
    """

    __slots__ = ("_loop", "_machine")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop().time()
        self._machine = machine_seconds()

    def awake_seconds(self) -> float:
        """Return the seconds since its start, without those in which the machine slept."""
        return asyncio.get_running_loop().time() - self._loop

    def seconds(self) -> float:
        """Return the seconds since its start."""
        machine = machine_seconds() - self._machine
        loop = asyncio.get_running_loop().time() - self._loop
        return machine if machine > loop else loop  # noqa: FURB136 - a third of the time of max()


class SleepWatch:
    """Notices that the machine has slept.

    It looks at two clocks of the machine, of which one stands still meanwhile, and not at the event loop's:
    uvloop's lags behind while something blocks the loop. On Windows both go on, so that no sleep is seen.
    """

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead = machine_seconds() - time.monotonic()

    def slept(self) -> float:
        """Return for how many seconds the machine has slept since the last time this was asked."""
        before, self._ahead = self._ahead, machine_seconds() - time.monotonic()
        return max(0.0, self._ahead - before)


class SteadyClock:
    """Seconds since its start, by a clock that never goes back and goes on while the machine sleeps.

    It follows the machine's clock, and the event loop's where that one has gone further, as fake time in
    tests does. Use it inside a running event loop.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start = machine_seconds()
        """By the machine's clock, less by how far the event loop's has ever been ahead of it."""
        self._loop_ahead = 0.0
        """The most that its reading has been above the machine's; the two count from moments of their own."""
        self._day_start = datetime.now(UTC)

    def now(self) -> float:
        """Return the seconds since its start."""
        loop, machine = asyncio.get_running_loop(), machine_seconds()
        ahead = loop.time() - machine
        if loop is not self._loop:
            self._loop, self._loop_ahead = loop, ahead
        elif ahead > self._loop_ahead:
            self._start -= ahead - self._loop_ahead
            self._loop_ahead = ahead
        return machine - self._start

    def moment(self, at: float | None = None) -> datetime:
        """Return the time of day, now or at such a moment, as if it had never been set since the start."""
        return self._day_start + timedelta(0, self.now() if at is None else at)


# Seconds. Two clocks that drift apart differ by less between two answers: this one was set.
_SET: Final = 1.0


def aware_moment(written: str) -> datetime:
    """Read ISO 8601 with or without an offset, and the vendor's odd `Z+00:00` [V]; no offset means UTC [A].

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(without_odd_offset(written))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def without_odd_offset(written: str) -> str:
    """Return a moment as the vendor writes it [V] without the second offset of `Z+00:00`."""
    return written.removesuffix("+00:00") if written.endswith("Z+00:00") else written


def http_date(value: str) -> datetime | None:
    """Read a date as HTTP writes it; no zone means UTC."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def service_time(headers: Mapping[str, str]) -> datetime:
    """Return the time by the service's clock, if the answer tells it: this machine's may be wrong."""
    return http_date(headers.get("Date", "")) or datetime.now(UTC)


def seconds_until(moment: datetime | None, now: datetime | None = None) -> float | None:
    """Return how long it is until then; `None` when that is not known or over."""
    if moment is None:
        return None
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    return seconds if seconds > 0 else None


class ServerClock:
    """Our steady clock, by how much the service's is ahead of it, and whether that one was set.

    An answer's `Date` is a whole second, which the service's clock showed at some moment between the call's
    departure and the answer's arrival. The moments at which the second changes say more than a single answer
    does, so the more calls are made, the less is uncertain.
    """

    def __init__(self) -> None:
        self._steady = SteadyClock()
        self.now: Callable[[], float] = self._steady.now
        """Return the seconds of our clock, which goes on while the machine sleeps."""
        self._day_start = self._steady.moment(0.0).timestamp()
        self._last: tuple[str, float, float] | None = None
        self._least = -math.inf
        self._most = math.inf
        self._set_at = -math.inf
        self._first_at = math.inf

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
