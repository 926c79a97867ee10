"""A time of day that jumps far ahead and back again: nothing waits for the wrong date, or comes twice."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from healthmsg.bot import Bot, IncomingMessage, Retry, Router
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.schedule import at, every
from healthmsg.bot.signals import RetryLater
from healthmsg.bot.store.effects import Effect, MoveTimer
from healthmsg.bot.store.records import TimerRecord
from healthmsg.bot.testing import BotTest, StartBot
from healthmsg.bot.timetable import ASKED_FOR, IN_CODE, NEVER, Job, brought_forward
from healthmsg.bot.virtual_clock import START
from healthmsg.events import Event, TimerDue
from tests.bot.fakes import FakeClock, FakeStore
from tests.bot.working import MINUTE, ids, working
from tests.gateway.inbox.inboxes import message

YEARS = timedelta(days=1461)
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()


async def report(event: TimerDue) -> None:
    CALLS.append(f"{event.due:%d %H:%M}")


def set_back(bot_test: BotTest, moment: datetime) -> None:
    bot_test.clock._now = moment


# --- chats that wait


async def test_a_chat_whose_handler_failed_meanwhile_goes_on_when_the_clock_is_right_again() -> None:
    async def fails_once(event: Event) -> Sequence[Effect]:
        if event.attempt == 1:
            raise RetryLater(MINUTE)
        return ()

    async with working(handler=fails_once, longest=10 * MINUTE) as work:
        work.clock.advance(YEARS)
        work.add(message(1))
        await work.idle()
        work.clock.advance(-YEARS)
        await work.until(lambda: len(work.handled) == 2)


async def test_after_a_restart_no_chat_waits_longer_than_any_pause_is() -> None:
    store, clock = FakeStore(), FakeClock()
    one, two = message(1), message(2, chat="c2")
    for event, wait in ((one, 11 * MINUTE), (two, 9 * MINUTE)):
        sequence = store.add(event)
        store.events[sequence] = evolve(store.events[sequence], not_before=clock.now() + wait, crashes=1)
    async with working(store=store, clock=clock, longest=10 * MINUTE) as work:
        await work.idle()
        assert work.handled == ids(one)
        work.clock.advance(9 * MINUTE)
        await work.idle()
        assert work.handled == ids(one, two)


async def test_a_clock_that_is_set_back_a_little_makes_a_chat_wait_no_shorter() -> None:
    async def fails_once(event: Event) -> Sequence[Effect]:
        if event.attempt == 1:
            raise RetryLater(MINUTE)
        return ()

    async with working(handler=fails_once, longest=10 * MINUTE) as work:
        work.add(message(1))
        await work.idle()
        work.clock.advance(-MINUTE)
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.handled == ids(message(1))
        work.clock.advance(2 * MINUTE)
        await work.idle()
        assert len(work.handled) == 2


def test_the_longest_pause_is_that_of_all_error_handlers() -> None:
    router, inner = Router(), Router()
    router.include(inner)
    assert Dispatcher([router]).longest_wait == timedelta(minutes=10)

    @inner.error(KeyError, retry=Retry(longest=timedelta(hours=5)))
    async def failed(message: IncomingMessage) -> None: ...

    assert Dispatcher([router]).longest_wait == timedelta(hours=5)


# --- schedules


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_repeated_one_is_due_at_its_next_moment_again_and_no_moment_comes_twice(
    healthmsg_bot: StartBot, *, restarts: bool
) -> None:
    router = Router()

    @router.message
    async def any_message(message: IncomingMessage) -> None: ...

    bot_test = await healthmsg_bot(router, lambda bot: bot.every("10:00", do=report, tz="UTC"))
    an = bot_test.patient("An")
    await bot_test.advance(days=1)
    bot_test.clock.move_to(START + YEARS)
    await bot_test.idle()
    assert CALLS == ["02 10:00", "03 10:00"]

    set_back(bot_test, START + timedelta(hours=2))
    if restarts:
        await bot_test.kill_and_restart()
    else:
        await an.says("hallo")
    await bot_test.advance(days=3)
    assert CALLS == ["02 10:00", "03 10:00", "04 10:00", "05 10:00"]


async def test_one_that_was_left_out_as_too_late_by_a_wrong_clock_is_done_at_its_moment(
    healthmsg_bot: StartBot,
) -> None:
    def set_up(bot: Bot) -> None:
        bot.at(START + timedelta(hours=1), report)

    bot_test = await healthmsg_bot(Router(), set_up, now=START + YEARS)
    set_back(bot_test, START)
    await bot_test.kill_and_restart()
    await bot_test.advance(hours=2)
    await bot_test.kill_and_restart()
    await bot_test.advance(hours=2)
    assert CALLS == ["02 10:00"]


NOW = datetime(2026, 10, 24, 12, tzinfo=UTC)
"""The day before clocks in Amsterdam are put back at three, and show half past two twice."""
NIGHTLY = every("02:30")


@pytest.mark.parametrize(
    ("schedule", "due", "moved"),
    [
        (NIGHTLY, NOW + YEARS, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (NIGHTLY, datetime(2026, 10, 25, 0, 30, tzinfo=UTC), None),
        (NIGHTLY, NOW - timedelta(days=9), None),
        (at(NOW + MINUTE), NEVER, NOW + MINUTE),
        (at(NOW - MINUTE), NEVER, None),
        (every("10:00", exclude=[(NOW.date(), datetime(9999, 12, 31, tzinfo=UTC).date())]), NEVER, None),
    ],
)
def test_only_what_lies_beyond_its_next_moment_is_brought_forward(
    schedule: object, due: datetime, moved: datetime | None
) -> None:
    job = Job("night", schedule, "handler", "duty.night")  # type: ignore[arg-type]
    timers = [job.timer(kind, kind, due) for kind in (IN_CODE, ASKED_FOR)]
    expected = [] if moved is None else [MoveTimer(one.id, due, moved) for one in timers]
    assert brought_forward([*timers, TimerRecord("t", NEVER, kind=IN_CODE)], NOW) == expected
