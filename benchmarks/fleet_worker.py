"""One process of a fleet, which `fleet.py` starts: it calls within a limit that it shares.

Its argument is a `Work` as JSON. It prints `ready`, begins with a line from its input, and with the next one,
or at the end of its input, prints a `Report` as JSON and ends.
"""

import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson
from attrs import asdict, define, field, frozen
from counting_server import go_first, note_stalls
from fleet_limits import CALLS, OTHERS, Turn

sys.path.insert(0, str(Path(__file__).parent.parent))

from healthmsg import CallRecord, Client, Environment, HealthmsgError, Outgoing, RateLimit, SharedLimit

# Seconds between bursts, and how many calls one has.
EVERY, IN_ONE = 3.0, 5
# How many callers of plain aiohttp wait for a turn in bulk.
CALLERS = 10
# Seconds after which bulk sending begins again that has ended with an error.
_AGAIN = 0.2
INTERACTIVE = "GET me"


@frozen
class Work:
    """What a process is to do."""

    url: str
    limit: str
    """A name in `fleet_limits.py`."""
    store: str | None
    load: str
    """`bulk`, `bursts`, `interactive` (at random moments), `begins` (one call) or `idle`."""
    workers: int
    a_second: float = 5.0
    """Interactive calls."""


@define
class Report:
    """What has become of it. Moments are those of the monotonic clock, which all processes share."""

    first: float | None = None
    """When the first call left."""
    waits: list[tuple[float, float]] = field(factory=list)
    """When each interactive call had waited for its turn, and for how many seconds."""
    stalls: list[tuple[float, float]] = field(factory=list)
    """When the process stood still, and for how long."""
    errors: Counter[str] = field(factory=Counter)

    def left(self) -> None:
        """Note that a call leaves."""
        if self.first is None:
            self.first = time.monotonic()


class Calls(Protocol):
    """How a process calls."""

    async def bulk(self) -> None:
        """Send until cancelled."""

    async def interactive(self) -> None:
        """Make one call, and report how long it waited for its turn."""


@frozen
class Plain:
    """Calls by plain aiohttp, each after a turn."""

    session: aiohttp.ClientSession
    url: str
    turn: Turn
    report: Report

    async def bulk(self) -> None:
        """Send until cancelled."""
        await asyncio.gather(*(self._again_and_again() for _ in range(CALLERS)))

    async def interactive(self) -> None:
        """Make one call."""
        began = time.monotonic()
        if await self._call():
            self.report.waits.append((time.monotonic(), time.monotonic() - began))

    async def _again_and_again(self) -> None:
        while True:
            await self._call()

    async def _call(self) -> bool:
        try:
            await self.turn()
        except Exception as error:  # noqa: BLE001 - of whatever library
            self.report.errors[type(error).__name__] += 1
            await asyncio.sleep(_AGAIN)
            return False
        self.report.left()
        async with self.session.post(self.url, data=orjson.dumps({"body": "Hallo"})) as answer:
            await answer.read()
        return True


@frozen
class Healthmsg:
    """Calls by healthmsg."""

    client: Client
    report: Report

    async def bulk(self) -> None:
        """Send until cancelled."""
        while True:
            try:
                async for result in self.client.send_many(self._messages()):
                    if result.error is not None:
                        self.report.errors[type(result.error).__name__] += 1
            except HealthmsgError as error:
                self.report.errors[type(error).__name__] += 1
            await asyncio.sleep(_AGAIN)

    async def interactive(self) -> None:
        """Make one call."""
        try:
            await self.client.me.get()
        except HealthmsgError as error:
            self.report.errors[type(error).__name__] += 1

    @staticmethod
    def _messages() -> Iterator[Outgoing]:
        for number in count():
            yield Outgoing(f"conversations/c{number}", "Hallo")


@asynccontextmanager
async def calls_of(work: Work, report: Report) -> AsyncIterator[Calls]:
    """Open what calls within that limit."""
    if work.limit in OTHERS:
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            OTHERS[work.limit](work.store or "") as turn,
        ):
            yield Plain(session, f"{work.url}/v1/conversations/c/messages", turn, report)
        return

    def note(record: CallRecord) -> None:
        if report.first is None:
            report.first = time.monotonic() - record.duration
        if record.call == INTERACTIVE:
            report.waits.append((time.monotonic(), record.waited))

    environment = Environment("benchmark", f"{work.url}/v1")
    rate_limit = rate_limit_of(work)
    async with Client("benchmark", environment=environment, rate_limit=rate_limit, on_call=note) as client:
        yield Healthmsg(client, report)


def rate_limit_of(work: Work) -> RateLimit | SharedLimit:
    """Return healthmsg's own limit of that name."""
    if work.limit in {"leases", "per call"}:
        return SharedLimit(work.store or "")
    if work.limit == "1/N each":
        return RateLimit(calls=max(1, CALLS // work.workers))
    return RateLimit(calls=CALLS)


async def bursts(calls: Calls) -> None:
    """Make some calls at once, again and again."""
    while True:
        await asyncio.gather(*(calls.interactive() for _ in range(IN_ONE)))
        await asyncio.sleep(EVERY)


async def at_random(calls: Calls, a_second: float) -> None:
    """Make calls at random moments, whether those before have ended or not."""
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(random.expovariate(a_second))
            group.create_task(calls.interactive())


async def until_stopped(
    work: Work, report: Report, next_line: Callable[[], Coroutine[Any, Any, str]]
) -> None:
    """Do the work between two lines."""
    loads: dict[str, Callable[[Calls], Coroutine[Any, Any, None]]] = {
        "bulk": lambda calls: calls.bulk(),
        "bursts": bursts,
        "interactive": lambda calls: at_random(calls, work.a_second),
        "idle": lambda _: asyncio.sleep(0),
    }
    async with calls_of(work, report) as calls:
        go_first()  # not before: to start takes a second of a processor
        print("ready", flush=True)
        if not await next_line():
            return
        watch = asyncio.create_task(note_stalls(report.stalls))
        task = asyncio.create_task(loads[work.load](calls))
        await next_line()
        task.cancel()
        watch.cancel()
        await asyncio.wait([task, watch])
        if not task.cancelled() and (error := task.exception()):
            report.errors[repr(error)] += 1


async def main(work: Work) -> None:
    """Do it, and report."""
    logging.disable(logging.ERROR)  # that a store is away is what is measured
    report = Report()

    def next_line() -> Coroutine[Any, Any, str]:
        return asyncio.to_thread(sys.stdin.readline)

    await until_stopped(work, report, next_line)
    print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Work(**json.loads(sys.argv[1]))))
