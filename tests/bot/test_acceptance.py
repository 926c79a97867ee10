"""Bots over the real bot and the real sandbox: what must hold for a patient, whatever happens."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, NoAnswer, Router, command, text
from healthmsg.bot.surface import DialogRequest
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.ids import ChatAddress
from healthmsg.sandbox import AnswerStatus, Delay

router = Router()
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ENDS: list[str] = []
"""Where the command `einde` ends a dialog."""
DEADLY: list[Callable[[], None]] = []
"""What ends the process within the handler of `sneuvel`."""


@router.message(command("intake"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(intake, message)


@router.message(text(prefix="begin bij "))
async def begin_with(message: IncomingMessage, dialogs: Dialogs) -> None:
    chat = message.text.removeprefix("begin bij ")
    await dialogs.start(intake, (chat, message.user_id))


@router.message(command("einde"))
async def end(message: IncomingMessage, dialogs: Dialogs) -> None:
    place = ENDS[0], message.user_id
    assert await dialogs.open(place)
    assert await dialogs.stop(place)
    await message.reply("Einde.")


@router.fallback
async def other(message: IncomingMessage) -> None:
    await message.reply("?")


@router.dialog(stop=("stop",))
async def intake(d: Dialog) -> None:
    name = await d.text("Naam?")
    is_right = await d.confirm("Goed?")
    await d.say(f"{name} {is_right}")


@router.message(command("herinner"))
async def begin_reminding(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(reminding, message)


@router.dialog(stop=("stop",))
async def reminding(d: Dialog) -> None:
    try:
        await d.confirm("Nog pijn?", remind=(4 * HOUR, 8 * HOUR, 24 * HOUR), timeout=14 * DAY)
        await d.say("Dank u.")
    except NoAnswer:
        await d.say("Geen antwoord.")


@router.dialog
async def failing(d: Dialog) -> None:
    await d.say("Moment.")
    raise KeyError


@router.message(text("sneuvel"))
async def die(message: IncomingMessage) -> None:
    await message.reply("Daar gaan we.")
    if DEADLY:
        DEADLY[0]()
        await asyncio.Event().wait()
    await message.reply("Overleefd.")


@pytest.fixture(
    params=[False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.thorough])],
    ids=["plainly", "restarted"],
)
async def bot_test(request: pytest.FixtureRequest, healthmsg_bot: StartBot) -> BotTest:
    """Run the bot; the second time, it is killed and started again after each step."""
    return await healthmsg_bot(router, restart_after_every_step=request.param)


@pytest.fixture(autouse=True)
def _harmless() -> Iterator[None]:
    DEADLY.clear()
    yield
    DEADLY.clear()


def said(patient: Patient) -> list[str]:
    return [seen.body for seen in patient.sees]


# --- one place, however it is addressed


@pytest.mark.parametrize("names_user", [False, True], ids=["chat alone", "chat and user"])
@pytest.mark.parametrize("by", ["conversation", "user", "auxiliary id"])
async def test_a_dialog_is_answered_however_its_conversation_was_addressed(
    bot_test: BotTest, by: str, names_user: bool
) -> None:
    an = bot_test.patient("An", aux_id="p-1")
    addresses = {
        "conversation": an.address,
        "user": f"conversations/{an.id}",
        "auxiliary id": "aux/conversations/p-1",
    }
    await bot_test.idle()
    request = DialogRequest(
        dialog="intake", chat=ChatAddress.parse(addresses[by]), user=an.id if names_user else None
    )
    await bot_test.bot.start_dialog(request)
    await bot_test.idle()

    await an.answers("An")
    await an.presses("Ja")

    assert said(an) == ["Naam?", "Goed?", "An True"]


@pytest.mark.parametrize("by", ["conversation", "user", "auxiliary id"])
async def test_a_handler_starts_and_ends_a_dialog_however_it_addresses_the_conversation(
    bot_test: BotTest, by: str
) -> None:
    an = bot_test.patient("An", aux_id="p-1")
    addresses = {
        "conversation": an.address,
        "user": f"conversations/{an.id}",
        "auxiliary id": "aux/conversations/p-1",
    }
    await an.says(f"begin bij {addresses[by]}")
    await an.answers("An")
    await an.presses("Nee")
    assert said(an) == ["Naam?", "Goed?", "An False"]

    await an.says("intake")
    ENDS[:] = [addresses[by]]
    await an.says("einde")
    await an.says("Bo")

    assert said(an)[3:] == ["Naam?", "Einde.", "?"]


# --- what a patient does twice, or too soon


async def test_a_second_start_where_the_dialog_is_held_is_left_to_a_person(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    await bot_test.bot.start_dialog(DialogRequest(dialog="failing", user=an.id))
    await bot_test.advance(minutes=5)
    parked = len(await bot_test.bot.parked())

    await an.says("intake")

    assert said(an) == ["Moment."]
    assert len(await bot_test.bot.parked()) == parked + 1


async def test_double_taps_count_once__python_telegram_bot_1069(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await an.says("intake")
    await an.answers("An")
    question = an.sees[-1]
    yes, no = (button.name for button in question.buttons)

    bot_test.sandbox.answer(an.id, question.id, yes)
    bot_test.sandbox.answer(an.id, question.id, yes)
    await bot_test.idle()
    bot_test.sandbox.answer(an.id, question.id, yes)
    await bot_test.idle()
    assert said(an)[1:] == ["Goed?", "An True"]

    bot_test.sandbox.answer(an.id, question.id, no)
    await bot_test.idle()
    assert said(an)[3:] == ["Deze vraag is al beantwoord of gesloten."]


async def test_an_answer_that_overtakes_the_response_of_its_question_is_taken(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    await an.says("intake")
    bot_test.sandbox.faults.add(kind=Delay(0.3, after=True), method="POST", path_contains="messages")

    bot_test.sandbox.say(an.id, an.address, "An")
    while said(an)[-1] != "Goed?":  # noqa: ASYNC110 - nothing tells when the service has it
        await asyncio.sleep(0)
    question = an.sees[-1]
    bot_test.sandbox.answer(an.id, question.id, question.buttons[0].name)
    await bot_test.idle()

    assert said(an) == ["Naam?", "Goed?", "An True"]


# --- time


async def test_reminders_come_once_each_within_a_second(bot_test: BotTest) -> None:
    an = bot_test.patient("An")
    await an.says("herinner")
    asked = an.sees[-1].at
    assert asked is not None

    await bot_test.advance(seconds=4 * 3600 - 1)
    assert said(an) == ["Nog pijn?"]
    await bot_test.advance(seconds=1)
    assert said(an) == ["Nog pijn?", "Herinnering: Nog pijn?"]
    await bot_test.advance(days=3)

    assert [seen.at and seen.at - asked for seen in an.sees] == [timedelta(), 4 * HOUR, 8 * HOUR, 24 * HOUR]
    await an.presses("Ja")
    await bot_test.advance(days=20)
    assert said(an)[4:] == ["Dank u."]


async def test_after_three_days_down_there_is_at_most_one_reminder_of_a_dialog(bot_test: BotTest) -> None:
    people = [bot_test.patient(name) for name in ("An", "Bo", "Cees")]
    for one in people:
        await one.says("herinner")
    await bot_test.advance(hours=5)

    bot_test.kill()
    bot_test.clock.move_to(bot_test.clock.now() + 3 * DAY)
    await bot_test.idle()

    for one in people:
        assert said(one) == ["Nog pijn?", "Herinnering: Nog pijn?", "Herinnering: Nog pijn?"]
    await bot_test.advance(days=12)
    assert all(said(one)[3:] == ["Geen antwoord."] for one in people)


# --- an event that kills the process


@pytest.fixture
async def mortal(healthmsg_bot: StartBot) -> BotTest:
    """Run a bot of which one handler ends the process, at a time that no real clock shows."""
    return await healthmsg_bot(router, allow_parked=True, now=datetime(2126, 3, 4, 9, tzinfo=UTC))


async def test_an_event_that_kills_the_process_is_parked_after_three_starts_and_taken_up_again(
    mortal: BotTest,
) -> None:
    an, bo = mortal.patient("An"), mortal.patient("Bo")
    DEADLY.append(mortal.kill)
    await an.says("sneuvel")
    mortal.sandbox.say(bo.id, bo.address, "intake")
    await mortal.idle()

    assert mortal.restarts == 3
    assert (said(an), said(bo)) == (["Daar gaan we."], ["Naam?"])
    (parked,) = await mortal.bot.parked()
    assert "three times" in parked.reason
    await an.says("hallo")  # its chat goes on
    assert said(an) == ["Daar gaan we.", "?"]

    DEADLY.clear()
    assert await mortal.bot.retry(parked.sequence) == 1
    await mortal.idle()

    assert said(an) == ["Daar gaan we.", "?", "Overleefd."]
    assert await mortal.bot.parked() == []


async def test_a_message_that_is_taken_up_again_is_no_answer_of_a_dialog_that_began_later(
    mortal: BotTest,
) -> None:
    an = mortal.patient("An")
    DEADLY.append(mortal.kill)
    await an.says("sneuvel")
    await an.says("intake")
    DEADLY.clear()

    assert await mortal.bot.retry(None) == 1
    await mortal.idle()
    await an.answers("An")

    assert said(an) == ["Daar gaan we.", "Naam?", "Overleefd.", "Goed?"]


# --- what is started by the clock or over the control surface


async def scheduled(bot_test: BotTest, dialog: str, user: str) -> None:
    """Have a dialog started in an hour, and let that pass."""
    moment = bot_test.clock.now() + HOUR
    await bot_test.bot.schedule(DialogRequest(dialog=dialog, user=user), {"at": moment.isoformat()})
    await bot_test.advance(hours=1)


FAILURES: list[Exception] = []


@router.dialog
async def unsure(d: Dialog) -> None:
    if FAILURES:
        raise FAILURES.pop()
    await d.say("Toch gelukt.")


async def test_a_scheduled_dialog_whose_code_fails_is_tried_again(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    request = DialogRequest(dialog="unsure", user=an.id, chat=ChatAddress.parse(an.address))
    moment = bot_test.clock.now() + HOUR
    FAILURES[:] = [KeyError(), KeyError()]
    await bot_test.bot.schedule(request, {"at": moment.isoformat()})
    await bot_test.advance(hours=2)

    assert said(an) == ["Toch gelukt."]


async def test_a_dialog_that_is_scheduled_with_a_user_who_is_not_there_is_left_to_a_person(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router, allow_parked=True)
    await scheduled(bot_test, "intake", "00000000-0000-4000-8000-000000000000")
    await bot_test.advance(minutes=5)

    (parked,) = await bot_test.bot.parked()
    assert "the dialog intake raised NotFoundError" in parked.reason


async def test_a_scheduled_dialog_waits_for_as_long_as_the_service_is_away(healthmsg_bot: StartBot) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    fault = AnswerStatus(503)
    bot_test.sandbox.faults.add(kind=fault, method="POST", template="conversations", times=None)
    await scheduled(bot_test, "intake", an.id)
    await bot_test.advance(minutes=10)
    bot_test.sandbox.faults.clear()
    await bot_test.advance(minutes=1)

    assert said(an) == ["Naam?"]


# --- a person has the chat


@router.message(command("hulp"))
async def help_is_coming(message: IncomingMessage) -> None:
    await message.reply("Er komt hulp.")


@router.message(command("overgeven"))
async def begin_handing_over(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(handing_over, message)


@router.dialog
async def handing_over(d: Dialog) -> None:
    await d.hand_over("Voor een mens.", resume=("/Hulp",))


async def test_the_commands_of_a_chat_that_was_handed_over_are_written_as_all_commands(
    healthmsg_bot: StartBot,
) -> None:
    bot_test = await healthmsg_bot(router)
    an = bot_test.patient("An")
    team = bot_test.group("Team", an)
    await bot_test.idle()
    await an.says("overgeven", group=team)
    for said_ in ("hallo", "intake", "hulp", "HULP", "/hulp", f"{bot_test.mention} hulp"):
        await an.says(said_, group=team)

    assert [seen.body for seen in team.sees] == ["Er komt hulp."] * 4
