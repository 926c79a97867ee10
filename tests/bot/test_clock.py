"""The clock of a bot: it waits for moments, and sees that the machine has slept."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from healthmsg.bot.clock import SystemClock

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
pytestmark = pytest.mark.looptime


class MovedClock(SystemClock):
    """Goes with the event loop's fake time, and can be set."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return START + self.ahead + timedelta(seconds=asyncio.get_running_loop().time())


def seconds() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def test_the_time_of_day_has_a_zone() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=5)


async def test_it_waits_until_the_moment() -> None:
    clock = MovedClock()
    await clock.wait(START + timedelta(minutes=5, seconds=7), asyncio.Event())
    assert seconds() == 307


async def test_what_has_passed_is_not_waited_for() -> None:
    await MovedClock().wait(START - timedelta(days=3), asyncio.Event())
    assert seconds() == 0


@pytest.mark.parametrize("until", [None, START + timedelta(hours=1)])
async def test_a_change_ends_the_wait(until: datetime | None) -> None:
    changed = asyncio.Event()
    asyncio.get_running_loop().call_later(12, changed.set)
    await MovedClock().wait(until, changed)
    assert seconds() == 12


async def test_after_the_machine_has_slept_the_moment_is_seen_within_30_seconds() -> None:
    clock = MovedClock()

    def sleep() -> None:
        clock.ahead = timedelta(hours=8)

    asyncio.get_running_loop().call_later(45, sleep)
    await clock.wait(START + timedelta(hours=2), asyncio.Event())
    assert seconds() == 60


async def test_a_clock_that_is_set_back_ends_the_wait_so_that_what_is_waited_for_is_looked_at_again() -> None:
    clock = MovedClock()

    def set_back() -> None:
        clock.ahead = -timedelta(minutes=2)

    asyncio.get_running_loop().call_later(45, set_back)
    await clock.wait(START + timedelta(minutes=9), asyncio.Event())
    assert seconds() == 60
    await clock.wait(START + timedelta(minutes=1), asyncio.Event())
    assert seconds() == 180
