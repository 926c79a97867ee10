"""What users of other bot frameworks have asked for, each by the thread in which they did."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.exits import NoAnswer, Stopped
from healthmsg.bot.dialogs.registration import register
from healthmsg.errors import ForeignAwaitError
from healthmsg.events import MessageCreated
from healthmsg.models import Attachment, Message
from tests.bot.dialogs.world import CHAT, MODES, Mode, Scope, World

modes = pytest.mark.parametrize("mode", MODES)
HOUR = timedelta(hours=1)


@register()
async def form(d: Dialog) -> None:
    try:
        name = await d.text("Naam?")
        age = await d.number("Leeftijd?", between=(12, 90), remind=HOUR, timeout=4 * HOUR)
        news = await d.confirm("Nieuwsbrief?")
        await d.say(f"{name} {age} {news}")
    except Stopped:
        await d.say("Formulier gestopt.")
    except NoAnswer:
        await d.say("Te laat.")


@modes
async def test_several_messages_at_once_do_not_break_the_state__aiogram_960(mode: Mode) -> None:
    world = World([form], mode)

    await world.takes(*[world.message(said) for said in ("start", "An", "oud", "44", "ja")])

    assert world.sees == [
        "Naam?",
        "Leeftijd?",
        "Typ een getal.\n\nLeeftijd?",
        "Nieuwsbrief?",
        "An 44 True",
    ]
    assert not world.is_open()


@register()
async def album(d: Dialog) -> None:
    files = await d.files("Foto's?", count=(3, 3))
    await d.say(f"{len(files)}: {[file.id for file in files]}")


@modes
async def test_files_that_are_sent_one_by_one_at_once_are_all_taken__aiogram_1317(mode: Mode) -> None:
    world = World([album], mode)
    await world.says("start")
    pictures = [
        MessageCreated.of(
            CHAT,
            Message(
                f"p{number}",
                body="",
                user_id="an",
                attachments=(Attachment(f"a{number}", name="x.jpg", mime_type="image/jpeg", size=5),),
            ),
            me="bot",
            received_at=world.clock.now(),
        )
        for number in range(3)
    ]

    await world.takes(*pictures)

    assert world.sees[-1] == "3: ['a0', 'a1', 'a2']"
    assert not world.is_open()


@modes
async def test_a_time_out_survives_a_restart__python_telegram_bot_3522(mode: Mode) -> None:
    world = World([form], mode)
    await world.says("start")
    await world.says("An")
    await world.kill_and_restart()

    await world.passes(5 * HOUR)

    assert world.sees[-2:] == ["Herinnering: Leeftijd?", "Te laat."]
    assert not world.is_open()


@modes
async def test_a_time_out_that_came_while_the_bot_was_down_comes_once__python_telegram_bot_1825(
    mode: Mode,
) -> None:
    world = World([form], mode)
    await world.says("start")
    await world.says("An")

    await world.is_down_for(72 * HOUR)
    await world.is_down_for(72 * HOUR)

    assert world.sees == ["Naam?", "Leeftijd?", "Te laat."]


@modes
async def test_help_in_the_middle_leaves_the_question_open_and_stop_leaves_it__python_telegram_bot_1136(
    mode: Mode,
) -> None:
    async def handler(world: World, scope: Scope) -> None:
        if not isinstance(scope.event, MessageCreated):
            return
        if scope.event.message.body == "start":
            await world.start(scope)

    world = World([form], mode, handler)
    await world.says("start")
    await world.says("An")
    # A command is the router's, which asks no dialog about it.
    steps, timers = dict(world.store.step_records), dict(world.store.timers)
    assert (steps, timers) == (world.store.step_records, world.store.timers)
    await world.kill_and_restart()
    await world.says("44")
    assert world.sees[-1] == "Nieuwsbrief?"

    await world.says("STOP")

    assert world.sees[-1] == "Formulier gestopt."
    assert not world.is_open()


@modes
async def test_double_taps_count_once__python_telegram_bot_1069(mode: Mode) -> None:
    @register()
    async def visit(d: Dialog) -> None:
        first = await d.confirm("Komt u?")
        second = await d.confirm("Zeker?")
        await d.say(f"{first} {second}")

    world = World([visit], mode)
    await world.says("start")
    message = world.outbox.id_of(next(iter(world.outbox.sent)))
    name = next(iter(world.outbox.sent.values()))[1].question.options[0].name  # type: ignore[union-attr] # it has one
    from healthmsg.events import QuestionAnswered

    tap = QuestionAnswered.of(CHAT, message, "an", (name,), me="bot", received_at=world.clock.now())
    await world.takes(tap, tap)
    await world.presses("nee")

    assert world.sees == ["Komt u?", "Zeker?", "True False"]


async def test_gather_is_refused_where_it_stands_and_not_at_the_first_replay__dbos_688() -> None:
    @register()
    async def gathering(d: Dialog) -> None:
        await asyncio.gather(d.once(str), d.once(int))

    world = World([gathering])
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await world.says("start")

    assert isinstance(world.errors[0], ForeignAwaitError)
    assert world.errors[0].file == __file__
    assert world.sees == []


@modes
async def test_a_value_that_the_dialog_changes_is_as_it_was_at_each_replay__temporal_1578(mode: Mode) -> None:
    async def fetch() -> dict[str, Any]:
        return {"slots": [9, 10]}

    def forget(slots: list[int]) -> None:
        slots.clear()

    @register()
    async def changing(d: Dialog) -> None:
        found = await d.once(fetch)
        found["slots"].append(11)
        await d.once(forget, found["slots"])
        await d.text(f"{found['slots']}?")
        found["slots"].append(12)
        await d.text(f"{found['slots']}!")

    world = World([changing], mode)
    await world.says("start")
    await world.says("ja")
    await world.kill_and_restart()
    await world.says("ja")

    assert world.sees == ["[9, 10, 11]?", "[9, 10, 11, 12]!"]
    assert not world.is_open()
    assert not world.errors


@modes
async def test_answers_that_are_objects_are_made_anew_for_each_replay__grammy_conversations_137(
    mode: Mode,
) -> None:
    seen: list[list[Attachment]] = []

    @register()
    async def keeping(d: Dialog) -> None:
        files = await d.files("Foto?")
        seen.append(list(files))
        files.clear()
        await d.text("Nog iets?")
        await d.say(f"{len(files)}")

    world = World([keeping], mode)
    await world.says("start")
    picture = Message("p", user_id="an", attachments=(Attachment("a", name="x.jpg", size=5),))
    await world.takes(MessageCreated.of(CHAT, picture, me="bot", received_at=world.clock.now()))
    await world.kill_and_restart()
    await world.says("nee")

    assert world.sees[-1] == "0"
    assert all([file.id for file in files] == ["a"] for files in seen)
    assert len(seen) >= 2
