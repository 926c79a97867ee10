"""Downloading a file: `healthmsg` beside plain aiohttp that writes the same file in a thread.

Each client runs in a fresh process, and they take turns. Time is from the call for the link to the complete
file, after one call that makes the client ready. Memory is what the process's peak grew by (`VmHWM`, Linux).
The longest stall of the event loop is looked for in runs of their own.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from byte_source import byte_source
from upload import MIB, TOKEN, Measured, Ticker, peak_memory

from healthmsg import Client, Environment, RateLimit

CLIENTS: Final = ("healthmsg", "plain aiohttp")
Download = Callable[[Path], Awaitable[object]]


@asynccontextmanager
async def healthmsg_client(url: str) -> Any:
    """Give the download of the file, with this SDK."""
    environment = Environment("benchmark", f"{url}/v1")
    async with Client(TOKEN, environment=environment, rate_limit=RateLimit(calls=1000, per=1)) as client:
        chat = client.conversations("c1")

        async def download(path: Path) -> None:
            await chat.download("a1", to=path)

        await client.me.get()
        yield download


@asynccontextmanager
async def aiohttp_client(url: str) -> Any:
    """Give it as one writes it with aiohttp alone."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:

        async def link() -> str:
            async with session.get(f"{url}/v1/conversations/c1/attachments/a1", allow_redirects=False) as got:
                return f"{url}{got.headers['Location']}"

        async def download(path: Path) -> None:
            async with session.get(await link()) as answer:
                answer.raise_for_status()
                with path.open("wb") as file:
                    async for chunk in answer.content.iter_chunked(MIB):
                        await asyncio.to_thread(file.write, chunk)

        await link()
        yield download


async def measure(name: str, url: str, target: Path, *, stalls: bool) -> Measured:
    """Download in this process."""
    async with (healthmsg_client if name == "healthmsg" else aiohttp_client)(url) as download:
        ticker = Ticker()
        ticking = asyncio.create_task(ticker.run()) if stalls else None
        await asyncio.sleep(0.05)
        ticker.latest = 0.0
        before, began = peak_memory(), time.perf_counter()
        await download(target)
        took = time.perf_counter() - began
        if ticking is not None:
            ticking.cancel()
        return Measured(took, peak_memory() - before, ticker.latest * 1000)


def in_a_process(name: str, url: str, target: Path, *, stalls: bool = False) -> Measured:
    """Download in a process of its own."""
    target.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--one-run", json.dumps([name, url, str(target), stalls])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - ourselves
    return Measured(*json.loads(done.stdout))


def compare(url: str, target: Path, size: int, rounds: int) -> None:
    """Measure both clients in turn, and print the medians and their ratios to ours."""
    runs: dict[str, list[Measured]] = {name: [] for name in CLIENTS}
    stalls: dict[str, list[float]] = {name: [] for name in CLIENTS}
    for _ in range(rounds):
        for name in CLIENTS:
            runs[name].append(in_a_process(name, url, target))
            if target.stat().st_size != size:
                raise SystemExit(f"{name} has not written the file")
            stalls[name].append(in_a_process(name, url, target, stalls=True).stall)
    ours = statistics.median(run.time for run in runs["healthmsg"])
    for name in CLIENTS:
        took = statistics.median(run.time for run in runs[name])
        memory = max(run.memory for run in runs[name])
        print(
            f"{name:14} {took * 1000:7.0f} ms   healthmsg takes {ours / took:4.2f} of it"
            f"   memory +{memory:5.1f} MiB"
            f"   stall {statistics.median(stalls[name]):5.1f} ms (worst {max(stalls[name]):.1f})"
        )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512, help="MiB")
    parser.add_argument("--folder", type=Path, help="where to write the file")
    parser.add_argument("--one-run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_run:
        name, url, path, stalls = json.loads(given.one_run)
        found = asyncio.run(measure(name, url, Path(path), stalls=stalls))
        print(json.dumps([found.time, found.memory, found.stall]))
        return
    size = given.size * MIB
    with tempfile.TemporaryDirectory(dir=given.folder) as made, byte_source(size) as url:
        print(f"{given.size} MiB")
        compare(url, Path(made) / "file.bin", size, given.rounds)


if __name__ == "__main__":
    main()
