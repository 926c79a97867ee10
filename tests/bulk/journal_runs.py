"""What the tests of bulk sending with a journal have in common."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from healthmsg import Client, Outcome, Outgoing, Retries, SendResult
from healthmsg.bulk.journal import State, open_journal
from healthmsg.sandbox import Fault, Sandbox
from tests.bulk.sources import posts
from tests.waiting import until


@asynccontextmanager
async def fresh_client(sandbox: Sandbox) -> AsyncIterator[Client]:
    """Return a client that knows nothing of what others have sent, as one of another process."""
    # Nor of the calls that others have made within this second: it would be refused, and tries nothing again.
    sandbox.rate_limit = None
    async with Client(
        sandbox.issue_token(), environment=sandbox.environment, retries=Retries.none()
    ) as client:
        yield client


async def sent(client: Client, messages: Iterable[Outgoing] | None, **options: Any) -> list[SendResult]:
    """Send, and give the results in the order of the messages; those of no message of this run come last."""
    results = await client.send_many(messages, **{"settle": 0.1, **options}).all()
    return sorted(results, key=lambda result: (result.index is None, result.index))


def outcomes(results: Iterable[SendResult]) -> list[Outcome]:
    return [result.outcome for result in results]


async def states(journal: Path | str) -> dict[str, State]:
    async with open_journal(journal, is_reading=True) as reading:
        return {row.key: row.state async for row in reading.rows()}


def lose(sandbox: Sandbox, fault: Fault, chat: str = "", times: int | None = 1) -> None:
    """Order a fault for the next messages of a chat."""
    sandbox.faults.add(kind=fault, method="POST", path_contains=f"{chat}/messages", times=times)


async def left_when(client: Client, sandbox: Sandbox, messages: Iterable[Outgoing], **options: Any) -> None:
    """Begin a run, and leave it as soon as so many calls have arrived that are to be made once."""
    count = options.pop("posts", 1)
    async with client.send_many(messages, **options):
        await until(lambda: posts(sandbox) >= count)
