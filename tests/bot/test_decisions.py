"""What a person decides about dialogs and parked events: by command on a store, and over a bot that runs."""

import asyncio
import json
from pathlib import Path
from typing import Any

from attrs import evolve

from healthmsg.bot import Dialog, Dialogs, IncomingMessage, Router, command
from healthmsg.bot.dialogs.document import Document, Held
from healthmsg.bot.store import store as store_module
from healthmsg.bot.store.effects import Begin, Park, PutDialog
from healthmsg.bot.testing import StartBot
from healthmsg.events import MessageCreated
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from healthmsg.sandbox import AnswerStatus
from tests.bot.store.stores import CHAT, NOW, dialog, enter, opened
from tests.cli.command_line import Done, invoke

SECRET = "CANARY"
BROKEN = [True]

router = Router()


@router.message(command("begin"))
async def begin(message: IncomingMessage, dialogs: Dialogs) -> None:
    await dialogs.start(breaking, message)


@router.fallback
async def other(message: IncomingMessage) -> None:
    await message.reply("?")


@router.dialog
async def breaking(d: Dialog) -> None:
    name = await d.text("Naam?")
    await d.say("Even kijken.")
    if BROKEN[0]:
        raise ZeroDivisionError
    await d.say(f"{name}, en verder?")
    await d.say(await d.text("Nog iets?"))


async def called(*arguments: object) -> Done:
    return await asyncio.to_thread(invoke, *map(str, arguments))


def message(number: int) -> MessageCreated:
    said = Message(f"m{number}", body=SECRET, user_id="u1")
    return MessageCreated.of(ChatAddress.parse(CHAT), said, me="u-me", received_at=NOW)


# --- over a bot that runs


async def test_a_held_dialog_is_taken_back_by_its_id_and_takes_what_was_parked_for_it(
    healthmsg_bot: StartBot,
) -> None:
    BROKEN[0] = True
    bot_test = await healthmsg_bot(router, allow_parked=True)
    bot, an = bot_test.bot, bot_test.patient("An")
    await an.says("begin")
    await an.says("An")
    await bot_test.advance(minutes=5)
    await an.says("klaar")
    (record,) = await bot.open_dialogs()
    assert (record.state, len(await bot.parked())) == ("held", 2)

    assert not await bot.take_back_dialog("none")
    assert await bot.take_back_dialog(record.id)
    await bot_test.advance(minutes=5)
    assert [one.state for one in await bot.open_dialogs()] == ["held"]

    BROKEN[0] = False
    assert await bot.take_back_dialog(record.id)
    await bot_test.idle()

    assert [seen.body for seen in an.sees] == [
        *("Naam?", "Even kijken.", "An, en verder?", "Nog iets?", "klaar"),
    ]
    assert await bot.parked() == []
    assert await bot.open_dialogs() == []


async def test_each_take_back_counts_though_the_clock_stands_still(healthmsg_bot: StartBot) -> None:
    people = Router()

    @people.dialog
    async def person(d: Dialog) -> None:
        for why in ("een", "twee", "drie"):
            await d.hand_over(why)
        await d.say("Weer bij de bot.")

    @people.fallback
    async def hand_over(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(person, message)

    bot_test = await healthmsg_bot(people)
    an = bot_test.patient("An")
    await an.says("hallo")
    (record,) = await bot_test.bot.open_dialogs()
    for _ in range(3):
        assert not an.sees
        assert await bot_test.bot.take_back_dialog(record.id)
        await bot_test.idle()
        await bot_test.kill_and_restart()
    assert [seen.body for seen in an.sees] == ["Weer bij de bot."]


async def test_a_held_dialog_is_ended_by_its_id_and_what_was_parked_is_left_to_a_person(
    healthmsg_bot: StartBot,
) -> None:
    BROKEN[0] = True
    bot_test = await healthmsg_bot(router, allow_parked=True)
    bot, an = bot_test.bot, bot_test.patient("An")
    await an.says("begin")
    await an.says("An")
    await bot_test.advance(minutes=5)
    (record,) = await bot.open_dialogs()

    assert await bot.end_dialog(record.id)
    await bot_test.idle()
    assert not await bot.end_dialog(record.id)
    assert await bot.open_dialogs() == []
    assert len(await bot.parked()) == 1
    await an.says("hallo")
    assert an.sees[-1].body == "?"


async def test_a_reply_that_was_refused_is_sent_when_its_event_is_taken_up_again(
    healthmsg_bot: StartBot,
) -> None:
    answers = Router()

    @answers.fallback
    async def answer(message: IncomingMessage) -> None:
        await message.reply("een")
        await message.reply("twee")

    bot_test = await healthmsg_bot(answers, allow_parked=True)
    an = bot_test.patient("An")
    bot_test.sandbox.faults.add(kind=AnswerStatus(412), method="POST", times=1)
    await an.says("hallo")
    await bot_test.advance(minutes=30)
    assert (len(await bot_test.bot.parked()), an.sees) == (1, [])

    await bot_test.bot.retry(None)
    await bot_test.idle()
    assert [seen.body for seen in an.sees] == ["een", "twee"]
    assert await bot_test.bot.parked() == []


# --- by command, on a store that no bot has


async def held_store(path: Path) -> None:
    document = Document(held=Held("failed", "its code fails with KeyError at bot.py:7"))
    over = Document(held=Held("handed_over", f"{SECRET} wil een mens"))
    async with opened(path) as store:
        await store.commit(
            PutDialog(evolve(dialog("d1"), state="held", document=document.text())),
            PutDialog(evolve(dialog("d2", user="u2"), state="held", document=over.text())),
            PutDialog(dialog("d3", user="u3")),
        )


async def test_show_says_which_dialog_is_held_and_why(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    await held_store(path)
    shown = await called("bot", "show", path)
    assert "d1  intake v2" in shown.out
    assert "failed: its code fails with KeyError at bot.py:7" in shown.out
    assert "handed over" in shown.out
    assert "bot take-back STORE DIALOG" in shown.out
    assert SECRET not in shown.out
    found: Any = json.loads((await called("bot", "show", path, "--json")).out)["dialogs"]
    assert {one["id"]: (one.get("why"), one.get("reason")) for one in found} == {
        "d1": ("failed", "its code fails with KeyError at bot.py:7"),
        "d2": ("handed_over", None),
        "d3": (None, None),
    }
    assert SECRET in (await called("bot", "show", path, "--texts")).out


async def test_the_commands_leave_a_decision_to_the_next_bot_that_starts(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    await held_store(path)
    assert (
        await called("bot", "take-back", path, "d1")
    ).out == "It goes on when the bot starts, if it fits the code.\n"
    assert (await called("bot", "end", path, "d3")).out == "It ends when the bot starts.\n"
    for refused in (("take-back", "d3"), ("take-back", "none"), ("end", "none")):
        done = await called("bot", refused[0], path, refused[1])
        assert (done.code, done.out) == (2, "")
    async with opened(path) as store:
        due = await store.due(NOW.replace(year=2100), 10)
        assert {(one.dialog, one.kind, one.chat, one.user) for one in due} == {
            ("d1", "take_back", CHAT, "u1"),
            ("d3", "stop", CHAT, "u3"),
        }
        done = await called("bot", "end", path, "d1")
        assert done.code == 2
        assert "--control" in done.err


# --- more than is read at once


async def test_all_parked_events_are_seen_and_taken_up_though_they_are_more_than_is_read_at_once(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(store_module, "_MOST", 2)
    path = tmp_path / "bot.db"
    async with opened(path) as store:
        for sequence in await enter(store, *map(message, range(5))):
            await store.commit(Begin(sequence), Park(sequence, "KeyError"))
        assert [one.event.id for one in await store.parked()] == [f"message/m{n}" for n in range(5)]
        assert await store.count_parked() == 5
        last = (await store.parked())[-1].sequence
        assert await store.unpark(last) == 1
        assert await store.unpark(last) == 0
    shown: Any = json.loads((await called("bot", "show", path, "--json")).out)
    assert len(shown["parked"]) == 4
    assert (await called("bot", "retry", path, "--all")).out == "4 taken up again.\n"
    async with opened(path) as store:
        assert await store.count_parked() == 0
        assert [one.event.id for one in await store.waiting(0, 10)] == [
            f"message/m{n}" for n in (4, 0, 1, 2, 3)
        ]
