"""Sending many messages with `send_many`: how fast it is, what it costs, and how long others wait beside it.

Each message is another one, to a chat of its own; a run reads them from a generator. With a journal, it is an
SQLite file on the disk of this folder (or of `--folder`), synced as always. All is measured against a server
in another process:

- `limit`: within a limit that the server enforces: messages delivered a second, and calls that it refused.
- `cost`: with a limit that lets everything go, CPU and messages a second, beside plain aiohttp with a
  semaphore; they take turns, so that a change of the machine's speed hits all. CPU is that of all threads.
- `memory`: the most that a process has had, less what one with an idle client has.
- `interactive`: how long one `send` takes from its call to its answer, within the limit.
- `preview`: checking everything and sending nothing.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import orjson
from counting_server import Service, counting_server
from limit import arrivals_of
from upload import peak_memory

from healthmsg import Client, Environment, Outgoing, RateLimit

TOKEN: Final = "benchmark-token"  # noqa: S105 - no secret
# As many as `send_many` has under way.
AT_ONCE: Final = 128
ENDLESS: Final = 10**9
# The limit is at work, but lets everything go.
UNLIMITED: Final = RateLimit(calls=100_000, per=0.1)
Run = Callable[[int], Awaitable[None]]
"""Sends so many messages."""


def messages(count: int) -> Iterator[Outgoing]:
    """Give messages, each another one, and each to another chat."""
    for number in range(count):
        yield Outgoing(f"conversations/c{number}", text(number))


def text(number: int) -> str:
    """Say something that no other message says."""
    return f"Uw afspraak met nummer {number} van morgen om 10.15 uur is bevestigd."


@asynccontextmanager
async def a_client(url: str, rate: RateLimit) -> AsyncIterator[Client]:
    """Open a client that has sent a message."""
    async with Client(TOKEN, environment=Environment("benchmark", f"{url}/v1"), rate_limit=rate) as client:
        await client.conversations("c").send("Hallo")
        yield client


def new_journal(folder: Path, *, is_wanted: bool) -> Path | None:
    """Name a journal that is not there yet."""
    return folder / f"{time.monotonic_ns()}.db" if is_wanted else None


async def send(client: Client, count: int, journal: Path | None) -> float:
    """Send messages, all of which must be delivered, and give how many a second were."""
    report = await client.send_many(messages(count), journal=journal).report()
    assert report.delivered == count  # noqa: S101 - else nothing that is measured is true
    return report.delivered / report.seconds


# --- within the limit


async def measure_within_limit(folder: Path, count: int) -> None:
    """Print how fast a limit is used up, and what it refuses."""
    for with_journal in (False, True):
        with counting_server(Service(enforces="sliding")) as url:
            async with a_client(url, RateLimit()) as client:
                rate = await send(client, count, new_journal(folder, is_wanted=with_journal))
            arrived, let_in = await arrivals_of(url)
        refused = len(arrived) - len(let_in)
        print(f"{_named(with_journal):16}{rate:6.2f} delivered a second   {refused} refused", flush=True)


# --- what it costs


async def measure_cost(folder: Path, count: int, rounds: int) -> None:
    """Measure plain aiohttp and both kinds of run in turn, and print the means and their ratios."""
    with counting_server() as url:
        async with a_client(url, UNLIMITED) as client, aiohttp.ClientSession() as session:

            async def plain(count: int) -> None:
                await send_plainly(session, url, count)

            async def without(count: int) -> None:
                await send(client, count, None)

            async def with_journal(count: int) -> None:
                await send(client, count, new_journal(folder, is_wanted=True))

            runs: dict[str, Run] = {
                "plain aiohttp": plain,
                _named(False): without,
                _named(True): with_journal,
            }
            for run in runs.values():
                await run(AT_ONCE)
            figures: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
            for number in range(rounds):
                for name in sorted(runs, reverse=bool(number % 2)):
                    figures[name].append(await _cpu_and_wall(runs[name], count))
    # Totals: now and then the garbage collector goes through all there is, so single runs differ.
    totals = {name: [sum(one) for one in zip(*found, strict=True)] for name, found in figures.items()}
    for name, (cpu, wall) in totals.items():
        ratio = cpu / totals["plain aiohttp"][0]
        print(
            f"{name:16}{1e6 * rounds / wall:8.0f} a second   CPU {cpu / rounds:5.0f} µs   ratio {ratio:4.2f}",
            flush=True,
        )


async def send_plainly(session: aiohttp.ClientSession, url: str, count: int) -> None:
    """Send messages as one does with aiohttp alone."""
    places = asyncio.Semaphore(AT_ONCE)

    async def post(message: Outgoing) -> object:
        async with (
            places,
            session.post(
                f"{url}/v1/{message.to}/messages",
                data=orjson.dumps({"body": message.body}),
                headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            ) as answer,
        ):
            answer.raise_for_status()
            return orjson.loads(await answer.read())

    await asyncio.gather(*map(post, messages(count)))


async def _cpu_and_wall(run: Run, count: int) -> tuple[float, float]:
    """Give CPU and wall time a message, in microseconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    await run(count)
    return (time.process_time() - cpu) / count * 1e6, (time.perf_counter() - wall) / count * 1e6


# --- memory


def measure_memory(folder: Path, count: int) -> None:
    """Print what each kind of run takes beyond an idle client, in a process of its own."""
    with counting_server() as url:
        idle = _memory_of(url, None, 0)
        for with_journal in (False, True):
            beyond = _memory_of(url, new_journal(folder, is_wanted=with_journal), count) - idle
            print(
                f"{_named(with_journal):16}{beyond:+6.1f} MiB beyond the {idle:.1f} of an idle client",
                flush=True,
            )


def _memory_of(url: str, journal: Path | None, count: int) -> float:
    command = [sys.executable, __file__, "--one-run", json.dumps([url, journal and str(journal), count])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - ourselves
    return float(done.stdout)


async def _one_run(url: str, journal: str | None, count: int) -> float:
    async with a_client(url, UNLIMITED) as client:
        if count:
            await send(client, count, Path(journal) if journal else None)
    return peak_memory()


# --- a person beside it


async def measure_interactive(folder: Path, calls: int, seconds: float) -> None:
    """Print how long single messages take, with nothing else and beside each kind of run."""
    moments = [random.uniform(0, seconds) for _ in range(calls)]
    alone = 0.0
    for beside in (None, False, True):
        with counting_server(Service(enforces="sliding")) as url:
            async with a_client(url, RateLimit()) as client:
                journal = new_journal(folder, is_wanted=bool(beside))
                bulk = None if beside is None else asyncio.create_task(send(client, ENDLESS, journal))
                took = await _times_of_sends(client, moments)
                if bulk is not None:
                    bulk.cancel()
                    await asyncio.wait([bulk])
        p99 = statistics.quantiles(took, n=100)[98]
        alone = alone or p99
        name = "alone" if beside is None else f"beside {_named(beside)}"
        figures = f"median {statistics.median(took):5.1f} ms   p99 {p99:5.1f} ms"
        print(f"{name:23}{figures}   {p99 - alone:+6.1f} ms", flush=True)


async def _times_of_sends(client: Client, moments: list[float]) -> list[float]:
    async def send_at(moment: float) -> float:
        await asyncio.sleep(moment)
        began = time.perf_counter()
        await client.conversations("c").send("Hallo")
        return (time.perf_counter() - began) * 1000

    return await asyncio.gather(*map(send_at, moments))


# --- sending nothing


async def measure_preview(folder: Path, count: int) -> None:
    """Print how long it takes to check messages: of no journal, of one to be made, of one that has them."""
    with counting_server() as url:
        async with a_client(url, UNLIMITED) as client:
            known = new_journal(folder, is_wanted=True)
            await send(client, count, known)
            new = new_journal(folder, is_wanted=True)
            for name, journal in {
                "no journal": None,
                "new journal": new,
                "known to a journal": known,
            }.items():
                began = time.perf_counter()
                report = await client.preview_many(messages(count), journal=journal).report()
                took = time.perf_counter() - began
                assert report.messages == count  # noqa: S101 - else it checked less
                print(f"{name:20}{count} messages in {took:4.2f} s", flush=True)


def _named(with_journal: bool) -> str:  # noqa: FBT001 - one of two kinds
    return "with journal" if with_journal else "without journal"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="of `cost`")
    parser.add_argument("--messages", type=int, default=5_000, help="per round")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to make journals, on a real disk")
    parser.add_argument("--only", help="one of the parts named above")
    parser.add_argument("--one-run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_run:
        print(asyncio.run(_one_run(*json.loads(given.one_run))))
        return
    logging.getLogger("healthmsg").setLevel(logging.ERROR)  # that a run was ended is no news
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        parts: dict[str, Callable[[], None]] = {
            "cost": lambda: asyncio.run(measure_cost(folder, given.messages, given.rounds)),
            "memory": lambda: measure_memory(folder, 100_000),
            "preview": lambda: asyncio.run(measure_preview(folder, 20_000)),
            "limit": lambda: asyncio.run(measure_within_limit(folder, 900)),
            "interactive": lambda: asyncio.run(measure_interactive(folder, 330, 30.0)),
        }
        for name, part in parts.items():
            if given.only in (None, name):
                print(name)
                part()


if __name__ == "__main__":
    main()
