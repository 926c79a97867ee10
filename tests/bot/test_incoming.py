"""What handlers get of an event, and that what they send has a key of the event's own."""

import asyncio
from enum import Enum
from typing import Any

import pytest

from healthmsg.bot import Answer, BotChat, IncomingMessage, Router
from healthmsg.bot.options import members_by_name, options_of
from healthmsg.bot.signals import RetryLater
from healthmsg.bot.testing import StartBot
from healthmsg.errors import ClientUsageError, EmptyMessageError, InvalidInputError
from healthmsg.events import event_of_frame
from healthmsg.models import Attachment, Option, User
from tests.bot.routing import AN, CONVERSATION, GROUP, ME, NOON, Bot, Known, answer, message


class Visit(Enum):
    CONFIRM = "Ja, graag"
    MOVE = Option("Verzetten", name="move", style="orange")
    CALL_ME = 3


async def test_a_message_has_what_its_event_has() -> None:
    bot, got = Bot(), list[Any]()

    @bot.router.message
    async def take(message: IncomingMessage) -> None:
        got.append(message)

    files = (Attachment("f1", "foto.png"),)
    await bot.handle(message(f" [mention={ME}] Hallo ", GROUP, attachments=files))
    (one,) = got
    assert (one.id, one.user_id, one.user, one.attachments) == ("m1", AN, User(AN), files)
    assert (one.text, one.folded, one.is_to_bot, one.is_pressed) == ("Hallo", "hallo", True, False)
    assert one.sent_at == NOON
    assert one.mentions == (User(ME),)
    assert (one.chat.address, one.chat.id, one.chat.kind.is_group) == (GROUP, "g1", True)
    assert repr(one) == "<IncomingMessage in groupchats/g1>"


async def test_what_is_sent_has_a_key_of_the_event_and_the_order() -> None:
    bot = Bot()

    @bot.router.message
    async def take(message: IncomingMessage, chat: BotChat) -> None:
        await message.reply("een")
        await asyncio.gather(chat.send("twee"), message.chat.upload("/etc/hosts", body="drie"))
        await message.reply("vier", options=Visit, name="visit", style="vertical")
        await chat.request_verification(message.user)

    await bot.handle(message("hallo"))
    start = "key-of-message/m1/"
    assert [*bot.outbox.sent] == [f"{start}{number}" for number in (1, 2, 3, 4)]
    assert [*bot.outbox.requests] == [f"{start}5"]
    question = bot.outbox.sent[f"{start}4"][1]
    assert question.label == "visit"
    assert question.question is not None
    assert [one.name for one in question.question.options] == ["ja_graag", "move", "call_me"]
    assert question.question.style == "vertical"
    assert bot.outbox.requests[f"{start}5"] == (CONVERSATION, AN, "p1")


async def test_a_handler_that_runs_again_sends_nothing_again() -> None:
    bot, runs = Bot(), list[int]()

    @bot.router.message
    async def take(message: IncomingMessage) -> None:
        await message.reply("een")
        runs.append(1)
        if len(runs) == 1:
            raise OSError
        await message.reply("twee")

    with pytest.raises(RetryLater):
        await bot.handle(message("hallo"))
    assert await bot.handle(message("hallo"))
    assert bot.said == ["een", "twee"]


async def test_nothing_is_sent_for_an_event_whose_handler_has_ended() -> None:
    bot, kept = Bot(), list[IncomingMessage]()

    @bot.router.message
    async def take(message: IncomingMessage) -> None:
        kept.append(message)

    await bot.handle(message("hallo"))
    with pytest.raises(ClientUsageError, match="handler has ended"):
        await kept[0].reply("te laat")
    assert bot.said == []


async def test_a_reply_from_another_task_than_the_handlers_is_refused(healthmsg_bot: StartBot) -> None:
    router = Router()

    @router.message
    async def take(message: IncomingMessage) -> None:
        await message.reply("een")
        with pytest.raises(ClientUsageError, match="one after the other"):
            await asyncio.gather(message.reply("naast"), message.reply("elkaar"))
        async with asyncio.timeout(60):
            await message.reply("twee")

    bot = await healthmsg_bot(router)
    an = bot.patient("An")
    await an.says("hallo")
    assert [seen.body for seen in an.sees] == ["een", "twee"]


async def test_what_cannot_be_sent_takes_no_key() -> None:
    bot = Bot()

    @bot.router.message
    async def take(message: IncomingMessage) -> None:
        with pytest.raises(EmptyMessageError):
            await message.reply(" ")
        with pytest.raises(InvalidInputError, match="at least one option"):
            await message.reply("?", options=[])
        with pytest.raises(InvalidInputError, match="not both"):
            await message.reply("?", options=Visit, files=["/etc/hosts"])
        with pytest.raises(InvalidInputError, match="at least one file"):
            await message.chat.upload()
        await message.reply("goed")

    await bot.handle(message("hallo"))
    assert [*bot.outbox.sent] == ["key-of-message/m1/1"]


async def test_an_unknown_provider_is_refused_with_its_name() -> None:
    bot = Bot()

    @bot.router.message
    async def take(message: IncomingMessage) -> None:
        with pytest.raises(InvalidInputError, match="'iDIN'"):
            await message.chat.request_verification(message.user_id, "iDIN")

    await bot.handle(message("hallo"))


# --- answers


async def test_an_answer_has_its_question_its_key_and_a_member_of_the_enum() -> None:
    bot, got = Bot(known={"q1": Known("patient-7", "visit")}), list[Any]()

    @bot.router.answered("other")
    async def other(answer: Answer[str]) -> None:
        got.append("other")

    @bot.router.answered("visit", options=Visit)
    async def visit(answer: Answer[Visit]) -> None:
        got.append((answer.option, answer.options, answer.question, answer.key, answer.user_id, answer.user))
        await answer.reply("dank u")

    assert await bot.handle(answer("ja_graag"))
    assert got == [(Visit.CONFIRM, (Visit.CONFIRM,), "visit", "patient-7", AN, User(AN))]
    assert bot.said == ["dank u"]


async def test_double_taps_count_once() -> None:
    """python-telegram-bot#1069: the same tap has the same id, and so the same replies and effects."""
    frame = {"conversation_id": "c1", "message_id": "q1", "user_id": AN}
    taps = [
        event_of_frame("conversation_question_answer", {**frame, "options": options}, me=ME, now=NOON)
        for options in (["a", "b"], ["b", "a"])
    ]
    bot, ids = Bot(), list[str]()

    @bot.router.answered
    async def take(answer: Answer[str]) -> None:
        ids.append(answer.id)
        await answer.reply("genoteerd")

    for tap in taps:
        assert tap is not None
        await bot.handle(tap)  # type: ignore[arg-type] # no frame is incomplete here
    assert len({tap.id for tap in taps if tap is not None and hasattr(tap, "id")}) == 1
    assert len(set(ids)) == 1
    assert ids[0].startswith("key-of-")
    assert bot.said == ["genoteerd"]


def test_the_buttons_of_an_enum_are_its_values_or_its_names() -> None:
    assert [(one.label, one.name, one.style) for one in options_of(Visit)] == [
        ("Ja, graag", "ja_graag", None),
        ("Verzetten", "move", "orange"),
        ("Call me", "call_me", None),
    ]
    assert members_by_name(Visit) == {"ja_graag": Visit.CONFIRM, "move": Visit.MOVE, "call_me": Visit.CALL_ME}
    with pytest.raises(InvalidInputError, match="no members"):
        members_by_name(Enum("Empty", []))


async def test_a_chat_outside_of_a_handler_sends_with_the_client_at_once() -> None:
    bot = Bot()
    await bot.handle(message("hallo"))
    chat = BotChat(CONVERSATION, bot.scopes[0].services)

    await chat.send("een")
    await chat.ask("twee", options=Visit)
    await chat.upload("/etc/hosts")
    await chat.request_verification(AN)
    assert bot.client.calls == ["send", "ask", "upload", "request_verification"]
    assert bot.said == []
    assert repr(chat) == "<BotChat conversations/c1>"


async def test_a_handler_of_any_question_has_its_key_and_its_name_too() -> None:
    bot, got = Bot(known={"q1": Known("patient-7", "visit")}), list[Any]()

    @bot.router.answered
    async def any_question(answer: Answer[str]) -> None:
        got.append((answer.key, answer.question, answer.is_to("visit")))

    assert await bot.handle(answer("ja"))
    assert await bot.handle(answer("ja", question="q2"))
    assert got == [("patient-7", "visit", True), (None, None, False)]
