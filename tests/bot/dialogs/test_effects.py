"""What a dialog does outside: functions that run once, and messages."""

import asyncio
import functools
import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from attrs import frozen

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.registration import register
from healthmsg.bot.dialogs.values import kept_value, value_of
from healthmsg.errors import (
    BadRequestError,
    DeliveryUnknownError,
    DialogHeldError,
    InvalidInputError,
    NotKeptError,
    OnceFailedError,
)
from tests.bot.dialogs.simple import Choice, Text
from tests.bot.dialogs.world import CHAT, MODES, Mode, World
from tests.test_errors import example

modes = pytest.mark.parametrize("mode", MODES)
CALLS: list[Any] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


class Ward(Enum):
    A = "a"


@frozen
class Slot:
    at: datetime
    ward: Ward
    _hidden: int = 0


class EhrDownError(Exception):
    """An author's own error."""


VALUES = [
    None, True, 3, 2**80, -1.5, float("inf"), "é🌷", [1, [2]], (1, "a"), {"a": 1}, {1: "a", "$": 2},
    {1, 2}, frozenset({"a"}),
    b"\x00\xff", datetime(2026, 1, 2, 3, 4, tzinfo=UTC), date(2026, 1, 2), time(3, 4),
    timedelta(days=-1, microseconds=5),
    Decimal("1.10"), UUID(int=7), Ward.A, Slot(datetime(2026, 1, 2, tzinfo=UTC), Ward.A, 3), complex(1, 2),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_kept_comes_back_as_it_was(value: object) -> None:
    found = value_of(kept_value(value))

    assert found == value
    assert type(found) is type(value)


def test_what_cannot_be_kept_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    for value in (object(), print, endless, threading.Lock(), "\ud800"):
        with pytest.raises(NotKeptError):
            kept_value(value)


# --- once


async def in_task(name: str) -> datetime:
    CALLS.append((name, asyncio.current_task()))
    await asyncio.sleep(0)
    return datetime(2026, 3, 2, 14, 30, tzinfo=UTC)


def in_a_thread(name: str) -> str:
    CALLS.append((name, threading.current_thread()))
    return name.upper()


@modes
async def test_functions_run_once_outside_the_dialog_in_a_task_or_a_thread(mode: Mode) -> None:
    @register()
    async def doing(d: Dialog) -> None:
        at = await d.once(in_task, "a")
        name = await d.once(functools.partial(in_a_thread, "b"))
        await d.ask(Text("Goed?"))
        await d.say(f"{at:%H:%M} {name}")

    world = World([doing], mode)
    await world.says("start")
    await world.kill_and_restart()
    await world.says("ja")

    assert world.sees == ["Goed?", "14:30 B"]
    assert {name for name, _ in CALLS} == {"a", "b"}
    assert mode == "before" or len(CALLS) == 2
    assert all(where is not asyncio.current_task() for _, where in CALLS)
    assert all(where is not threading.main_thread() for name, where in CALLS if name == "b")


def fail(kind: str) -> None:
    CALLS.append(kind)
    if kind == "own":
        raise EhrDownError("down", 503)
    if kind == "ours":
        raise example(BadRequestError)
    if kind == "local":

        class Local(Exception): ...  # noqa: N818 - a test's

        raise Local("x")
    raise InvalidInputError("bad")


@modes
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("own", EhrDownError),
        ("ours", BadRequestError),
        ("local", OnceFailedError),
        ("bad", InvalidInputError),
    ],
)
async def test_an_error_of_a_function_is_kept_and_raised_again_at_each_replay(
    mode: Mode, kind: str, expected: type[Exception]
) -> None:
    caught: list[Exception] = []

    @register()
    async def failing(d: Dialog) -> None:
        try:
            await d.once(fail, kind)
        except expected as error:
            caught.append(error)
        await d.ask(Text("Goed?"))

    world = World([failing], mode)
    await world.says("start")
    await world.kill_and_restart()
    await world.says("ja")

    assert world.sees == ["Goed?"]
    assert mode == "before" or len(CALLS) == 1
    assert {type(error) for error in caught} == {expected}
    assert len({str(error) for error in caught}) == 1
    assert kind != "own" or caught[-1].args == ("down", 503)
    assert not world.errors


async def test_a_result_that_cannot_be_kept_is_an_error_and_the_function_does_not_run_again() -> None:
    def unkept() -> object:
        CALLS.append(1)
        return object()

    @register()
    async def unkeeping(d: Dialog) -> None:
        try:
            await d.once(unkept)
        except NotKeptError:
            await d.ask(Text("Goed?"))

    world = World([unkeeping])
    await world.says("start")
    await world.kill_and_restart()
    await world.says("ja")

    assert CALLS == [1]
    assert not world.is_open()


async def test_a_function_that_is_running_ends_with_its_event() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @register()
    async def waiting(d: Dialog) -> None:
        await d.once(endless)

    world = World([waiting])
    task = asyncio.create_task(world.says("start"))
    await began.wait()
    task.cancel()
    await asyncio.wait([task])

    assert ended.is_set()
    assert len(asyncio.all_tasks()) == 1


# --- messages


async def test_a_message_of_which_is_not_known_whether_it_arrived_is_not_sent_again() -> None:
    @register()
    async def saying(d: Dialog) -> None:
        sent = await d.say("Hallo")
        await d.ask(Text(f"{sent}?"))

    world = World([saying])
    world.outbox.failures = [example(DeliveryUnknownError)]
    await world.says("start")
    await world.kill_and_restart()
    await world.says("ja")

    assert world.sees == ["None?"]
    assert [key for key in world.outbox.asked if key.endswith("/0")] == [world.outbox.asked[0]]


async def test_a_question_of_which_is_not_known_whether_it_arrived_can_be_answered() -> None:
    @register()
    async def asking(d: Dialog) -> None:
        await d.say(await d.ask(Choice("Komt u?")))

    world = World([asking])
    world.outbox.failures = [example(DeliveryUnknownError)]
    await world.says("start")
    await world.says("ja")

    assert world.sees == ["ja"]


async def test_a_message_that_is_refused_holds_the_dialog_and_is_sent_when_that_is_taken_back() -> None:
    @register()
    async def refused(d: Dialog) -> None:
        await d.say(f"Dag {await d.text('Naam?')}")

    world = World([refused])
    await world.says("start")
    world.outbox.failures = [example(BadRequestError)]
    await world.says("An")
    await world.says("hallo?")

    assert [type(error) for error in world.errors] == [BadRequestError, DialogHeldError, DialogHeldError]
    assert next(iter(world.store.dialog_records.values())).state == "held"
    assert world.sees == ["Naam?"]
    await world.by_hand("take_back", (CHAT, "an"))
    assert world.sees == ["Naam?", "Dag An"]
    assert not world.is_open()


# --- buttons


@register()
async def two(d: Dialog) -> None:
    first = await d.ask(Choice("Eerst?"))
    second = await d.ask(Choice("Dan?"))
    await d.say(f"{first} {second}")


@modes
async def test_a_button_of_an_older_question_changes_nothing_and_is_answered_politely(mode: Mode) -> None:
    world = World([two], mode)
    await world.says("start")
    await world.presses("ja", "Eerst?")
    await world.presses("nee", "Eerst?")
    await world.presses("nee", "Dan?")
    await world.presses("ja", "Dan?")

    over = "Deze vraag is al beantwoord of gesloten."
    assert world.sees == ["Eerst?", "Dan?", over, "ja nee", over]
    assert not world.unhandled


async def test_a_button_that_is_not_of_a_dialog_is_for_the_handlers() -> None:
    world = World([two])
    await world.says("start")
    world.outbox.sent["campaign/1"] = world.outbox.sent[world.outbox.asked[0]]

    await world.presses("ja")

    assert [event.kind for event in world.unhandled] == ["question_answered"]
    assert world.is_open()
