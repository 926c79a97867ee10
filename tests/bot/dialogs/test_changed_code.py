"""Open dialogs against code that was changed: what goes on, what asks again, and what is held."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.registration import register
from healthmsg.events import MessageCreated
from tests.bot.dialogs.world import World

Code = Callable[[Dialog], Awaitable[None]]
DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


def book(name: str) -> str:
    DONE.append(name)
    return "14:30"


def order(name: str) -> str:
    DONE.append(f"order {name}")
    return "15:30"


async def original(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {pain} {kind}")


# --- ten edits that fit


async def wording_with_a_key(d: Dialog) -> None:
    name = await d.text("Hoe heet u?", key="name")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe wilt u het?", ["bellen", "komen"], key="how")
    await d.confirm("Is alles goed?", key="right")
    await d.say(f"{name} {pain} {kind}")


async def steps_at_the_end(d: Dialog) -> None:
    await original(d)
    await d.text("Nog iets?")
    await d.once(order, "x")


async def other_validation(d: Dialog) -> None:
    name = await d.text("Naam?", key="name", min_length=20, pattern="[0-9]+")
    pain = await d.number("Pijn van 0 tot 10?", between=(9, 10))
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {pain} {kind}")


async def messages_of_other_words(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name)
    await d.say(f"U bent om {at} aan de beurt.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"Dank u, {name} {pain} {kind}")


async def an_option_more(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen", "schrijven"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {pain} {kind}")


async def reminders_and_limits(d: Dialog) -> None:
    from datetime import timedelta

    name = await d.text("Naam?", key="name", tries=3, invalid="Nee.")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10), remind=timedelta(hours=1))
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how", timeout=timedelta(days=1))
    await d.confirm("Klopt alles?", key="right", remind=(timedelta(hours=1),))
    await d.say(f"{name} {pain} {kind}")


async def other_arguments_of_a_function(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name.upper())
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {pain} {kind}")


async def a_part_as_a_dialog_of_its_own(d: Dialog) -> None:
    async def part(inner: Dialog) -> str:
        name = await inner.text("Naam?", key="name")
        await inner.number("Pijn van 0 tot 10?", between=(0, 10))
        return name

    name = await d.run(part)
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {kind}")


async def a_branch_that_was_not_taken(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Pijn van 0 tot 10?", between=(0, 10))
    if pain > 8:
        await d.once(order, name)
        await d.say("Bel 112.")
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {pain} {kind}")


async def a_key_that_is_the_old_wording(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    pain = await d.number("Hoeveel pijn?", between=(0, 10), key="Pijn van 0 tot 10?")
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    kind = await d.choice("Hoe?", ["bellen", "komen"], key="how")
    await d.confirm("Klopt alles?", key="right")
    await d.say(f"{name} {pain} {kind}")


FITTING: list[Code] = [
    wording_with_a_key,
    steps_at_the_end,
    other_validation,
    messages_of_other_words,
    an_option_more,
    reminders_and_limits,
    other_arguments_of_a_function,
    a_part_as_a_dialog_of_its_own,
    a_branch_that_was_not_taken,
    a_key_that_is_the_old_wording,
]


# --- ten edits that do not fit


async def another_order(d: Dialog) -> None:
    await d.number("Pijn van 0 tot 10?", between=(0, 10))
    await d.text("Naam?", key="name")


async def another_question_under_the_key(d: Dialog) -> None:
    await d.email("Uw e-mailadres?", key="name")


async def wording_without_a_key(d: Dialog) -> None:
    await d.text("Naam?", key="name")
    await d.number("Hoeveel pijn?", between=(0, 10))


async def a_question_less_before_the_booking(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    at = await d.once(book, name)
    await d.say(f"Om {at}.")


async def a_question_more_before_the_booking(d: Dialog) -> None:
    await d.text("Naam?", key="name")
    await d.text("Voornaam?")


async def another_function(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    await d.number("Pijn van 0 tot 10?", between=(0, 10))
    await d.once(order, name)


async def no_booking(d: Dialog) -> None:
    await d.text("Naam?", key="name")
    await d.number("Pijn van 0 tot 10?", between=(0, 10))
    await d.say("Om 14:30.")


async def a_message_more(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name)
    await d.say("Even geduld.")
    await d.say(f"Om {at}.")
    await d.choice("Hoe?", ["bellen", "komen"], key="how")


async def an_answer_that_is_no_option_any_more(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    await d.number("Pijn van 0 tot 10?", between=(0, 10))
    at = await d.once(book, name)
    await d.say(f"Om {at}.")
    await d.choice("Hoe?", ["komen", "schrijven"], key="how")


async def an_end_before_its_time(d: Dialog) -> None:
    name = await d.text("Naam?", key="name")
    await d.number("Pijn van 0 tot 10?", between=(0, 10))
    await d.once(book, name)


UNFITTING: list[tuple[Code, str]] = [
    (another_order, "held"),
    (another_question_under_the_key, "held"),
    (wording_without_a_key, "held"),
    (a_question_less_before_the_booking, "held"),
    (a_question_more_before_the_booking, "held"),
    (another_function, "held"),
    (no_booking, "held"),
    (a_message_more, "held"),
    (an_answer_that_is_no_option_any_more, "asked_again"),
    (an_end_before_its_time, "held"),
]


async def deployed(code: Code) -> World:
    """Return a bot of which the code was changed while a dialog waits at its last question."""
    world = World([register(name="intake")(original)])
    await world.says("start")
    for said in ("An", "8", "bellen"):
        await world.says(said)
    assert world.sees == ["Naam?", "Pijn van 0 tot 10?", "Om 14:30.", "Hoe?", "Klopt alles?"]
    world.dialogs = [register(name="intake")(code)]  # type: ignore[arg-type] # an `async def`, all of them
    await world.kill_and_restart()
    return world


@pytest.mark.parametrize("code", FITTING, ids=lambda code: code.__name__)
async def test_an_edit_that_fits_raises_no_alarm_and_the_dialog_goes_on(code: Code) -> None:
    world = await deployed(code)
    commits = len(world.store.commits)

    assert await world.engine.check() == []
    assert len(world.store.commits) == commits
    await world.says("ja")

    assert DONE == ["An"]
    assert not any(record.state == "held" for record in world.store.dialog_records.values())
    assert world.sees[:5] == ["Naam?", "Pijn van 0 tot 10?", "Om 14:30.", "Hoe?", "Klopt alles?"]
    assert world.sees[5].endswith(("An 8 bellen", "An bellen"))


@pytest.mark.parametrize(("code", "result"), UNFITTING, ids=lambda code: getattr(code, "__name__", code))
async def test_an_edit_that_does_not_fit_is_found_and_nothing_is_sent_that_could_be_wrong(
    code: Code, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = await deployed(code)
    seen = list(world.sees)

    problems = await world.engine.check()
    assert [(problem.name, problem.version, problem.result) for problem in problems] == [
        ("intake", 1, result)
    ]
    assert world.sees == seen
    assert "An" not in repr(problems).split()
    await world.says("ja")

    assert DONE == ["An"]
    state = next(iter(world.store.dialog_records.values())).state
    if result == "held":
        assert state == "held"
        assert world.sees == seen
        assert len(world.store.parked_events) == 1
        assert "is held" in caplog.text
        assert "14:30" not in caplog.text
        return
    assert world.sees[5:] == ["Hoe?"]
    await world.says("schrijven")


async def test_a_held_dialog_goes_on_by_itself_when_its_code_is_back() -> None:
    world = await deployed(another_function)
    await world.says("ja")
    world.dialogs = [register(name="intake")(original)]
    await world.kill_and_restart()
    await world.says("ja")

    assert world.sees[5:] == ["An 8 bellen"]
    assert not world.is_open()
    assert len(world.store.parked_events) == 1


async def test_where_nothing_was_done_yet_the_dialog_asks_again_and_takes_no_answer_for_another_question(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @register(name="intake")
    async def before(d: Dialog) -> None:
        await d.text("Naam?")
        await d.text("Plaats?")

    @register(name="intake")
    async def after(d: Dialog) -> None:
        name = await d.text("Naam?")
        pain = await d.number("Pijn?")
        await d.say(f"{name} {pain}")

    world = World([before])
    await world.says("start")
    await world.says("An")
    world.dialogs = [after]
    await world.kill_and_restart()
    assert [problem.result for problem in await world.engine.check()] == ["asked_again"]
    caplog.set_level(logging.WARNING)
    await world.says("8")

    assert world.sees == ["Naam?", "Plaats?", "Pijn?"]
    assert "goes on from there, since its code was changed" in caplog.text
    await world.says("7")
    assert world.sees[-1] == "An 7"


@pytest.mark.parametrize("dies", [False, True])
async def test_what_was_typed_for_a_question_that_is_gone_is_for_the_handlers_when_nothing_is_asked_instead(
    dies: bool,
) -> None:
    @register(name="intake")
    async def before(d: Dialog) -> None:
        await d.text("Naam?")
        await d.text("Nog iets?")

    @register(name="intake")
    async def after(d: Dialog) -> None:
        await d.once(len, await d.text("Naam?"))

    world = World([before], "after" if dies else "straight")
    await world.says("start")
    await world.says("An")
    world.dialogs = [after]
    await world.kill_and_restart()
    await world.says("Ik heb pijn op de borst")

    assert world.sees == ["Naam?", "Nog iets?"]
    assert [event.message.body for event in world.unhandled if isinstance(event, MessageCreated)] == [
        "Ik heb pijn op de borst",
    ]
    assert not world.is_open()


async def test_a_button_of_a_question_that_is_gone_is_said_to_be_over_when_nothing_is_asked_instead() -> None:
    @register(name="intake")
    async def before(d: Dialog) -> None:
        await d.confirm("Goed?")

    @register(name="intake")
    async def after(d: Dialog) -> None:
        await d.once(len, "")

    world = World([before])
    await world.says("start")
    world.dialogs = [after]
    await world.kill_and_restart()
    await world.presses("ja")

    assert world.sees == ["Goed?", "Deze vraag is al beantwoord of gesloten."]
    assert not world.is_open()


async def test_old_dialogs_keep_the_code_of_their_version() -> None:
    world = World([register(name="intake")(original)])
    await world.says("start")
    await world.says("An")

    @register(name="intake", version=2)
    async def newer(d: Dialog) -> None:
        await d.email("E-mailadres?")

    newer.version(1)(original)
    world.dialogs = [newer]
    await world.kill_and_restart()

    assert await world.engine.check() == []
    await world.says("8")
    assert world.sees[-1] == "Hoe?"
    await world.says("start", user="bea")
    assert world.sees[-1] == "E-mailadres?"


async def test_a_dialog_within_another_one_keeps_the_version_it_began_with() -> None:
    @register()
    async def part(d: Dialog) -> str:
        return await d.text("Oud?")

    @register(name="part", version=2)
    async def newer(d: Dialog) -> str:
        return await d.text("Nieuw?")

    async def old(d: Dialog) -> str:
        return f"oud {await d.text('Oud?')}"

    newer.version(1)(old)

    def whole(which: Any) -> Any:
        @register(name="whole")
        async def outer(d: Dialog) -> None:
            await d.say(await d.run(which))

        return outer

    world = World([whole(part)])
    await world.says("start")
    world.dialogs = [whole(newer)]
    await world.kill_and_restart()
    await world.says("ja")

    assert world.sees == ["Oud?", "oud ja"]


async def test_a_dialog_that_is_no_longer_in_the_code_is_held() -> None:
    world = World([register(name="intake")(original)])
    await world.says("start")
    world.dialogs = []
    await world.kill_and_restart()

    problems = await world.engine.check()
    assert [problem.what for problem in problems] == ["there is no dialog of that name in the code"]
    await world.says("An")
    assert len(world.store.parked_events) == 1
