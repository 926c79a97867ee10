"""Answers that a dialog is started with."""

from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.questions import NumberQuestion
from healthmsg.bot.dialogs.registration import register
from healthmsg.errors import InvalidInputError
from healthmsg.models import User
from tests.bot.dialogs.world import World

SECRET = "geheim"


@register(back=("terug",))
async def intake(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Pijn?", key="pain", between=(0, 10))
    who = await d.mention("Wie?", key="who")
    both = await d.ask_all(["an", "bea"], NumberQuestion("Hoeveel?"), key="both")
    await d.say(f"{name} {pain} {[user.id for user in who]} {both}")


def world_with(answers: Any) -> World:
    async def start(world: World, scope: Any) -> None:
        await world.start(scope, answers=answers)

    return World([intake], handler=start)


VALID = {"name": "An", "pain": 3, "who": [User("bo")], "both": {"an": 1, "bea": 2}}


async def test_answers_that_fit_skip_their_questions(caplog: pytest.LogCaptureFixture) -> None:
    world = world_with(VALID)
    await world.says("start")

    assert world.sees == ["An 3 ['bo'] {'an': 1, 'bea': 2}"]
    assert caplog.text == ""


async def test_an_answer_that_is_none_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    world = world_with({**VALID, "name": None, "pain": None})
    await world.says("start")
    assert world.sees == ["Naam?"]
    await world.kill_and_restart()
    await world.says("Bea")
    await world.says("7")

    assert world.sees[2:] == ["Bea 7 ['bo'] {'an': 1, 'bea': 2}"]
    assert caplog.text == ""


@pytest.mark.parametrize("value", [{"a": SECRET}, [SECRET], True, [{"a": SECRET}], [None]])
async def test_what_is_no_answer_to_its_question_is_asked_for_and_the_log_has_its_key_alone(
    value: object, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_with({**VALID, "name": value})
    await world.says("start")

    assert world.sees == ["Naam?"]
    assert "under the key name" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("key", ["pain", "who", "both"])
@pytest.mark.parametrize("value", [{"a": SECRET}, [{"a": SECRET}], [None], SECRET])
async def test_no_question_takes_what_only_looks_like_its_answer(key: str, value: object) -> None:
    world = world_with({**VALID, key: value})
    await world.says("start")

    assert [body.removeprefix("[mention=an] [mention=bea] ") for body in world.sees] == [
        {"pain": "Pijn?", "who": "Wie?", "both": "Hoeveel?"}[key]
    ]


@pytest.mark.parametrize("value", [SECRET.encode(), {SECRET}, [SECRET.encode()], {"an": 1j}])
async def test_what_can_be_no_answer_at_all_is_refused_before_the_dialog_begins(value: object) -> None:
    world = world_with({"name": value})
    await world.says("start")

    assert isinstance(world.errors[0], InvalidInputError)
    assert "'name'" in str(world.errors[0])
    assert SECRET not in str(world.errors[0])
    assert not world.is_open()


async def test_keys_of_which_no_question_came_are_named_once_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = world_with({**VALID, "pain": None, "pian": SECRET, "naam": SECRET})
    await world.says("start")
    assert caplog.text == ""
    await world.kill_and_restart()
    await world.says("7")

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the key of these answers that were brought along: naam, pian." in caplog.text
    assert SECRET not in caplog.text
