"""Bulk sending that is killed again and again: how many of 400 messages are lost, or come twice.

The service cuts the line after a message has arrived (6 %) and before (3 %), answers 500 after it has (3 %)
and 503 before (5 %). The sender is killed at a random moment and started again on the same journal, in SQLite
and in PostgreSQL; then three senders share a journal, of which one is killed. Then the service gets habits of
its own (`tests/bulk/service_habits.py`), each alone and several at random, and its clock is set meanwhile.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

# The tests do the same with fewer kills.
from healthmsg.sandbox import Habits
from tests.bulk.killing import Aftermath, killed_again_and_again, one_of_several_killed
from tests.bulk.service_habits import ALONE, drawn
from tests.journal_databases import new_database, running_postgresql

Run = Callable[[str, Path], Awaitable[Aftermath]]


async def measured(name: str, run: Run, journal: str | None = None, *, may_be_unknown: bool = False) -> bool:
    """Print what has become of the messages, and tell whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        result = await run(journal or str(Path(folder) / "journal.db"), Path(folder))
    found = "   ".join(f"{what} {count}" for what, count in result.figures().items())
    print(f"{name:22} {result.kills:3} kills {result.seconds:4.0f} s   {found}", flush=True)
    for stderr in result.failed_senders:
        print(stderr)
    return result == Aftermath(kills=result.kills, unknown=result.unknown if may_be_unknown else 0)


async def with_one_client(kills: int, rounds: int, seed: int) -> bool:
    """Kill senders that send to a service in whole seconds."""
    again_and_again = partial(killed_again_and_again, kills=kills, seed=seed)
    is_well = await measured("SQLite", again_and_again)
    with running_postgresql() as folder:
        async with new_database(folder) as journal:
            is_well &= await measured("PostgreSQL", again_and_again, journal)
        for number in range(rounds):
            one_of_three = partial(one_of_several_killed, workers=3, seed=seed + number)
            async with new_database(folder) as journal:
                is_well &= await measured("PostgreSQL, 3 senders", one_of_three, journal)
    return is_well


async def with_habits(kills: int, rounds: int, seed: int) -> bool:
    """Kill senders that send to services with habits: each alone, then several at random."""
    is_well = True
    for name, habit in ALONE.items():
        run = partial(killed_again_and_again, kills=kills, seed=seed, habits=Habits(**habit))
        # A file in another form is recognised only once one was delivered in the same process.
        is_well &= await measured(
            name, run, may_be_unknown=not {"rewrite_file_name", "listing_lag"}.isdisjoint(habit)
        )
    for number in range(rounds):
        names, habits = drawn(Random(seed + number))
        run = partial(killed_again_and_again, kills=kills, seed=seed + number, habits=habits)
        print(f"at random: {names}")
        # What is listed in no order, late and in another form may leave nothing to prove it by.
        is_well &= await measured("several", run, may_be_unknown=True)
    for jump in (timedelta(minutes=10), timedelta(minutes=-10), timedelta(hours=1)):
        run = partial(killed_again_and_again, kills=kills, seed=seed, jumps=[jump, -jump])
        is_well &= await measured(f"clock set by {jump.total_seconds():+.0f} s", run, may_be_unknown=True)
    return is_well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how often the only sender is killed")
    parser.add_argument("--rounds", type=int, default=10, help="how often one of three senders is killed")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--habits", action="store_true", help="only services with habits")
    given = parser.parse_args()
    kind = with_habits if given.habits else with_one_client
    sys.exit(0 if asyncio.run(kind(given.kills, given.rounds, given.seed)) else 1)
