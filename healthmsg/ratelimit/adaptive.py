"""The adaptive rate: how far apart calls leave, and how that changes when the service answers 429.

A 429 without a fault of ours means that another program takes part of the limit, or that calls bunch up on
the way. Which of the two cannot be known, so the rate is lowered by a fifth and then raised a little with
each good answer, until it is the full one again or the next 429 comes. It settles where calls pass.
"""

import math
from typing import Final

from healthmsg.clock import Stopwatch

# What is left of the rate after a 429.
_AFTER_A_429: Final = 0.8
# In intervals: the pause after a 429 that names none, doubled while nothing passes.
_FIRST_BACKOFF: Final = 0.5
# Never less than this share of the full rate: a call in two seconds, of 30 a second.
_LEAST_SHARE: Final = 1 / 60
# What each good answer gives back: of the rate, in shares of the full one, ...
_RAISED_BY: Final = 0.007
# ... and of the `arrival` that was doubled, in shares of what it is without a 429.
_NARROWED_BY: Final = 1 / 300
# Seconds by which two clocks may differ without any sleep: uvloop looks at its own once in each turn only,
# and a program may block the event loop.
_CLOCKS_DIFFER: Final = 10.0


class AdaptiveRate:
    """When the next call may leave, apart from its slot.

    All times are in seconds, moments by the event loop's clock.
    """

    def __init__(self, calls: int, per: float, arrival: float) -> None:
        self._per = per
        self._full_interval = per / calls
        self._full_arrival = arrival
        self._share = 1.0
        self._slowed_at = -math.inf
        self._refused_at = -math.inf
        self._backoff = 0.0
        self.interval: float = self._full_interval
        """Seconds between two calls."""
        self.arrival: float = arrival
        """How long a call is taken to be under way at most."""
        self.is_slowed: bool = False
        """Whether the rate is less than the full one."""
        self.is_recovering: bool = False
        """Whether good answers have something to give back."""
        self.pause_until: float = -math.inf
        """Before that moment no call may leave."""
        self.asked_until: float = -math.inf
        """The end of the pause that the service asked for."""
        self._since_asked: Stopwatch | None = None

    def pause(self, until: float) -> None:
        """Let no call leave before that moment; the latest one wins."""
        self.pause_until = max(self.pause_until, until)

    def pause_as_asked(self, until: float) -> None:
        """Let no call leave before that moment, since the service asked for it."""
        self.pause(until)
        self.asked_until = max(self.asked_until, until)
        self._since_asked = Stopwatch()

    def count_sleep(self, now: float) -> None:
        """Shorten the pause that the service asked for by the time in which the machine has slept."""
        if self._since_asked is None:
            return
        slept = self._since_asked.seconds() - self._since_asked.awake_seconds()
        if slept > _CLOCKS_DIFFER:
            before, self.asked_until = self.asked_until, self.asked_until - slept
            if self.pause_until == before:  # it is not longer for a reason of our own
                self.pause_until = self.asked_until
            self._since_asked = Stopwatch()
        if self.asked_until <= now:
            self._since_asked = None

    def record_429(self, now: float, left_at: float) -> None:
        """Slow down after a 429, once for all calls that leave within one interval.

        Calls that left before the last slowing down say nothing new, nor do those that left so soon after it
        that the service still counted the calls from before.
        """
        if left_at >= self._slowed_at + self._per:
            self._slowed_at = now
            self._set_share(max(_LEAST_SHARE, self._share * _AFTER_A_429))
            self.arrival = max(self.arrival, min(2 * self.arrival, self._per))
            self.is_recovering = True

    def backoff(self, now: float, left_at: float) -> float:
        """Return the pause after a 429 that named none: half an interval, doubled while nothing passes."""
        if left_at >= self._refused_at:
            self._refused_at = now
            self._backoff = min(2 * self._backoff or _FIRST_BACKOFF * self.interval, self._per)
        return self._backoff

    def record_success(self, left_at: float) -> None:
        """Raise the rate a little after a good answer."""
        if left_at < self._refused_at:
            return
        self._backoff = 0.0
        self._set_share(min(1.0, self._share + _RAISED_BY))
        self.arrival = max(self._full_arrival, self.arrival - _NARROWED_BY * self._full_arrival)
        self.is_recovering = self.is_slowed or self.arrival > self._full_arrival

    def _set_share(self, share: float) -> None:
        self._share = share
        self.interval = self._full_interval / share
        self.is_slowed = share < 1
