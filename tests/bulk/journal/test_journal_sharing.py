"""Several workers on one PostgreSQL journal."""

import asyncio
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Connection
from sqlalchemy.util import await_only

from healthmsg.bulk.journal import Entry, State, open_journal, transactions
from healthmsg.bulk.journal.statements import Kind
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database import writer
from healthmsg.database.base import ENTER_ALONE
from healthmsg.errors import ClaimLostError, JournalError, Outcome
from tests.bulk.journal.journals import NOW, begun, delivered, entry, holding, keys, only, status

SHORT = timedelta(seconds=1)


async def past(lease: timedelta) -> None:
    await asyncio.sleep(lease.total_seconds() + 0.1)


@pytest.mark.slow
async def test_two_workers_never_get_the_same_message_nor_the_same_chat(database: str) -> None:
    entries = [entry(f"{chat}{n}", f"chat{chat}") for n in range(3) for chat in range(20)]
    done: list[tuple[str, str]] = []

    async def work(name: str, journal: SqlJournal) -> None:
        while claims := await journal.claim(3):
            for claim in claims:
                await journal.begin(claim, NOW, claim.chat)
                done.append((name, claim.key))
                await asyncio.sleep(0)
                await journal.finish(claim, Outcome.DELIVERED, message_id=claim.key)

    async with holding(database, *entries) as one, open_journal(database) as other:
        # Whoever finds nothing free for a moment ends; the first goes on to the end.
        await asyncio.gather(work("one", one), work("other", other))
        await work("one", one)

    assert sorted(key for _, key in done) == sorted(one.key for one in entries)
    assert {name for name, _ in done} == {"one", "other"}
    for chat in range(20):
        own = [key for _, key in done if key.startswith(f"{chat}") and len(key) == len(f"{chat}0")]
        assert own == sorted(own)


@pytest.mark.slow
async def test_what_a_sender_has_claimed_no_other_run_takes_that_begins(database: str) -> None:
    async with open_journal(database) as one, open_journal(database) as other:
        await one.start_run()
        await one.enter([entry("a"), entry("b"), entry("c")])
        claims = await one.claim(2)
        await one.begin(claims[0], NOW, claims[0].chat)

        await other.start_run()
        await other.enter([entry("a"), entry("b"), entry("c")])
        assert keys(await other.claim(9)) == ["c"]
        assert await other.claim_in_doubt() == []
        await one.begin(claims[1], NOW, claims[1].chat)


async def test_what_one_who_is_no_sender_has_claimed_it_cannot_begin(database: str) -> None:
    async with open_journal(database) as none, open_journal(database) as sender:
        await none.enter([entry("a")])
        claim = only(await none.claim(1))
        await sender.start_run()
        await sender.enter([entry("a")])
        assert keys(await sender.claim(9)) == ["a"]
        with pytest.raises(ClaimLostError):
            await none.begin(claim, NOW, claim.chat)


async def test_a_try_that_was_rolled_back_keeps_no_other_sender_out(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_run, tries = transactions.begin_run, []

    def deadlock_once(connection: Connection, *, is_new: bool) -> tuple[int, bool]:
        tries.append("")
        if len(tries) == 1:
            connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        return begin_run(connection, is_new=is_new)

    monkeypatch.setattr(transactions, "begin_run", deadlock_once)
    monkeypatch.setattr(writer, "_BETWEEN_TRIES", 0.01)
    async with open_journal(database, patience=5) as one, open_journal(database) as other:
        await one.start_run()
        async with asyncio.timeout(10):
            await other.start_run()

    assert len(tries) == 3


@pytest.mark.slow
async def test_what_a_dead_worker_claimed_is_taken_over_after_the_lease(database: str) -> None:
    async with (
        open_journal(database, lease=SHORT) as dead,
        open_journal(database, lease=timedelta(minutes=1)) as alive,
    ):
        await dead.enter([entry("a"), entry("b"), entry("c"), entry("c2", "c")])
        await begun(dead)
        await dead.finish(await begun(dead), Outcome.UNKNOWN)
        waiting = only(await dead.claim(1))
        assert await alive.claim(9) == await alive.claim_in_doubt() == []
        await past(SHORT)

        doubtful = await alive.claim_in_doubt()
        assert [(claim.key, claim.state) for claim in doubtful] == [
            ("a", State.SENDING),
            ("b", State.UNKNOWN),
        ]
        assert keys(await alive.claim(9)) == ["c"]
        with pytest.raises(ClaimLostError):
            await dead.begin(waiting, NOW, waiting.chat)
        assert await dead.claim(9) == await dead.claim_in_doubt() == []


@pytest.mark.slow
async def test_one_that_was_thought_dead_cannot_note_anything(database: str) -> None:
    async with open_journal(database, lease=SHORT) as slow, open_journal(database) as other:
        await slow.enter([entry("a1", "a"), entry("a2", "a")])
        claim = await begun(slow)
        await past(SHORT)
        taken = only(await other.claim_in_doubt())
        assert await slow.claim(9) == await other.claim(9) == []

        for late in (slow.finish(claim, Outcome.DELIVERED, message_id="m"), slow.requeue(claim)):
            with pytest.raises(ClaimLostError):
                await late
        await slow.renew()
        await other.finish(taken, Outcome.DELIVERED, message_id="m1")
        assert keys(await slow.claim(9)) == ["a2"]


@pytest.mark.slow
async def test_a_slow_worker_goes_on_with_what_no_other_took(database: str) -> None:
    async with open_journal(database, lease=SHORT) as slow, open_journal(database) as other:
        await slow.enter([entry("a")])
        claim = only(await slow.claim(1))
        await past(SHORT)
        await slow.begin(claim, NOW, claim.chat)
        assert await other.claim_in_doubt() == []


@pytest.mark.slow
async def test_a_renewed_claim_is_not_taken_over(database: str) -> None:
    async with open_journal(database, lease=SHORT) as one, open_journal(database) as other:
        await one.enter([entry("a"), entry("b")])
        await begun(one)
        await one.claim(1)
        for _ in range(4):
            await asyncio.sleep(SHORT.total_seconds() / 2)
            await one.renew()
        assert await other.claim_in_doubt() == await other.claim(9) == []


async def test_what_a_worker_leaves_when_it_ends_is_free_at_once(database: str) -> None:
    async with open_journal(database) as other:
        async with open_journal(database) as one:
            await one.enter([entry("a"), entry("b")])
            await begun(one)
            await one.claim(1)
        assert keys(await other.claim(9)) == ["b"]
        assert keys(await other.claim_in_doubt()) == ["a"]


async def test_all_who_enter_the_same_enter_it_once(database: str) -> None:
    entries = [entry(f"k{number}", f"c{number % 7}") for number in range(600)]

    async def enter(target: str) -> int:
        async with open_journal(target) as journal:
            return sum(one.is_new for one in await journal.enter(entries))

    # All of them also make the tables.
    assert sum(await asyncio.gather(*(enter(database) for _ in range(3)))) == 600


@pytest.mark.slow
async def test_no_chat_gets_stuck_when_one_enters_while_another_finishes(database: str) -> None:
    async with open_journal(database) as sending, open_journal(database) as entering:
        delivered_ones = []
        for number in range(60):
            await entering.enter([entry(f"{number}-1", "a")])
            claim = await begun(sending)
            finishing = sending.finish(claim, Outcome.DELIVERED, message_id=f"m{number}")
            await asyncio.gather(entering.enter([entry(f"{number}-2", "a")]), finishing)
            delivered_ones.append((await delivered(sending, f"n{number}")).key)

    assert delivered_ones == [f"{number}-2" for number in range(60)]


async def test_a_lost_connection_ends_the_journal_and_says_so(database: str) -> None:
    async with holding(database, entry("a"), entry("b")) as journal:
        await delivered(journal, "m1")
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
        await connection.close()
        for _ in range(2):
            with pytest.raises(JournalError, match=r"connection to the database was lost|going down"):
                await journal.claim(1)

    async with open_journal(database) as journal:
        assert (await status(journal, entry("a"))).state is State.DELIVERED


async def test_a_database_that_is_not_there_is_a_clear_error_without_the_password(
    postgresql: str, tmp_path: Path
) -> None:
    for url, reason in (
        (f"postgresql+asyncpg://postgres:geheim@/nowhere?host={postgresql}", "no such database"),
        (f"postgresql+asyncpg://postgres:geheim@/x?host={tmp_path}", "could not be opened"),
        (f"postgresql+asyncpg://nobody:geheim@/postgres?host={postgresql}", "refuses the user"),
    ):
        with pytest.raises(JournalError, match=reason) as caught:
            async with open_journal(url):
                pass
        assert "geheim" not in repr(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None


async def test_commits_are_synchronous_although_the_database_says_otherwise(database: str) -> None:
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    name = database.partition("@/")[2].partition("?")[0]
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await connection.close()
    async with open_journal(database) as journal:
        found = await journal.do(lambda c: c.exec_driver_sql("SHOW synchronous_commit").scalar())

    assert found == "on"


async def test_a_message_has_no_part_in_an_error_of_the_database(database: str) -> None:
    async with open_journal(database) as journal:
        await journal.enter([Entry("a", "aux/conversations/patient 7", "geheim")])
        await journal.do(
            lambda c: c.exec_driver_sql("ALTER TABLE healthmsg_messages ADD CHECK (attempts = 0)")
        )
        with pytest.raises(JournalError, match="23514") as caught:
            await begun(journal)

    assert "geheim" not in repr(caught.value)
    assert "patient" not in repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.slow
async def test_renewing_tells_what_is_still_held(database: str) -> None:
    async with open_journal(database, lease=SHORT) as slow, open_journal(database) as other:
        await slow.enter([entry("a"), entry("b"), entry("c")])
        claims = {claim.key: claim.fence for claim in await slow.claim(2)}
        assert await slow.renew() == claims
        await past(SHORT)
        taken = only(await other.claim(1))
        assert await slow.renew() == {key: fence for key, fence in claims.items() if key != taken.key}


@pytest.mark.slow
async def test_a_worker_that_sleeps_in_a_transaction_does_not_hold_up_the_others(database: str) -> None:
    is_asleep, is_awake = asyncio.Event(), asyncio.Event()

    def sleep(connection: Connection) -> None:
        connection.execute(ENTER_ALONE)
        is_asleep.set()
        await_only(is_awake.wait())

    async with open_journal(database, lease=SHORT) as sleeper, open_journal(database) as other:
        sleeping = sleeper.do(sleep)
        await is_asleep.wait()
        await other.enter([entry("a")])
        is_awake.set()
        with pytest.raises(JournalError, match=r"The journal failed: (the connection|this machine)"):
            await sleeping


@pytest.mark.slow
async def test_what_is_being_entered_while_a_person_decides_is_sent_next(database: str) -> None:
    async with open_journal(database) as worker, open_journal(database) as person:
        has_looked, may_go_on = asyncio.Event(), asyncio.Event()
        await worker.enter([entry("b1", "b")])
        await worker._note(Kind.RELEASE, await begun(worker))  # as if its lease had ended

        def enter(connection: Connection) -> None:
            connection.execute(ENTER_ALONE)
            transactions.enter(connection, [worker._with_fingerprint(entry("b2", "b"))], salt=worker.salt)
            has_looked.set()
            await_only(may_go_on.wait())

        entered = worker.do(enter)
        await has_looked.wait()
        deciding = asyncio.ensure_future(person.decide("b1", Outcome.DELIVERED, by="Anna", at=NOW))
        await asyncio.wait([deciding], timeout=0.5)
        may_go_on.set()
        await asyncio.gather(entered, deciding)
        assert keys(await worker.claim(9)) == ["b2"]
