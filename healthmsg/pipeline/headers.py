"""Reading what an answer's headers say. Nothing in them is ever an error: what cannot be read is `None`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from healthmsg.clock import aware_moment
from healthmsg.quota import Quota

# The units are the contract's [D]; the longest month counts.
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 31 * 86_400}
# More digits than any count or time has, and fewer than Python refuses to read.
_MOST_DIGITS: Final = 18

QuotaHeaders = tuple[str | None, str | None, str | None, str | None, str | None]
"""The `quota-*` headers as they came. Every answer has them, so reading them is left to who asks."""


def quota_headers(headers: Mapping[str, str]) -> QuotaHeaders | None:
    """Take the `quota-*` headers [D] out of an answer's; `None` when the two that matter are not there."""
    get = headers.get
    limit, used = get("quota-limit"), get("quota-used")
    if limit is None and used is None:
        return None
    return limit, used, get("quota-interval"), get("quota-time-unit"), get("quota-reset-UTC")


def quota_of(headers: QuotaHeaders) -> Quota:
    """Read what they say."""
    limit, used, interval, unit, reset = headers
    return Quota(
        limit=_whole_number(limit),
        used=_whole_number(used),
        interval=_whole_number(interval),
        unit=_word(unit),
        reset=_moment(reset or ""),
    )


def may_be_used_up(headers: QuotaHeaders) -> bool:
    """Tell, without reading them, whether they can say that a quota is used up: nearly no answer's do."""
    return len(headers[1] or "") >= len(headers[0] or "")


def wait_for_reset(quota: Quota, now: datetime | None = None) -> float | None:
    """Return the seconds until a quota that is used up is renewed; `None` when it is not, or not known.

    `now` is by the service's clock, as the reset is; without it, by this machine's. That nothing is answered
    until then is assumed [A]. Where the interval is known, the wait is no longer: a clock that is wrong, here
    or there, must not lock a user out.
    """
    wait = seconds_until(quota.reset, now) if quota.remaining == 0 else None
    interval = (quota.interval or 0) * _SECONDS.get((quota.unit or "").lower().removesuffix("s"), 0)
    return min(wait, interval) if wait is not None and interval else wait


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
