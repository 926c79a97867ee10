"""A button that is pressed of a question of which it was not known whether it arrived."""

from pathlib import Path

import pytest

from healthmsg import Client, DeliveryUnknownError
from healthmsg.bot.content import Content
from healthmsg.bulk.journal import State
from healthmsg.ids import ChatAddress
from healthmsg.models import Option, Question
from healthmsg.sandbox import AnswerStatus, CutAfter, CutBefore, Fault, Sandbox
from tests.bot.outbox.runs import Run, chat_in, other_side, question, running, text
from tests.bulk.journal_runs import lose

SETTLE = 30.0
"""Of which nothing is waited for: what comes in the next moments may have been on its way."""

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def stays_unknown(
    run: Run, sandbox: Sandbox, chat: ChatAddress, content: Content, key: str = "e/1", *, fault: Fault
) -> None:
    """Ask something of which it is not known whether it arrived, since its chat cannot be read."""
    lose(sandbox, fault, chat.id)
    sandbox.faults.add(kind=AnswerStatus(400), method="GET", path_contains="/messages", times=None)
    with pytest.raises(DeliveryUnknownError):
        await run.outbox.send(key, chat, content)
    sandbox.faults.clear()


async def test_a_button_of_the_question_proves_that_it_arrived(sandbox: Sandbox, target: str) -> None:
    chat, other = chat_in(sandbox), chat_in(sandbox)
    async with running(sandbox, target) as run:
        await run.outbox.send("e/0", other, text("Getuige"))
        await stays_unknown(run, sandbox, chat, question("Komt u?"), fault=CutAfter())
        (message,) = sandbox.messages(chat)
        assert await run.outbox.is_unknown("e/1")
        assert await run.outbox.message_of(message.id) is None  # nothing is proven without its chat
        found = await run.outbox.message_of(message.id, chat)
        assert found is not None
        assert (found.key, found.label) == ("e/1", "visit")
        assert not await run.outbox.is_unknown("e/1")
        assert await run.outbox.unknown() == []
    async with running(sandbox, target) as run:  # it is noted
        assert await run.outbox.message_of(message.id) == found
        assert (await run.outbox.send("e/1", chat, question("Komt u?"))).id == message.id
    assert len(sandbox.messages(chat)) == 1


async def test_it_is_proven_in_a_chat_that_is_addressed_by_its_user_too(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    async with running(sandbox, str(file)) as run:
        user = ChatAddress.parse(f"conversations/{await other_side(run, chat)}")
        await run.outbox.send("e/0", user, text("Getuige"))
        lose(sandbox, CutAfter(), user.id)
        sandbox.faults.add(kind=AnswerStatus(400), method="GET", path_contains="/messages", times=None)
        with pytest.raises(DeliveryUnknownError):
            await run.outbox.send("e/1", user, question("Komt u?"))
        sandbox.faults.clear()
        found = await run.outbox.message_of(sandbox.messages(chat)[-1].id, chat)
        assert found is not None


@pytest.mark.parametrize(
    "content",
    [
        Content("Komt u?", Question([Option("Ja"), Option("Morgen")])),
        Content("Komt u?", Question([Option("Nee"), Option("Ja")])),
        Content("Komt u niet?", Question([Option("Ja"), Option("Nee")])),
        Content("Komt u?"),
    ],
    ids=["other buttons", "another order", "another text", "no question"],
)
async def test_a_button_of_another_message_proves_nothing(
    sandbox: Sandbox, file: Path, content: Content
) -> None:
    chat = chat_in(sandbox)
    async with running(sandbox, str(file), settle=SETTLE) as run:
        await run.outbox.send("e/0", chat, text("Getuige"))
        await stays_unknown(run, sandbox, chat, question("Komt u?"), fault=CutBefore())
        # Asked by another program of this user's, that shares no journal.
        async with Client(sandbox.issue_token(), environment=sandbox.environment) as another:
            handle, asked = another.chat(chat), content.question
            if asked is None:
                other = await handle.send(content.body)
            else:
                other = await handle.ask(content.body, options=asked.options)
        assert await run.outbox.message_of(other.id, chat) is None
        assert await run.outbox.is_unknown("e/1")


async def test_while_an_equal_question_is_unknown_too_nothing_is_proven(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    async with running(sandbox, str(file)) as run:
        await run.outbox.send("e/0", chat, text("Getuige"))
        await stays_unknown(run, sandbox, chat, question("Komt u?"), fault=CutBefore())
        await stays_unknown(run, sandbox, chat, question("Komt u?"), "e/2", fault=CutAfter())
        assert await run.outbox.message_of(sandbox.messages(chat)[-1].id, chat) is None
        assert len(await run.outbox.unknown()) == 2


async def test_a_question_that_was_asked_before_is_not_taken_for_the_one_in_doubt(
    sandbox: Sandbox, file: Path
) -> None:
    chat = chat_in(sandbox)
    async with running(sandbox, str(file)) as run:
        earlier = await run.outbox.send("e/0", chat, question("Komt u?"))
        await stays_unknown(run, sandbox, chat, question("Komt u?"), fault=CutBefore())
        found = await run.outbox.message_of(earlier.id, chat)
        assert found is not None
        assert found.key == "e/0"
        row = await run.store.journal.message("e/1")
        assert row is not None
        assert row.state is State.UNKNOWN


async def test_what_another_user_wrote_is_no_question_of_the_bot_s(sandbox: Sandbox, file: Path) -> None:
    chat = chat_in(sandbox)
    async with running(sandbox, str(file), settle=SETTLE) as run:
        await run.outbox.send("e/0", chat, text("Getuige"))
        await stays_unknown(run, sandbox, chat, question("Komt u?"), fault=CutBefore())
        said = sandbox.say(None, chat, "Komt u?").id
        assert await run.outbox.message_of(said, chat) is None
        assert await run.outbox.message_of("00000000-0000-4000-8000-000000000000", chat) is None
