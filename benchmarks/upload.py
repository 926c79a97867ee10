"""Uploading files: `healthmsg` beside plain aiohttp and curl, to a server that only counts bytes.

Each client runs in a fresh process, and they take turns, so that a change of the machine's speed hits all.
The files are in the page cache. Time is from the first byte asked for to the last answer, after one small
call that makes the client ready; for curl it is from the start of its processes, eight at a time. Memory is
what the process's peak grew by (`VmHWM`, Linux). The longest stall of the event loop is looked for in runs
of their own, by a task that wakes each millisecond.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from attrs import frozen
from byte_sink import byte_sink

from healthmsg import Client, Environment, RateLimit, UploadFile

MIB: Final = 1024 * 1024
TOKEN: Final = "benchmark-token"  # noqa: S105 - no secret
AT_ONCE: Final = 8
CLIENTS: Final = ("healthmsg", "plain aiohttp", "curl")
Upload = Callable[[Path], Awaitable[object]]


@frozen
class Measured:
    """What one run took: seconds, MiB, and milliseconds."""

    time: float
    memory: float = float("nan")
    stall: float = float("nan")


@asynccontextmanager
async def healthmsg_client(url: str) -> Any:
    """Give the upload of one file, with this SDK."""
    environment = Environment("benchmark", f"{url}/v1")
    async with Client(TOKEN, environment=environment, rate_limit=RateLimit(calls=1000, per=1)) as client:
        chat = client.conversations("c1")
        await chat.upload(UploadFile(b"x", "warm-up.bin"))
        yield chat.upload


@asynccontextmanager
async def aiohttp_client(url: str) -> Any:
    """Give the upload of one file, as one writes it with aiohttp alone."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:

        async def send(value: Any, name: str) -> None:
            form = aiohttp.FormData({"message": ""})
            form.add_field("files", value, filename=name)
            async with session.post(f"{url}/v1/conversations/c1/attachments", data=form) as answer:
                answer.raise_for_status()
                await answer.json()

        async def upload(path: Path) -> None:
            with path.open("rb") as opened:  # as in aiohttp's documentation
                await send(opened, path.name)

        await send(b"x", "warm-up.bin")
        yield upload


async def upload_all(upload: Upload, files: list[Path]) -> None:
    """Upload each file as a message of its own, so many at once."""
    left = iter(files)

    async def work() -> None:
        for file in left:
            await upload(file)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(files))):
            group.create_task(work())


class Ticker:
    """Wakes each millisecond, and notes how late it woke."""

    latest = 0.0

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.latest = max(self.latest, time.perf_counter() - due)


def peak_memory() -> float:
    """Give the most memory this process has had, in MiB (`ru_maxrss` would survive `exec`)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def measure(name: str, url: str, files: list[Path], *, stalls: bool) -> Measured:
    """Upload in this process."""
    async with (healthmsg_client if name == "healthmsg" else aiohttp_client)(url) as upload:
        ticker = Ticker()
        ticking = asyncio.create_task(ticker.run()) if stalls else None
        await asyncio.sleep(0.05)
        ticker.latest = 0.0
        before, began = peak_memory(), time.perf_counter()
        await upload_all(upload, files)
        took = time.perf_counter() - began
        if ticking is not None:
            ticking.cancel()
        return Measured(took, peak_memory() - before, ticker.latest * 1000)


def in_a_process(name: str, url: str, files: list[Path], *, stalls: bool = False) -> Measured:
    """Upload in a process of its own."""
    paths = [str(path) for path in files]
    if name == "curl":
        form = [
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "--fail",
            "-H",
            "Expect:",
            "-F",
            "message=",
            "-F",
            "files=@{}",
        ]
        each = ["xargs", "-P", str(AT_ONCE), "-I{}", *form, f"{url}/v1/conversations/c1/attachments"]
        began = time.perf_counter()
        subprocess.run(each, input="\n".join(paths), text=True, check=True)  # noqa: S603 - our own arguments
        return Measured(time.perf_counter() - began)
    command = [sys.executable, __file__, "--one-run", json.dumps([name, url, stalls, paths])]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - ourselves
    return Measured(*json.loads(done.stdout))


def compare(url: str, files: list[Path], rounds: int) -> None:
    """Measure all clients in turn, and print the medians and their ratios to ours."""
    clients = [name for name in CLIENTS if name != "curl" or shutil.which("curl")]
    runs: dict[str, list[Measured]] = {name: [] for name in clients}
    stalls: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name in clients:
            runs[name].append(in_a_process(name, url, files))
            if name != "curl":
                stalls[name].append(in_a_process(name, url, files, stalls=True).stall)
    ours = statistics.median(run.time for run in runs["healthmsg"])
    for name in clients:
        took = statistics.median(run.time for run in runs[name])
        line = f"{name:14} {took * 1000:7.0f} ms   healthmsg takes {ours / took:4.2f} of it"
        if name != "curl":
            memory = max(run.memory for run in runs[name])
            stall = statistics.median(stalls[name])
            line += f"   memory +{memory:5.1f} MiB   stall {stall:5.1f} ms (worst {max(stalls[name]):.1f})"
        print(line)


def make_files(folder: Path, count: int, size: int) -> Iterator[Path]:
    """Write files of random bytes, which are in the page cache then."""
    content = Path("/dev/urandom").open("rb").read(MIB)  # noqa: SIM115 - closed with the process
    for number in range(count):
        path = folder / f"{count}-{number}.bin"
        with path.open("wb") as opened:
            for _ in range(size):
                opened.write(content)
        yield path


def main() -> None:
    """Print a table for one large file, and one for many at once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=512, help="MiB of the one file")
    parser.add_argument("--folder", type=Path, help="where to make the files, on a disk that is one")
    parser.add_argument("--one-run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_run:
        name, url, stalls, paths = json.loads(given.one_run)
        found = asyncio.run(measure(name, url, [Path(path) for path in paths], stalls=stalls))
        print(json.dumps([found.time, found.memory, found.stall]))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as made, byte_sink() as url:
        for count, size in ((1, given.size), (64, 8)):
            print(f"\n{count} of {size} MiB, up to {AT_ONCE} at once")
            files = list(make_files(Path(made), count, size))
            compare(url, files, given.rounds)


if __name__ == "__main__":
    main()
