"""What the tests of the journal have in common."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from healthmsg.bulk.journal import Claimed, Entry, Journal, Standing, State
from healthmsg.errors import Outcome

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def entry(key: str, chat: str = "", body: str = "Beste mevrouw Jansen") -> Entry:
    return Entry(key, f"aux/conversations/{chat or key}", body)


def only(claims: list[Claimed]) -> Claimed:
    (claim,) = claims
    return claim


def keys(claims: list[Claimed]) -> list[str]:
    return [claim.key for claim in claims]


async def begun(journal: Journal) -> Claimed:
    """Claim one message and begin with it."""
    claim = only(await journal.claim(1))
    await journal.begin(claim, NOW, claim.chat)
    return claim


async def delivered(journal: Journal, message_id: str) -> Claimed:
    claim = await begun(journal)
    await journal.finish(claim, Outcome.DELIVERED, message_id=message_id)
    return claim


async def standing(journal: Journal, entered: Entry) -> Standing:
    (found,) = await journal.enter([entered])
    return found


async def states(journal: Journal) -> dict[str, State]:
    return {row.key: row.state async for row in journal.rows()}


@asynccontextmanager
async def holding(target: str, *entries: Entry) -> AsyncIterator[Journal]:
    """Open a journal with some messages."""
    async with Journal.open(target) as journal:
        await journal.enter(entries)
        yield journal
