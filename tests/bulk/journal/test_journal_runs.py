"""What a run does with a journal that holds messages of earlier ones."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from healthmsg.bulk.journal import Entry, State, open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.errors import JournalError, JournalMismatchError, Outcome
from tests.bulk.journal.journals import NOW, begun, delivered, entry, holding, keys, only, states, status


async def left_waiting(target: str, *entries: Entry) -> None:
    async with holding(target, *entries):
        pass


# --- what waits from an earlier run


async def test_what_waits_is_parked_until_it_is_entered_again_in_its_old_place(target: str) -> None:
    entries = [entry("a1", "a"), entry("a2", "a"), entry("b")]
    await left_waiting(target, *entries)

    async with open_journal(target) as journal:
        await journal.start_run()
        assert set((await states(journal)).values()) == {State.PARKED}
        assert await journal.claim(9) == []
        await journal.enter([entry("a3", "a")])
        assert keys(await journal.claim(9)) == ["a3"]
        assert (await status(journal, entries[1])).state is State.WAITING
        assert (await states(journal))["a1"] is State.PARKED


async def test_what_is_entered_again_comes_before_what_is_new(target: str) -> None:
    await left_waiting(target, entry("a1", "a"), entry("a2", "a"))

    async with open_journal(target) as journal:
        await journal.start_run()
        await journal.enter([entry("a3", "a"), entry("a2", "a"), entry("a1", "a")])
        assert [(await delivered(journal, key)).key for key in "xyz"] == ["a1", "a2", "a3"]


async def test_what_is_parked_does_not_hold_up_its_chat(target: str) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a")) as journal:
        await journal.park(only(await journal.claim(1)))
        assert keys(await journal.claim(9)) == ["a2"]
        assert await states(journal) == {"a1": State.PARKED, "a2": State.WAITING}


async def test_what_is_in_doubt_is_not_parked(target: str) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a"), entry("b")) as journal:
        await begun(journal)
        await journal.finish(await begun(journal), Outcome.UNKNOWN)

    async with open_journal(target) as journal:
        await journal.start_run()
        assert await states(journal) == {"a1": State.SENDING, "a2": State.PARKED, "b": State.UNKNOWN}
        assert await journal.count_in_doubt() == 2
        assert keys(await journal.claim_in_doubt()) == ["a1", "b"]


async def test_a_run_that_resumes_has_all_wait_again_in_order(target: str) -> None:
    entries = [entry("a1", "a"), entry("a2", "a"), entry("b")]
    await left_waiting(target, *entries)
    async with open_journal(target) as journal:
        await journal.start_run()

    async with open_journal(target) as journal:
        await journal.start_run(resumes=True)
        assert keys(await journal.claim(9)) == ["a1", "b"]


@pytest.mark.parametrize("resumes", [True, False])
async def test_what_failed_waits_again_only_when_that_is_asked_for(target: str, resumes: bool) -> None:
    async with holding(target, entry("a1", "a"), entry("a2", "a")) as journal:
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        await delivered(journal, "m")

    async with open_journal(target) as journal:
        await journal.start_run(resumes=resumes)
        assert await journal.claim(9) == []
        await journal.start_run(resumes=resumes, retry_failed=True)
        assert keys(await journal.claim(9)) == (["a1"] if resumes else [])


async def test_what_was_taken_up_does_not_overtake_what_is_being_sent(target: str) -> None:
    await left_waiting(target, entry("a1", "a"))
    async with open_journal(target) as journal:
        await journal.start_run()
        await journal.enter([entry("a2", "a")])
        busy = await begun(journal)
        await journal.unpark(["a1", "nobody's"])
        assert await journal.claim(9) == []
        await journal.finish(busy, Outcome.DELIVERED, message_id="m")
        assert keys(await journal.claim(9)) == ["a1"]


async def test_only_what_was_parked_waits_again(target: str) -> None:
    async with holding(target, entry("a"), entry("b"), entry("c")) as journal:
        await delivered(journal, "m")
        await journal.finish(await begun(journal), Outcome.NOT_SENT)
        before = await states(journal)
        await journal.unpark(["a", "b", "c"])
        await journal.unpark([])
        assert await states(journal) == before


async def test_another_sender_keeps_what_waits_from_being_parked(database: str) -> None:
    async with open_journal(database) as one, open_journal(database) as other:
        await one.start_run()
        await one.enter([entry("a")])
        await other.start_run()
        assert await states(other) == {"a": State.WAITING}
    async with open_journal(database) as third:
        await third.start_run()
        assert await states(third) == {"a": State.PARKED}


# --- looking


async def test_looking_up_tells_what_entering_would_and_enters_nothing(target: str) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        await delivered(journal, "m")
        wanted = [entry("a"), entry("b", body="iets anders"), entry("c"), entry("d", body="a\0b")]
        known, other, new, unfit = await journal.look_up(wanted)
        assert await states(journal) == {"a": State.DELIVERED, "b": State.WAITING}

    assert (known.state, known.message_id, known.is_new) == (State.DELIVERED, "m", False)
    assert isinstance(other.problem, JournalMismatchError)
    assert (new.state, new.is_new, new.problem) == (State.WAITING, True, None)
    assert (unfit.state, unfit.problem is None) == (None, False)


async def test_standings_are_of_those_that_are_known(target: str) -> None:
    async with holding(target, entry("a"), entry("b")) as journal:
        await journal.finish(await begun(journal), Outcome.NOT_SENT, error="NotFoundError: gone")
        found = {one.key: one for one in await journal.statuses(["a", "b", "c"])}
        assert await journal.statuses([]) == []

    assert set(found) == {"a", "b"}
    assert (found["a"].state, found["a"].is_final, found["a"].error, found["a"].attempts) == (
        *(State.NOT_SENT, True),
        *("NotFoundError: gone", 1),
    )
    assert not found["b"].is_final


async def test_a_user_s_conversation_is_the_one_that_the_last_message_went_to(target: str) -> None:
    entries = [Entry("a", "users/u1", "1"), Entry("b", "users/u1", "2"), Entry("c", "users/u2", "3")]
    async with holding(target, *entries) as journal:
        assert await journal.conversation_with("users/u1") is None
        claim, *_ = await journal.claim(1)
        await journal.begin(claim, NOW, "conversations/c1")
        assert await journal.conversation_with("users/u1") == "conversations/c1"
        await journal.finish(claim, Outcome.NOT_SENT)
        assert await journal.conversation_with("users/u2") is None

    async with open_journal(target) as journal:
        assert await journal.conversation_with("users/u1") == "conversations/c1"


async def test_whether_something_is_open_is_known_until_all_is_final(target: str) -> None:
    async with holding(target, entry("a")) as journal:
        assert await journal.has_open()
        claim = await begun(journal)
        assert await journal.has_open()
        await journal.finish(claim, Outcome.UNKNOWN)
        assert await journal.has_open()
        assert await journal.count_in_doubt() == 1
        await journal.finish(claim, Outcome.UNKNOWN, is_final=True)
        assert not await journal.has_open()
        assert await journal.count_in_doubt() == 0


# --- while the disk is full


async def full(journal: SqlJournal, most: int) -> None:
    await journal.do(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {most}").scalar())


@pytest.mark.slow
async def test_a_write_is_tried_again_as_long_as_there_is_patience(file: Path) -> None:
    async with open_journal(file, patience=60) as journal:
        await full(journal, 1)
        entering = asyncio.ensure_future(journal.enter([entry("a", body="x" * 100_000)]))
        asking = asyncio.ensure_future(full(journal, 10**9))
        while journal.paused_by is None:  # noqa: ASYNC110 - the writer has no event for it
            await asyncio.sleep(0)
        assert "disk is full" in str(journal.paused_by)
        assert not asking.done()
        journal.stop_retrying()
        with pytest.raises(JournalError, match="disk is full"):
            await entering
        with pytest.raises(JournalError):
            await asking
        assert journal.paused_by is None


@pytest.mark.slow
async def test_closing_does_not_wait_for_room(file: Path) -> None:
    async with open_journal(file, patience=3600) as journal:
        await full(journal, 1)
        entering = asyncio.ensure_future(journal.enter([entry("a", body="x" * 100_000)]))
        while journal.paused_by is None:  # noqa: ASYNC110 - the writer has no event for it
            await asyncio.sleep(0)
    with pytest.raises(JournalError):
        await entering

    async with open_journal(file) as journal:
        assert (await status(journal, entry("a"))).is_new


async def test_a_purge_forgets_what_was_parked(target: str) -> None:
    await left_waiting(target, entry("a"))
    async with open_journal(target) as journal:
        await journal.start_run()
        assert await journal.purge(timedelta()) == 1
        assert await states(journal) == {}
