"""A journal in a PostgreSQL database: connecting, and continuing after the connection was lost."""

import asyncio
import os
import secrets
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import asyncpg
from attrs import define, field
from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from healthmsg.clock import SteadyClock
from healthmsg.database.base import BE_SENDER, ENGINE_OPTIONS, HOLD_NO_LOCK, StillRunningError, ask, state_of
from healthmsg.database.tables import make_tables, read_salt, require_tables, utc
from healthmsg.database.target import FILES, OF_TLS, SYSTEM, Target, place_of
from healthmsg.errors import ConfigurationError, JournalError, JournalGoneError

T = TypeVar("T")
Connect = Callable[..., Awaitable[Any]]

# PostgreSQL keeps the plans that it makes while the table is empty, and would read all of it again and again.
_PLAN_WITH_INDEXES: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
# The share of a lease for which a transaction may stand still. A worker whose machine sleeps in the middle of
# one would block all others: the database ends it before they lose their own leases.
_LONGEST_STANDSTILL: Final = 1 / 3
# In milliseconds, but no less than a busy machine may stand still.
_LEAST_STANDSTILL: Final = 1000
# Seconds. One that takes longer waits for a database that does not answer any more.
_LONGEST_STATEMENT: Final = 120.0
# Seconds. What is left of a connection that was lost.
_CLOSE_TIMEOUT: Final = 5.0
_NOW: Final = text("SELECT clock_timestamp()")
_SESSION: Final = text("SELECT pg_backend_pid()")
_SESSION_CHANGED: Final = (
    "The pooler between here and PostgreSQL has given this session another connection, so what this run has"
    " locked is on one that others may have. The run has stopped, and nothing was sent after that. Give the"
    " server's own address: usually port 5432, where poolers have 6432 or 6543."
)
_NOT_UTF8: Final = (
    "This database stores text as {}, which does not have every letter: a message with an emoji could not be"
    " kept. Nothing was sent. Make a database in UTF-8, with `CREATE DATABASE healthmsg ENCODING 'UTF8'"
    " TEMPLATE template0`, and name it in the journal's URL. If there is a journal in this one, copy it"
    " there with `pg_dump` and `psql`, so that it still says what was sent."
)


class PostgresqlDatabase:
    """One connection to PostgreSQL, which is made again when it was lost."""

    def __init__(self, target: Target, lease: timedelta, *, is_reading: bool) -> None:
        self.salt: bytes = b""
        self.is_shared: bool = True
        self.is_partly_lost: bool = False
        self.is_sender: bool = False
        self._make_engine = partial(_engine, target, lease, is_reading=is_reading)
        self._is_reading = is_reading
        self._connection: AsyncConnection | None = None
        # A pooler may be in between, which keeps one connection for each session: then, the server's process.
        self._is_pooled = target.is_pooled_by_session
        self._session: int | None = None
        self._continuity: Continuity = Continuity()
        self._clock = SteadyClock()
        self._clock_ahead = timedelta()

    async def start(self) -> None:
        """Connect, and see to the tables."""
        await self._connect()
        await self._run_sync(self._continuity.begin)
        await self.run(require_tables if self._is_reading else make_tables)
        self.salt = await self.run(read_salt)
        asked_at = self._clock.moment()
        now = utc(await self.run(lambda connection: connection.execute(_NOW).scalar_one()))
        self._clock_ahead = now - asked_at - (self._clock.moment() - asked_at) / 2

    def now(self) -> datetime:
        """Return the time of day by PostgreSQL's clock."""
        return self._clock.moment() + self._clock_ahead

    async def run(self, work: Callable[[Connection], T], *, into_file: bool = False) -> T:  # noqa: ARG002 - of SQLite
        """Do something in a transaction: all of it, or nothing.

        Raises:
            JournalGoneError: the connection was lost, and another database is there now.
        """
        if self._continuity.is_lost:
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._disconnect()
            await self._connect()
            await self._run_sync(partial(self._continuity.resume, is_sender=self.is_sender))
        in_session = partial(_in_session, work, self._session)
        return await self._run_sync(partial(self._continuity.run, in_session))

    async def compact(self) -> bool:
        """Leave it to PostgreSQL."""
        return True

    async def close(self) -> None:
        """Release the connection."""
        # What was committed is safe; an error here does not matter.
        with suppress(Exception):
            await self._run_sync(self._continuity.end)
            if self._session is not None and not self._continuity.is_lost:
                # The pooler may give it to others without cleaning it.
                await self.run(lambda connection: connection.execute(HOLD_NO_LOCK))
        with suppress(Exception):
            await self._disconnect()

    def is_passing(self, error: Exception) -> bool:
        """Return whether the error may pass. Nothing of the transaction was done."""
        if self._continuity.is_lost:
            return _may_connect_later(error)
        return isinstance(error, StillRunningError) or state_of(error).startswith(("40", "53100"))

    async def _connect(self) -> None:
        engine = await asyncio.to_thread(self._make_engine)
        self._connection = engine.connect()
        await self._connection.start()
        if self._is_pooled:
            self._session = await self._run_sync(_read_session_alone)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _run_sync(self, work: Callable[[Connection], T]) -> T:
        assert self._connection is not None  # noqa: S101 - for mypy: it was started
        return await self._connection.run_sync(work)


def _in_session(work: Callable[[Connection], T], session: int | None, connection: Connection) -> T:
    if session is not None and _read_session(connection) != session:
        raise JournalGoneError(_SESSION_CHANGED)
    return work(connection)


def _read_session_alone(connection: Connection) -> int:
    with connection.begin():
        return _read_session(connection)


def _read_session(connection: Connection) -> int:
    """Return the process that serves this session."""
    return int(connection.execute(_SESSION).scalar_one())


# --- connecting


def _engine(target: Target, lease: timedelta, *, is_reading: bool) -> AsyncEngine:
    """Say how to connect. Blocks.

    Raises:
        JournalError: a file that the URL names cannot be read.
    """
    engine = create_async_engine(
        _url(target),
        **ENGINE_OPTIONS,
        isolation_level="READ COMMITTED",
        connect_args={
            "command_timeout": _LONGEST_STATEMENT,
            "async_creator_fn": _connecting(is_by_session=target.is_pooled_by_session),
            **arguments_of(target.options),
        },
    )
    event.listen(engine.sync_engine, "connect", partial(_set_up, lease, is_reading))
    return engine


def connect_arguments(target: Target) -> dict[str, Any]:
    """Return all arguments of `asyncpg.connect`, for what asks without SQLAlchemy. Blocks.

    Raises:
        ConfigurationError: the URL cannot be understood.
        JournalError: a file that it names cannot be read.
    """
    _, place = PGDialect_asyncpg().create_connect_args(_url(target))  # type: ignore[no-untyped-call]
    return {**place, **arguments_of(target.options)}


def _url(target: Target) -> URL:
    try:
        return make_url(target.url or "").update_query_dict(place_of(target.options))
    except (ArgumentError, ValueError):
        # With its own text, a password would be in it.
        pass
    raise ConfigurationError("the URL of the journal's database cannot be understood")


def _set_up(lease: timedelta, is_reading: bool, connection: Any, _: object) -> None:  # noqa: FBT001 - partial's
    encoding = ask(connection, "SHOW server_encoding")
    if encoding != "UTF8" and not is_reading:
        raise JournalError(_NOT_UTF8.format(encoding))
    if ask(connection, "SHOW fsync") != "on":
        raise JournalError(
            "This PostgreSQL has `fsync = off`: what is written would not survive a power cut."
        )
    if ask(connection, "SHOW synchronous_commit") == "off":
        ask(connection, "SET synchronous_commit = on")
    standstill = max(_LEAST_STANDSTILL, int(lease / timedelta(milliseconds=1) * _LONGEST_STANDSTILL))
    ask(connection, f"SET idle_in_transaction_session_timeout = {standstill}")
    for setting in _PLAN_WITH_INDEXES:
        ask(connection, f"SET {setting} = off")
    connection.commit()


def arguments_of(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the further arguments of `asyncpg.connect`. Blocks: it looks at the files that are named.

    Raises:
        JournalError: a file cannot be read, or it is not said which certificates to trust.
    """
    arguments: dict[str, Any] = {
        name: options[name]
        for name in ("target_session_attrs", "passfile", "krbsrvname", "gsslib")
        if name in options
    }
    if timeout := int(options.get("connect_timeout", 0)):
        arguments["timeout"] = timeout
    if "sslnegotiation" in options:
        arguments["direct_tls"] = options["sslnegotiation"] == "direct"
    settings = {name: options[name] for name in ("application_name", "options") if name in options}
    if settings:
        arguments["server_settings"] = settings
    return arguments | _tls(options)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    tls: dict[str, str] = {name: options[name] for name in OF_TLS if name in options}
    for name in FILES:
        if name in tls and tls[name] != SYSTEM:
            tls[name] = _readable(name, tls[name])
    if tls.get("sslmode", "").startswith("verify-") and not _is_trust_known(tls):
        raise JournalError(
            f"The journal could not be opened: sslmode={tls['sslmode']} needs an authority to trust."
            " Add `sslrootcert=` with the file of the authority's certificate, or `sslrootcert=system`."
        )
    if tls.get("sslrootcert") == SYSTEM:
        return {"ssl": _system_trust(tls)}
    return {"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {}


def _is_trust_known(tls: dict[str, str]) -> bool:
    if "sslrootcert" in tls or os.environ.get("PGSSLROOTCERT"):
        return True
    return Path("~/.postgresql/root.crt").expanduser().exists()


def _system_trust(tls: dict[str, str]) -> ssl.SSLContext:
    """Return a context that trusts the operating system's certificates; asyncpg has no option for it."""
    context = ssl.create_default_context()
    if "sslcert" in tls:
        context.load_cert_chain(tls["sslcert"], tls.get("sslkey"), lambda: tls.get("sslpassword", ""))
    if "sslcrl" in tls:
        context.load_verify_locations(cafile=tls["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    for name, bound in (("ssl_min_protocol_version", "minimum"), ("ssl_max_protocol_version", "maximum")):
        if name in tls:
            setattr(context, f"{bound}_version", ssl.TLSVersion[tls[name].replace(".", "_")])
    return context


def _readable(name: str, file: str) -> str:
    path = Path(file).expanduser()
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    raise JournalError(f"The journal could not be opened: the file of `{name}` cannot be read: {problem}.")


# --- poolers

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


def _connecting(*, is_by_session: bool) -> Connect:
    """Return what connects, and refuses a pooler that gives each transaction another connection.

    A journal needs a session of its own on the server: that a sender is at work is a lock of its session, and
    so are its settings and prepared statements. PgBouncer in transaction or statement mode, and what is like
    it (Supabase's and Neon's poolers, PgCat, Odyssey), hands a connection to others after each transaction,
    with the locks still on it. Nothing that is asked through it proves that, since it may happen to give the
    same connection again. But a pooler cannot know, when it lets a client in, which connection that will get,
    so it makes up the process id that PostgreSQL announces there. A difference from the server's own
    `pg_backend_pid()` is proof, also with a pool of one.

    A pooler that keeps one connection for each session does no harm, but looks the same at first. For these
    there is `pool_mode=session`: then transactions of two sessions are compared at the opening, and the
    process id in each transaction.

    Raises:
        JournalError: on connecting: there is one.
    """

    async def connect(*args: Any, **options: Any) -> Any:
        connection = await asyncpg.connect(*args, **options)
        try:
            problem = await _find_pooler(connection, is_by_session=is_by_session)
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


async def _find_pooler(connection: Any, *, is_by_session: bool) -> str:
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
    """Return whether two sessions are seen on one connection, or one on two."""
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


# --- when the connection was lost

# A log file's name begins with the timeline, in eight signs: the last checkpoint may still be of the old one.
_SERVER: Final = text(
    "SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
    " FROM pg_control_system()"
)
_NUMBER: Final = text("SELECT txid_current_if_assigned()")
_STATUS: Final = text("SELECT txid_status(:number)")
# By the number alone it is not known whose transaction it was: all that uses the server counts on from where
# a copy was made.
_MARK: Final = text(
    "INSERT INTO healthmsg_journal (name, value) VALUES (:name, :value)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_MARKED: Final = text("SELECT value FROM healthmsg_journal WHERE name = :name")
_UNMARK: Final = text("DELETE FROM healthmsg_journal WHERE name = :name")
_GONE: Final = (
    "The journal's database is not what it was: another server has taken its place, or it was restored from a"
    " copy, so what was noted last may not be in it. The run has stopped, and nothing was sent after that."
    " Compare the journal with the results before you go on with it: what it does not know of would be sent"
    " again."
)
# By the start of the SQLSTATE: the connection broke, the server ends or ended it, or this machine slept.
_LOST: Final = ("08", "57P01", "57P02", "57P05", "25P03")
# What a server answers that is not ready: it starts, has no place, or is not the primary yet.
_NOT_READY: Final = ("57P03", "53300", "55000")


@define
class Continuity:
    """Knows the server, and whether the last transaction was committed.

    Two questions come first. Is it still the same database? One that was restored, or a replica that took its
    place, may not have what was acknowledged last: going on there could send a message twice. A server knows
    its system and its timeline, and a new timeline begins with most such changes, but not where a copy of all
    files was put back. So the number of the last transaction is kept in the journal too. And was the last
    transaction committed? When the connection breaks during a commit, that is not known. But each transaction
    that changes something has a number, asked for before the commit, and the database remembers its
    status.

    What was claimed stays claimed for the length of its lease, and each change names the claim it belongs to.
    So a worker that was disconnected, or whose machine slept, notices that its claim is lost.
    """

    is_lost: bool = field(default=False, init=False)
    """Whether the connection is to be made again, which it may."""
    _name: str = field(factory=lambda: f"last of {secrets.token_hex(16)}", init=False)
    """Under which the number of the last transaction is kept in the journal itself."""
    _server: str | None = field(default=None, init=False)
    _last: int | None = field(default=None, init=False)
    """The number of the last transaction that was committed and changed something."""
    _unclear: tuple[int, Any] | None = field(default=None, init=False)
    """The number and the result of one of which is not known whether it was committed."""

    def begin(self, connection: Connection) -> None:
        """Learn which server it is. One that does not say so is not gone on with after a loss."""
        try:
            with connection.begin():
                self._server = str(connection.execute(_SERVER).scalar_one())
        except DBAPIError:
            self._server = None

    def resume(self, connection: Connection, *, is_sender: bool) -> None:
        """Go on with a new connection; `is_sender`: others are to know that this one sends.

        Raises:
            JournalGoneError: it is another server, or another state of it.
        """
        with connection.begin():
            if str(connection.execute(_SERVER).scalar_one()) != self._server:
                raise JournalGoneError(_GONE)
        if self._last is not None and not self._is_known(connection, self._last):
            raise JournalGoneError(_GONE)
        if is_sender:
            with connection.begin():
                connection.execute(BE_SENDER)
        self.is_lost = False

    def run(self, work: Callable[[Connection], T], connection: Connection) -> T:
        """Do something in a transaction: all of it, or nothing.

        After a failure of which it is not known whether it was committed, the same work is to be given again:
        then that is checked first.
        """
        if self._unclear is not None:
            unclear, result = self._unclear
            was_committed = self._was_committed(connection, unclear)
            self._unclear = None
            if was_committed:
                self._last = unclear
                done: T = result
                return done
        number: int | None = None
        is_committing = False
        try:
            with connection.begin():
                done = work(connection)
                if self._server is not None:
                    number = connection.execute(_NUMBER).scalar()
                if number is not None:
                    connection.execute(_MARK, {"name": self._name, "value": str(number)})
                is_committing = True
        except Exception as error:
            self.is_lost = self._server is not None and _is_of_connection(error)
            if is_committing and number is not None:
                self._unclear = number, done
            raise
        self._last = self._last if number is None else number
        return done

    def end(self, connection: Connection) -> None:
        """Delete the mark from the journal."""
        if self._last is not None and not self.is_lost:
            with connection.begin():
                connection.execute(_UNMARK, {"name": self._name})

    def _is_known(self, connection: Connection, number: int) -> bool:
        try:
            if not self._was_committed(connection, number):
                return False
            with connection.begin():
                marked = connection.execute(_MARKED, {"name": self._name}).scalar()
            unclear = None if self._unclear is None else str(self._unclear[0])
            return marked in {str(number), unclear}
        except DBAPIError as error:
            if _is_of_connection(error):
                raise
            return False  # of the future, which that server has not come to

    def _was_committed(self, connection: Connection, number: int) -> bool:
        with connection.begin():
            status = connection.execute(_STATUS, {"number": number}).scalar()
        if status == "in progress":
            raise StillRunningError
        return bool(status == "committed")


def _is_of_connection(error: Exception) -> bool:
    """Return whether an error says that the connection was lost."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return state_of(error).startswith(_LOST) or isinstance(error, ConnectionError)


def _may_connect_later(error: Exception) -> bool:
    """Return whether a connection that could not be made may be made later."""
    is_of_system = isinstance(error, OSError | StillRunningError)
    return is_of_system or _is_of_connection(error) or state_of(error).startswith(_NOT_READY)
