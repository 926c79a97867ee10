"""Many changes in one transaction, and what cancelling does."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import event

from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database import writer
from healthmsg.database.sqlite import SqliteDatabase
from healthmsg.errors import ClaimLostError, JournalError, Outcome
from tests.bulk.journal.journals import NOW, begun, entry, holding, keys, only, states


def commits_of(journal: SqlJournal) -> list[Any]:
    commits: list[Any] = []
    database = journal._database
    assert isinstance(database, SqliteDatabase)
    assert database._connection is not None
    event.listen(database._connection.engine, "commit", commits.append)
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
            journal.requeue(second),
        )
        assert await states(journal) == {"a": State.DELIVERED, "b": State.WAITING}


async def cancelled_after(journal: SqlJournal, ticks: int, work: Any) -> None:
    """Cancel it before the database has answered, however quick that is."""
    database, go_on = journal._database, asyncio.Event()
    run = database.run

    async def run_later(what: Any, **options: Any) -> Any:
        await go_on.wait()
        return await run(what, **options)

    database.run = run_later  # type: ignore[method-assign, assignment]
    task = asyncio.ensure_future(work)
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("ticks", [1, 2, 3, 5, 8])
async def test_cancelling_a_caller_that_waits_loses_no_change(target: str, ticks: int) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        first, second = await journal.claim(2)
        await cancelled_after(journal, ticks, journal.begin(first, NOW, first.chat))
        await cancelled_after(journal, ticks, journal.finish(first, Outcome.DELIVERED, message_id="m1"))
        await journal.begin(second, NOW, second.chat)
        assert await states(journal) == {"a": State.DELIVERED, "b": State.SENDING}


@pytest.mark.parametrize("ticks", [1, 2, 3, 5, 8, 20])
async def test_what_is_no_longer_waited_for_can_be_claimed_again(target: str, ticks: int) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a"), entry("b")) as journal:
        await cancelled_after(journal, ticks, journal.claim(9))
        # What goes back is asked for when the claim is there.
        await journal.counts()
        await journal.counts()
        claims = await journal.claim(9)
        assert keys(claims) == ["a1", "b"]
        await journal.begin(claims[0], NOW, claims[0].chat)

    async with open_journal(target) as journal:
        await cancelled_after(journal, ticks, journal.claim_in_doubt())
        await journal.counts()
        await journal.counts()
        assert [(claim.key, claim.state) for claim in await journal.claim_in_doubt()] == [
            ("a1", State.SENDING)
        ]


async def test_what_was_asked_for_is_done_before_the_journal_closes(target: str) -> None:
    async with holding(target, *(entry(f"k{number}") for number in range(20))) as journal:
        claims = await journal.claim(20)
        begins = [asyncio.ensure_future(journal.begin(claim, NOW, claim.chat)) for claim in claims]
        await asyncio.sleep(0)
    await asyncio.gather(*begins)

    async with open_journal(target) as journal:
        assert len(await journal.claim_in_doubt()) == 20


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

    async with open_journal(file) as journal:
        assert keys(await journal.claim_in_doubt()) == ["a"]


async def test_when_the_loop_takes_its_task_away_the_callers_get_an_error(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        claim = await begun(journal)
        journal._writer._task.cancel()
        with pytest.raises(JournalError, match="closed"):
            await journal.finish(claim, Outcome.NOT_SENT)

    async with open_journal(target) as journal:
        # In a file, the one that opens it has it alone; in PostgreSQL the lease goes on.
        assert keys(await journal.claim_in_doubt()) == ([] if "://" in target else ["a"])


async def test_what_is_done_again_after_a_lost_claim_is_not_taken_for_lost(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_journal(target, patience=60) as journal:
        await journal.enter(entry(key) for key in "abcd")
        a, b, c = await journal.claim(3)
        await asyncio.gather(*(journal.begin(claim, NOW, claim.chat) for claim in (a, c)))
        lost = evolve(c, fence=c.fence - 1)
        failures = [RuntimeError("given up by the database")]
        take = journal.take

        def take_or_fail(*args: Any, **kwargs: Any) -> Any:
            if failures:
                raise failures.pop()
            return take(*args, **kwargs)

        monkeypatch.setattr(journal, "take", take_or_fail)
        monkeypatch.setattr(journal._database, "is_passing", lambda _: True)
        monkeypatch.setattr(writer, "_BETWEEN_TRIES", 0.0)
        # The lost one makes it do all again singly; then the claim fails, so that all is done once more.
        delivered, begun, refused, claimed = await asyncio.gather(
            journal.finish(a, Outcome.DELIVERED, message_id="m1"),
            journal.begin(b, NOW, b.chat),
            journal.finish(lost, Outcome.DELIVERED, message_id="m2"),
            journal.claim(5),
            return_exceptions=True,
        )

        assert (delivered, begun) == (None, None)
        assert isinstance(refused, ClaimLostError)
        assert isinstance(claimed, list)
        assert keys(claimed) == ["d"]
        assert not failures
        assert await states(journal) == {
            "a": State.DELIVERED,
            "b": State.SENDING,
            "c": State.SENDING,
            "d": State.WAITING,
        }


async def test_a_claim_goes_along_with_the_changes_before_it(file: Path) -> None:
    async with holding(str(file), entry("a1", "a"), entry("a2", "a")) as journal:
        first = await begun(journal)
        commits = commits_of(journal)
        _, claims = await asyncio.gather(
            journal.finish(first, Outcome.DELIVERED, message_id="m1"), journal.claim(9)
        )
        assert keys(claims) == ["a2"]
        assert len(commits) == 1
