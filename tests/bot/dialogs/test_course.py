"""How a dialog goes: each scenario once straight, and with a process that dies at every step."""

from datetime import timedelta

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.exits import NoAnswer, Stopped, TooManyTries
from healthmsg.bot.dialogs.registration import register
from tests.bot.dialogs.simple import Choice, Number, Text
from tests.bot.dialogs.world import MODES, Mode, World

modes = pytest.mark.parametrize("mode", MODES)
HOUR = timedelta(hours=1)
CALLS: list[object] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def book(name: str, pain: int) -> str:
    CALLS.append((name, pain))
    return f"14:3{pain}"


@register(stop=("stop", "annuleren"), back=("terug",))
async def intake(d: Dialog) -> None:
    name = await d.ask(Text("Wat is uw naam?"))
    pain = await d.ask(Number("Pijn van 0 tot 10?"))
    if pain >= 7 and await d.ask(Choice("Mag een arts u bellen?")) == "ja":
        at = await d.once(book, name, pain)
        await d.say(f"U wordt om {at} gebeld.")
    await d.say("Dank u.")


@modes
async def test_questions_come_one_after_the_other_and_each_message_once(mode: Mode) -> None:
    world = World([intake], mode)

    await world.says("start")
    await world.says("An")
    await world.says("veel")
    await world.says("8")
    await world.presses("ja")

    assert world.sees == [
        "Wat is uw naam?",
        "Pijn van 0 tot 10?",
        "Dat is geen getal tot en met 10.\n\nPijn van 0 tot 10?",
        "Mag een arts u bellen?",
        "U wordt om 14:38 gebeld.",
        "Dank u.",
    ]
    assert CALLS[0] == ("An", 8)
    assert len(CALLS) == 1 or mode == "before"
    assert not world.is_open()
    assert not world.store.step_records
    assert not world.errors
