from datetime import UTC, datetime, timedelta

import pytest
from attrs import asdict
from hypothesis import example, given
from hypothesis import strategies as st

from healthmsg.clock import http_date, seconds_until
from healthmsg.quota import Quota, has_quota, may_be_used_up, quota_of, wait_for_reset

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALL = {
    "quota-limit": "1000",
    "quota-used": "400",
    "quota-interval": "2",
    "quota-time-unit": "hour",
    "quota-reset-UTC": "2026-01-02T03:04:05Z",
}


def read(**changes: str) -> Quota:
    headers = ALL | {name.replace("_", "-"): value for name, value in changes.items()}
    assert has_quota(headers)
    return quota_of(headers)


def test_every_header_has_its_field() -> None:
    quota = read()

    assert quota == Quota(limit=1000, used=400, interval=2, unit="hour", reset=MOMENT)
    assert quota.remaining == 600


def test_without_the_headers_there_is_no_quota() -> None:
    assert not has_quota({})
    assert not has_quota({"quota-interval": "1", "Content-Type": "application/json"})


@pytest.mark.parametrize("alone", ["quota-limit", "quota-used"])
def test_one_header_alone_is_worth_reading(alone: str) -> None:
    headers = {alone: "7"}

    assert has_quota(headers)
    quota = quota_of(headers)
    assert sorted(str(value) for value in asdict(quota).values() if value is not None) == ["7"]
    assert quota.remaining is None


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e3", "1_000", "٣", "²", "many", " 7", "9" * 5000])
@pytest.mark.parametrize("name", ["quota_limit", "quota_used", "quota_interval"])
def test_a_number_that_is_none_is_not_known(name: str, value: str) -> None:
    assert getattr(read(**{name: value}), name.removeprefix("quota_")) is None


@pytest.mark.parametrize("unit", ["minute", "hour", "day", "week", "month", "fortnight", "Day"])
def test_the_unit_is_any_word(unit: str) -> None:
    assert read(quota_time_unit=unit).unit == unit


@pytest.mark.parametrize("unit", ["", "per day", "dag\n", "día", "7"])
def test_a_unit_that_is_no_word_is_not_known(unit: str) -> None:
    assert read(quota_time_unit=unit).unit is None


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T04:04:05+01:00",
        "2026-01-02T03:04:05Z+00:00",
        "2026-01-02T03:04:05.000Z",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 2026 03:04:05 -0000",
        "Fri, 02 Jan 2026 04:04:05 +0100",
        "1767323045",
    ],
)
def test_every_form_of_the_reset_is_the_same_aware_moment(value: str) -> None:
    reset = read(quota_reset_UTC=value).reset

    assert reset == MOMENT
    assert reset.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "n/a",
        "-1",
        "1767323045000000",
        "9" * 18,
        "9" * 5000,
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "Fri, 31 Dec 9999 23:00:00 -1400",
        "Mon, 01 Jan 2024 00:00:00 +9999999999999999999",
    ],
)
def test_a_reset_that_cannot_be_read_is_not_known(value: str) -> None:
    assert read(quota_reset_UTC=value).reset is None


@given(st.dictionaries(st.sampled_from(sorted(ALL)), st.text()))
@example({"quota-limit": "\ud800", "quota-reset-UTC": "\udcff"})
def test_no_header_is_so_strange_that_it_is_an_error(headers: dict[str, str]) -> None:
    quota = quota_of(headers)
    assert quota.reset is None or quota.reset.tzinfo is UTC
    assert wait_for_reset(quota) is None or quota.remaining == 0


def test_a_limit_of_nothing_is_none() -> None:
    assert Quota(limit=0, used=12).remaining is None


@pytest.mark.parametrize(
    ("interval", "unit", "longest"),
    [
        ("1", "minute", 60),
        ("2", "hour", 7200),
        ("2", "Hours", 7200),
        ("1", "fortnight", 86_400),
        ("0", "day", 86_400),
    ],
)
def test_a_wait_is_never_longer_than_the_interval_where_that_is_known(
    interval: str, unit: str, longest: float
) -> None:
    reset = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    said = {"quota-used": "1000", "quota-reset-UTC": reset}
    headers = ALL | said | {"quota-interval": interval, "quota-time-unit": unit}

    assert has_quota(headers)
    assert wait_for_reset(quota_of(headers)) == pytest.approx(longest, abs=5)


@given(limit=st.integers(1, 10**9), used=st.integers(0, 10**9))
def test_what_is_left_is_never_below_nothing(limit: int, used: int) -> None:
    remaining = Quota(limit=limit, used=used).remaining

    assert remaining == max(0, limit - used)


@pytest.mark.parametrize(
    ("limit", "used", "waits"), [("5", "4", False), ("5", "5", True), ("5", "6", True), ("0", "0", False)]
)
def test_there_is_a_wait_only_for_a_quota_that_is_used_up(limit: str, used: str, *, waits: bool) -> None:
    reset = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    headers = ALL | {"quota-limit": limit, "quota-used": used, "quota-reset-UTC": reset}

    assert has_quota(headers)
    assert may_be_used_up(headers) or not waits
    assert wait_for_reset(quota_of(headers)) == (pytest.approx(3600, abs=5) if waits else None)


@pytest.mark.parametrize("reset", ["2020-01-01T00:00:00Z", "soon", ""])
def test_there_is_no_wait_for_a_moment_that_is_over_or_not_known(reset: str) -> None:
    headers = ALL | {"quota-used": "1000", "quota-reset-UTC": reset}

    assert has_quota(headers)
    assert wait_for_reset(quota_of(headers)) is None


def test_nothing_is_known_of_the_time_until_no_moment() -> None:
    assert seconds_until(None) is None
    assert http_date("yesterday") is None
