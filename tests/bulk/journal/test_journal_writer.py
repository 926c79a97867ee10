"""Many changes in one transaction, and what cancelling does."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from journals import NOW, begun, entry, holding, keys, only, states
from sqlalchemy import event

from healthmsg.bulk.journal import Journal, State
from healthmsg.errors import JournalError
from healthmsg.outcome import Outcome


def commits_of(journal: Journal) -> list[Any]:
    commits: list[Any] = []
    line: Any = journal._store._database._line
    event.listen(line._engine, "commit", commits.append)
    return commits


async def test_what_queues_up_is_committed_together(file: Path) -> None:
    async with holding(str(file), *(entry(f"k{number:03}") for number in range(128))) as journal:
        claims = await journal.claim(128)
        commits = commits_of(journal)
        await asyncio.gather(*(journal.begin(claim, NOW, claim.chat) for claim in claims))
        assert len(commits) == 1
        await asyncio.gather(
            *(journal.finish(claim, Outcome.DELIVERED, message_id=claim.key) for claim in claims)
        )
        assert len(commits) == 2
        assert set((await states(journal)).values()) == {State.DELIVERED}


async def test_changes_of_one_message_are_made_in_their_order(target: str) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        first, second = await journal.claim(2)
        await asyncio.gather(
            journal.begin(first, NOW, first.chat),
            journal.finish(first, Outcome.UNKNOWN),
            journal.begin(second, NOW, second.chat),
            journal.finish(first, Outcome.DELIVERED, message_id="m1"),
            journal.put_back(second),
        )
        assert await states(journal) == {"a": State.DELIVERED, "b": State.WAITING}


async def cancelled_after(ticks: int, work: Any) -> None:
    task = asyncio.ensure_future(work)
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("ticks", [1, 2, 3, 5, 8])
async def test_cancelling_whoever_waits_loses_no_change(target: str, ticks: int) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        first, second = await journal.claim(2)
        await cancelled_after(ticks, journal.begin(first, NOW, first.chat))
        await cancelled_after(ticks, journal.finish(first, Outcome.DELIVERED, message_id="m1"))
        await journal.begin(second, NOW, second.chat)
        assert await states(journal) == {"a": State.DELIVERED, "b": State.SENDING}


@pytest.mark.parametrize("ticks", [1, 2, 3, 5, 8, 20])
async def test_what_nobody_waits_for_any_more_can_be_claimed_again(target: str, ticks: int) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a"), entry("b")) as journal:
        await cancelled_after(ticks, journal.claim(9))
        # What goes back is asked for when the claim is there.
        await journal.counts()
        await journal.counts()
        claims = await journal.claim(9)
        assert keys(claims) == ["a1", "b"]
        await journal.begin(claims[0], NOW, claims[0].chat)

    async with Journal.open(target) as journal:
        await cancelled_after(ticks, journal.in_doubt())
        await journal.counts()
        await journal.counts()
        assert [(claim.key, claim.state) for claim in await journal.in_doubt()] == [("a1", State.SENDING)]


async def test_what_was_asked_for_is_done_before_the_journal_closes(target: str) -> None:
    async with holding(target, *(entry(f"k{number}") for number in range(20))) as journal:
        claims = await journal.claim(20)
        begins = [asyncio.ensure_future(journal.begin(claim, NOW, claim.chat)) for claim in claims]
        await asyncio.sleep(0)
    await asyncio.gather(*begins)

    async with Journal.open(target) as journal:
        assert len(await journal.in_doubt()) == 20


@pytest.mark.usefixtures("nothing_is_left_behind")
async def test_cancelling_while_it_closes_does_not_cut_it_short(file: Path) -> None:
    entered, closing = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        async with holding(str(file), entry("a")) as journal:
            claim = only(await journal.claim(1))
            begin = asyncio.ensure_future(journal.begin(claim, NOW, claim.chat))
            entered.set()
            await asyncio.sleep(0)
            closing.set()
        await begin

    task = asyncio.ensure_future(run())
    await closing.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async with Journal.open(file) as journal:
        assert keys(await journal.in_doubt()) == ["a"]


async def test_when_the_loop_takes_its_task_away_whoever_waits_is_told(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        claim = await begun(journal)
        journal._store._writer._task.cancel()
        with pytest.raises(JournalError, match="closed"):
            await journal.finish(claim, Outcome.NOT_SENT)

    async with Journal.open(target) as journal:
        # In a file, whoever opens it has it alone; in PostgreSQL the lease goes on.
        assert keys(await journal.in_doubt()) == ([] if "://" in target else ["a"])
