"""Refusing a connection pooler between here and PostgreSQL that gives each transaction another connection.

A journal needs a session of its own on the server: that a sender is at work is a lock of its session, and so
are its settings and prepared statements. PgBouncer in transaction or statement mode, and what is like it
(Supabase's and Neon's poolers, PgCat, Odyssey), hands a connection to others after each transaction, with the
locks still on it. Nothing that is asked through it proves that, since it may happen to give the same
connection again. But a pooler cannot know, when it lets a client in, which connection that will get, so it
makes up the process id that PostgreSQL announces there. A difference from the server's own `pg_backend_pid()`
is proof, also with a pool of one.

A pooler that keeps one connection for each session does no harm, but looks the same at first. For these there
is `pool_mode=session`: then transactions of two sessions are compared at the opening, and the process id in
each transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from healthmsg.errors import JournalError

Connect = Callable[..., Awaitable[Any]]

_ADVICE: Final = (
    " A journal needs a session of its own on the server. Give the server's own address: usually port 5432,"
    " where poolers have 6432 or 6543."
)
_POOLER: Final = (
    "A connection pooler, such as PgBouncer, is between here and PostgreSQL: in transaction or statement mode"
    f" it gives what one run has locked to another. Nothing was sent.{_ADVICE} Or, if it keeps one connection"
    " for each session, add `pool_mode=session` to the options of the journal's URL."
)
_NOT_BY_SESSION: Final = (
    "The connection pooler between here and PostgreSQL does not keep one connection for each session, though"
    f" the journal's URL has `pool_mode=session`. Nothing was sent.{_ADVICE}"
)
_PGPOOL: Final = (
    "Pgpool-II is between here and PostgreSQL: it may read from another server than it writes to. Nothing was"
    f" sent.{_ADVICE}"
)
_LEFTOVERS: Final = (
    "The connection pooler between here and PostgreSQL hands on sessions with the locks of those who had them"
    " before: its `server_reset_query` must be `DISCARD ALL`, and with PgBouncer it must run in session mode."
    f" Nothing was sent.{_ADVICE}"
)
# By the start of the SQLSTATE: a prepared statement is not there, or is there already, or the connection was
# closed, as in statement mode on the first transaction.
_OF_POOLERS: Final = ("26", "42P05", "08")
_SECONDS: Final = 5.0
_TRANSACTIONS: Final = 3


def connecting(*, is_by_session: bool) -> Connect:
    """Return what connects, and refuses a pooler.

    Raises:
        JournalError: on connecting: there is one.
    """

    async def connect(*args: Any, **options: Any) -> Any:
        connection = await asyncpg.connect(*args, **options)
        try:
            problem = await _what_is_between(connection, is_by_session=is_by_session)
            if not problem and is_by_session and await _is_shared(connection, args, options):
                problem = _NOT_BY_SESSION
        except BaseException:
            connection.terminate()
            raise
        if problem:
            connection.terminate()
            raise JournalError(problem)
        return connection

    return connect


async def _what_is_between(connection: Any, *, is_by_session: bool) -> str:
    # Without parameters these are simple queries: one message, which one connection answers in any mode.
    if await _succeeds(connection, "SHOW pool_version"):
        return _PGPOOL
    announced = connection.get_server_pid()
    if not is_by_session and not await _succeeds(
        connection, f"SELECT 1 / (pg_backend_pid() = {announced})::int"
    ):
        return _POOLER
    held = "SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    if not await _succeeds(connection, f"SELECT 1 / (NOT EXISTS ({held}))::int"):
        return _LEFTOVERS
    return ""


async def _succeeds(connection: Any, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except (asyncpg.DivisionByZeroError, asyncpg.UndefinedObjectError):
        return False
    return True


async def _is_shared(connection: Any, args: Any, options: Any) -> bool:
    """Tell whether two sessions are seen on one connection, or one on two."""
    other = None
    try:
        async with asyncio.timeout(_SECONDS):
            other = await asyncpg.connect(*args, **options)
            mine = await _process_of(connection)
            for _ in range(_TRANSACTIONS):
                async with other.transaction():
                    if await _ask(other) == mine or await _process_of(connection) != mine:
                        return True
                if await _process_of(connection) != mine:
                    return True
    except TimeoutError:
        return False  # there is no other connection while this session has one
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(_OF_POOLERS):
            return True
        raise
    finally:
        if other is not None:
            other.terminate()
    return False


async def _process_of(connection: Any) -> int:
    async with connection.transaction():
        return await _ask(connection)


async def _ask(connection: Any) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))
