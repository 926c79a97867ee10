"""Filters that can never do what their author meant: each is refused, or named in the log."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from healthmsg.bot import Filter, IncomingMessage, Router, command, from_user, in_group, text
from healthmsg.bot.signals import RetryLater
from healthmsg.errors import ConfigurationError
from tests.bot.routing import Bot, answer

REFUSED = r"a filter must be a plain function, without async: .*test_misused_filters\.py:\d+"


async def is_patient(_: Any):  # type: ignore[no-untyped-def] # noqa: ANN201 - as it is written in a hurry
    return True


def waits(one: Any) -> Any:
    return is_patient(one)


async def is_typed(_: Any) -> bool:
    return True


async def handler(message: IncomingMessage) -> None:
    await message.reply("held")


class Patients:
    async def are(self, _: Any):  # type: ignore[no-untyped-def] # noqa: ANN201 - as above
        return True

    async def __call__(self, _: Any):  # type: ignore[no-untyped-def] # noqa: ANN204 - as above
        return True


@pytest.mark.parametrize(
    "given",
    [is_patient, is_typed, Patients().are, Patients(), functools.partial(is_patient)],
    ids=["bare", "typed", "method", "object", "partial"],
)
@pytest.mark.parametrize("name", ["message", "fallback", "answered", "timer", "event", "verified"])
def test_an_async_filter_alone_is_refused_when_it_is_put_on_a_handler(
    name: str, given: Callable[[Any], Awaitable[object]]
) -> None:
    router = Router()
    with pytest.raises(ConfigurationError, match=REFUSED):
        getattr(router, name)(given)(handler)


def test_one_is_refused_on_what_another_decorator_has_made() -> None:
    router = Router()
    with pytest.raises(ConfigurationError, match=REFUSED):

        @router.message(is_patient)
        @router.message
        async def handler(message: IncomingMessage) -> None: ...


async def test_a_handler_that_was_registered_by_a_call_can_be_called_as_before() -> None:
    router, got = Router(), list[object]()

    async def handler(message: object, more: int = 0) -> None:
        got.append((message, more))

    registered = router.message(handler)
    await registered("said")
    await registered(message="said", more=1)
    await router.answered(registered)("more", 2)
    assert got == [("said", 0), ("said", 1), ("more", 2)]
    assert [route.origin.name for route, _ in router.routes()] == ["handler", "handler"]


@pytest.mark.parametrize(
    "filters",
    [
        [waits],
        [text("a"), waits],
        [waits, text("a")],
        [Filter(waits) & text("a")],
        [text("a") & Filter(waits)],
        [Filter(waits) | text("a")],
        [text("b") | Filter(waits)],
        [~Filter(waits)],
        [command("a"), waits],
        [lambda one: asyncio.ensure_future(is_patient(one))],
    ],
)
async def test_a_filter_that_returns_what_is_to_be_awaited_fails_its_event(
    filters: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    bot = Bot()
    bot.router.message(*filters)(handler)
    with pytest.raises(RetryLater):
        await bot.hears("a")
    assert bot.said == []
    assert "answers with something to be awaited" in caplog.text
    assert "test_misused_filters.py:" in caplog.text


async def test_such_a_filter_of_any_event_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    bot = Bot()

    @bot.router.event(waits)
    async def handler() -> None: ...

    with pytest.raises(RetryLater):
        await bot.handle(answer("ja"))
    assert "test_misused_filters.py:" in caplog.text


async def test_a_filter_may_return_whatever_is_true_or_false() -> None:
    bot = Bot()
    loose: list[Any] = [lambda one: one.body, lambda one: one.body.removeprefix("b")]

    @bot.router.message(*loose)  # type: ignore[untyped-decorator] # of any shape
    async def handler(message: IncomingMessage) -> None: ...

    assert await bot.hears("a", "b") == [True, False]


async def test_what_a_handler_returns_is_named_once_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    bot = Bot()

    @bot.router.message
    async def handler(message: IncomingMessage) -> None:
        return "geheim"  # type: ignore[return-value] # on purpose

    with caplog.at_level(logging.WARNING):
        await bot.hears("a", "b")
    (record,) = caplog.records
    line = handler.__code__.co_firstlineno
    assert f"handler ({__file__}:{line}) returns something" in record.getMessage()
    assert "geheim" not in caplog.text


# --- commands of which one never comes


def with_commands(first: list[Any], second: list[Any]) -> Bot:
    async def one(message: IncomingMessage) -> None: ...

    async def two(message: IncomingMessage) -> None: ...

    bot = Bot()
    bot.router.message(*first)(one)
    bot.router.message(*second)(two)
    return bot


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([command("a")], [command("A")]),
        ([command("a", "b")], [command("c", "b")]),
        ([command("a") | command("b")], [command("b"), in_group]),
    ],
)
def test_a_command_that_another_one_always_takes_is_refused_with_both_places(
    first: list[Any], second: list[Any]
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"two \(.*filters\.py:\d+\): one \(.*filters\.py:\d+\) takes its command"
    ):
        with_commands(first, second).start()


@pytest.mark.parametrize(
    "first",
    [
        [command("a"), in_group],
        [command("a") & from_user("u1")],
        [(command("a") & in_group) | command("b")],
        [text("a")],
    ],
)
def test_one_that_the_other_takes_under_a_condition_is_not(first: list[Any]) -> None:
    with_commands(first, [command("a")]).start()
