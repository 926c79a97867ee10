"""Bulk sending that is killed again and again: how many of 400 messages are lost, or come twice.

The service cuts the line after a message has arrived (6 %) and before (3 %), answers 500 after it has (3 %)
and 503 before (5 %). The sender is killed at a random moment and started again on the same journal, in SQLite
and in PostgreSQL; then three senders share a journal, of which one is killed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "bulk")]

# The tests do the same with fewer kills.
from journal_databases import new_database, running_postgresql  # noqa: E402 - found by the path above
from killing import Aftermath, killed_again_and_again, one_of_several_killed  # noqa: E402 - the same

Run = Callable[[str, Path], Awaitable[Aftermath]]


async def measured(name: str, run: Run, journal: str | None = None) -> bool:
    """Print what has become of the messages, and tell whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        result = await run(journal or str(Path(folder) / "journal.db"), Path(folder))
    figures = {
        "lost": result.lost,
        "twice": result.twice,
        "out of order": result.out_of_order,
        "untrue": result.untrue,
        "unreported": result.unreported,
        "failed senders": len(result.failed_senders),
    }
    found = "   ".join(f"{what} {count}" for what, count in figures.items())
    print(f"{name:22} {result.kills:3} kills {result.seconds:4.0f} s   {found}")
    for told in result.failed_senders:
        print(told)
    return result == Aftermath(kills=result.kills)


async def main(kills: int, rounds: int, seed: int) -> bool:
    """Run all."""
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how often the only sender is killed")
    parser.add_argument("--rounds", type=int, default=10, help="how often one of three senders is killed")
    parser.add_argument("--seed", type=int, default=6)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.kills, given.rounds, given.seed)) else 1)
