"""What the tests of a bot's store have in common."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from attrs import evolve

from healthmsg.bot.store.records import DialogRecord, StepRecord, TimerRecord, Waiting
from healthmsg.bot.store.store import BotStore
from healthmsg.events import Event, TimerDue
from healthmsg.gateway.inbox import Change
from healthmsg.ids import ChatAddress

NOW: Final = datetime(2026, 3, 2, 9, 0, 0, 123456, tzinfo=UTC)
URL: Final = "https://api.example/v1"
CHAT: Final = "conversations/c1"


@asynccontextmanager
async def opened(target: object) -> AsyncIterator[BotStore]:
    """Open a store that has begun."""
    async with BotStore.open(str(target)) as store:
        await store.inbox.hold()
        await store.inbox.start("u-me", URL, NOW)
        yield store


async def enter(store: BotStore, *events: Event) -> list[int]:
    """Have events wait; return the sequences of all that wait."""
    await store.inbox.apply([Change(None, events)])
    return [one.sequence for one in await store.waiting(0, 1000)]


def dialog(name: str = "d1", chat: str = CHAT, user: str = "u1", document: str = "{}") -> DialogRecord:
    return DialogRecord(name, "intake", 2, chat, user, "open", document, NOW, NOW)


def step(number: int, key: str = "Wat is uw naam?", value: str | None = None, of: str = "d1") -> StepRecord:
    return StepRecord(of, number, "text", key, value)


def timer(name: str, due: datetime = NOW, of: str | None = "d1") -> TimerRecord:
    return TimerRecord(name, due, CHAT, "u1", of, "remind", '{"n":1}')


def due(one: TimerRecord) -> TimerDue:
    return TimerDue(
        id=f"timer/{one.id}/{one.due.isoformat()}",
        received_at=NOW,
        timer=one.id,
        due=one.due,
        chat=None if one.chat is None else ChatAddress.of_text(one.chat),
        user_id=one.user,
        dialog=one.dialog,
        timer_kind=one.kind,
        document=one.document,
    )


def ids(waiting: list[Waiting]) -> list[str]:
    return [one.event.id for one in waiting]


def after_attempt(event: Event, attempt: int) -> Event:
    return evolve(event, attempt=attempt)
