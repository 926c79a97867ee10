"""Suspending one of several senders on one journal beyond its lease, as a machine that sleeps would."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from healthmsg.database.base import POSTGRESQL_REASONS
from tests.bulk.killing import LONGEST, MESSAGES, Aftermath, Sender, prepared
from tests.bulk.sleeping_loop import SLEEPS


async def one_of_several_suspended(
    journal: str, folder: Path, *, workers: int, seed: int, clock_stops: bool
) -> Aftermath:
    """Suspend a sender, let the others send everything, and then wake it up.

    If its clock stops meanwhile, it does not notice before it looks for its lease; else it loses it at once.
    The journal is a URL of PostgreSQL. The others begin when the first one is suspended, so that they find
    what it has begun. Where it was in the middle of a transaction, its journal may fail when it wakes up.
    """
    started = time.perf_counter()
    async with prepared(journal, folder, seed) as killing:
        with pytest.MonkeyPatch.context() as environment:
            if clock_stops:
                environment.setenv(SLEEPS, "1")
            first, is_suspended = await killing.start(), asyncio.Event()

        def suspend() -> None:
            first.process.send_signal(signal.SIGSTOP)
            is_suspended.set()

        killing.commits.at(killing.draw.randint(1, MESSAGES // 2), suspend)
        async with asyncio.timeout(LONGEST):
            await is_suspended.wait()
        others = [await killing.start() for _ in range(workers - 1)]
        await asyncio.gather(*(killing.wait_for(sender) for sender in others))
        first.process.send_signal(signal.SIGCONT)
        if await first.ended_well() or not was_in_a_transaction(first):
            await killing.wait_for(first)
        return killing.aftermath(started)


def was_in_a_transaction(sender: Sender) -> bool:
    last_line = sender.stderr_file.read_text(encoding="utf-8").strip().rpartition("\n")[2]
    return last_line.startswith("healthmsg.errors.usage.JournalError: The journal failed") and any(
        POSTGRESQL_REASONS[state] in last_line for state in ("25P03", "08")
    )
