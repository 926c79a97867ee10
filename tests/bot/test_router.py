"""Routers: what is registered, in which order, and what is refused."""

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from healthmsg.bot import Answer, IncomingMessage, Router, command, in_group, text
from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.signals import RetryLater
from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.events import (
    ConversationStarted,
    Event,
    MessageDeleted,
    MessageLiked,
    TimerDue,
)
from healthmsg.models import Option
from tests.bot.routing import AN, CONVERSATION, NOON, Bot, message


async def handler(message: IncomingMessage) -> None:
    await message.reply("handled")


def names(router: Router) -> list[str]:
    return [route.origin.name for route, _ in router.routes()]


def test_a_decorator_leaves_the_handler_as_it_is() -> None:
    router = Router()

    @router.message
    async def below(message: IncomingMessage) -> None: ...

    assert not hasattr(below, "__wrapped__")
    assert inspect.unwrap(router.message(handler)) is handler
    assert router.message(text("a"), own=True)(handler) is handler
    assert inspect.unwrap(router.answered(handler)) is handler
    assert router.answered("visit")(handler) is handler
    assert router.timer("kind")(handler) is handler
    assert router.middleware(handler) is handler
    assert router.error(ValueError)(handler) is handler


@pytest.mark.parametrize(
    "decorate",
    [
        lambda router: router.message,
        lambda router: router.message(text("a")),
        lambda router: router.answered,
        lambda router: router.answered("visit"),
        lambda router: router.timer,
        lambda router: router.error(ValueError),
        lambda router: router.middleware,
    ],
)
def test_a_handler_that_is_not_async_is_refused_with_file_and_line(decorate: Callable[[Router], Any]) -> None:
    def plain(message: IncomingMessage) -> None:
        """Do nothing."""

    line = plain.__code__.co_firstlineno
    with pytest.raises(ConfigurationError, match=rf"async def: plain \(.*test_router\.py:{line}\)"):
        decorate(Router())(plain)


def test_a_plain_function_that_no_handler_follows_is_refused_at_the_start() -> None:
    bot = Bot()
    bot.router.message(lambda message: bool(message.body))

    with pytest.raises(
        ConfigurationError, match=r"@router\.message\(…\) \(.*test_router\.py:\d+\) was put on no handler"
    ):
        bot.start()


def test_methods_and_callable_objects_can_be_handlers() -> None:
    class Service:
        async def answer(self, message: IncomingMessage) -> None:
            await message.reply("method")

        async def __call__(self, message: IncomingMessage) -> None:
            await message.reply("object")

    bot = Bot()
    bot.router.message(text("a"))(Service().answer)
    bot.router.message(Service())
    bot.start()


def test_included_routers_stand_where_they_were_included() -> None:
    outer, inner = Router("outer"), Router("inner")

    @outer.message
    async def first() -> None: ...

    @inner.message
    async def second() -> None: ...

    outer.include(inner)

    @outer.message
    async def third() -> None: ...

    assert names(outer) == ["first", "second", "third"]
    assert [[one.name for one in chain] for _, chain in outer.routes()] == [
        ["outer"],
        ["inner", "outer"],
        ["outer"],
    ]


def test_routers_in_circles_and_twice_are_refused() -> None:
    a, b, c = Router("a"), Router("b"), Router("c")
    a.include(b)
    b.include(c)

    with pytest.raises(ConfigurationError, match="goes in circles"):
        a.include(a)
    with pytest.raises(ConfigurationError, match="<Router c> cannot be within <Router a>"):
        c.include(a)
    with pytest.raises(ConfigurationError, match="already"):
        a.include(c)
    with pytest.raises(ConfigurationError, match="routers, not str"):
        a.include("b")  # type: ignore[arg-type] # on purpose


def test_a_router_can_be_part_of_two_bots() -> None:
    router = Router()
    router.message(handler)

    for _ in range(2):
        Bot(router=router).start()


def test_an_error_handler_is_for_a_class_of_errors() -> None:
    with pytest.raises(ConfigurationError, match="class of an error"):
        Router().error(KeyboardInterrupt)  # type: ignore[arg-type] # on purpose


def test_options_that_look_the_same_are_refused() -> None:
    class Same(Enum):
        ONE = "Ja!"
        TWO = Option("Yes", name="ja_")

    with pytest.raises(InvalidInputError, match="Same have one name"):
        Router().answered("visit", options=Same)


def test_a_handlers_answer_fits_its_options() -> None:
    class Visit(Enum):
        YES = "Ja"

    class Other(Enum):
        NO = "Nee"

    async def of_visit(answer: Answer[Visit]) -> None: ...

    async def of_text(answer: Answer[str]) -> None: ...

    bot = Bot()
    bot.router.answered("visit", options=Visit)(of_visit)
    bot.router.answered("visit")(of_text)
    bot.start()

    bot.router.answered("visit", options=Other)(of_visit)
    bot.router.answered("visit", options=Visit)(of_text)
    with pytest.raises(ConfigurationError) as caught:
        bot.start()
    assert "Answer[Visit] does not fit the decorator, which has options=Other" in str(caught.value)
    assert "Answer[str] does not fit the decorator, which has options=Visit" in str(caught.value)


EVENTS = {
    "liked": MessageLiked(id="liked/1", chat=CONVERSATION, received_at=NOON, message_id="m", user_id=AN),
    "deleted": MessageDeleted(id="deleted/1", chat=CONVERSATION, received_at=NOON, message_id="m"),
    "conversation_started": ConversationStarted(id="chat/1", chat=CONVERSATION, received_at=NOON),
    "timer": TimerDue(id="timer/1", received_at=NOON, timer="t", due=NOON, timer_kind="kind"),
}


@pytest.mark.parametrize("name", EVENTS)
async def test_each_decorator_gets_its_own_events_alone(name: str) -> None:
    bot, got = Bot(), list[Event]()
    for one in EVENTS:

        async def take(event: Event, of: str = one) -> None:
            assert of == name
            got.append(event)

        getattr(bot.router, one)(take)

    assert await bot.handle(EVENTS[name])
    assert got == [EVENTS[name]]


async def test_timers_are_told_apart_by_their_kind() -> None:
    bot, got = Bot(), list[str]()

    @bot.router.timer("other")
    async def other() -> None:
        got.append("other")

    @bot.router.timer("kind")
    async def kind(event: TimerDue) -> None:
        got.append(event.timer)

    assert await bot.handle(EVENTS["timer"])
    assert got == ["t"]


def test_dialogs_are_gathered_of_all_routers_and_have_names_of_their_own() -> None:
    outer, inner = Router(), Router()

    @inner.dialog(version=2, stop=("stop", "annuleren"), back=("terug",))
    async def intake(d: Dialog) -> None:
        await d.say("dag")

    @intake.version(1)
    async def _(d: Dialog) -> None:
        await d.say("hallo")

    outer.include(inner)
    assert outer.all_dialogs() == (intake,)
    assert (intake.name, intake.newest) == ("intake", 2)
    assert intake.stop == frozenset({"stop", "annuleren"})

    @outer.dialog(name="intake")
    async def other(d: Dialog) -> None:
        await d.say("dag")

    with pytest.raises(ConfigurationError, match=r"called intake: other \(.*\) and intake \(.*\)"):
        outer.all_dialogs()


def test_an_async_filter_alone_in_a_decorator_is_not_taken_for_its_handler() -> None:
    async def is_patient(_: IncomingMessage) -> bool:
        return True

    with pytest.raises(ConfigurationError, match="plain function"):
        Router().message(is_patient)  # type: ignore[type-var] # what a type checker says, too


async def test_a_handler_that_answers_true_or_false_fails_and_its_event_is_not_done() -> None:
    bot = Bot()

    @bot.router.message
    async def is_patient(message: IncomingMessage):  # type: ignore[no-untyped-def] # noqa: ANN202 - as a mistake looks
        return True

    with pytest.raises(RetryLater):
        await bot.handle(message("hallo"))


def test_a_command_that_another_handler_takes_always_is_refused_at_start() -> None:
    router = Router()

    @router.message(command("help", "hulp"))
    async def one(message: IncomingMessage) -> None: ...

    @router.message(command("hulp"))
    async def other(message: IncomingMessage) -> None: ...

    with pytest.raises(ConfigurationError, match="takes its command hulp"):
        Dispatcher([router])


def test_a_command_may_have_a_handler_for_groups_and_one_for_all_else() -> None:
    router = Router()

    @router.message(command("hulp"), in_group)
    async def one(message: IncomingMessage) -> None: ...

    @router.message(command("hulp"))
    async def other(message: IncomingMessage) -> None: ...

    Dispatcher([router])
