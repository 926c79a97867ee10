"""What a dialog's code must not do, and what becomes of it."""

import asyncio
import datetime as dt
import logging
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import choice
from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.registration import RegisteredDialog, register
from healthmsg.errors import (
    ConfigurationError,
    DialogHeldError,
    DialogOpenError,
    ForeignAwaitError,
    StepOutsideDialogError,
    TooManyStepsError,
)
from tests.bot.dialogs.simple import Text
from tests.bot.dialogs.world import CHAT, World

HERE = str(Path(__file__))


def line_of(text: str) -> int:
    lines = Path(HERE).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


@register()
async def sleeping(d: Dialog) -> None:
    await d.ask(Text("Naam?"))
    await asyncio.sleep(0.01)  # here it sleeps


@register()
async def yielding(d: Dialog) -> None:
    await d.ask(Text("Naam?"))
    await asyncio.sleep(0)  # here it yields


async def wait_within(event: asyncio.Event) -> None:
    await event.wait()  # here it waits within


@register()
async def waiting(d: Dialog) -> None:
    await d.ask(Text("Naam?"))
    with suppress(Exception):
        await wait_within(asyncio.Event())


@register()
async def gathering(d: Dialog) -> None:
    await d.ask(Text("Naam?"))
    await asyncio.gather(d.ask(Text("A?")), d.ask(Text("B?")))  # here it gathers


@pytest.mark.parametrize(
    ("dialog", "mark", "awaited"),
    [
        (sleeping, "# here it sleeps", "asyncio.tasks.sleep"),
        (yielding, "# here it yields", "sleep"),
        (waiting, "# here it waits within", "Event.wait"),
        (gathering, "# here it gathers", "Future"),
    ],
)
async def test_what_is_awaited_beside_the_dialog_is_refused_with_file_and_line(
    dialog: RegisteredDialog[None], mark: str, awaited: str
) -> None:
    world = World([dialog])
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await world.says("start")
    await world.says("An")

    error = world.errors[0]
    assert isinstance(error, ForeignAwaitError)
    assert (error.file, error.line) == (HERE, line_of(mark))
    assert awaited in error.awaited
    assert f"{HERE}:{error.line}" in str(error)
    assert world.sees == ["Naam?"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


Make = tuple[str, tuple[object, ...]]
"""A method of the dialog, and what it is called with."""
STEPS: dict[str, Make] = {
    "a question (text)": ("ask", (Text("Binnen?"),)),
    "a question (number)": ("number", ("Binnen?",)),
    "`say`": ("say", ("Binnen.",)),
    "`sleep`": ("sleep", (dt.timedelta(hours=1),)),
    "`once`": ("once", (len, "")),
    "`now`": ("now", ()),
    "`mark`": ("mark", ()),
    "`hand_over`": ("hand_over", ("ernstig",)),
    "`restart`": ("restart", ()),
}


def await_it(d: Dialog, method: str, arguments: tuple[object, ...]) -> Callable[[], object]:
    async def awaiting() -> None:
        await getattr(d, method)(*arguments)  # here it awaits a step

    return awaiting


def let_it_go(d: Dialog, method: str, arguments: tuple[object, ...]) -> Callable[[], object]:
    async def letting_go() -> None:
        getattr(d, method)(*arguments)  # here it lets a step go

    return letting_go


def make_it_in_a_thread(d: Dialog, method: str, arguments: tuple[object, ...]) -> Callable[[], object]:
    return lambda: getattr(d, method)(*arguments) and None  # here it makes a step in a thread


def swallow_that(d: Dialog, method: str, arguments: tuple[object, ...]) -> Callable[[], object]:
    async def swallowing() -> None:
        with suppress(Exception):
            await getattr(d, method)(*arguments)  # here it swallows that

    return swallowing


def await_one_of_the_dialog(d: Dialog, method: str, arguments: tuple[object, ...]) -> Callable[[], object]:
    step = getattr(d, method)(*arguments)

    async def awaiting() -> None:
        await step  # here it awaits one of the dialog

    return awaiting


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("function", "mark"),
    [
        (await_it, "# here it awaits a step"),
        (let_it_go, "# here it lets a step go"),
        (make_it_in_a_thread, "# here it makes a step in a thread"),
        (swallow_that, "# here it swallows that"),
        (await_one_of_the_dialog, "# here it awaits one of the dialog"),
    ],
)
async def test_steps_are_not_taken_from_a_function_given_to_once(
    function: Callable[[Dialog, str, tuple[object, ...]], Callable[[], object]], mark: str, step: str
) -> None:
    @register()
    async def crossing(d: Dialog) -> None:
        await d.text("Naam?")
        with suppress(Exception):
            await d.once(function(d, *STEPS[step]))
        await d.say("Dank u.")

    world = World([crossing])
    await world.says("start")
    await world.says("An")

    error = world.errors[0]
    assert isinstance(error, StepOutsideDialogError)
    assert (error.file, error.line, error.step) == (HERE, line_of(mark), step)
    assert f"{HERE}:{error.line}" in str(error)
    assert world.sees == ["Naam?"]
    assert isinstance(world.errors[-1], DialogHeldError)
    assert f"StepOutsideDialogError at {HERE}:{error.line}" in str(world.errors[-1])


async def test_a_function_whose_steps_were_taken_out_runs_when_its_dialog_is_taken_back() -> None:
    broken = [True]

    @register()
    async def booking(d: Dialog) -> None:
        async def book() -> str:
            if broken:
                await d.say("Even geduld.")
            return "14:30"

        await d.say(f"Tot {await d.once(book)}.")

    world = World([booking])
    await world.says("start")
    assert isinstance(world.errors[-1], DialogHeldError)
    broken.clear()
    await world.kill_and_restart()
    await world.by_hand("take_back", (CHAT, "an"))
    assert world.sees == ["Tot 14:30."]


async def test_code_that_clings_to_life_is_let_go() -> None:
    @register()
    async def clinging(d: Dialog) -> None:
        while True:
            try:
                await d.ask(Text("Naam?"))
            finally:
                with suppress(BaseException):
                    await d.say("Tot ziens")

    world = World([clinging], options={"keep": 0})
    await world.says("start")
    await world.says("An")

    assert world.sees == ["Naam?", "Tot ziens", "Naam?"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_calls_that_differ_at_each_replay_are_reported_when_a_dialog_is_registered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @register()
    async def careless(d: Dialog) -> None:
        from datetime import datetime as moment

        first = dt.datetime.now(tz=dt.UTC)
        second = moment.today()  # noqa: DTZ002 - what is looked for
        third, fourth = dt.date.today(), time.time()  # noqa: DTZ011 - what is looked for
        random.random()  # noqa: S311 - what is looked for
        choice([1, 2])  # noqa: S311 - the same
        random.Random(1).shuffle([])  # noqa: S311 - the same
        uuid.uuid4()
        await asyncio.sleep(1)
        asyncio.create_task(asyncio.gather())  # type: ignore[arg-type] # noqa: RUF006 - what is looked for
        with suppress(ValueError):
            dt.datetime.fromisoformat("2026-01-01")
            await d.once(lambda: dt.datetime.now(tz=dt.UTC))
            uuid.UUID(int=1)
        await d.say(f"{first} {second} {third} {fourth}")

    found = [finding.what for finding in careless.findings]
    assert found == [
        "dt.datetime.now()", "moment.today()", "dt.date.today()", "time.time()",
        "random.random()", "choice()",
        "random.Random()", "uuid.uuid4()", "asyncio.sleep()", "asyncio.create_task()", "asyncio.gather()",
    ]  # fmt: skip
    assert {finding.file for finding in careless.findings} == {HERE}
    assert careless.findings[0].line == line_of("first = dt.datetime.now")
    assert f"{HERE}:{careless.findings[0].line}" in caplog.text


@register()
async def in_parts(d: Dialog) -> None:
    await first_part(d, 1)
    await d.run(second_part)
    await another(d.id)


async def first_part(d: Dialog, _: int) -> None:
    await deeper(d)
    await first_part(d, 2)


async def deeper(dialog: Dialog) -> None:
    uuid.uuid4()  # of a part
    await dialog.once(another, "x")


async def second_part(d: Dialog) -> None:
    dt.date.today()  # noqa: DTZ011 - of a part
    await d.mark()


async def another(_: str) -> None:
    random.random()  # noqa: S311 - outside the dialog


def test_the_functions_that_a_dialog_is_handed_to_are_looked_through_when_the_bot_starts() -> None:
    assert in_parts.findings == []  # they stand below it

    World([in_parts])

    assert [one.what for one in in_parts.findings] == ["dt.date.today()", "uuid.uuid4()"]
    assert [one.line for one in in_parts.findings] == [
        line_of("dt.date.today()  # noqa: DTZ011 - of"),
        line_of("# of a part"),
    ]


def test_dialogs_of_one_name_and_versions_that_exist_are_refused() -> None:
    @register(version=2)
    async def twice(d: Dialog) -> None: ...

    @register(name="twice")
    async def other(d: Dialog) -> None: ...

    with pytest.raises(ConfigurationError, match="two dialogs are called twice"):
        World([twice, other])
    for number in (2, 3):
        with pytest.raises(ConfigurationError, match=f"version {number} of the dialog twice"):

            @twice.version(number)
            async def again(d: Dialog) -> None: ...

    with pytest.raises(ConfigurationError, match="async def"):

        @register()
        def no_coroutine(d: Dialog) -> Any: ...

    with pytest.raises(ConfigurationError, match="sequences of words"):
        register(stop="stop")(twice.code_of(2).function)


# --- arguments


class Ehr:
    pass


async def test_arguments_are_those_it_was_started_with_and_then_what_is_provided_by_type() -> None:
    ehr = Ehr()
    seen: list[object] = []

    @register()
    async def taking(d: Dialog, topic: str, ehr: Ehr, count: int = 3) -> None:
        seen.extend([topic, ehr, count])
        await d.ask(Text("Goed?"))

    def resolve(_: RegisteredDialog[Any], name: str, annotation: object) -> object:
        return {Ehr: ehr}[annotation]  # type: ignore[index] # a KeyError for any other

    async def handler(world: World, scope: Any) -> None:
        await world.start(scope, "pijn")

    world = World([taking], "straight", handler, {"resolve": resolve})
    await world.says("start")
    await world.kill_and_restart()
    await world.says("ja")
    assert seen == ["pijn", ehr, 3] * 2

    world = World([taking], "straight", handler)
    await world.says("start")
    assert isinstance(world.errors[0], ConfigurationError)
    assert "argument ehr" in str(world.errors[0])
    assert HERE in str(world.errors[0])


# --- failures


@register()
async def failing(d: Dialog) -> None:
    name = await d.ask(Text("Naam?"))
    await d.say("Even kijken.")
    raise ZeroDivisionError(name)  # here it fails


async def test_a_dialog_whose_code_fails_is_tried_again_and_then_held_and_a_person_is_informed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World([failing])
    await world.says("start")
    caplog.set_level(logging.DEBUG)
    await world.says("Geheim")

    assert [type(error) for error in world.errors] == [ZeroDivisionError] * 2 + [DialogHeldError]
    assert world.errors[-1].__context__ is None
    record = next(iter(world.store.dialog_records.values()))
    assert record.state == "held"
    assert [one for one in caplog.records if one.levelno == logging.ERROR]
    assert f"ZeroDivisionError at {HERE}:{line_of('# here it fails')}" in caplog.text
    assert "Geheim" not in caplog.text
    assert "Geheim" not in str(world.errors[-1]) + repr(record) + repr(world.engine)
    assert world.sees == ["Naam?", "Even kijken."]
    assert [one.reason for one in world.store.parked_events.values()] == [
        f"DialogHeldError [dialog {record.id}]"
    ]


async def test_a_held_dialog_sends_nothing_and_what_comes_for_it_is_parked_until_it_is_given_back() -> None:
    works = False

    @register()
    async def healing(d: Dialog) -> None:
        name = await d.ask(Text("Naam?"))
        if not works:
            raise ZeroDivisionError
        await d.ask(Text(f"{name}: goed?"))

    world = World([healing])
    await world.says("start")
    await world.says("An")
    await world.says("hallo?")
    await world.kill_and_restart()
    await world.says("stop")
    assert world.sees == ["Naam?"]
    assert len(world.store.parked_events) == 3

    assert await world.by_hand("take_back", (CHAT, "an"))  # it still fails
    assert world.sees == ["Naam?"]

    works = True
    assert await world.by_hand("take_back", (CHAT, "an"))

    # What was parked for it is taken up, in its order: the last one comes after the dialog's end.
    assert not world.store.parked_events
    assert world.sees == ["Naam?", "An: goed?"]
    assert not world.is_open()
    assert [event.kind for event in world.unhandled] == ["message_created"]


async def test_an_answer_that_was_taken_before_it_was_parked_is_no_answer_to_a_later_question() -> None:
    works = False

    @register()
    async def healing(d: Dialog) -> None:
        name = await d.ask(Text("Naam?"))
        await d.say("Even kijken.")
        if not works:
            raise ZeroDivisionError
        await d.say(await d.ask(Text(f"{name}, en verder?")))

    world = World([healing])
    await world.says("start")
    await world.says("An")
    works = True
    await world.by_hand("take_back", (CHAT, "an"))
    assert world.sees == ["Naam?", "Even kijken.", "An, en verder?"]
    await world.says("Visser")

    assert world.sees[3:] == ["Visser"]
    assert not world.unhandled


async def test_what_was_parked_for_another_dialog_stays_parked_when_one_is_taken_back() -> None:
    works = False

    @register()
    async def healing(d: Dialog) -> None:
        await d.ask(Text("Naam?"))
        if not works:
            raise ZeroDivisionError

    world = World([healing])
    for user in ("an", "bo"):
        await world.says("start", user=user)
        await world.says("Ik", user=user)
    of_an, _ = world.store.parked_events
    works = True
    await world.by_hand("take_back", (CHAT, "bo"))

    assert [*world.store.parked_events] == [of_an]
    assert [one.user for one in world.store.dialog_records.values()] == ["an"]


async def test_a_dialog_that_fails_before_its_first_step_has_not_begun() -> None:
    @register()
    async def stillborn(d: Dialog) -> None:
        raise ZeroDivisionError

    world = World([stillborn])
    await world.says("start")

    assert {type(error) for error in world.errors} == {ZeroDivisionError}
    assert not world.is_open()


async def test_timers_of_a_held_dialog_wait_until_it_is_given_back() -> None:
    @register()
    async def handed(d: Dialog) -> None:
        await d.ask(Text("Naam?"), remind=dt.timedelta(hours=1))

    world = World([handed])
    await world.says("start")
    assert await world.by_hand("hand_over", (CHAT, "an"), "Ik doe het")
    assert not await world.by_hand("hand_over", (CHAT, "an"), "Ik ook")
    await world.passes(dt.timedelta(hours=5))

    assert world.sees == ["Naam?"]
    assert [timer.kind for timer in world.store.timers.values()] == ["remind"]


async def test_a_held_dialog_can_be_stopped() -> None:
    world = World([failing])
    await world.says("start")
    await world.says("An")

    assert await world.by_hand("stop", (CHAT, "an"))

    assert not world.is_open()
    assert not await world.by_hand("stop", (CHAT, "an"))
    await world.says("start")
    assert world.is_open()


async def test_more_than_a_thousand_steps_are_an_error_that_names_restart() -> None:
    @register()
    async def endless(d: Dialog) -> None:
        while True:
            await d.random()
            await d.say("x")

    world = World([endless])
    await world.says("start")

    assert isinstance(world.errors[0], TooManyStepsError)
    assert "d.restart(with_=" in str(world.errors[0])
    assert len(world.sees) == 500
    assert next(iter(world.store.dialog_records.values())).state == "held"


async def test_one_dialog_is_open_for_a_chat_and_user() -> None:
    async def handler(world: World, scope: Any) -> None:
        await world.start(scope)

    world = World([failing], "straight", handler)
    await world.says("start")
    event = world.message("/form")
    from tests.bot.dialogs.world import Scope

    with pytest.raises(DialogOpenError, match="The dialog failing is open"):
        await world.start(Scope(event, world.store))

    await world.says("start", user="bea")
    assert len(world.store.dialog_records) == 2


async def test_a_handler_may_end_a_dialog_and_start_another_one_in_its_place() -> None:
    from tests.bot.dialogs.world import Scope

    world = World([failing])
    await world.says("start")
    scope = Scope(world.message("/opnieuw"), world.store)
    assert await world.for_(scope).stop((CHAT, "an"))
    await world.start(scope)
    await world.store.commit(*scope.effects)

    assert world.sees == ["Naam?", "Naam?"]
    assert len(world.store.dialog_records) == 1
    assert len(world.store.step_records) == 1
