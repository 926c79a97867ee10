"""Where the arguments of handlers come from: aiogram#1356 asks how a handler gets them at all."""

from __future__ import annotations

from abc import ABC
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

import pytest

from healthmsg.bot import BotChat, IncomingMessage, Router, Verified
from healthmsg.bot.origin import Origin
from healthmsg.errors import ConfigurationError
from healthmsg.events import ChatEvent, Event, MessageCreated, MessageLiked, VerificationAccepted
from healthmsg.models import User
from tests.bot.routing import AN, CONVERSATION, NOON, Bot, message

if TYPE_CHECKING:
    from decimal import Decimal


class Roster:
    def __init__(self, name: str = "roster") -> None:
        self.name = name


class Base(ABC):  # noqa: B024 - what is asked for
    pass


class Ehr(Base):
    pass


class Agenda(Protocol):
    def free(self) -> bool: ...


def refusal(bot: Bot) -> str:
    with pytest.raises(ConfigurationError) as caught:
        bot.start()
    return str(caught.value)


async def test_arguments_come_by_their_types_whatever_their_names_and_order() -> None:
    bot, got = Bot(), list[object]()
    roster = Roster()
    bot.provided.add(roster)

    @bot.router.message
    async def take(
        shifts: Roster,
        who: User,
        place: BotChat,
        said: IncomingMessage,
        *,
        one: MessageCreated,
        two: ChatEvent,
        three: Event,
    ) -> None:
        got.extend([shifts, who.id, place.address, said.body, one is two is three])

    assert await bot.handle(message("hallo"))
    assert got == [roster, AN, CONVERSATION, "hallo", True]


async def test_a_value_is_found_by_what_it_is_a_kind_of_and_by_the_type_it_was_provided_as() -> None:
    bot, got = Bot(), list[object]()
    ehr, agenda = Ehr(), Roster("agenda")
    bot.provided.add(ehr)
    bot.provided.add(agenda, Agenda)

    @bot.router.message
    async def take(one: Base, two: Annotated[Agenda, "noted"], three: Agenda | None) -> None:
        got.extend([one, two, three])

    await bot.handle(message("hallo"))
    assert got == [ehr, agenda, agenda]


async def test_what_is_not_there_is_none_or_the_default_where_that_is_allowed() -> None:
    bot, got = Bot(), list[object]()

    @bot.router.message
    async def take(
        _: IncomingMessage, one: Roster | None, two: int = 5, *args: Any, three: Ehr | None = None
    ) -> None:
        got.extend([one, two, args, three])

    await bot.handle(message("hallo"))
    assert got == [None, 5, (), None]


def test_a_missing_one_is_refused_at_the_start_with_file_and_line_and_what_there_is() -> None:
    bot = Bot()
    bot.provided.add(Ehr())

    @bot.router.message
    async def duty(message: IncomingMessage, roster: Roster) -> None: ...

    @bot.router.message
    async def untyped(message) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001 - on purpose

    said = refusal(bot)
    line = duty.__code__.co_firstlineno
    assert f"duty ({__file__}:{line}): there is nothing for 'roster: Roster'" in said
    assert (
        "What can be had here: BotChat, ChatEvent, Ehr, Event, IncomingMessage, MessageCreated, User" in said
    )
    assert "bot.provide(Roster(…))" in said
    assert "untyped" in said
    assert "'message' has no type" in said


def test_what_another_kind_of_event_has_is_refused() -> None:
    bot = Bot()

    @bot.router.verified
    async def take(message: IncomingMessage) -> None: ...

    assert "there is nothing for 'message: IncomingMessage'" in refusal(bot)


def test_a_type_that_only_type_checkers_import_is_refused_with_what_to_do() -> None:
    bot = Bot()

    @bot.router.message
    async def take(amount: Decimal) -> None: ...

    assert "'amount', Decimal, cannot be found (NameError): import it at the top of the module" in refusal(
        bot
    )


@pytest.mark.parametrize("annotation", [object, Any, int | str, "1 + 1"])
def test_a_type_that_says_nothing_is_refused(annotation: Any) -> None:
    bot = Bot()

    async def take(what: int) -> None: ...

    take.__annotations__["what"] = annotation
    bot.router.message(take)
    assert "the type of 'what' does not say what it gets" in refusal(bot)


def test_several_that_fit_are_refused() -> None:
    class Other(Base):
        pass

    bot = Bot()
    bot.provided.add(Ehr())
    bot.provided.add(Other())

    @bot.router.message
    async def take(base: Base) -> None: ...

    assert "there are several of type Base: Ehr, Other" in refusal(bot)
    with pytest.raises(ConfigurationError, match="there is a Ehr already"):
        bot.provided.add(Ehr())


async def test_classes_within_a_function_are_found_too() -> None:
    class Local:
        pass

    bot, got = Bot(), list[object]()
    bot.provided.add(Local())

    @bot.router.message
    async def take(local: Local) -> None:
        got.append(type(local).__name__)

    await bot.handle(message("hallo"))
    assert got == ["Local"]


async def test_a_partial_keeps_what_it_has() -> None:
    async def take(message: IncomingMessage, *, word: str) -> None:
        await message.reply(word)

    bot = Bot()
    bot.router.message(partial(take, word="deel"))
    await bot.handle(message("hallo"))
    assert bot.said == ["deel"]
    assert Origin.of(partial(take)).name == "take"


async def test_an_any_event_handler_gets_the_events_that_have_what_it_asks_for() -> None:
    bot, got = Bot(), list[object]()

    @bot.router.event
    async def likes(event: MessageLiked) -> None:
        got.append(event.kind)

    @bot.router.event(lambda event: event.kind != "typing_started")
    async def others(event: Event) -> None:
        got.append(event.kind)

    await bot.handle(message("hallo"))
    await bot.handle(
        MessageLiked(id="liked/1", chat=CONVERSATION, received_at=NOON, message_id="m", user_id=AN)
    )
    assert got == ["message_created", "message_liked"]


async def test_a_user_that_the_service_does_not_name_is_no_silent_none() -> None:
    event = VerificationAccepted(id="verified/1", chat=CONVERSATION, received_at=NOON, message_id="m")
    bot, got = Bot(), list[object]()

    @bot.router.verified
    async def take(event: Verified, user: User | None) -> None:
        got.append(user)

    await bot.handle(event)
    assert got == [None]

    strict = Bot()

    @strict.router.verified
    async def take_user(event: Verified, user: User) -> None: ...

    with pytest.raises(Exception, match="again in"):
        await strict.handle(event)


# --- what is made for each event


class Session:
    def __init__(self, log: list[str]) -> None:
        self.log = log


async def test_resources_are_entered_before_the_handler_and_left_after_it() -> None:
    bot, log = Bot(), list[str]()

    @asynccontextmanager
    async def session(roster: Roster) -> AsyncIterator[Session]:
        log.append(f"enter with {roster.name}")
        try:
            yield Session(log)
        finally:
            log.append("leave")

    bot.provided.add(Roster())
    bot.provided.add(session)

    @bot.router.message
    async def take(message: IncomingMessage, one: Session, two: Session) -> None:
        assert one is two
        log.append(message.body)
        if message.body == "b":
            raise ValueError

    await bot.handle(message("a"))
    with pytest.raises(Exception, match="again"):
        await bot.handle(message("b"))
    assert log == [*("enter with roster", "a", "leave"), *("enter with roster", "b", "leave")]


async def test_a_class_with_aenter_is_made_for_each_event_after_what_it_needs() -> None:
    log: list[str] = []

    class Transaction:
        def __init__(self, session: Session) -> None:
            self.session = session

        async def __aenter__(self) -> Self:
            self.session.log.append("begin")
            return self

        async def __aexit__(self, *_: object) -> None:
            self.session.log.append("commit")

    @asynccontextmanager
    async def session() -> AsyncIterator[Session]:
        log.append("open")
        yield Session(log)
        log.append("close")

    bot = Bot()
    bot.provided.add(session)
    bot.provided.add(Transaction)

    @bot.router.message
    async def take(transaction: Transaction) -> None:
        transaction.session.log.append("handle")

    Transaction.__init__.__annotations__["session"] = Session
    await bot.handle(message("a"))
    assert log == ["open", "begin", "handle", "commit", "close"]


def test_what_cannot_be_made_is_refused() -> None:
    bot = Bot()
    with pytest.raises(ConfigurationError, match="Roster is a class: provide an object of it"):
        bot.provided.add(Roster)
    with pytest.raises(ConfigurationError, match="value, a class with __aenter__"):
        bot.provided.add(lambda: None)

    @asynccontextmanager
    async def silent():  # type: ignore[no-untyped-def] # noqa: ANN202 - on purpose
        yield 1

    with pytest.raises(ConfigurationError, match=r"silent \(.*\) does not say what it makes"):
        bot.provided.add(silent)

    @asynccontextmanager
    async def round_and_round(session: Session) -> AsyncIterator[Session]:
        yield session

    bot.provided.add(round_and_round)
    take = Router().message

    async def handler(session: Session) -> None: ...

    take(handler)
    bot.router.message(handler)
    assert "goes in circles: Session needs Session" in refusal(bot)


def test_dialogs_get_what_is_the_same_for_all_events() -> None:
    @asynccontextmanager
    async def session() -> AsyncIterator[Session]:
        yield Session([])

    bot, ehr = Bot(), Ehr()
    bot.provided.add(ehr)
    bot.provided.add(session)

    assert bot.provided.value_for(Base) is ehr
    assert bot.provided.value_for(Ehr | None) is ehr
    for annotation in (Session, Roster, Any, "Ehr"):
        with pytest.raises(LookupError):
            bot.provided.value_for(annotation)
