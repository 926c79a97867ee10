"""Replies that are sent once, as long as nothing dies."""

import pytest

from healthmsg.sandbox import Sandbox
from tests.bot.outbox.runs import chat_in, running, text
from tests.bulk.sources import posts

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def test_a_reply_is_sent_once_however_often_it_is_asked_for(sandbox: Sandbox, target: str) -> None:
    chat = chat_in(sandbox)

    async with running(sandbox, target) as run:
        first = await run.outbox.send("e/1", chat, text("Hallo"))
        again = await run.outbox.send("e/1", chat, text("Hallo"))
    async with running(sandbox, target) as run:
        after_restart = await run.outbox.send("e/1", chat, text("Hallo"))

    assert first == again == after_restart
    assert [message.id for message in sandbox.messages(chat)] == [first.id]
    assert posts(sandbox) == 1
