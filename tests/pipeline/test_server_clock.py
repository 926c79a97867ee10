import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import in_fake_time

from healthmsg.pipeline.server_clock import ServerClock

START = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
BRIEFLY = timedelta(microseconds=10)


class Server:
    """A clock that is not this machine's."""

    def __init__(self) -> None:
        self.offset = START.timestamp() - asyncio.get_running_loop().time()

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(asyncio.get_running_loop().time() + self.offset, UTC)

    async def answer(self, clock: ServerClock, there: float, back: float) -> None:
        sent_at = asyncio.get_running_loop().time()
        await asyncio.sleep(there)
        date = format_datetime(self.now.replace(microsecond=0), usegmt=True)
        await asyncio.sleep(back)
        clock.seen(date, sent_at)


def uncertainty(clock: ServerClock) -> timedelta:
    return clock.latest() - clock.earliest()


@pytest.mark.looptime
async def test_one_answer_tells_the_time_within_a_second_and_its_own_duration() -> None:
    server, clock = Server(), ServerClock()
    await server.answer(clock, 0.1, 0.2)
    assert clock.earliest() <= server.now <= clock.latest()
    assert uncertainty(clock) == pytest.approx(timedelta(seconds=1.3), abs=BRIEFLY)


@pytest.mark.looptime
async def test_many_answers_tell_it_as_well_as_their_distance_allows() -> None:
    server, clock = Server(), ServerClock()
    for _ in range(60):
        await server.answer(clock, 0.01, 0.01)
        await asyncio.sleep(1 / 30 - 0.02)
    assert clock.earliest() <= server.now <= clock.latest()
    assert uncertainty(clock) < timedelta(seconds=0.07)


@pytest.mark.looptime
async def test_time_passes_without_answers() -> None:
    server, clock = Server(), ServerClock()
    await server.answer(clock, 0.1, 0.1)
    await asyncio.sleep(1000)
    assert clock.earliest() <= server.now <= clock.latest()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2)), max_size=40))
def test_the_truth_lies_between_whatever_the_ways_take(ways: list[tuple[float, float, float]]) -> None:
    async def calls() -> None:
        server, clock = Server(), ServerClock()
        for there, back, pause in ways:
            await server.answer(clock, there, back)
            await asyncio.sleep(pause)
            assert clock.earliest() - BRIEFLY <= server.now <= clock.latest() + BRIEFLY

    in_fake_time(calls)


@pytest.mark.looptime
async def test_a_clock_that_was_set_is_believed() -> None:
    server, clock = Server(), ServerClock()
    for offset in (0.0, 3600.0, -7200.0):
        server.offset += offset
        await server.answer(clock, 0.1, 0.1)
        assert clock.earliest() <= server.now <= clock.latest()


@pytest.mark.parametrize("date", [None, "", "yesterday"])
async def test_without_a_date_this_machines_clock_is_trusted_within_a_minute(date: str | None) -> None:
    clock = ServerClock()
    clock.seen(date, 0.0)
    before, now, after = clock.earliest(), datetime.now(UTC), clock.latest()
    assert timedelta(seconds=59) < now - before < timedelta(seconds=61)
    assert timedelta(seconds=59) < after - now < timedelta(seconds=61)
