"""How much a user may call, as the headers of answers say. What cannot be read there is `None`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from healthmsg.clock import aware_moment, http_date, seconds_until


@frozen
class Quota:
    """How much one user may call, and has called, as the headers of an answer said [D].

    Whatever the headers left out, or said in a way that cannot be read, is `None`.
    """

    limit: int | None = None
    """Calls within one interval."""
    used: int | None = None
    """Calls so far in this interval; it may exceed `limit`."""
    interval: int | None = None
    """The interval's length, in `unit`."""
    unit: str | None = None
    """`minute`, `hour`, `day`, `week` or `month` [D]; the service may add others."""
    reset: datetime | None = None
    """When the next interval begins; aware, in UTC."""

    @property
    def remaining(self) -> int | None:
        """Calls left in this interval, never below 0; `None` when it is not known.

        A limit of 0 is taken for none, since calls that count against it are answered [A].
        """
        if not self.limit or self.used is None:
            return None
        return max(0, self.limit - self.used)


# The units are the contract's [D]; the longest month counts.
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 31 * 86_400}
# More digits than any count or time has, and fewer than Python refuses to read.
_MOST_DIGITS: Final = 18


def has_quota(headers: Mapping[str, str]) -> bool:
    """Return whether an answer's headers say anything of the quota [D]."""
    return "quota-limit" in headers or "quota-used" in headers


def may_be_used_up(headers: Mapping[str, str]) -> bool:
    """Return whether headers can say that a quota is used up: nearly none do, and reading them costs more."""
    return len(headers.get("quota-used", "")) >= len(headers.get("quota-limit", ""))


def quota_of(headers: Mapping[str, str]) -> Quota:
    """Read the `quota-*` headers [D]."""
    get = headers.get
    return Quota(
        limit=_whole_number(get("quota-limit")),
        used=_whole_number(get("quota-used")),
        interval=_whole_number(get("quota-interval")),
        unit=_word(get("quota-time-unit")),
        reset=_moment(get("quota-reset-UTC", "")),
    )


def wait_for_reset(quota: Quota, now: datetime | None = None) -> float | None:
    """Return the seconds until a quota that is used up is renewed; `None` when it is not, or not known.

    `now` is by the service's clock, as the reset is; without it, by this machine's. That nothing is answered
    until then is assumed [A]. Where the interval is known, the wait is no longer: a clock that is wrong, here
    or there, must not lock a user out.
    """
    wait = seconds_until(quota.reset, now) if quota.remaining == 0 else None
    interval = (quota.interval or 0) * _SECONDS.get((quota.unit or "").lower().removesuffix("s"), 0)
    return min(wait, interval) if wait is not None and interval else wait


def _whole_number(value: str | None) -> int | None:
    return int(value) if value is not None and _is_number(value) else None


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS


def _word(value: str | None) -> str | None:
    return value if value and value.isascii() and value.isalpha() else None


def _moment(value: str) -> datetime | None:
    """Read `quota-reset-UTC`, the form of which is assumed [A].

    Taken are ISO 8601 (UTC, as the header's name says, where there is no offset), the vendor's odd
    `Z+00:00` [V], seconds since 1970, and a date as HTTP writes it.
    """
    try:
        moment = _iso_or_timestamp(value) or http_date(value)
        return moment and moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _iso_or_timestamp(value: str) -> datetime | None:
    if _is_number(value):
        return datetime.fromtimestamp(int(value), UTC)
    try:
        return aware_moment(value)
    except ValueError:
        return None
