"""How long to wait before the next connection."""

import random
from collections.abc import Callable
from typing import Final

_FIRST: Final = 5.0
_LONGEST: Final = 60.0
# Seconds that a connection has to live to count as a good one.
_GOOD: Final = 60.0
# Seconds, which is the service's window for events [D].
_AFTER_LIMIT: Final = 60.0
# Seconds. A service that asks for more is asked again all the same: patients' messages wait.
_MOST_ASKED_FOR: Final = 600.0
_LARGEST_EXPONENT: Final = 16


class Backoff:
    """Full jitter: `uniform(0, min(60, 5 · 2ⁿ))` seconds, where n is the number of failures in a row.

    n falls back only after a connection that lived for 60 seconds *and* whose catch-up had ended: a service
    that accepts, authenticates and drops must not be asked at full speed.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def note_alive(self, seconds: float, *, is_settled: bool) -> None:
        """Note how long a connection lived, and whether the catch-up after it had ended."""
        if seconds >= _GOOD and is_settled:
            self._failures = 0

    def next_wait(self, *, is_limited: bool = False, asked_for: float | None = None) -> float:
        """Return the seconds to wait after one more failure.

        After a limit error at least 60, and at least what the service asked for, up to ten minutes; the
        jitter comes on top, so that many clients do not come back together.
        """
        most = min(_LONGEST, _FIRST * 2.0 ** min(self._failures, _LARGEST_EXPONENT))
        self._failures += 1
        least = _AFTER_LIMIT if is_limited else 0.0
        if asked_for is not None:
            least = max(least, min(asked_for, _MOST_ASKED_FOR))
        return least + self._uniform(0.0, most)
