"""A process that writes is killed at random moments: what was acknowledged to be on the disk is there."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from healthmsg.bulk.journal import State, open_journal
from tests.bulk.journal.journals import entry

pytestmark = pytest.mark.slow

WRITER = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from healthmsg.bulk.journal import Entry, open_journal
from healthmsg.errors import Outcome

async def send(journal, claim):
    now = datetime.now(UTC)
    await journal.begin(claim, now, claim.chat)
    print("sending", claim.key, flush=True)
    await journal.finish(claim, Outcome.DELIVERED, message_id=f"m-{claim.key}")
    print("delivered", claim.key, flush=True)

async def main():
    async with open_journal(sys.argv[1], lease=timedelta(seconds=0.2)) as journal:
        numbers = range(int(sys.argv[2]))
        entries = [Entry(f"k{n}", f"aux/conversations/k{n}", "Beste mevrouw Jansen") for n in numbers]
        await journal.enter(entries)
        print("entered all", flush=True)
        while claims := await journal.claim(32):
            await asyncio.gather(*(send(journal, claim) for claim in claims))

asyncio.run(main())
"""


def acknowledged(target: str, most: int) -> list[tuple[str, str]]:
    """Let it write until it has acknowledged so much, kill it, and give all that it has acknowledged."""
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", WRITER, target, "1500"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        lines = [process.stdout.readline() for _ in range(most)]
        process.kill()
        lines += process.stdout.readlines()
    assert lines[0] == "entered all\n"
    return [(state, key) for state, key in (line.split() for line in lines[1:] if line.endswith("\n"))]


@pytest.mark.parametrize("kills", [8])
async def test_what_was_acknowledged_is_there_after_a_kill(target: str, kills: int) -> None:
    draw = random.Random(6)  # noqa: S311 - moments, no secrets
    settled: dict[str, State] = {}
    # Starting PostgreSQL's workers is slower, and what they share with SQLite has been seen.
    for _ in range(kills if "://" not in target else 3):
        for noted, key in acknowledged(target, draw.randint(2, 200)):
            settled[key] = State(noted)
        async with open_journal(target) as journal:
            rows = {row.key: row async for row in journal.rows()}
            doubtful = await journal.claim_in_doubt()
            for claim in doubtful:
                await journal.requeue(claim)
        assert len(rows) == 1500
        for key, state in settled.items():
            found = rows[key].state
            assert found is state or (state is State.SENDING and found is State.DELIVERED), key
            if found is State.DELIVERED:
                assert rows[key].message_id == f"m-{key}"
        for claim in doubtful:
            settled.pop(claim.key, None)

    assert sum(state is State.DELIVERED for state in settled.values()) > 100


async def test_a_killed_worker_leaves_no_half_entered_batch(file: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own script
        [sys.executable, "-c", WRITER, file, "6000"], stdout=subprocess.PIPE
    )
    with process:
        log = file.with_name("recall.db-wal")
        while not log.exists() or log.stat().st_size < 300_000:
            assert process.poll() is None
        process.kill()

    async with open_journal(file) as journal:
        known = [row.key async for row in journal.rows()]
        assert known == [f"k{number}" for number in range(len(known))]
        statuses = await journal.enter(entry(f"k{number}") for number in range(6000))
        assert [one.is_new for one in statuses] == [number >= len(known) for number in range(6000)]
