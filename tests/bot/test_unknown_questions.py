"""A dialog whose question stays unknown: seen by a person, answered by the patient, ended by its time-out."""

import json
from datetime import timedelta
from typing import Any

import pytest

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, Router, command
from healthmsg.bot.store.records import StepRecord
from healthmsg.bot.testing import BotTest, Patient, StartBot
from healthmsg.bulk.journal import JournalMessage, State
from healthmsg.cli.bots.showing import Contents
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Fault
from tests.bot.store.stores import CHAT, NOW, dialog

router = Router()


@router.message(command("begin"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(asking, message)


@router.dialog
async def asking(d: Dialog) -> None:
    comes = await d.confirm("Komt u?", remind=timedelta(hours=1), timeout=timedelta(hours=3))
    await d.say("Tot dan." if comes else "Jammer.")


async def asked_in_vain(start: StartBot, fault: Fault, **options: Any) -> tuple[BotTest, Patient]:
    """Begin a dialog whose question stays unknown: no echo of it is heard, and its chat cannot be read."""
    bot_test = await start(router, **options)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    await bo.says("begin")
    await bo.says("nee")
    running = bot_test.bot._running  # type: ignore[attr-defined]
    heard = running._events.on_own_message
    running._events.on_own_message = lambda _: None
    faults = bot_test.sandbox.faults
    faults.add(kind=fault, method="POST", path_contains="/messages")
    faults.add(kind=AnswerStatus(400), method="GET", path_contains="/messages", times=None)
    await an.says("begin")
    await bot_test.advance(minutes=5)
    faults.clear()
    running._events.on_own_message = heard
    stats = await bot_test.bot.stats()
    assert (stats.open_dialogs, stats.unasked_dialogs, stats.unknown_replies) == (1, 1, 1)
    return bot_test, an


async def test_a_button_that_is_pressed_answers_it_and_settles_it(healthmsg_bot: StartBot) -> None:
    bot_test, an = await asked_in_vain(healthmsg_bot, CutAfter())
    await an.presses("Ja")

    assert [seen.body for seen in an.sees] == ["Komt u?", "Tot dan."]
    stats = await bot_test.bot.stats()
    assert (stats.open_dialogs, stats.unasked_dialogs, stats.unknown_replies) == (0, 0, 0)


async def test_it_is_answered_by_typing_and_after_a_restart(healthmsg_bot: StartBot) -> None:
    bot_test, an = await asked_in_vain(healthmsg_bot, CutBefore())
    await bot_test.kill_and_restart()
    await an.says("ja")
    assert [seen.body for seen in an.sees] == ["Tot dan."]


async def test_its_reminder_asks_it_and_its_time_out_ends_it(healthmsg_bot: StartBot) -> None:
    bot_test, an = await asked_in_vain(healthmsg_bot, CutBefore())
    assert an.sees == []
    await bot_test.advance(hours=1)
    (reminder,) = an.sees
    assert "Komt u?" in reminder.body
    assert reminder.options == ("Ja", "Nee")
    await bot_test.advance(hours=3)
    assert len(an.sees) == 2
    assert await bot_test.bot.open_dialogs() == []


async def test_a_button_of_its_reminder_answers_it(healthmsg_bot: StartBot) -> None:
    bot_test, an = await asked_in_vain(healthmsg_bot, CutBefore())
    await bot_test.advance(hours=1)
    await an.presses("Nee")
    assert an.sees[-1].body == "Jammer."


async def test_a_press_that_cannot_be_proven_to_be_its_answer_is_left_to_a_person(
    healthmsg_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot_test, an = await asked_in_vain(healthmsg_bot, CutAfter(), allow_parked=True)
    outbox = bot_test.bot._running.outbox  # type: ignore[attr-defined]

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(type(outbox._unknown_questions), "proven", nothing)
    await an.presses("Ja")
    (parked,) = await bot_test.bot.parked()
    assert "journal decide" in parked.reason
    assert [seen.body for seen in an.sees] == ["Komt u?"]

    monkeypatch.undo()
    assert await bot_test.bot.retry(None) == 1
    await bot_test.idle()
    assert [seen.body for seen in an.sees] == ["Komt u?", "Tot dan."]


@pytest.mark.parametrize(("key", "is_shown"), [("dialog/d1/1", True), ("dialog/d1/0", False)])
def test_a_person_sees_which_dialog_waits_for_an_answer_to_it(key: str, is_shown: bool) -> None:
    said = JournalMessage(
        key=key,
        position=1,
        to=CHAT,
        body="Komt u?",
        files=(),
        question=None,
        state=State.UNKNOWN,
        is_final=True,
        message_id=None,
        error="",
        attempts=1,
        started_at=NOW,
        sent_to=None,
        updated_at=NOW,
    )
    steps = [StepRecord("d1", 0, "ask/text", "a", '["x"]'), StepRecord("d1", 1, "ask/confirm", "b")]
    contents = Contents("5107e", [dialog("d1")], {"d1": steps}, (), [said])
    lines = "\n".join(contents.lines(with_texts=False))
    assert ("waits for ask/confirm, to a question that is not known to have arrived" in lines) is is_shown
    shown = json.loads(contents.as_json(with_texts=False))
    assert shown["dialogs"][0]["question_is_unknown"] is is_shown
