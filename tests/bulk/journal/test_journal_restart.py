"""A PostgreSQL journal whose connection is lost: a restart of the server, or a network that breaks."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection

from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database import writer
from healthmsg.database.postgresql import Continuity, PostgresqlDatabase
from healthmsg.errors import JournalError, JournalGoneError, Outcome
from tests.bulk.journal.journals import NOW, begun, entry, holding, keys, only, states

pytestmark = pytest.mark.slow

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_BETWEEN_TRIES", 0.02)


def continuity_of(journal: SqlJournal) -> Continuity:
    assert isinstance(journal._database, PostgresqlDatabase)
    return journal._database._continuity


async def end_sessions(database: str) -> None:
    """End all other connections, as a server does that is shut down."""
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    await connection.close()


def lose_next_commit(monkeypatch: pytest.MonkeyPatch, *, is_committed: bool) -> None:
    """Let the connection break once, during a commit that the server has carried out, or has not."""
    commit, is_done = AsyncAdapt_asyncpg_connection.commit, False

    def lose(connection: Any) -> None:
        nonlocal is_done
        if is_done or connection._transaction is None:
            commit(connection)  # type: ignore[no-untyped-call]
            return
        is_done = True
        if is_committed:
            commit(connection)  # type: ignore[no-untyped-call]
        connection._connection.terminate()
        connection._handle_exception(asyncpg.ConnectionDoesNotExistError("lost"))

    monkeypatch.setattr(AsyncAdapt_asyncpg_connection, "commit", lose)


async def test_a_server_that_was_restarted_is_gone_on_with(database: str) -> None:
    async with open_journal(database, patience=PATIENCE) as journal:
        await journal.start_run()
        await journal.enter([entry("a"), entry("b")])
        claim = await begun(journal)
        await end_sessions(database)
        await journal.finish(claim, Outcome.DELIVERED, message_id="m1")
        await end_sessions(database)
        assert await states(journal) == {"a": State.DELIVERED, "b": State.WAITING}
        held = only(await journal.claim(9))

        # Others still know that it sends: nothing is parked, or taken from it.
        async with open_journal(database) as other:
            await other.start_run()
            assert await states(other) == {"a": State.DELIVERED, "b": State.WAITING}
            assert await other.claim(9) == []
        await journal.begin(held, NOW, held.chat)


Step = Callable[[SqlJournal], Awaitable[object]]


async def enter_two(journal: SqlJournal) -> object:
    return [one.is_new for one in await journal.enter([entry("b"), entry("c")])]


async def claim_one(journal: SqlJournal) -> object:
    return keys(await journal.claim(9))


async def deliver_one(journal: SqlJournal) -> object:
    await journal.finish(await begun(journal), Outcome.DELIVERED, message_id="m1")
    return None


@pytest.mark.parametrize("is_committed", [True, False])
@pytest.mark.parametrize(
    ("step", "result", "after"),
    [
        (enter_two, [True, True], {"a": State.WAITING, "b": State.WAITING, "c": State.WAITING}),
        (claim_one, ["a"], {"a": State.WAITING}),
        (deliver_one, None, {"a": State.DELIVERED}),
    ],
)
async def test_what_became_of_a_commit_that_was_not_answered_is_found_out(
    database: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: Step,
    result: object,
    after: dict[str, State],
    is_committed: bool,
) -> None:
    async with holding(database, entry("a")) as journal:
        journal._writer.patience = PATIENCE
        lose_next_commit(monkeypatch, is_committed=is_committed)

        assert await step(journal) == result
        assert await states(journal) == after


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_change_that_was_made_is_not_taken_for_one_of_a_lost_claim(
    database: str, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool
) -> None:
    async with holding(database, entry("a")) as journal:
        journal._writer.patience = PATIENCE
        claim = await begun(journal)
        lose_next_commit(monkeypatch, is_committed=is_committed)

        await journal.finish(claim, Outcome.DELIVERED, message_id="m1")

        assert await states(journal) == {"a": State.DELIVERED}


@pytest.mark.parametrize(
    ("field", "value"),
    [("_server", "7000000000000000000/00000002"), ("_last", 2**40)],
    ids=["another server", "an older state"],
)
async def test_a_database_that_is_not_what_it_was_ends_the_run(
    database: str, field: str, value: object
) -> None:
    async with holding(database, entry("a")) as journal:
        journal._writer.patience = PATIENCE
        setattr(continuity_of(journal), field, value)
        await end_sessions(database)

        for _ in range(2):
            with pytest.raises(JournalGoneError, match="nothing was sent after that"):
                await journal.claim(1)


async def test_a_server_that_does_not_say_which_it_is_is_not_gone_on_with(database: str) -> None:
    async with holding(database, entry("a")) as journal:
        journal._writer.patience = PATIENCE
        continuity_of(journal)._server = None
        await end_sessions(database)

        with pytest.raises(JournalError, match=r"connection to the database was lost|going down"):
            await journal.claim(1)


async def test_any_user_may_ask_which_server_it_is(database: str, postgresql: str) -> None:
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    await connection.execute("CREATE ROLE plain LOGIN")
    await connection.execute("GRANT CREATE ON SCHEMA public TO plain")
    try:
        async with open_journal(database.replace("postgres@", "plain@")) as journal:
            assert continuity_of(journal)._server
    finally:
        await connection.execute("DROP OWNED BY plain")
        await connection.execute("DROP ROLE plain")
        await connection.close()


async def test_a_copy_in_which_others_have_counted_on_is_not_taken_for_the_same(database: str) -> None:
    async with holding(database, entry("a")) as journal:
        journal._writer.patience = PATIENCE
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        before = await connection.fetch("SELECT * FROM healthmsg_journal WHERE name LIKE 'last of %'")
        await journal.finish(await begun(journal), Outcome.DELIVERED, message_id="m1")
        for name, value in before:  # all is as it was, but for the numbers of transactions
            await connection.execute("UPDATE healthmsg_journal SET value = $2 WHERE name = $1", name, value)
        await connection.close()
        await end_sessions(database)

        with pytest.raises(JournalGoneError):
            await journal.claim(1)


async def test_a_journal_that_was_closed_keeps_no_number_of_a_transaction(database: str) -> None:
    async with holding(database, entry("a")):
        pass
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    assert await connection.fetch("SELECT * FROM healthmsg_journal WHERE name LIKE 'last of %'") == []
    await connection.close()
