"""Schedules whose code is changed while the bot is down: what was due by then happens all the same, once."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta

import pytest

from healthmsg.bot import Bot, Router
from healthmsg.bot.testing import BotTest, StartBot
from healthmsg.events import Event, TimerDue

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
Scheduled = Callable[[TimerDue], Coroutine[object, object, None]]
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    CALLS.clear()


async def report(event: TimerDue) -> None:
    CALLS.append("report")


async def other_report(event: TimerDue) -> None:
    CALLS.append("other")


async def failing(event: TimerDue) -> None:
    raise ValueError


def at(moment: datetime, do: Scheduled) -> Callable[[Bot], object]:
    return lambda bot: bot.at(moment, do, name="r")


def every(do: Scheduled, *times: str) -> Callable[[Bot], object]:
    return lambda bot: bot.every(times, do=do, name="r", tz="UTC")


async def deployed(
    healthmsg_bot: StartBot, before: Callable[[Bot], object], after: Callable[[Bot], object], by: timedelta
) -> BotTest:
    """Start a bot, and start it again so much later with other code."""
    code = [before]
    bot_test = await healthmsg_bot(Router(), lambda bot: code[0](bot), allow_parked=True)  # noqa: PLW0108 - it changes
    bot_test.kill()
    code[0] = after
    bot_test.clock.move_to(NOW + by)
    await bot_test.idle()
    return bot_test


@pytest.mark.parametrize(
    ("before", "after", "called"),
    [
        (every(report, "10:00"), every(report, "10:00", "17:00"), "report"),
        (every(report, "10:00"), every(other_report, "10:00"), "other"),
        (at(NOW + timedelta(hours=1), report), at(NOW + timedelta(hours=1), other_report), "other"),
    ],
)
async def test_one_that_was_due_meanwhile_is_caught_up_once_by_the_new_code(
    healthmsg_bot: StartBot,
    before: Callable[[Bot], object],
    after: Callable[[Bot], object],
    called: str,
) -> None:
    bot_test = await deployed(healthmsg_bot, before, after, timedelta(hours=3))
    assert [called] == CALLS
    await bot_test.kill_and_restart()
    assert [called] == CALLS


async def test_one_that_was_put_off_meanwhile_fires_at_its_new_moment_alone(healthmsg_bot: StartBot) -> None:
    before, after = at(NOW + timedelta(hours=1), report), at(NOW + timedelta(hours=5), report)
    bot_test = await deployed(healthmsg_bot, before, after, timedelta(hours=3))
    assert CALLS == []
    await bot_test.advance(hours=3)
    assert CALLS == ["report"]


async def test_one_that_fired_and_whose_function_is_gone_is_parked(healthmsg_bot: StartBot) -> None:
    code = [at(NOW + timedelta(hours=1), failing)]
    bot_test = await healthmsg_bot(Router(), lambda bot: code[0](bot), allow_parked=True)  # noqa: PLW0108 - it changes
    await bot_test.advance(hours=1)
    bot_test.kill()
    code[0] = at(NOW + timedelta(hours=1), report)
    await bot_test.idle()
    await bot_test.advance(minutes=10)

    (parked,) = await bot_test.bot.parked()
    assert "is no longer in the code" in parked.reason


async def test_no_handler_of_all_events_takes_a_scheduled_one(healthmsg_bot: StartBot) -> None:
    router = Router()

    @router.event
    async def any_event(event: Event) -> None: ...

    @router.timer
    async def any_timer(event: TimerDue) -> None: ...

    bot_test = await healthmsg_bot(router, at(NOW + timedelta(hours=1), report))
    await bot_test.advance(hours=2)
    assert CALLS == ["report"]
