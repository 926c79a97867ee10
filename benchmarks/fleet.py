"""One budget for a fleet: how fast its processes call together, and how many calls a server would refuse.

Processes call a server in another process that notes when each call arrives; three ways of counting "30 calls
a second" then judge the arrivals, from the first one on. `calls/s` are those of the measured time that a
sliding window lets in, and `share` is how many of all the calls it refuses. Things happen to the fleet
meanwhile: `in 3 s` are the calls a second in the three seconds after that, `then` in the five after; the
least counts where several things happen. `requests` are those to the store, by second and process; of
PostgreSQL, transactions. Then it is measured how long calls at random moments on one process wait for their
turn, while the others are idle, and while they send in bulk.

Other work on the machine disturbs it. With `--realtime` (Linux, root) server, store and processes
go before that.
"""

import argparse
import asyncio
import os
import signal
import statistics
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from attrs import frozen
from counting_server import POLICIES, REALTIME, Service
from fleet_limits import OTHERS, OURS, store_of
from fleet_members import Conditions, Fleet, arrivals_of, fleet_under, stalls_of

from healthmsg.sandbox.limits import count_rejections

PATHS: Final = {"quiet": Service(), "jitter": Service(0.005, 0.080)}
# Seconds from the beginning to what is measured, before something happens, and after it.
WARM_UP, BEFORE, SOON, LATER = 4.0, 4.0, 3.0, 5.0
# Seconds: a call may be under way for twice as long; and for how long a stall can lead to calls too many.
_LONG, _MATTERS = 0.05, 1.2
# Of so many refused calls it is said when they came.
_FEW: Final = 5
STEP: Final = 600
"""By how many seconds clocks are off or are set."""


@frozen
class Scenario:
    """What happens to a fleet."""

    happens: Callable[[Fleet, float], Awaitable[None]]
    """It lasts about so many seconds, where it has no duration of its own."""
    size: int | None = None
    bursts: bool = False
    """Whether one in three has bursts of interactive calls, and no bulk."""
    other_clocks: tuple[int, ...] = ()
    store_has_clock: bool = False
    keeps_data: bool = True
    needs_store: bool = False


async def steady(_: Fleet, seconds: float) -> None:
    """Let nothing happen."""
    await asyncio.sleep(seconds)


async def _happened(fleet: Fleet) -> None:
    fleet.changed()
    await asyncio.sleep(SOON + LATER)


async def killed(fleet: Fleet, _: float) -> None:
    """Kill one."""
    await asyncio.sleep(BEFORE)
    fleet.members[0].signal(signal.SIGKILL)
    await _happened(fleet)


async def suspended(fleet: Fleet, _: float) -> None:
    """Suspend one for 20 s."""
    await asyncio.sleep(BEFORE)
    fleet.members[0].signal(signal.SIGSTOP)
    fleet.changed()
    await asyncio.sleep(20)
    fleet.members[0].signal(signal.SIGCONT)
    await _happened(fleet)


async def joined(fleet: Fleet, _: float) -> None:
    """Let one more begin."""
    member = await fleet.start("bulk")
    await asyncio.sleep(BEFORE)
    member.begin()
    await _happened(fleet)


async def restarted(fleet: Fleet, _: float) -> None:
    """Start the store again."""
    await asyncio.sleep(BEFORE)
    await fleet.restart_store()
    await _happened(fleet)


async def away(fleet: Fleet, _: float) -> None:
    """Let the store be away for eight seconds."""
    await asyncio.sleep(BEFORE)
    await fleet.restart_store(away=8.0)
    await _happened(fleet)


async def cut(fleet: Fleet, _: float) -> None:
    """End all connections to the store, one of them while its process is suspended for 1.6 s."""
    await asyncio.sleep(BEFORE)
    fleet.members[0].signal(signal.SIGSTOP)
    if fleet.store is not None:
        await fleet.store.cut()
    fleet.changed()
    await asyncio.sleep(1.6)
    fleet.members[0].signal(signal.SIGCONT)
    await asyncio.sleep(SOON + LATER - 1.6)


async def store_clock(fleet: Fleet, _: float) -> None:
    """Set the store's clock forward, and back by twice as much."""
    for ahead in (STEP, -STEP):
        await asyncio.sleep(BEFORE)
        if fleet.store is not None:
            fleet.store.set_clock(ahead)
        await _happened(fleet)


async def churn(fleet: Fleet, _: float) -> None:
    """Kill two, freeze one for 5 s, and let two join."""
    for step in ("kill", "join", "freeze", "kill", "join"):
        await asyncio.sleep(2.0)
        alive = [member for member in fleet.members if member.process.returncode is None]
        if step == "kill":
            alive[0].signal(signal.SIGKILL)
        elif step == "join":
            (await fleet.start("bulk")).begin()
        else:
            alive[0].signal(signal.SIGSTOP)
            fleet.changed()
            await asyncio.sleep(5.0)
            alive[0].signal(signal.SIGCONT)
        await _happened(fleet)


SCENARIOS: Final = {
    "steady": Scenario(steady),
    "one killed": Scenario(killed),
    "one suspended": Scenario(suspended),
    "one joins": Scenario(joined),
    "store restarted": Scenario(restarted, needs_store=True),
    "store forgets": Scenario(restarted, keeps_data=False, needs_store=True),
    "store away": Scenario(away, needs_store=True),
    "connections cut": Scenario(cut, needs_store=True),
    "clocks apart": Scenario(steady, other_clocks=(-STEP, STEP)),
    "store's clock set": Scenario(store_clock, store_has_clock=True, needs_store=True),
    "bursts": Scenario(steady, bursts=True),
    "all of it": Scenario(churn, size=5),
}


def makes_sense(limit: str, name: str, size: int, only_size: int) -> bool:
    """Tell whether such a line says something that others do not."""
    scenario, store = SCENARIOS[name], store_of(limit)
    if scenario.needs_store and store is None:
        return False
    if scenario.size is not None:
        return size == only_size
    return name != "store forgets" or store == "Redis"


def rate_between(arrivals: Sequence[float], begin: float, end: float) -> float:
    """Return how many arrived a second in between."""
    return (bisect_left(arrivals, end) - bisect_left(arrivals, begin)) / (end - begin)


def rates_after(arrivals: Sequence[float], changes: Sequence[float], end: float) -> tuple[float, float]:
    """Return the least rate in three seconds after something happened, and in five after that."""
    soon, later = [], []
    for at, following in zip(changes, [*changes[1:], end], strict=True):
        soon.append(rate_between(arrivals, at, at + SOON))
        later.append(rate_between(arrivals, at + SOON, min(at + SOON + LATER, following)))
    return min(soon), min(later)


@frozen
class Row:
    """A line of the table."""

    limit: str
    path: str
    size: int
    name: str

    async def measured(self, seconds: float) -> tuple[str, float]:
        """Return its text and its calls a second."""
        scenario = SCENARIOS[self.name]
        conditions = Conditions(
            self.limit,
            PATHS[self.path],
            scenario.size or self.size,
            scenario.other_clocks,
            scenario.store_has_clock,
            scenario.keeps_data,
        )
        async with fleet_under(conditions) as fleet:
            await self._begin(fleet, scenario)
            await asyncio.sleep(WARM_UP)
            begin, requests = time.monotonic(), await fleet.count_requests()
            await scenario.happens(fleet, seconds)
            end, requests = time.monotonic(), await fleet.count_requests() - requests
            await fleet.end()
            await asyncio.sleep(0.2)
            arrivals = sorted(await arrivals_of(fleet.url))
            text, rate, too_many = self._text(fleet, arrivals, (begin, end), requests)
            return text + stalls_in(fleet, await stalls_of(fleet.url), too_many), rate

    async def _begin(self, fleet: Fleet, scenario: Scenario) -> None:
        for_each = [0, *scenario.other_clocks] if scenario.other_clocks else [0]
        loads = ["bursts" if scenario.bursts and number % 3 == 0 else "bulk" for number in range(fleet.size)]
        members = await asyncio.gather(
            *(fleet.start(load, for_each[number % len(for_each)]) for number, load in enumerate(loads))
        )
        for member in members:
            member.begin()

    def _text(
        self, fleet: Fleet, arrivals: Sequence[float], measured: tuple[float, float], requests: int
    ) -> tuple[str, float, Sequence[float]]:
        begin, end = measured
        refused = {
            name: count_rejections(POLICIES[name](), arrivals) for name in ("fixed", "sliding", "bucket")
        }
        policy = POLICIES["sliding"]()
        too_many: list[float] = []
        let_in: list[float] = []
        for at in arrivals:
            (let_in if policy.admit(at) is None else too_many).append(at)
        rate = rate_between(let_in, begin, end)
        after = ["", ""]
        if fleet.changes:
            after = [f"{each:.1f}" for each in rates_after(let_in, fleet.changes, end)]
        a_second = requests / (end - begin) / fleet.size
        share = refused["sliding"] / max(1, len(arrivals))
        figures = f"{rate:8.2f}{len(arrivals):8}" + "".join(f"{count:8}" for count in refused.values())
        figures += f"{share:7.1%}{after[0]:>8}{after[1]:>7}" + (
            f"{a_second:10.1f}" if fleet.store else f"{'':10}"
        )
        return f"{self.head}{figures}  {notes_of(fleet, too_many)}", rate, too_many

    @property
    def head(self) -> str:
        """What it is about."""
        return f"{self.limit:20}{self.path:8}{SCENARIOS[self.name].size or self.size:4} {self.name:18}"


def notes_of(fleet: Fleet, too_many: Sequence[float] = ()) -> str:
    """Return how long who joined waited for the first call, when calls were refused, and errors."""
    notes = [
        f"first call after {member.report.first - member.began:.2f} s"
        for member in fleet.members[fleet.size :]
        if member.report is not None and member.report.first is not None
    ]
    since = fleet.changes[0] if fleet.changes else fleet.members[0].began
    if 0 < len(too_many) <= _FEW:
        notes.append("refused after " + " ".join(f"{at - since:.2f}" for at in too_many) + " s")
    return ", ".join([*notes, *(f"{count} {name}" for name, count in fleet.errors().items())])


def stalls_in(fleet: Fleet, of_server: Sequence[tuple[float, float]], too_many: Sequence[float]) -> str:
    """Return how long server and processes stood still at most, and how many calls were refused right after.

    Where all stand still for longer than a call may be under way, that says nothing of a limit.
    """
    suspended = fleet.members[0]  # where one is, on purpose
    stalls = [*of_server]
    for member in fleet.members:
        if member.report and member is not suspended:
            stalls += member.report.stalls
    stalls = [(at, seconds) for at, seconds in stalls if seconds > _LONG]
    if not stalls:
        return ""
    after = sum(any(at < refused < at + seconds + _MATTERS for at, seconds in stalls) for refused in too_many)
    text = f"; {len(stalls)} stalls of up to {max(seconds for _, seconds in stalls):.2f} s"
    return text + (f", {after} of the refused right after one" if too_many else "")


async def interactive(limit: str, path: str, size: int, seconds: float, a_second: float) -> str:
    """Return a line of how long interactive calls wait on one process, with the others idle and in bulk."""
    found = []
    for load in ("idle", "bulk"):
        async with fleet_under(Conditions(limit, PATHS[path], size)) as fleet:
            fleet.a_second = a_second
            loads = ["interactive", *[load] * (size - 1)]
            for member in await asyncio.gather(*map(fleet.start, loads)):
                member.begin()
            await asyncio.sleep(WARM_UP + seconds)
            begin = fleet.members[0].began
            await fleet.end()
            await asyncio.sleep(0.2)
            arrivals = await arrivals_of(fleet.url)
            report = fleet.members[0].report
            waits = [1000 * wait for at, wait in (report.waits if report else []) if at > begin + WARM_UP]
            p99 = statistics.quantiles(waits, n=100)[98]
            rate = rate_between(arrivals, begin + WARM_UP, begin + WARM_UP + seconds)
            found.append((p99, statistics.median(waits), max(waits), rate, len(waits)))
            errors = notes_of(fleet)
    (idle, *_), (p99, median, longest, rate, count) = found
    figures = f"{count:8}{idle:9.1f}{median:9.1f}{p99:9.1f}{longest:9.1f}{p99 - idle:9.1f}{rate:9.2f}"
    return f"{limit:20}{path:8}{size:4}{figures}  {errors}"


async def table(rows: Sequence[Row], seconds: float, at_once: int) -> None:
    """Print all lines as they come, so many measured at once, and how the limits compare."""
    print(f"{'limit':20}{'path':8}{'size':>4} {'what happens':18}{'calls/s':>8}{'calls':>8}", end="")
    print(
        f"{'fixed':>8}{'sliding':>8}{'bucket':>8}{'share':>7}{'in 3 s':>8}{'then':>7}{'requests':>10}",
        flush=True,
    )
    turns, rates = asyncio.Semaphore(at_once), dict[Row, float]()

    async def measure(row: Row) -> None:
        async with turns:
            text, rates[row] = await row.measured(seconds)
            print(text, flush=True)

    await asyncio.gather(*map(measure, rows))
    for row, rate in rates.items():
        own = rates.get(Row("each its own", row.path, row.size, row.name))
        if own and row.limit != "each its own":
            print(f"{row.head}{rate / own:8.3f} of what a limiter of each process's own is let in")


def options_given() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", action="append", choices=[*OURS, *OTHERS], help="all unless given")
    parser.add_argument("--path", action="append", choices=PATHS, help="both unless given")
    parser.add_argument("--size", action="append", type=int, help="of the fleet; 3 and 10 unless given")
    parser.add_argument("--what", action="append", choices=SCENARIOS, help="all unless given")
    parser.add_argument("--only", choices=["table", "interactive"], help="both unless given")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a line in which nothing happens")
    parser.add_argument("--calls", type=int, default=300, help="interactive ones")
    parser.add_argument("--a-second", type=float, default=5.0, help="interactive calls")
    parser.add_argument("--realtime", action="store_true", help="go before other work on the machine")
    parser.add_argument("--times", type=int, default=1, help="how often each line is measured")
    parser.add_argument("--at-once", type=int, default=1, help="how many lines are measured at once")
    return parser.parse_args()


def main() -> None:
    """Run it."""
    options = options_given()
    if options.realtime:
        os.environ[REALTIME] = "1"
    limits, paths = options.limit or [*OURS, *OTHERS], options.path or [*PATHS]
    sizes = options.size or [3, 10]
    rows = [
        Row(limit, path, size, name)
        for path in paths
        for size in sizes
        for name in options.what or SCENARIOS
        for limit in limits
        for _ in range(options.times)
        if makes_sense(limit, name, size, sizes[0])
    ]
    if options.only != "interactive":
        asyncio.run(table(rows, options.seconds, options.at_once))
    if options.only != "table":
        print(f"{'limit':20}{'path':8}{'size':>4}{'calls':>8}{'idle p99':>9}{'median':>9}", end="")
        print(f"{'p99':>9}{'longest':>9}{'above':>9}{'calls/s':>9}   waits in ms", flush=True)
        for path in paths:
            for limit in limits:
                seconds = options.calls / options.a_second
                print(asyncio.run(interactive(limit, path, sizes[0], seconds, options.a_second)), flush=True)
    load = f"load of the machine {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"
    print(f"({time.strftime('%Y-%m-%d')}, {load})")


if __name__ == "__main__":
    main()
