"""A dialog's code that fails: where it is said to have failed, and how its error is called."""

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from healthmsg.bot import Dialogs, IncomingMessage, Router
from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.registration import register
from healthmsg.bot.testing import StartBot
from healthmsg.errors import ConfigurationError, DialogHeldError, ProgramExitError
from healthmsg.log import class_name
from tests.bot import elsewhere
from tests.bot.dialogs.world import CHAT, World

if TYPE_CHECKING:
    Absent = Dialog

HERE = str(Path(__file__))
SECRET = "het gaat niet goed met An"


def line_of(file: str, text: str) -> int:
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


async def test_what_is_awaited_in_a_helper_is_said_to_be_there(caplog: pytest.LogCaptureFixture) -> None:
    @register()
    async def with_helper(d: Dialog) -> None:
        await d.text("Naam?")
        await elsewhere.wait_elsewhere()

    world = World([with_helper])
    await world.says("start")
    await world.says("An")

    file = elsewhere.__file__
    assert f"ForeignAwaitError at {file}:{line_of(file, '# here it waits elsewhere')}" in caplog.text


async def test_the_log_of_the_bot_names_the_line_of_the_helper(
    healthmsg_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.dialog
    async def with_helper(d: Dialog) -> None:
        await d.text("Naam?")
        await elsewhere.wait_elsewhere()

    @router.message()
    async def start(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(with_helper, message)

    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("start")
    await an.says("An")
    await bot_test.advance(minutes=5)

    file = elsewhere.__file__
    assert f"{file}:{line_of(file, '# here it waits elsewhere')}" in caplog.text
    assert "run.py" not in caplog.text


async def test_the_log_of_the_bot_names_the_line_of_the_dialog_where_a_step_is_refused(
    healthmsg_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    router = Router()

    @router.dialog
    async def twice(d: Dialog) -> None:
        step = d.text("Naam?")
        await step
        await step  # here it is awaited again

    @router.message()
    async def start(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(twice, message)

    bot_test = await healthmsg_bot(router, allow_parked=True)
    an = bot_test.patient("An")
    await an.says("start")
    await an.says("An")
    await bot_test.advance(minutes=5)

    place = f"ClientUsageError at {HERE}:{line_of(HERE, '# here it is awaited again')}"
    assert f"the dialog twice raised {place}" in caplog.text


async def test_what_would_end_the_program_holds_the_dialog(caplog: pytest.LogCaptureFixture) -> None:
    @register()
    async def ending(d: Dialog) -> None:
        await d.text("Naam?")
        sys.exit(SECRET)  # here it ends

    world = World([ending])
    await world.says("start")
    await world.says("An")

    assert isinstance(world.errors[0], ProgramExitError)
    assert world.errors[0].__context__ is None
    assert "raised SystemExit" in str(world.errors[0])
    assert isinstance(world.errors[-1], DialogHeldError)
    assert f"ProgramExitError at {HERE}:{line_of(HERE, '# here it ends')}" in caplog.text
    assert SECRET not in caplog.text
    assert await world.by_hand("stop", (CHAT, "an"))


@pytest.mark.parametrize("ends", [asyncio.CancelledError, KeyboardInterrupt])
async def test_what_ends_the_bot_goes_through_a_dialog(ends: type[BaseException]) -> None:
    @register()
    async def interrupted(d: Dialog) -> None:
        raise ends

    with pytest.raises(ends):
        await World([interrupted]).says("start")


def leave_in_a_thread() -> None:
    sys.exit(SECRET)  # here it leaves in a thread


async def leave_in_a_task() -> None:
    await asyncio.sleep(0)
    sys.exit(SECRET)  # here it leaves in a task


def interrupt() -> None:
    raise KeyboardInterrupt  # here it interrupts


class Ended(BaseException): ...


async def end_in_its_own_way() -> None:
    raise Ended  # here it ends in its own way


@pytest.mark.parametrize(
    ("function", "mark", "name"),
    [
        (leave_in_a_thread, "# here it leaves in a thread", "SystemExit"),
        (leave_in_a_task, "# here it leaves in a task", "SystemExit"),
        (interrupt, "# here it interrupts", "KeyboardInterrupt"),
        (end_in_its_own_way, "# here it ends in its own way", "Ended"),
    ],
)
async def test_what_would_end_the_program_in_a_function_given_to_once_holds_the_dialog(
    function: Callable[[], object], mark: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    @register()
    async def ending(d: Dialog) -> None:
        await d.text("Naam?")
        with suppress(Exception):
            await d.once(function)
        await d.say("Dank u.")

    world = World([ending])
    await world.says("start")
    await world.says("An")

    error = world.errors[0]
    assert isinstance(error, ProgramExitError)
    assert (error.type_name, error.file, error.line) == (name, HERE, line_of(HERE, mark))
    assert error.__context__ is None
    assert isinstance(world.errors[-1], DialogHeldError)
    assert f"ProgramExitError at {HERE}:{error.line}" in caplog.text
    assert SECRET not in caplog.text
    assert world.sees == ["Naam?"]
    assert await world.by_hand("stop", (CHAT, "an"))


async def test_a_bot_goes_on_though_a_function_given_to_once_would_end_the_program(
    healthmsg_bot: StartBot,
) -> None:
    router = Router()

    @router.dialog
    async def ending(d: Dialog) -> None:
        await d.once(leave_in_a_task if await d.confirm("Taak?") else leave_in_a_thread)

    @router.message()
    async def start(message: IncomingMessage, dialogs: Dialogs) -> None:
        await dialogs.start(ending, message)

    bot_test = await healthmsg_bot(router, allow_parked=True)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    for patient, said in ((an, "Ja"), (bo, "Nee")):
        await patient.says("start")
        await patient.answers(said)
    await bot_test.advance(minutes=5)

    assert [one.state for one in await bot_test.bot.open_dialogs()] == ["held", "held"]
    cor = bot_test.patient("Cor")
    await cor.says("start")
    assert cor.sees[-1].body == "Taak?"


async def test_a_function_that_is_mended_runs_when_its_dialog_is_taken_back() -> None:
    broken, done = [True], list[str]()

    def book() -> str:
        if broken:
            sys.exit(1)
        done.append("booked")
        return "14:30"

    @register()
    async def booking(d: Dialog) -> None:
        await d.say(f"Tot {await d.once(book)}.")

    world = World([booking])
    await world.says("start")
    assert isinstance(world.errors[-1], DialogHeldError)
    broken.clear()
    await world.kill_and_restart()
    await world.by_hand("take_back", (CHAT, "an"))
    assert (world.sees, done) == (["Tot 14:30."], ["booked"])


def test_the_name_of_a_class_is_shown_if_it_is_one() -> None:
    assert class_name(KeyError("x")) == "KeyError"
    assert class_name(type(SECRET, (Exception,), {})()) == "an error"
    assert class_name(type("A" * 81, (Exception,), {})()) == "an error"
    assert class_name(type(SECRET, (), {})()) == "an object"


async def test_a_text_for_a_name_of_an_error_is_in_no_log(
    healthmsg_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    router = Router()

    def fail() -> None:
        raise type(SECRET, (Exception,), {})

    @router.dialog
    async def failing(d: Dialog) -> None:
        if await d.text("Waar?") == "buiten":
            await d.once(fail)
        fail()

    @router.message()
    async def start(message: IncomingMessage, dialogs: Dialogs) -> None:
        if message.text != "start":
            fail()
        await dialogs.start(failing, message)

    bot_test = await healthmsg_bot(router, allow_parked=True)
    an, bo = bot_test.patient("An"), bot_test.patient("Bo")
    for said in ("start", "buiten"):
        await an.says(said)
    for said in ("start", "binnen"):
        await bo.says(said)
    await bot_test.patient("Cas").says("hier")
    await bot_test.advance(minutes=5)

    parked, dialogs = await bot_test.bot.parked(), await bot_test.bot.open_dialogs()
    assert len(parked) == 3
    assert SECRET not in caplog.text + repr(parked) + repr(dialogs) + "".join(
        str(one.reason) for one in parked
    )
    assert "an error" in caplog.text


def test_the_first_parameter_of_a_dialog_is_its_dialog() -> None:
    async def number(x: int) -> None: ...

    async def text(x: "str | None") -> None: ...

    async def by_name(*, d: Dialog) -> None: ...

    for wrong in (number, text, by_name):
        with pytest.raises(ConfigurationError, match="takes its Dialog first") as caught:
            register()(wrong)
        assert f"{HERE}:{wrong.__code__.co_firstlineno}" in str(caught.value)


def test_the_dialog_may_be_annotated_in_many_ways_or_not_at_all() -> None:
    class Mine(Dialog):
        pass

    async def plain(d): ...  # type: ignore[no-untyped-def] # what is tried  # noqa: ANN001, ANN202

    async def anything(d: Any) -> None: ...

    async def an_object(d: object) -> None: ...

    async def below(d: Mine) -> None: ...

    async def later(d: "Absent") -> None: ...

    async def with_more(d: Annotated[Dialog, 1], number: int) -> None: ...

    for fits in (plain, anything, an_object, below, later, with_more):
        register()(fits)
