"""Bots that are killed between the beginning and the end of an event: only what was in hand comes again."""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random

import asyncpg
import pytest
from attrs import define

from tests.bot.store.stores import opened
from tests.gateway.inbox.inboxes import message, of

ROOT = Path(__file__).parents[2]
KILLS = 6
pytestmark = pytest.mark.slow


@define
class Killing:
    target: str
    log: Path

    async def enter(self, chats: int, in_each: int) -> list[list[str]]:
        """Have events wait; return their ids, by chat."""
        async with opened(self.target) as store:
            numbers = [(chat, number) for number in range(in_each) for chat in range(chats)]
            await store.inbox.apply(
                of(*(message(chat * in_each + number, f"c{chat}") for chat, number in numbers))
            )
        return [[f"message/m{chat * in_each + one}" for one in range(in_each)] for chat in range(chats)]

    async def start(self, poison: str = "-") -> asyncio.subprocess.Process:
        await self._free()
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bot.killed_worker", self.target, str(self.log), poison), cwd=ROOT
        )

    async def run(self, poison: str = "-") -> int:
        """Run a process to its end."""
        process = await self.start(poison)
        async with asyncio.timeout(60):
            return await process.wait()

    async def run_until(self, lines: int) -> bool:
        """Run a process, kill it when the log has so many lines; False: it ended before."""
        process = await self.start()
        async with asyncio.timeout(60):
            while len(self.lines()) < lines and process.returncode is None:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.001)
        if process.returncode is None:
            process.kill()
        return await process.wait() == -signal.SIGKILL

    def lines(self) -> list[tuple[str, int]]:
        """Return the ids of events that were begun, and which attempt it was."""
        text = self.log.read_text() if self.log.exists() else ""
        return [(name, int(attempt)) for name, attempt in map(str.split, text.splitlines())]

    async def _free(self) -> None:
        """Do not wait for the lease of a process that was killed."""
        if self.target.startswith("postgresql"):
            place, _, host = self.target.partition("?host=")
            connection = await asyncpg.connect(host=host, user="postgres", database=place.rpartition("/")[2])
            await connection.execute("UPDATE healthmsg_holder SET lease_until = 'epoch'")
            await connection.close()


@pytest.fixture
def killing(target: str, tmp_path: Path) -> Killing:
    return Killing(target, tmp_path / "log")


async def test_what_is_killed_at_random_handles_all_in_order_and_repeats_only_what_was_in_hand(
    killing: Killing,
) -> None:
    chats = await killing.enter(20, 30)
    draw = Random(17)  # noqa: S311 - moments are no secrets
    kills = 0
    for number in range(KILLS):
        kills += await killing.run_until(100 * number + draw.randrange(20, 100))
    assert await killing.run() == 0
    assert kills == KILLS

    lines = killing.lines()
    begun = list(dict.fromkeys(event for event, _ in lines))
    for chat in chats:
        assert [event for event in begun if event in set(chat)] == chat
    for event, times in Counter(event for event, _ in lines).items():
        attempts = [attempt for one, attempt in lines if one == event]
        assert attempts == sorted(set(attempts))  # each counted before it began
        assert times <= KILLS
    repeated = len(lines) - 20 * 30
    assert 0 < repeated <= KILLS * 20  # one of each chat that was in hand, at most
    async with opened(killing.target) as store:
        assert await store.waiting(0, 9) == []
        assert await store.parked() == []
        # The effects of each event are there once: those of the attempt that ended.
        for chat in chats:
            for event in chat:
                steps = await store.steps(event)
                assert [step.number for step in steps] == [
                    max(attempt for one, attempt in lines if one == event)
                ]


async def test_an_event_that_kills_the_process_is_parked_after_three_starts_and_its_chat_goes_on(
    killing: Killing,
) -> None:
    chats = await killing.enter(8, 3)
    poison = chats[2][1]
    endings = [await killing.run(poison) for _ in range(4)]
    assert endings == [-signal.SIGKILL] * 3 + [0]

    lines = killing.lines()
    assert [attempt for event, attempt in lines if event == poison] == [1, 2, 3]
    for chat in chats:
        assert list(dict.fromkeys(event for event, _ in lines if event in set(chat))) == chat
    others = Counter(event for event, _ in lines if event != poison)
    assert max(others.values()) <= 2  # what ran beside it the first time
    async with opened(killing.target) as store:
        (parked,) = await store.parked()
        assert (parked.event.id, parked.event.attempt) == (poison, 3)
        assert "three times" in parked.reason
        assert await store.waiting(0, 9) == []
