"""Filters: which messages and events they accept."""

import re

import pytest

from healthmsg.bot import (
    Filter,
    IncomingMessage,
    command,
    from_user,
    has_files,
    in_conversation,
    in_group,
    mentioned,
    text,
)
from healthmsg.bot.scope import Scope, Services
from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.events import MessageLiked
from healthmsg.models import Attachment, User
from tests.bot.fakes import FakeClock, FakeStore
from tests.bot.routing import AN, CONVERSATION, GROUP, ME, NOON, Client, Outbox, message


def incoming(body: str | None, **more: object) -> IncomingMessage:
    event = message(body, **more)  # type: ignore[arg-type] # what tests say of it
    services = Services(Client(), Outbox(), FakeStore(), FakeClock(), ME)  # type: ignore[arg-type] # a fake
    return IncomingMessage(Scope(event, services), event, event.message)


@pytest.mark.parametrize(
    "body",
    ["Afspraak", " afspraak\n", "AFSPRAAK", f"[mention={ME}] afspraak", f"[mention={ME.upper()}]: Afspraak"],
)
def test_a_text_is_compared_whole_in_any_case_and_without_a_mention_of_the_bot(body: str) -> None:
    assert text("Afspraak")(incoming(body))


@pytest.mark.parametrize("body", ["afspraken", "een afspraak", "", None, f"[mention={AN}] afspraak"])
def test_another_text_is_not_accepted(body: str | None) -> None:
    assert not text("afspraak")(incoming(body))


def test_a_letter_may_be_composed_or_not() -> None:
    assert text("café")(incoming("Cafe\u0301"))
    assert text("Cafe\u0301")(incoming("CAFÉ"))


def test_a_text_can_be_any_of_several_or_begin_with_one_or_match_a_pattern() -> None:
    assert text("ja", "nee")(incoming("Nee"))
    assert text(prefix="Dienst ")(incoming("dienst vandaag"))
    assert text(prefix=("a", "b"))(incoming("Beter"))
    assert not text(prefix="dienst")(incoming("de dienst"))
    assert text(regex=r"\d+ mg")(incoming("20 MG"))
    assert not text(regex=r"\d+ mg")(incoming("20 mg per dag"))
    assert not text(regex=re.compile("mg"))(incoming("MG"))
    assert text("ja", regex="n.*")(incoming("nooit"))


@pytest.mark.parametrize("wrong", [{}, {"regex": "("}, {"prefix": " "}])
def test_a_text_that_says_nothing_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        text(**wrong)


@pytest.mark.parametrize("body", ["help", "/help", " HULP ", f"[mention={ME}] /hulp"])
def test_a_command_has_aliases_and_may_have_a_slash_and_a_mention(body: str) -> None:
    assert command("help", "hulp")(incoming(body))


@pytest.mark.parametrize("body", ["help me", "helpen", f"[mention={AN}] help", "//help"])
def test_a_command_is_the_whole_message(body: str) -> None:
    assert not command("help", "hulp")(incoming(body))


def test_mentioned_is_the_bot_itself_wherever_the_service_or_the_text_says_so() -> None:
    assert mentioned(incoming(f"hallo [mention={ME}]"))
    assert mentioned(incoming("hallo", mentions=(User(ME.upper()),)))
    assert not mentioned(incoming(f"hallo [mention={AN}]"))
    assert not mentioned(incoming("[mention=@all] hallo"))


def test_kinds_of_chats_and_users_are_told_apart_also_of_plain_events() -> None:
    liked = MessageLiked(id="liked/1", chat=GROUP, received_at=NOON, message_id="m", user_id=AN)

    assert in_group(incoming("", chat=GROUP))
    assert in_group(liked)
    assert not in_group(incoming("", chat=CONVERSATION))
    assert in_conversation(incoming("", chat=CONVERSATION))
    assert not in_conversation(liked)
    assert from_user(AN)(liked)
    assert from_user(User(AN))(incoming(""))
    assert not from_user(ME)(incoming(""))


def test_files_are_seen() -> None:
    assert has_files(incoming(None, attachments=(Attachment("f"),)))
    assert not has_files(incoming("foto"))


def test_filters_and_plain_functions_are_combined() -> None:
    def long(message: IncomingMessage) -> bool:
        return len(message.body) > 5

    assert (in_conversation & text("ja"))(incoming("ja"))
    assert not (in_group & text("ja"))(incoming("ja"))
    assert (in_group | text("ja"))(incoming("ja"))
    assert (~text("ja"))(incoming("nee"))
    assert (long & ~text("kort"))(incoming("langer"))
    assert not (~text("langer") & long)(incoming("kort"))
    assert (Filter(long) & in_conversation)(incoming("langer"))
    assert (long | text("ja"))(incoming("ja"))


def test_only_what_is_never_anything_else_counts_as_a_command() -> None:
    one, two = command("a"), command("b")

    assert (one & in_group).commands
    assert (one | two).commands
    assert not (one | text("c")).commands
    assert not (~one).commands


def test_an_async_filter_is_refused_with_its_place() -> None:
    async def slow(_: IncomingMessage) -> bool:
        return True

    with pytest.raises(ConfigurationError, match=r"slow \(.*test_filters\.py:\d+\)"):
        Filter(slow)  # type: ignore[arg-type] # on purpose


def test_no_filter_shows_what_it_looks_for() -> None:
    assert "Jansen" not in repr(text("Jansen"))
    assert "Jansen" not in repr(incoming("Jansen"))


def test_a_filter_that_answers_with_an_awaitable_is_refused() -> None:
    async def is_patient(_: IncomingMessage) -> bool:
        return True

    mistake: Filter[IncomingMessage] = Filter(lambda one: is_patient(one))  # type: ignore[arg-type, return-value] # noqa: PLW0108 - it is one
    for condition in (mistake, ~mistake):
        with pytest.raises(ConfigurationError, match="without async"):
            condition(incoming("hallo"))


@pytest.mark.parametrize(
    ("answer", "holds"), [(True, True), (False, False), (1, True), ("", False), (None, False)]
)
def test_whatever_else_a_filter_answers_is_true_or_false(answer: object, holds: bool) -> None:
    assert Filter(lambda _: answer)(incoming("hallo")) is holds  # type: ignore[arg-type, return-value] # see the name
