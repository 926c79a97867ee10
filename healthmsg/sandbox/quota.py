"""The quota of the `quota-*` headers, counted per user."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from attrs import define, field
from attrs.validators import ge, gt, in_

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

    The headers are documented [D]. Its size is not published: the default is in nobody's way [A].
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
        """Give the response headers for this user."""
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
        """Start anew if `now` is in another period, and give that period's end."""
        length = self.interval * _UNITS[self.time_unit]
        period = (now - _EPOCH) // length
        if period != self._period:
            self._period, self._used = period, {}
        return _EPOCH + (period + 1) * length
