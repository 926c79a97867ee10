"""A consumer of events that is killed again and again: how many of 4,000 messages are lost, or come twice.

The other sides send 100 messages in each of 40 chats. The service drops 6 % of the connections, sends 3 % of
the frames twice, and its lists lag 2 seconds behind. The consumer is killed at a random moment and started
again on the same store, in SQLite (one by one, and in batches) and in PostgreSQL.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

# The tests do the same with fewer kills.
from tests.gateway.killed_consumer import Way
from tests.gateway.killing import Aftermath, killed_again_and_again
from tests.journal_databases import new_database, running_postgresql


async def measured(name: str, kills: int, seed: int, way: Way, store: str | None = None) -> bool:
    """Print what has become of the messages, and tell whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        result = await killed_again_and_again(
            store or str(Path(folder) / "inbox.db"), Path(folder), kills=kills, seed=seed, way=way
        )
    figures = {
        "lost": result.lost,
        "twice without a kill": result.twice,
        "out of order": result.out_of_order,
        "strange": result.strange,
        "miscounted": result.miscounted,
        "failed": len(result.failed),
    }
    found = "   ".join(f"{what} {count}" for what, count in figures.items())
    after_kill = f"begun again {result.begun_again}, {result.in_handler} kills in a handler"
    print(f"{name:19} {result.kills:3} kills {result.seconds:4.0f} s   {found}   ({after_kill})", flush=True)
    for stderr in result.failed:
        print(stderr)
    return result == Aftermath(kills=kills)


async def main(kills: int, seed: int) -> bool:
    """Kill consumers with a store in each of the databases."""
    is_well = await measured("SQLite", kills, seed, Way.ONE_BY_ONE)
    is_well &= await measured("SQLite, in batches", kills, seed, Way.BATCHES)
    with running_postgresql() as folder:
        async with new_database(folder) as store:
            is_well &= await measured("PostgreSQL", kills, seed, Way.ONE_BY_ONE, store)
    return is_well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=16)
    given = parser.parse_args()
    sys.exit(0 if asyncio.run(main(given.kills, given.seed)) else 1)
