"""What the tests of the inbox have in common."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from healthmsg.events import MessageCreated, QuestionAnswered
from healthmsg.gateway.inbox import Change, ChatRecord, Start, open_inbox
from healthmsg.gateway.inbox.sql import SqlInbox
from healthmsg.ids import ChatAddress
from healthmsg.models import Message

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
URL: Final = "https://api.example/v1"
TEXT: Final = "Beste mevrouw Jansen"


def message(number: int, chat: str = "c1", body: str = TEXT) -> MessageCreated:
    return MessageCreated(
        id=f"message/m{number}",
        chat=ChatAddress.of_text(f"conversations/{chat}"),
        received_at=NOW,
        message=Message.from_dict({"id": f"m{number}", "body": body}),
    )


def answer(option: str) -> QuestionAnswered:
    return QuestionAnswered(
        id=f"answer/m1/u1/{option}",
        chat=ChatAddress.of_text("conversations/c1"),
        received_at=NOW,
        message_id="m1",
        user_id="u1",
        options=(option,),
    )


def of(*events: MessageCreated | QuestionAnswered) -> list[Change]:
    """Return what enters events."""
    return [Change(None, events)]


def record(number: int, hint: str | None = None) -> ChatRecord:
    return ChatRecord(f"conversations/c{number}", (f"m{number}",), NOW, hint)


async def begin(inbox: SqlInbox, account: str = "u-me", url: str = URL) -> Start:
    await inbox.hold()
    return await inbox.start(account, url, NOW)


@asynccontextmanager
async def opened(target: object) -> AsyncIterator[SqlInbox]:
    """Open an inbox that has begun."""
    async with open_inbox(str(target)) as inbox:
        assert isinstance(inbox, SqlInbox)
        await begin(inbox)
        yield inbox
