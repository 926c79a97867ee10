"""Schedules that are set while a bot runs: once, though a handler runs again or a request is repeated."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import cast

import pytest

from healthmsg.bot import Bot, Dialog, DialogRequest, Dialogs, IncomingMessage, Router, text
from healthmsg.bot.store.effects import Fire
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.bot.timetable import ASKED_FOR
from healthmsg.bot.virtual_clock import START
from healthmsg.errors import InvalidInputError
from tests.bot.store.stores import due

HOUR = timedelta(hours=1)
router = Router()
FAILURES: list[Exception] = []
DEADLY: list[Callable[[], None]] = []
"""Called when a reminder was asked for: they end the process."""
LATER: list[Callable[[], None]] = []
"""Called in the step after that of `d.once`."""
IDS: list[str] = []
SEEN: list[object] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    for noted in (FAILURES, DEADLY, LATER, IDS, SEEN):
        noted.clear()


@router.dialog
async def reminder(d: Dialog) -> None:
    await d.say("Denk aan uw afspraak.")


def at(moment: datetime) -> dict[str, object]:
    return {"at": moment.isoformat()}


async def in_an_hour(bot: Bot, user: str, wanted: str | None = None) -> None:
    """Have the reminder come in an hour, as the clock of this moment says."""
    moment = bot._clock.now() + HOUR
    made = await bot.schedule(DialogRequest(dialog="reminder", user=user), at(moment), schedule_id=wanted)
    IDS.append(made.id)
    if DEADLY:
        DEADLY.pop()()
        await asyncio.sleep(0)


@router.message(text("herinner"))
async def remind(message: IncomingMessage, bot: Bot) -> None:
    await in_an_hour(bot, message.user_id or "")
    await message.reply("Goed.")
    if FAILURES:
        raise FAILURES.pop()


failing = Router()
router.include(failing)


@failing.message(text("mislukt"))
async def fails(message: IncomingMessage) -> None:
    raise KeyError


@failing.error(KeyError, retry=None)
async def remind_instead(message: IncomingMessage, bot: Bot) -> None:
    await in_an_hour(bot, message.user_id or "")
    if FAILURES:
        raise FAILURES.pop()


@router.message(text("tegelijk"))
async def remind_twice(message: IncomingMessage, bot: Bot) -> None:
    await asyncio.gather(*(in_an_hour(bot, message.user_id or "") for _ in range(2)))
    if FAILURES:
        raise FAILURES.pop()


@router.message(text("toch niet"))
async def set_and_cancelled(message: IncomingMessage, bot: Bot) -> None:
    await in_an_hour(bot, message.user_id or "", "mine")
    SEEN.append(await bot.scheduled("mine") is not None)
    SEEN.append(await bot.unschedule("mine"))
    SEEN.append(await bot.scheduled("mine"))
    SEEN.append(await bot.unschedule("mine"))


@router.message(text("twee"))
async def two_with_one_id(message: IncomingMessage, bot: Bot) -> None:
    await in_an_hour(bot, message.user_id or "", "mine")
    await in_an_hour(bot, message.user_id or "", "mine")
    with pytest.raises(InvalidInputError, match="another schedule"):
        await bot.schedule(DialogRequest(dialog="reminder", user="u"), at(START), schedule_id="mine")


@router.dialog
async def by_once(d: Dialog, bot: Bot) -> None:
    await d.once(partial(in_an_hour, bot, d.user_id))
    await d.once(die_later)
    await d.say("Gepland.")


async def die_later() -> None:
    if LATER:
        LATER.pop()()
        await asyncio.sleep(0)


@router.message(text("once"))
async def begin_once(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(by_once, message)


@router.dialog
async def directly(d: Dialog, bot: Bot) -> None:
    await bot.schedule(DialogRequest(dialog="reminder", user=d.user_id), at(START + HOUR))


@router.message(text("rechtstreeks"))
async def begin_directly(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(directly, message)


def reminders(an: Patient) -> int:
    return sum(seen.body == "Denk aan uw afspraak." for seen in an.sees)


async def asked(bot_test: BotTest, an: Patient, hours: int, schedule_id: str, **options: bool) -> object:
    """Have the reminder come so many hours after the start; return when it is due."""
    request = DialogRequest(dialog="reminder", user=an.id)
    when = at(START + timedelta(hours=hours))
    made = await bot_test.bot.schedule(request, when, schedule_id=schedule_id, **options)
    assert made.id == schedule_id
    return made.due


# --- in a handler


@pytest.mark.parametrize(("said", "times"), [("herinner", 1), ("tegelijk", 2)])
async def test_a_handler_that_fails_after_it_has_scheduled_does_so_once(
    healthmsg_bot: StartBot, said: str, times: int
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    FAILURES[:] = [ValueError(), ValueError()]
    await an.says(said)
    await bot_test.advance(hours=2)

    assert reminders(an) == times
    assert len(IDS) == 3 * times
    assert len(set(IDS)) == times


@pytest.mark.parametrize("said", ["herinner", "once"])
async def test_though_the_process_dies_after_it_was_asked_for_it_is_set_once(
    healthmsg_bot: StartBot, said: str
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    DEADLY[:] = [bot_test.kill, bot_test.kill]
    await an.says(said)
    await bot_test.advance(hours=2)

    assert reminders(an) == 1
    assert len(IDS) == 3
    assert len(set(IDS)) == 1


async def test_a_handler_that_fails_for_good_sets_nothing_until_it_is_taken_up_again(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    FAILURES[:] = [ValueError() for _ in range(4)]
    await an.says("herinner")
    await bot_test.advance(hours=2)
    assert reminders(an) == 0

    assert await bot_test.bot.retry(None) == 1
    await bot_test.advance(hours=2)
    assert reminders(an) == 1


async def test_what_a_step_has_set_outlives_the_process_before_its_event_has_ended(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    LATER.append(bot_test.kill)
    await an.says("once")
    await bot_test.advance(hours=2)

    assert (len(IDS), reminders(an)) == (1, 1)


@pytest.mark.parametrize("failures", [0, 1])
async def test_what_an_error_handler_has_set_is_set_if_that_ends_well(
    healthmsg_bot: StartBot, failures: int
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    FAILURES[:] = [ValueError()] * failures
    await an.says("mislukt")
    await bot_test.advance(hours=2)
    assert reminders(an) == 1 - failures


async def test_what_a_handler_has_set_it_can_look_up_and_cancel(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await an.says("toch niet")
    await bot_test.advance(hours=2)

    assert SEEN == [True, True, None, False]
    assert reminders(an) == 0


async def test_a_handler_that_sets_the_same_twice_sets_it_once(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await an.says("twee")
    await bot_test.advance(hours=2)
    assert reminders(an) == 1


async def test_the_code_of_a_dialog_cannot_schedule_outside_of_once(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("rechtstreeks")
    await bot_test.advance(hours=2)

    assert reminders(an) == 0
    (parked,) = await bot_test.bot.parked()
    assert "ForeignAwaitError" in parked.reason


async def test_what_is_asked_of_another_bot_is_set_by_that_one(healthmsg_bot: StartBot) -> None:
    there = await healthmsg_bot(router)
    bo = there.patient("Bo")
    asking = Router()

    @asking.message(text("elders"))
    async def elsewhere(message: IncomingMessage) -> None:
        await in_an_hour(cast("Bot", there.bot), bo.id)
        if FAILURES:
            raise FAILURES.pop()

    here = await healthmsg_bot(asking)
    FAILURES.append(ValueError())
    await here.patient("An").says("elders")
    await here.advance(hours=2)
    await there.advance(hours=2)
    assert (len(IDS), len(set(IDS)), reminders(bo)) == (2, 1, 1)


# --- with an id of its own


async def test_a_repeated_call_returns_what_is_set(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    for _ in range(2):
        assert await asked(bot_test, an, 1, "visit-7") == START + HOUR
    await bot_test.advance(hours=2)
    assert reminders(an) == 1


async def test_a_repeated_call_after_it_has_happened_sets_nothing(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await asked(bot_test, an, 0, "visit-7")
    await bot_test.kill_and_restart()

    assert await asked(bot_test, an, 0, "visit-7") is None
    await bot_test.advance(hours=2)
    assert reminders(an) == 1


async def test_another_one_with_its_id_is_refused_and_replaces_it_only_if_asked_to(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await asked(bot_test, an, 1, "visit-7")
    with pytest.raises(InvalidInputError, match="another schedule"):
        await asked(bot_test, an, 3, "visit-7")
    assert await asked(bot_test, an, 3, "visit-7", replace=True) == START + 3 * HOUR

    await bot_test.advance(hours=2)
    assert reminders(an) == 0
    await bot_test.advance(hours=2)
    assert reminders(an) == 1


@pytest.mark.parametrize("dialog", ["reminder", "by_once"])
async def test_one_for_the_moment_at_which_the_first_has_happened_sets_nothing_and_says_so(
    healthmsg_bot: StartBot, dialog: str
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await asked(bot_test, an, 1, "visit-7")
    await bot_test.advance(hours=1)
    assert reminders(an) == 1
    await asked(bot_test, an, 3, "visit-7")

    made = await bot_test.bot.schedule(
        DialogRequest(dialog=dialog, user=an.id), at(START + HOUR), schedule_id="visit-7", replace=True
    )
    assert made.due is None
    assert await bot_test.bot.scheduled("visit-7") is None
    await bot_test.advance(hours=4)
    assert len(an.sees) == 1


async def test_of_two_calls_at_once_with_one_id_one_is_refused(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    first, second = await asyncio.gather(
        asked(bot_test, an, 1, "visit-7"), asked(bot_test, an, 2, "visit-7"), return_exceptions=True
    )
    assert first == START + HOUR
    assert isinstance(second, InvalidInputError)


async def test_a_moment_before_the_year_1000_has_passed(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    when = {"at": "0001-01-01T00:00:00Z"}  # as .NET writes what was not set
    await bot_test.bot.schedule(DialogRequest(dialog="reminder", user=an.id), when)
    await bot_test.idle()
    assert reminders(an) == 1


@pytest.mark.parametrize("wanted", ["", "visit/7", "-7", ".", "visit 7", "é", "v" * 101])
async def test_an_id_that_would_not_stand_in_a_url_is_refused(healthmsg_bot: StartBot, wanted: str) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    with pytest.raises(InvalidInputError, match="id of a schedule"):
        await asked(bot_test, an, 1, wanted)


# --- cancelling


async def test_what_fires_at_the_same_moment_is_either_cancelled_or_begun(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await asked(bot_test, an, 1, "visit-7")
    store = cast("Bot", bot_test.bot)._require_running().store
    timer = await store.timer(f"{ASKED_FOR}/visit-7")
    assert timer is not None

    for order in (slice(None), slice(None, None, -1)):
        await asked(bot_test, an, 1, "visit-7", replace=True)
        both = [bot_test.bot.unschedule("visit-7"), store.commit(Fire(timer.id, due(timer)))]
        results: Sequence[object] = (await asyncio.gather(*both[order]))[order]
        await bot_test.idle()
        SEEN.append((results[0], reminders(an)))

    assert SEEN == [(True, 0), (False, 1)]
    assert not await bot_test.bot.unschedule("visit-7")
