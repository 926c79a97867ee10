"""A bot that is killed again and again: how many of 4,000 messages get no reply, or more than one.

The other sides send 100 messages in each of 40 chats, and the bot replies to each. The service drops 6 % of
the connections, sends 3 % of the frames twice, carries out 3 % of the sends without an answer and loses
another 3 %, and its lists lag 2 seconds behind. The bot is killed at a random moment, often within 6 ms of a
commit, and started again on the same store, in SQLite and in PostgreSQL.

With `--dialogs` it holds that many dialogs of 20 questions instead. What was said in each of them must be
what is said when nothing is killed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

# The tests do the same with fewer kills.
from tests.bot.killing import BotAftermath, answered_though_killed, held_though_killed
from tests.journal_databases import new_database, running_postgresql

KILLS = 500
KILLS_OF_DIALOGS = 200
Work = Callable[[str, Path], Awaitable[BotAftermath]]


async def measured(name: str, work: Work, kills: int, store: str | None = None) -> bool:
    """Print what has become of the messages, and tell whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        result = await work(store or str(Path(folder) / "bot.db"), Path(folder))
    figures = {
        "missing": result.unanswered,
        "twice": result.twice,
        "chats out of order": result.out_of_order,
        "parked": result.parked,
        "unknown": result.unknown,
        "failed": len(result.failed),
    }
    found = "   ".join(f"{what} {count}" for what, count in figures.items())
    print(f"{name:10} {result.kills:3} kills {result.seconds:5.0f} s   {found}", flush=True)
    for stderr in result.failed:
        print(stderr)
    return result == BotAftermath(kills=kills)


async def main(kills: int, seed: int, dialogs: int, databases: str) -> bool:
    """Kill bots with a store in each of the databases."""
    work: Work = partial(answered_though_killed, kills=kills, seed=seed)
    if dialogs:
        work = partial(held_though_killed, dialogs=dialogs, kills=kills, seed=seed)
    is_well = True
    if databases != "postgresql":
        is_well &= await measured("SQLite", work, kills)
    if databases != "sqlite":
        with running_postgresql() as folder:
            async with new_database(folder) as store:
                is_well &= await measured("PostgreSQL", work, kills, store)
    return is_well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, help=f"{KILLS}, or {KILLS_OF_DIALOGS} with dialogs")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--dialogs", type=int, nargs="?", const=1000, default=0, help="1,000 unless given")
    parser.add_argument("--store", choices=("sqlite", "postgresql", "both"), default="both")
    given = parser.parse_args()
    count = given.kills or (KILLS_OF_DIALOGS if given.dialogs else KILLS)
    sys.exit(0 if asyncio.run(main(count, given.seed, given.dialogs, given.store)) else 1)
