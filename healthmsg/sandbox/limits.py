"""Rate limits: four ways to say "30 calls a second".

The contract names the number, not how the service counts [D: 30 calls per second], so a client has to
survive all of them. A policy is told of arrivals in order and answers for each; it never looks at a clock.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from attrs import define, field
from attrs.validators import gt


class Policy(Protocol):
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
        """Judge a call; see `Policy`."""
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
        """Judge a call; see `Policy`."""
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
        """Judge a call; see `Policy`."""
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
        """Judge a call; see `Policy`."""
        if self._last is not None:
            wait = self._last + 1 / self.rate - self.tolerance - now
            if wait > 0:
                return wait
        self._last = now
        return None


def count_rejections(policy: Policy, arrivals: Iterable[float]) -> int:
    """Count how many of these arrivals a fresh policy would have refused, without enforcing anything.

    With `Sandbox(rate_limit=None)` one run can so be judged by several policies: give each the sandbox's
    `arrivals`.
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
