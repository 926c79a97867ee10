"""Schedules: by the clock on the wall, beside what a look at every minute finds."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthmsg.bot import schedule
from healthmsg.bot.schedule import AMSTERDAM, EVERY_DAY, WORKDAYS, Every, at, every, schedule_from_dict
from healthmsg.errors import ConfigurationError, InvalidInputError

MINUTE = timedelta(minutes=1)
# Moved by half an hour or two, at midnight, in the south, around Ramadan, by a day, and never.
ZONES = (
    *(AMSTERDAM, "Europe/Lisbon", "America/New_York", "America/Sao_Paulo", "America/Havana"),
    *("Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Africa/Cairo", "America/St_Johns"),
    *("Asia/Kathmandu", "America/Scoresbysund", "Asia/Beirut", "Antarctica/Troll", "UTC"),
)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc] # of a date and a time


def moments_of(found: Every, start: datetime, end: datetime) -> list[datetime]:
    moments, moment = [], start
    while (following := found.next_after(moment)) is not None and following < end:
        moments.append(following)
        moment = following
    return moments


def naive(found: Every, start: datetime, end: datetime) -> list[datetime]:
    """Look at the clock on the wall each minute, as a person would."""
    moments = [one for one in _minutes_due(found, start - timedelta(days=2), end) if one > start]
    return sorted(set(moments))


def _minutes_due(found: Every, start: datetime, end: datetime) -> Iterator[datetime]:
    zone, seen = ZoneInfo(found.tz), datetime.min  # noqa: DTZ901 - by the clock on the wall
    moment = start
    while moment < end:
        shown = moment.astimezone(zone).replace(tzinfo=None)
        if shown > seen:
            # Since the last new time on the clock: one minute, or all that it jumped over.
            passed = shown if seen == datetime.min else seen + MINUTE  # noqa: DTZ901
            while passed <= shown:
                if is_due(found, passed):
                    yield moment
                passed += MINUTE
            seen = shown
        moment += MINUTE


def is_due(found: Every, shown: datetime) -> bool:
    return (
        shown.time() in found.times
        and shown.isoweekday() in found.weekdays
        and not any(first <= shown.date() <= last for first, last in found.exclude)
    )


def transitions_of(zone: str, year: int) -> list[datetime]:
    days = [utc(year, 1, 1) + timedelta(days=number) for number in range(366)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [days[n] for n in range(365) if offsets[n] != offsets[n + 1]] or [days[100]]


TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59))
# Most of them where clocks are moved.
NIGHT = st.builds(time, st.sampled_from([0, 1, 2, 3, 23]), st.sampled_from([0, 1, 15, 30, 45, 59]))


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Every, datetime]:
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(1985, 2037))
    near = draw(st.sampled_from(transitions_of(zone, year)))
    day = st.integers(-4, 5).map(lambda days: near.date() + timedelta(days=days))
    days = day | st.tuples(day, day).map(lambda pair: (min(pair), max(pair)))
    found = every(
        draw(st.lists(NIGHT | TIMES, min_size=1, max_size=5)),
        draw(st.lists(st.sampled_from(EVERY_DAY), min_size=1)),
        exclude=draw(st.lists(days, max_size=2)),
        tz=zone,
    )
    return found, near - timedelta(days=2, minutes=draw(st.integers(0, 1440)))


@given(schedules())
@example((every("12:00", tz="Pacific/Apia"), utc(2011, 12, 28)))  # Samoa had no 30 December
@example((every("00:30", tz="America/Sao_Paulo"), utc(2018, 11, 2)))
@settings(max_examples=20, deadline=None)
def test_it_is_due_when_a_look_at_the_clock_each_minute_says_so(drawn: tuple[Every, datetime]) -> None:
    found, start = drawn
    end = start + timedelta(days=4)

    assert moments_of(found, start, end) == naive(found, start, end)


@pytest.mark.slow
@pytest.mark.parametrize(
    "zone", [*ZONES[:1], *(pytest.param(zone, marks=pytest.mark.thorough) for zone in ZONES[1:])]
)
def test_it_is_due_as_the_clock_says_through_whole_years(zone: str) -> None:
    found = every(
        ["00:00", "00:30", "01:30", "02:15", "02:45", "03:00", "12:00", "23:30"],
        [1, 2, 5, 7],
        exclude=[date(2025, 12, 25), (date(2026, 3, 27), date(2026, 3, 29))],
        tz=zone,
    )
    start, end = utc(2025, 2, 1), utc(2027, 1, 10)

    assert moments_of(found, start, end) == naive(found, start, end)


@given(schedules(), st.integers(0, 100_000))
@settings(max_examples=100, deadline=None)
def test_what_follows_a_moment_is_the_same_from_any_moment_before_it(
    drawn: tuple[Every, datetime], seconds: int
) -> None:
    found, start = drawn
    following = found.next_after(start)
    assert following is not None

    between = start + min(timedelta(seconds=seconds), following - start - timedelta(microseconds=1))

    assert found.next_after(between) == following
    assert found.next_after(between.astimezone(ZoneInfo(found.tz))) == following


@given(schedules())
@settings(max_examples=100, deadline=None)
def test_it_survives_json(drawn: tuple[Every, datetime]) -> None:
    found, _ = drawn

    assert schedule_from_dict(found.to_dict()) == found


def test_a_time_that_does_not_exist_is_taken_at_the_first_moment_after_the_gap() -> None:
    found = every(["02:15", "02:45", "03:00"], tz=AMSTERDAM)

    assert moments_of(found, utc(2026, 3, 28, 12), utc(2026, 3, 30)) == [utc(2026, 3, 29, 1)]


def test_a_time_that_comes_twice_is_due_the_first_time_only() -> None:
    found = every("02:30", tz=AMSTERDAM)

    assert moments_of(found, utc(2026, 10, 24, 12), utc(2026, 10, 25, 12)) == [utc(2026, 10, 25, 0, 30)]
    assert found.next_after(utc(2026, 10, 25, 0, 30)) == utc(2026, 10, 26, 1, 30)


def test_a_moment_is_due_once() -> None:
    found = at(datetime(2026, 3, 2, 9, tzinfo=ZoneInfo(AMSTERDAM)))

    assert found.next_after(utc(2026, 3, 2, 7, 59)) == utc(2026, 3, 2, 8)
    assert found.next_after(utc(2026, 3, 2, 8)) is None
    assert schedule_from_dict(found.to_dict()) == found


def test_days_that_touch_are_one_range() -> None:
    found = every("09:00", exclude=[date(2026, 1, 2), (date(2026, 1, 3), date(2026, 1, 9)), date(2026, 1, 5)])

    assert found.exclude == ((date(2026, 1, 2), date(2026, 1, 9)),)


def test_the_same_in_another_order_is_equal() -> None:
    assert every(["9:00".zfill(5), "08:00", time(8)], reversed(WORKDAYS)) == every(
        ("08:00", "09:00"), range(1, 6)
    )


def test_one_that_is_excluded_for_ever_is_never_due_and_says_so_at_once() -> None:
    found = every("09:00", exclude=[(date(2000, 1, 1), date.max)])

    assert found.next_after(utc(2026, 1, 1)) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"times": "9:00"},
        {"times": "24:00"},
        {"times": "0\uff19:00"},
        {"times": []},
        {"times": 9},
        {"times": [time(9, tzinfo=UTC)]},
        {"times": [time(9, microsecond=1)]},
        {"times": "09:00", "weekdays": []},
        {"times": "09:00", "weekdays": [0]},
        {"times": "09:00", "weekdays": [True]},
        {"times": "09:00", "weekdays": "12"},
        {"times": "09:00", "exclude": [utc(2026, 1, 1)]},
        {"times": "09:00", "exclude": [(date(2026, 1, 2), date(2026, 1, 1))]},
        {"times": "09:00", "tz": "Europe/Atlantis"},
        {"times": "09:00", "tz": "../etc/passwd"},
        {"times": "09:00", "tz": "Europe"},
        {"times": "09:00", "tz": "a\0b"},
        {"times": "09:00", "tz": ""},
    ],
)
def test_what_cannot_be_a_schedule_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        every(**arguments)  # type: ignore[arg-type] # wrong on purpose

    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"at": "tomorrow"},
        {"at": "2026-03-02T09:00"},
        {"at": 1},
        {"at": "2026-03-02T09:00Z", "tz": AMSTERDAM},
        {"times": [9]},
        {"times": ["09:00"], "weekday": [1]},
        {"times": ["09:00"], "weekdays": ["1"]},
        {"times": ["09:00"], "exclude": ["soon"]},
        {"times": ["09:00"], "exclude": [["2026-01-01"]]},
        {"times": ["09:00"], "exclude": "2026-01-01"},
        {"times": ["09:00"], "tz": 1},
    ],
)
def test_json_that_is_no_schedule_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        schedule_from_dict(document)


def test_json_may_leave_out_what_has_a_default() -> None:
    assert schedule_from_dict({"times": "08:00"}) == every("08:00")
    assert schedule_from_dict({"times": ["08:00"], "exclude": ["2026-12-25"]}) == every(
        "08:00", exclude=[date(2026, 12, 25)]
    )


def test_a_system_without_time_zones_is_told_from_a_wrong_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_known_zone", lambda _: None)

    with pytest.raises(ConfigurationError, match="pip install tzdata"):
        every("09:00")
