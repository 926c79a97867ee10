"""A fleet of `fleet_worker.py`'s processes, a server that counts, and the store of their limit."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from attrs import asdict, define, field, frozen
from counting_server import Service, counting_server
from fleet_limits import store_of
from fleet_stores import Postgresql, Redis, Store
from fleet_worker import Report, Work
from other_clock import OtherClock

_WORKER: Final = str(Path(__file__).with_name("fleet_worker.py"))
# A process of ten that begin at once on a busy machine.
_LONGEST_START: Final = 60.0


@define(eq=False)
class Member:
    """One process of the fleet."""

    process: asyncio.subprocess.Process
    report: Report | None = None
    began: float = 0.0

    def begin(self) -> None:
        """Let it begin with its work."""
        self.began = time.monotonic()
        self._say("begin")

    def signal(self, number: int) -> None:
        """Kill, suspend or wake it."""
        self.process.send_signal(number)

    async def end(self) -> None:
        """Let it end by itself, and keep its report, if it has not been killed."""
        if self.process.returncode is None:
            self.signal(signal.SIGCONT)
            try:
                async with asyncio.timeout(20):
                    output, _ = await self.process.communicate(b"end\n")
            except TimeoutError:
                self.process.kill()
                self.report = Report(errors=Counter({"did not end": 1}))
                return
            lines = output.decode().splitlines()
            if lines:
                self.report = Report(**json.loads(lines[-1]))
            else:
                self.report = Report(errors=Counter({"ended early": 1}))

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None  # noqa: S101 - asked for when it was started
        self.process.stdin.write(f"{line}\n".encode())


@define(eq=False)
class Fleet:
    """All processes that share a limit, and what happens to them."""

    url: str
    limit: str
    size: int
    store: Store | None
    clocks: Mapping[int, OtherClock]
    members: list[Member] = field(factory=list)
    changes: list[float] = field(factory=list)
    """When something happened to the fleet, by the monotonic clock."""
    a_second: float = 5.0
    _requests: int = 0
    _requests_seen: int = 0

    async def start(self, load: str, clock: int = 0) -> Member:
        """Start a process, which waits for its `begin`; its wall clock is so many seconds ahead."""
        store = self.store.url if self.store is not None else None
        work = Work(self.url, self.limit, store, load, self.size, self.a_second)
        environment = self.clocks[clock].environment if clock else {}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, _WORKER, json.dumps(asdict(work))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | environment,
        )
        member = Member(process)
        self.members.append(member)
        assert process.stdout is not None  # noqa: S101 - asked for above
        async with asyncio.timeout(_LONGEST_START):
            if await process.stdout.readline() != b"ready\n":
                raise SystemExit(f"A process with the limit {self.limit!r} did not start.")
        return member

    def changed(self) -> None:
        """Note that something happens now."""
        self.changes.append(time.monotonic())

    async def restart_store(self, away: float = 0.0) -> None:
        """Stop the store, for so many seconds and what it takes to start it."""
        if self.store is None:
            return
        await self.count_requests()
        await asyncio.to_thread(self.store.stop)
        await asyncio.sleep(away)
        await asyncio.to_thread(self.store.start)
        self._requests_seen = await self.store.requests()

    async def count_requests(self) -> int:
        """Return how many requests the store has had, restarts or not."""
        if self.store is not None:
            now = await self.store.requests()
            self._requests += now - self._requests_seen
            self._requests_seen = now
        return self._requests

    async def end(self) -> None:
        """End all processes."""
        await asyncio.gather(*(member.end() for member in self.members))

    def errors(self) -> Counter[str]:
        """Return what went wrong in all processes."""
        reports = [member.report for member in self.members if member.report is not None]
        return sum((Counter(report.errors) for report in reports), Counter())


@frozen
class Conditions:
    """Under what a fleet runs."""

    limit: str
    service: Service = Service()
    size: int = 3
    other_clocks: tuple[int, ...] = ()
    """By how many seconds wall clocks of processes are ahead."""
    store_has_clock: bool = False
    keeps_data: bool = True


@asynccontextmanager
async def fleet_under(conditions: Conditions) -> AsyncIterator[Fleet]:
    """Open a fleet without members."""
    with ExitStack() as stack:
        url = stack.enter_context(counting_server(conditions.service))
        store: Postgresql | Redis | None = None
        kind = store_of(conditions.limit)
        if kind == "PostgreSQL":
            store = Postgresql(other_clock=conditions.store_has_clock)
        elif kind == "Redis":
            store = Redis(other_clock=conditions.store_has_clock, keeps_data=conditions.keeps_data)
        if store is not None:
            stack.enter_context(store)
        clocks = {
            ahead: OtherClock(Path(stack.enter_context(tempfile.TemporaryDirectory())), ahead)
            for ahead in conditions.other_clocks
        }
        fleet = Fleet(url, conditions.limit, conditions.size, store, clocks)
        try:
            yield fleet
        finally:
            await fleet.end()


async def arrivals_of(url: str) -> list[float]:
    """Ask the server when the calls arrived, by the monotonic clock."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/arrivals") as answer:
        arrived: list[float] = (await answer.json())[0]
        return arrived


async def stalls_of(url: str) -> list[tuple[float, float]]:
    """Ask the server when it stood still, and for how long."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/stalls") as answer:
        return [(at, seconds) for at, seconds in await answer.json()]
