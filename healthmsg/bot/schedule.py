"""When something is due: once, or again and again by the clock on the wall. Nothing waits or is kept here.

A time of day belongs to a time zone. On the day that it does not exist, since the clocks are put forward, it
is taken at the first moment after the gap. On the day that it comes twice, the first one counts.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Protocol, TypeGuard, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.validation import check_moment, check_text

AMSTERDAM: Final = "Europe/Amsterdam"
EVERY_DAY: Final = (1, 2, 3, 4, 5, 6, 7)
WORKDAYS: Final = (1, 2, 3, 4, 5)
"""Monday to Friday."""

T = TypeVar("T")
Days = date | tuple[date, date]
"""A day, or the first and the last of several."""

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_TIMES: Final = 'times must be such as "08:30", or time(8, 30), in whole seconds and without a zone'
_WEEKDAYS: Final = "weekdays must be numbers from 1, Monday, to 7, Sunday"
_EXCLUDED: Final = "exclude must have dates, or pairs of a first and a last date"
_PARTS: Final = "a schedule has at alone, or times, weekdays, exclude and tz; this one has another part"
_AT: Final = "at must be a moment with an offset, such as 2026-03-02T09:00+01:00"


class Schedule(Protocol):
    """Tells when it is due. It is a value: two that are due at the same moments may be equal."""

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first moment after this one, in UTC; `None`: there is none."""

    def to_dict(self) -> JSONObject:
        """Return it for JSON, as `schedule_from_dict` reads it."""


@frozen
class At:
    """One moment; see `at`."""

    moment: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the moment in UTC if it is after this one."""
        return self.moment if self.moment > moment else None

    def to_dict(self) -> JSONObject:
        """Return it for JSON."""
        return {"at": self.moment.isoformat()}


@frozen
class Every:
    """Times of day on days of the week; see `every`."""

    times: tuple[time, ...]
    """In order, each once."""
    weekdays: tuple[int, ...]
    """From 1, Monday, to 7, Sunday; in order, each once."""
    exclude: tuple[tuple[date, date], ...]
    """The first and the last of days on which it is not due: in order, apart from each other."""
    tz: str

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first moment after this one, in UTC; `None`: not before the year 9999 ends."""
        zone = _zone(self.tz)
        try:
            # What began on the day before may have been put off until now by a gap.
            day = moment.astimezone(zone).date() - _DAY
            while True:
                day = self._first_day_from(day)
                for wall in self.times:
                    due = _moment_of(day, wall, zone)
                    if due > moment:
                        return due
                day += _DAY
        except OverflowError:
            return None

    def to_dict(self) -> JSONObject:
        """Return it for JSON."""
        return {
            "times": [one.isoformat() for one in self.times],
            "weekdays": [*self.weekdays],
            "exclude": [[first.isoformat(), last.isoformat()] for first, last in self.exclude],
            "tz": self.tz,
        }

    def _first_day_from(self, day: date) -> date:
        while True:
            held = next((last for first, last in self.exclude if first <= day <= last), None)
            if held is not None:
                day = held + _DAY
            elif day.isoweekday() not in self.weekdays:
                day += _DAY
            else:
                return day


def at(moment: datetime) -> At:
    """Return what is due once, at a moment with a time zone.

    Raises:
        InvalidInputError: it has none.
    """
    return At(check_moment(moment, "moment").astimezone(UTC))


def every(
    times: str | time | Iterable[str | time],
    weekdays: Iterable[int] = EVERY_DAY,
    *,
    exclude: Iterable[Days] = (),
    tz: str = AMSTERDAM,
) -> Every:
    """Return what is due at these times, `"08:30"` or `time(8, 30)`, on these days of the week.

    `weekdays` are numbers from 1, Monday, to 7, Sunday; `exclude` are days on which it is not due after all,
    each a date, or a pair: the first and the last of several. All of it is by the clocks of `tz`. A time that
    does not exist on a day, since the clocks are put forward, is taken at the first moment after the gap; one
    that comes twice is due the first time only.

    Raises:
        InvalidInputError: one of them cannot be right, or there is no such time zone.
        ConfigurationError: neither the system knows time zones, nor is the package tzdata installed.
    """
    given = [times] if isinstance(times, str | time) else _listed(times, _TIMES)
    wall = tuple(sorted({_time_of(one) for one in given}))
    days = tuple(sorted({_weekday_of(one) for one in _listed(weekdays, _WEEKDAYS)}))
    if not wall or not days:
        raise InvalidInputError("a schedule needs at least one time and one day of the week")
    _zone(check_text(tz, "tz"))
    return Every(wall, days, _joined(_range_of(one) for one in _listed(exclude, _EXCLUDED)), tz)


def schedule_from_dict(document: Mapping[str, object]) -> At | Every:
    """Return what `to_dict` wrote: `{"at": …}`, or `times`, `weekdays`, `exclude`, `tz` as `every` has them.

    Of the latter, all but `times` may be left out. A day to exclude is a date, or a list of the first and the
    last of several.

    Raises:
        InvalidInputError: it is not of that form; says which part.
        ConfigurationError: as for `every`.
    """
    if not isinstance(document, Mapping):
        raise InvalidInputError('a schedule is an object with "at", or with "times"')
    if document.keys() - ({"at"} if "at" in document else {"times", "weekdays", "exclude", "tz"}):
        raise InvalidInputError(_PARTS)
    if "at" in document:
        return at(_read(datetime.fromisoformat, document["at"], _AT))
    times = document.get("times")
    return every(
        times if isinstance(times, str) else [*map(_text_of, _listed(times, _TIMES))],
        [*map(_weekday_of, _listed(document.get("weekdays", EVERY_DAY), _WEEKDAYS))],
        exclude=[*map(_days_of, _listed(document.get("exclude", ()), _EXCLUDED))],
        tz=check_text(document.get("tz", AMSTERDAM), "tz"),
    )


# --- moments


@lru_cache(1_000)
def _known_zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    # A name that is a folder, or leads out of it, or is no file's name.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _zone(name: str) -> ZoneInfo:
    found = _known_zone(name)
    if found is not None:
        return found
    if _known_zone(AMSTERDAM) is None:
        raise ConfigurationError("this system knows no time zones: pip install tzdata")
    raise InvalidInputError("there is no such time zone: tz must be a name such as Europe/Amsterdam")


def _moment_of(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """Return the moment at which clocks first show this, or jump over it."""
    shown = datetime.combine(day, wall, zone)
    moment = shown.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == shown.replace(tzinfo=None):
        return moment
    # It is in a gap. By the clocks as they are after it, it would be before the gap; now it is behind it.
    before, after = shown.replace(fold=1).astimezone(UTC), moment
    old = before.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


# --- what is given


def _listed(values: object, problem: str) -> list[object]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidInputError(problem)
    return [*values]


def _time_of(value: object) -> time:
    if isinstance(value, str) and (found := _TIME.fullmatch(value)):
        return time(int(found[1]), int(found[2]), int(found[3] or 0))
    if not isinstance(value, time) or value.tzinfo is not None or value.microsecond:
        raise InvalidInputError(_TIMES)
    return value.replace(fold=0)


def _text_of(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(_TIMES)
    return value


def _weekday_of(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in EVERY_DAY:
        raise InvalidInputError(_WEEKDAYS)
    return value


def _range_of(value: object) -> tuple[date, date]:
    first, last = value if isinstance(value, tuple) and len(value) == 2 else (value, value)  # noqa: PLR2004
    if not (_is_date(first) and _is_date(last)) or last < first:
        raise InvalidInputError(_EXCLUDED)
    return first, last


def _is_date(value: object) -> TypeGuard[date]:
    return isinstance(value, date) and not isinstance(value, datetime)


def _days_of(value: object) -> Days:
    """Read a day, or a pair of days, out of JSON."""
    if isinstance(value, list) and len(value) == 2:  # noqa: PLR2004 - the first and the last
        return _read(date.fromisoformat, value[0], _EXCLUDED), _read(date.fromisoformat, value[1], _EXCLUDED)
    return _read(date.fromisoformat, value, _EXCLUDED)


def _read(reader: Callable[[str], T], value: object, problem: str) -> T:
    if isinstance(value, str):
        with suppress(ValueError):
            return reader(value)
    raise InvalidInputError(problem)


def _joined(ranges: Iterable[tuple[date, date]]) -> tuple[tuple[date, date], ...]:
    """Return the same days as ranges in order that do not touch."""
    found = list[tuple[date, date]]()
    for first, last in sorted(ranges):
        if found and first.toordinal() <= found[-1][1].toordinal() + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)
