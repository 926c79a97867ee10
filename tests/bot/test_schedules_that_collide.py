"""Schedules that are due while something else goes on: another dialog, or the last one of their own."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import cast

import pytest

from healthmsg.bot import (
    Bot,
    BotChat,
    Dialog,
    DialogRequest,
    Dialogs,
    IncomingMessage,
    Router,
    Texts,
    command,
    text,
)
from healthmsg.bot.testing import BotTest, StartBot
from healthmsg.bot.virtual_clock import START
from healthmsg.events import TimerDue

router = Router()
CALLS: list[str] = []
GATES: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()
    GATES.clear()


# --- a dialog that is open


@router.dialog
async def intake(d: Dialog) -> None:
    await d.text("Naam?")
    await d.say("Dank u.")


@router.dialog
async def reminder(d: Dialog) -> None:
    await d.say("Denk aan uw afspraak.")


@router.message(text("intake"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(intake, message)


async def test_a_scheduled_dialog_that_meets_an_open_one_is_kept_until_a_person_takes_it_up(
    healthmsg_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("intake")
    moment = bot_test.clock.now() + timedelta(hours=1)
    await bot_test.bot.schedule(DialogRequest(dialog="reminder", user=an.id), {"at": moment.isoformat()})
    await bot_test.advance(hours=1)

    (parked,) = await bot_test.bot.parked()
    assert "the scheduled dialog reminder has not begun. The dialog intake is open" in parked.reason
    assert "healthmsg bot retry" in parked.reason
    assert "the scheduled dialog reminder has not begun" in caplog.text
    assert an.id not in caplog.text

    await bot_test.kill_and_restart()
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert len(await bot_test.bot.parked()) == 1
    await an.answers("An")
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert [seen.body for seen in an.sees] == ["Naam?", "Dank u.", "Denk aan uw afspraak."]
    assert await bot_test.bot.parked() == []


@router.message(command("afspraak"))
async def remind_and_begin(message: IncomingMessage, dialogs: Dialogs, bot: Bot) -> None:
    when = {"at": (START + timedelta(hours=1)).isoformat()}
    await bot.schedule(DialogRequest(dialog="reminder", user=message.user_id), when)
    await dialogs.start(intake, message)


async def test_what_a_handler_has_scheduled_before_no_other_dialog_could_begin_is_not_dropped(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("intake")
    await an.says("afspraak")
    assert an.sees[-1].body == Texts().dialog_open
    (parked,) = await bot_test.bot.parked()
    assert "DialogOpenError" in parked.reason

    await an.answers("An")
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    await an.answers("An")
    await bot_test.advance(hours=1)
    assert [seen.body for seen in an.sees[2:]] == ["Dank u.", "Naam?", "Dank u.", "Denk aan uw afspraak."]


# --- one that has not ended when it is due again

Do = Callable[..., Coroutine[object, object, None]]


async def slow(event: TimerDue) -> None:
    CALLS.append(f"{event.due:%H:%M}")
    if GATES:
        await GATES[0].wait()
    CALLS.append("ended")


async def slow_in_a_chat(event: TimerDue, chat: BotChat) -> None:
    await slow(event)


async def an_hour_later(bot_test: BotTest, calls: int = 0) -> None:
    """Let an hour go by, and wait until what is due has fired, and so many calls have begun."""
    loop = cast("Bot", bot_test.bot)._require_running()._loop
    fired = loop.counters.fired
    bot_test.clock.move_to(bot_test.clock.now() + timedelta(hours=1))
    async with asyncio.timeout(5):
        while loop.counters.fired == fired or len(CALLS) < calls:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.001)
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("in_chat", [False, True])
async def test_one_that_is_due_while_it_runs_is_done_once_after_that(
    healthmsg_bot: StartBot, *, in_chat: bool
) -> None:
    times = [f"{hour:02}:00" for hour in range(10, 20)]

    def set_up(bot: Bot) -> None:
        if in_chat:
            bot.every(times, do=slow_in_a_chat, tz="UTC", chat="conversations/c-1")
        else:
            bot.every(times, do=slow, tz="UTC")

    bot_test = await healthmsg_bot(router, set_up)
    GATES.append(asyncio.Event())
    await an_hour_later(bot_test, calls=1)
    for _ in range(3):
        await an_hour_later(bot_test)
    assert CALLS == ["10:00"]

    GATES.pop().set()
    await bot_test.idle()
    assert CALLS == ["10:00", "ended", "11:00", "ended"]
    await bot_test.advance(hours=1)
    assert CALLS[4:] == ["14:00", "ended"]


async def test_two_of_different_names_do_not_wait_for_each_other(healthmsg_bot: StartBot) -> None:
    def set_up(bot: Bot) -> None:
        for name in ("one", "two"):
            bot.every("10:00", do=slow, tz="UTC", name=name)

    bot_test = await healthmsg_bot(router, set_up)
    GATES.append(asyncio.Event())
    await an_hour_later(bot_test, calls=2)
    assert CALLS == ["10:00", "10:00"]
    GATES.pop().set()
    await bot_test.idle()
