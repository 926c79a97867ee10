"""What the tests of campaigns have in common."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from healthmsg import CampaignCounts, Client, Outgoing, RateLimit, Worker, open_campaigns
from healthmsg.sandbox import Sandbox
from tests.waiting import until

Target = Path | str


def texts(chats: Iterable[str], word: str = "Bericht", each: int = 1) -> list[Outgoing]:
    return [Outgoing(chat, f"{word} {number}") for number in range(each) for chat in chats]


async def counts(target: Target, name: str) -> CampaignCounts:
    async with open_campaigns(target, is_reading=True) as campaigns:
        return (await campaigns.get(name)).counts


@asynccontextmanager
async def working(
    sandbox: Sandbox, target: Target, *, calls: int = 1_000, settle: float = 0.1
) -> AsyncIterator[Worker]:
    """Have a worker of its own client, until it has drained."""
    sandbox.rate_limit = None
    async with Client(
        sandbox.issue_token(), environment=sandbox.environment, rate_limit=RateLimit(calls=calls)
    ) as client:
        worker = Worker(client, target, settle=settle)
        running = asyncio.ensure_future(worker.run())
        try:
            await until(lambda: worker.is_ready or running.done())
            yield worker
        finally:
            worker.stop()
            await running


async def until_idle(worker: Worker, *, done: int) -> None:
    """Wait until a worker has come to an end with so many messages, and holds none."""

    def is_idle() -> bool:
        stats = worker.stats()
        return stats.delivered + stats.not_sent + stats.unknown >= done and not stats.claimed

    await until(is_idle)
