"""A connection pooler between a journal and its PostgreSQL database: refused, unless it keeps to sessions."""

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from healthmsg.bulk.journal import State, open_journal
from healthmsg.database.postgresql import PostgresqlDatabase
from healthmsg.errors import ConfigurationError, JournalError, JournalGoneError
from tests.bulk.journal.journals import begun, delivered, entry, holding, states

DISCARD = "DISCARD ALL"
Bouncer = Callable[[str, int, str], str]


def with_pooler(database: str, host: str, *, by_session: bool = False) -> str:
    """Return the URL of a database through a pooler."""
    return f"{database.partition('host=')[0]}host={host}{'&pool_mode=session' if by_session else ''}"


async def opening(url: str, *, is_reading: bool = False) -> None:
    async with open_journal(url, is_reading=is_reading):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
@pytest.mark.parametrize("size", [1, 5])
async def test_a_pooler_is_refused_by_name_in_each_mode(
    database: str, pgbouncer: Bouncer, mode: str, size: int
) -> None:
    await opening(database)
    url = with_pooler(database, pgbouncer(mode, size, DISCARD))

    for is_reading in (False, True):
        with pytest.raises(JournalError, match=r"PgBouncer.*Nothing was sent.*5432") as caught:
            await opening(url, is_reading=is_reading)
        assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("size", [1, 5])
async def test_a_pooler_that_does_not_keep_to_sessions_is_refused_though_it_is_said_to(
    database: str, pgbouncer: Bouncer, mode: str, size: int
) -> None:
    url = with_pooler(database, pgbouncer(mode, size, DISCARD), by_session=True)

    with pytest.raises(JournalError, match="does not keep one connection"):
        await opening(url)


@pytest.mark.slow
async def test_a_pooler_that_keeps_to_sessions_may_be_used(database: str, pgbouncer: Bouncer) -> None:
    url = with_pooler(database, pgbouncer("session", 5, DISCARD), by_session=True)
    for number in range(2):
        async with holding(url, entry(f"a{number}"), entry(f"b{number}")) as journal:
            await journal.start_run()
            await journal.enter([entry(f"a{number}"), entry(f"b{number}")])
            await delivered(journal, f"m{number}")
    async with open_journal(url) as journal:
        await journal.start_run()
        # It is the only sender: what waits was not given to it.
        found = await states(journal)

    assert found["a0"] is State.DELIVERED
    assert found["b1"] is State.PARKED


@pytest.mark.slow
async def test_a_session_that_has_another_runs_locks_is_refused(database: str, pgbouncer: Bouncer) -> None:
    url = with_pooler(database, pgbouncer("session", 1, ""), by_session=True)
    await opening(url)
    plain = url.replace("+asyncpg", "").replace("&pool_mode=session", "")
    other = await asyncpg.connect(plain, statement_cache_size=0)
    await other.execute("SELECT pg_advisory_lock_shared(hashtext('healthmsg_senders'))")
    await other.close()

    with pytest.raises(JournalError, match="server_reset_query"):
        await opening(url)


@pytest.mark.slow
async def test_an_ended_run_leaves_no_locks_to_others(database: str, pgbouncer: Bouncer) -> None:
    url = with_pooler(database, pgbouncer("session", 1, ""), by_session=True)
    for _ in range(2):
        async with open_journal(url) as journal:
            await journal.start_run()


@pytest.mark.slow
async def test_a_session_that_is_moved_within_a_run_ends_it(database: str, pgbouncer: Bouncer) -> None:
    url = with_pooler(database, pgbouncer("session", 5, DISCARD), by_session=True)
    async with holding(url, entry("a")) as journal:
        assert isinstance(journal._database, PostgresqlDatabase)
        journal._database._session = 1
        for _ in range(2):
            with pytest.raises(JournalGoneError, match="has given this session another connection"):
                await begun(journal)


@pytest.mark.slow
async def test_the_server_itself_is_taken_for_what_it_is(database: str) -> None:
    await asyncio.gather(*(opening(database) for _ in range(3)))
    await opening(f"{database}&pool_mode=session")


def test_another_pool_mode_is_refused_at_once(tmp_path: object) -> None:
    for target in ("postgresql://host/x?pool_mode=transaction", f"{tmp_path}/x.db?pool_mode=session"):
        with pytest.raises(ConfigurationError, match=r"session|options"):
            open_journal(target)
