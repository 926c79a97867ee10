"""Rate limits, in four ways to count "30 calls a second", and the quota of each user.

The contract names the number, not how the service counts [D: 30 calls per second], so a client has to
survive all of them. A policy judges arrivals in order, one by one; it never looks at a clock.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

from attrs import define, field
from attrs.validators import ge, gt, in_


class RateLimitPolicy(Protocol):
    """How a service counts calls."""

    def admit(self, now: float) -> float | None:
        """Judge a call that arrives at `now` (seconds, never going back).

        `None` admits it; else the seconds after which a call would be admitted. A refused call counts
        for nothing.
        """


@define
class FixedWindow:
    """At most `limit` calls in each period, the periods laid end to end: twice as many around a border."""

    limit: int = field(default=30, validator=gt(0))
    period: float = field(default=1.0, validator=gt(0))
    _window: int = field(default=-1, init=False)
    _admitted: int = field(default=0, init=False)

    def admit(self, now: float) -> float | None:
        """Judge a call; see `RateLimitPolicy`."""
        window = int(now // self.period)
        if window != self._window:
            self._window, self._admitted = window, 0
        if self._admitted >= self.limit:
            return (window + 1) * self.period - now
        self._admitted += 1
        return None


@define
class SlidingWindow:
    """At most `limit` calls in any stretch of `period` seconds: the strictest reading, and the default."""

    limit: int = field(default=30, validator=gt(0))
    period: float = field(default=1.0, validator=gt(0))
    _admitted: deque[float] = field(factory=deque, init=False)

    def admit(self, now: float) -> float | None:
        """Judge a call; see `RateLimitPolicy`."""
        while self._admitted and now - self._admitted[0] >= self.period:
            self._admitted.popleft()
        if len(self._admitted) >= self.limit:
            return self._admitted[0] + self.period - now
        self._admitted.append(now)
        return None


@define
class TokenBucket:
    """A bucket of `capacity` calls that fills again by `rate` a second."""

    rate: float = field(default=30.0, validator=gt(0))
    capacity: float = field(default=30.0, validator=gt(0))
    _level: float = field(init=False)
    _filled_at: float | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._level = self.capacity

    def admit(self, now: float) -> float | None:
        """Judge a call; see `RateLimitPolicy`."""
        if self._filled_at is not None:
            self._level = min(self.capacity, self._level + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._level < 1:
            return (1 - self._level) / self.rate
        self._level -= 1
        return None


@define
class SpikeArrest:
    """No two calls closer together than `1 / rate` seconds, less a `tolerance`: it smooths every burst."""

    rate: float = field(default=30.0, validator=gt(0))
    tolerance: float = 0.005
    _last: float | None = field(default=None, init=False)

    def admit(self, now: float) -> float | None:
        """Judge a call; see `RateLimitPolicy`."""
        if self._last is not None:
            wait = self._last + 1 / self.rate - self.tolerance - now
            if wait > 0:
                return wait
        self._last = now
        return None


def count_rejections(policy: RateLimitPolicy, arrivals: Iterable[float]) -> int:
    """Count how many of these arrivals a fresh policy would have refused, without enforcing anything.

    After a run with `Sandbox(rate_limit=None)`, several policies can judge the sandbox's `arrivals`.
    """
    return sum(policy.admit(arrived) is not None for arrived in arrivals)


def most_in_any_period(arrivals: Sequence[float], period: float = 1.0) -> int:
    """Count the arrivals in the busiest stretch of `period` seconds, its end not included."""
    most = first = 0
    for last, arrived in enumerate(arrivals):
        while arrived - arrivals[first] >= period:  # as SlidingWindow compares, to the last bit
            first += 1
        most = max(most, last - first + 1)
    return most


TimeUnit = Literal["minute", "hour", "day", "week", "month"]

# The units are the contract's [D]; that a period starts at the epoch, and a month's length, are assumed [A].
_UNITS: Final[Mapping[TimeUnit, timedelta]] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@define
class Quota:
    """At most `limit` calls per user in each `interval` times `time_unit`; over it: 429 [A].

    The headers are documented [D]. Its size is not published: the default limits no ordinary program [A].
    """

    limit: int = field(default=1_000_000, validator=ge(0))
    interval: int = field(default=1, validator=gt(0))
    time_unit: TimeUnit = field(default="day", validator=in_(_UNITS))
    _period: int = field(default=-1, init=False)
    _used: dict[str, int] = field(factory=dict, init=False, repr=False)

    def take(self, user_id: str, now: datetime) -> float | None:
        """Count a call: `None` when it is within the quota, else the seconds until the next period."""
        reset = self._turn_to(now)
        used = self._used.get(user_id, 0)
        if used >= self.limit:
            return (reset - now).total_seconds()
        self._used[user_id] = used + 1
        return None

    def headers(self, user_id: str, now: datetime) -> dict[str, str]:
        """Return the response headers for this user."""
        reset = self._turn_to(now)
        return {
            "quota-interval": str(self.interval),
            "quota-time-unit": self.time_unit,
            "quota-limit": str(self.limit),
            "quota-used": str(self._used.get(user_id, 0)),
            # [A]: the header is documented, the form of its value is not.
            "quota-reset-UTC": reset.isoformat().replace("+00:00", "Z"),
        }

    def _turn_to(self, now: datetime) -> datetime:
        """Start counting again if `now` is in another period, and return that period's end."""
        length = self.interval * _UNITS[self.time_unit]
        period = (now - _EPOCH) // length
        if period != self._period:
            self._period, self._used = period, {}
        return _EPOCH + (period + 1) * length
