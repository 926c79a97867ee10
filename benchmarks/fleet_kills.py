"""Five senders on one journal in PostgreSQL and one limit, killed and suspended at random, again and again.

As in `kills.py` they send 400 messages to a service that cuts the line and fails. One that is killed is
started again; one that is suspended goes on after up to eight seconds, when others may have sent what it had
claimed, and called with the slots that it held. Nothing may be lost, come twice or in another order, and none
of the calls may be one too many by a fixed window, a sliding one or a bucket.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from attrs import define, field, frozen

sys.path.insert(0, str(Path(__file__).parent.parent))

from counting_server import POLICIES, note_stalls

from healthmsg.sandbox.limits import count_rejections
from tests.bulk.killed_sender import LIMIT
from tests.bulk.killing import MESSAGES, Aftermath, Killing, Sender, prepared
from tests.bulk.suspending import was_in_a_transaction
from tests.journal_databases import new_database, running_postgresql

WORKERS: Final = 5
# Seconds that a sender is suspended for; those on the journal have a lease of three, and slots one of two.
_LONGEST_SUSPENSION: Final = 8.0


@frozen
class Found:
    """What was found after a run."""

    aftermath: Aftermath
    suspensions: int
    calls: int
    refused: dict[str, int]
    seconds_of_calls: float
    longest_stall: float
    """For how long the service stood still at most, so that what arrived meanwhile was counted too late."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is lost, untrue, or too much."""
        wanted = Aftermath(kills=self.aftermath.kills)
        return self.aftermath == wanted and not any(self.refused.values())


@define
class Fleet:
    """The senders, one in each place; what ends there too early is started again."""

    killing: Killing
    draw: Random
    places: list[Sender] = field(factory=list)
    woken: list[asyncio.TimerHandle] = field(factory=list)
    suspended: list[Sender] = field(factory=list)

    async def run(self, kills: int, suspensions: int) -> None:
        """Let all places send until everything is sent."""
        events = [self.kill] * kills + [self.suspend] * suspensions
        counts = self.draw.sample(range(10, MESSAGES - 10), len(events))
        for count, happens in zip(counts, events, strict=True):
            self.killing.commits.at(count, happens)
        self.places = [await self.killing.start() for _ in range(WORKERS)]
        await asyncio.gather(*map(self._hold, range(WORKERS)))

    async def _hold(self, place: int) -> None:
        while True:
            sender = self.places[place]
            is_well = await sender.ended_well()
            if is_well and not sender.is_killed:
                return
            if not is_well:
                if not sender.has_lost_lease and not (
                    sender in self.suspended and was_in_a_transaction(sender)
                ):
                    stderr = sender.stderr_file.read_text(encoding="utf-8")
                    self.killing.failed.append(f"{sender.process.returncode}: {stderr}")
                    return
                self.killing.lost_leases += 1
            self.places[place] = await self.killing.start()

    def _one(self) -> Sender | None:
        running = [sender for sender in self.places if sender.process.returncode is None]
        return self.draw.choice(running) if running else None

    def kill(self) -> None:
        """Kill one of them."""
        if sender := self._one():
            sender.kill()

    def suspend(self) -> None:
        """Suspend one of them for a while."""
        if sender := self._one():
            sender.process.send_signal(signal.SIGSTOP)
            self.suspended.append(sender)
            seconds = self.draw.uniform(0.3, _LONGEST_SUSPENSION)
            wake = partial(self._wake, sender)
            self.woken.append(asyncio.get_running_loop().call_later(seconds, wake))

    @staticmethod
    def _wake(sender: Sender) -> None:
        if sender.process.returncode is None:
            sender.process.send_signal(signal.SIGCONT)


async def killed_and_suspended(
    journal: str, folder: Path, *, kills: int, suspensions: int, seed: int
) -> Found:
    """Run the fleet once."""
    started = time.perf_counter()
    async with prepared(journal, folder, seed) as killing:
        fleet = Fleet(killing, Random(seed))
        stalls: list[tuple[float, float]] = []
        watch = asyncio.create_task(note_stalls(stalls))
        try:
            await fleet.run(kills, suspensions)
        finally:
            watch.cancel()
        arrivals = list(killing.sandbox.arrivals)
        return Found(
            killing.aftermath(started),
            len(fleet.suspended),
            len(arrivals),
            refused_of(arrivals),
            arrivals[-1] - arrivals[0],
            max((seconds for _, seconds in stalls), default=0.0),
        )


def refused_of(arrivals: Sequence[float]) -> dict[str, int]:
    """Return how many calls each way of counting would have refused."""
    return {name: count_rejections(POLICIES[name](), arrivals) for name in ("fixed", "sliding", "bucket")}


def line(seed: int, found: Found) -> str:
    """Describe a run."""
    result = found.aftermath
    figures = {
        **result.figures(),
        **{f"refused, {name}": count for name, count in found.refused.items()},
    }
    text = "  ".join(f"{what} {count}" for what, count in figures.items())
    rate = found.calls / found.seconds_of_calls
    happened = f"{result.kills:2} kills {found.suspensions:2} suspensions"
    text += f"  longest stall {found.longest_stall:.2f} s"
    return f"seed {seed:3} {happened} {result.seconds:4.0f} s {found.calls} calls {rate:5.1f}/s  {text}"


async def main(rounds: int, kills: int, suspensions: int, seed: int) -> bool:
    """Run it so often, and tell whether all is well."""
    is_well = True
    os.environ[LIMIT] = "1"
    with running_postgresql() as postgresql:
        for each in range(seed, seed + rounds):
            async with new_database(postgresql) as journal:
                with tempfile.TemporaryDirectory() as folder:
                    found = await killed_and_suspended(
                        journal, Path(folder), kills=kills, suspensions=suspensions, seed=each
                    )
            print(line(each, found), flush=True)
            for stderr in found.aftermath.failed_senders:
                print(stderr)
            is_well &= found.is_well
    return is_well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--kills", type=int, default=6, help="in each round")
    parser.add_argument("--suspensions", type=int, default=4, help="in each round")
    parser.add_argument("--seed", type=int, default=18)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.rounds, given.kills, given.suspensions, given.seed)) else 1)
