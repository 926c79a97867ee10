import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthmsg.clock import ServerClock
from tests.servers import in_fake_time

START = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
BRIEFLY = timedelta(milliseconds=10)


class Server:
    """A clock that is not this machine's."""

    def __init__(self, clock: ServerClock) -> None:
        self.clock = clock
        self.offset = START - clock.moment()

    @property
    def now(self) -> datetime:
        return self.clock.moment() + self.offset

    async def answer(self, there: float, back: float) -> None:
        departed_at = self.clock.now()
        await asyncio.sleep(there)
        date = format_datetime(self.now.replace(microsecond=0), usegmt=True)
        await asyncio.sleep(back)
        self.clock.seen(date, departed_at, self.clock.now())

    def is_within(self) -> bool:
        offset = self.clock.offset()
        return offset is not None and offset[0] - BRIEFLY <= self.offset <= offset[1] + BRIEFLY


def uncertainty(clock: ServerClock) -> timedelta:
    offset = clock.offset()
    assert offset is not None
    return offset[1] - offset[0]


@pytest.mark.looptime
async def test_one_answer_shows_the_time_within_a_second_and_its_own_duration() -> None:
    clock = ServerClock()
    server = Server(clock)
    await server.answer(0.1, 0.2)
    assert server.is_within()
    assert uncertainty(clock) == pytest.approx(timedelta(seconds=1.3), abs=BRIEFLY)


@pytest.mark.looptime
async def test_many_answers_show_it_as_well_as_their_distance_allows() -> None:
    clock = ServerClock()
    server = Server(clock)
    for _ in range(60):
        await server.answer(0.01, 0.01)
        await asyncio.sleep(1 / 30 - 0.02)
    assert server.is_within()
    assert uncertainty(clock) < timedelta(seconds=0.08)


@pytest.mark.looptime
async def test_the_offset_stays_while_there_are_no_answers() -> None:
    clock = ServerClock()
    server = Server(clock)
    await server.answer(0.1, 0.1)
    await asyncio.sleep(1000)
    assert server.is_within()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2)), max_size=40))
def test_the_truth_lies_between_whatever_the_ways_take(ways: list[tuple[float, float, float]]) -> None:
    async def calls() -> None:
        server = Server(ServerClock())
        for there, back, pause in ways:
            await server.answer(there, back)
            await asyncio.sleep(pause)
            assert server.is_within()

    in_fake_time(calls)


@pytest.mark.looptime
async def test_a_clock_that_was_set_is_believed_and_noticed() -> None:
    clock = ServerClock()
    server = Server(clock)
    await server.answer(0.1, 0.1)
    known_since = clock.now()
    assert not clock.was_set_since(known_since)
    for jump in (3600.0, -7200.0):
        server.offset += timedelta(seconds=jump)
        await server.answer(0.1, 0.1)
        assert server.is_within()
        assert clock.was_set_since(known_since)
        assert clock.last_set_at() == pytest.approx(clock.now(), abs=0.01)


@pytest.mark.looptime
async def test_clocks_that_drift_apart_were_not_set() -> None:
    clock = ServerClock()
    server = Server(clock)
    await server.answer(0.01, 0.01)
    known_since = clock.now()
    for _ in range(200):
        server.offset += timedelta(seconds=0.02)
        await asyncio.sleep(10)
        await server.answer(0.01, 0.01)
    assert not clock.was_set_since(known_since)


@pytest.mark.looptime
async def test_a_date_that_stands_still_shows_no_steady_clock() -> None:
    clock = ServerClock()
    date = format_datetime(START.replace(microsecond=0), usegmt=True)
    for _ in range(3):
        clock.seen(date, clock.now(), clock.now())
        await asyncio.sleep(30)
    assert clock.was_set_since(1.0)


@pytest.mark.parametrize("date", [None, "", "yesterday"])
async def test_without_a_date_nothing_is_known(date: str | None) -> None:
    clock = ServerClock()
    clock.seen(date, 0.0, 0.0)
    assert clock.offset() is None
    assert clock.was_set_since(clock.now())
    assert clock.last_set_at() < 0
