"""Steps that a dialog's code makes and does not await, or awaits twice."""

import inspect
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.exits import Stopped
from healthmsg.bot.dialogs.registration import RegisteredDialog, register
from healthmsg.bot.dialogs.source import STEPS
from healthmsg.errors import ClientUsageError, DialogHeldError, StepNotAwaitedError
from tests.bot.dialogs.world import World

# mypy: disable-error-code="unused-awaitable"

HERE = str(Path(__file__))


def line_of(text: str) -> int:
    lines = Path(HERE).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


@register()
async def forgets_to_hand_over(d: Dialog) -> None:
    if await d.number("Pijn?") > 7:
        d.hand_over("ernstig")  # it forgets to hand over
    await d.say("Dank u.")


@register()
async def forgets_the_last_word(d: Dialog) -> None:
    await d.number("Pijn?")
    d.say("Dank u.")  # it forgets the last word


@register()
async def forgets_before_a_question(d: Dialog) -> None:
    await d.number("Pijn?")
    d.mark()  # it forgets before a question
    await d.text("Nog iets?")


@register()
async def forgets_when_it_is_stopped(d: Dialog) -> None:
    await d.number("Pijn?")
    d.say("Tot ziens.")  # it forgets when it is stopped
    raise Stopped


async def part(d: Dialog) -> None:
    d.say("Even kijken.")  # it forgets in a part


@register()
async def forgets_in_a_part(d: Dialog) -> None:
    await d.number("Pijn?")
    await part(d)
    await d.say("Dank u.")


@register()
async def swallows(d: Dialog) -> None:
    await d.number("Pijn?")
    with suppress(Exception):
        d.say("Even kijken.")  # it swallows
        await d.say("Dank u.")


@pytest.mark.parametrize(
    ("dialog", "mark", "step"),
    [
        (forgets_to_hand_over, "# it forgets to hand over", "`hand_over`"),
        (forgets_the_last_word, "# it forgets the last word", "`say`"),
        (forgets_before_a_question, "# it forgets before a question", "`mark`"),
        (forgets_when_it_is_stopped, "# it forgets when it is stopped", "`say`"),
        (forgets_in_a_part, "# it forgets in a part", "`say`"),
        (swallows, "# it swallows", "`say`"),
    ],
)
async def test_a_step_that_is_not_awaited_is_refused_with_file_and_line(
    dialog: RegisteredDialog[None], mark: str, step: str
) -> None:
    world = World([dialog])
    await world.says("start")
    await world.says("9")

    error = world.errors[0]
    assert isinstance(error, StepNotAwaitedError)
    assert (error.file, error.line, error.step) == (HERE, line_of(mark), step)
    assert f"{HERE}:{error.line}" in str(error)
    assert isinstance(world.errors[-1], DialogHeldError)
    assert f"StepNotAwaitedError at {HERE}:{error.line}" in str(world.errors[-1])
    assert world.sees == ["Pijn?"]


async def test_a_step_that_is_kept_and_never_awaited_is_refused_when_the_dialog_ends() -> None:
    @register()
    async def keeping(d: Dialog) -> None:  # here it begins
        kept = d.hand_over("ernstig")
        await d.say("Dank u.")
        assert kept is not None

    world = World([keeping])
    await world.says("start")

    error = world.errors[0]
    assert isinstance(error, StepNotAwaitedError)
    assert (error.file, error.line) == (HERE, line_of("# here it begins") - 1)


async def test_steps_may_be_made_before_they_are_awaited() -> None:
    @register()
    async def early(d: Dialog) -> None:
        first, second = d.text("A?"), d.text("B?")
        last = d.say("Dank u.") if await first else d.say("Jammer.")
        await second
        await last

    world = World([early], options={"keep": 0})
    await world.says("start")
    await world.says("a")
    await world.kill_and_restart()
    await world.says("b")

    assert world.sees == ["A?", "B?", "Dank u."]
    assert not world.errors


async def test_a_dialog_that_is_let_go_of_with_steps_in_hand_is_none_that_has_failed() -> None:
    @register(stop=("stop",))
    async def early(d: Dialog) -> None:
        first, second = d.text("A?"), d.text("B?")
        await first
        await second

    world = World([early])
    await world.says("start")
    await world.kill_and_restart()
    await world.says("stop")

    assert world.sees == ["A?", "Gestopt."]
    assert not world.errors


async def test_a_step_is_awaited_once() -> None:
    @register()
    async def again(d: Dialog) -> None:
        step: Awaitable[str] = d.text("A?")
        first = await step
        await d.say(f"{first} {await step}")

    world = World([again])
    await world.says("start")
    await world.says("a")

    assert type(world.errors[0]) is ClientUsageError
    assert "a question (text), was awaited twice" in str(world.errors[0])
    assert world.sees == ["A?"]
    assert isinstance(world.errors[-1], DialogHeldError)


async def test_a_step_that_cannot_be_made_is_its_own_error(capsys: pytest.CaptureFixture[str]) -> None:
    @register()
    async def wrong(d: Dialog) -> None:
        with suppress(TypeError):
            await d.text("A?", unknown=1)  # type: ignore[call-arg]
        await d.text("B?")

    world = World([wrong])
    await world.says("start")

    assert world.sees == ["B?"]
    assert not world.errors
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_steps_and_parts_without_await_are_reported_when_a_dialog_is_registered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @register()
    async def careless(d: Dialog) -> None:
        d.say("x")  # without await
        d.run(part)  # type: ignore[unused-coroutine] # what is looked for
        part(d)  # type: ignore[unused-coroutine] # the same
        d.chat.text.upper()
        kept = d.text("?")
        await kept
        await d.say("y")

    found = [finding for finding in careless.findings if finding.line > line_of("async def careless")]
    assert [one.what for one in found] == ["d.say()", "d.run()", "part()"]
    assert (
        f"{HERE}:{line_of('# without await')}: in the dialog careless, d.say(): write `await`" in caplog.text
    )


def test_all_methods_that_are_to_be_awaited_are_known() -> None:
    methods: dict[str, Any] = dict(inspect.getmembers(Dialog, inspect.isfunction))

    assert {name for name in methods if not name.startswith("_")} == STEPS
