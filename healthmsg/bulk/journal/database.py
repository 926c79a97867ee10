"""The connection to a journal's database, and what it promises."""

import asyncio
import logging
import sqlite3
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from healthmsg.bulk.journal import libpq, migrations, sqlite_file, statements, wal_mark
from healthmsg.bulk.journal.changes import Change, Changes
from healthmsg.bulk.journal.continuity import Continuity, StillRunningError, may_connect_later, state_of
from healthmsg.bulk.journal.line import Line, SqliteLine, postgresql_line
from healthmsg.bulk.journal.schema import utc
from healthmsg.bulk.journal.sqlite_file import SqliteFile
from healthmsg.bulk.journal.target import Target
from healthmsg.clock import SteadyClock
from healthmsg.errors import (
    ClaimLostError,
    ConfigurationError,
    HealthmsgError,
    JournalError,
    JournalGoneError,
)

T = TypeVar("T")

_PRAGMAS: Final = (
    # One sync a commit, and readers are not kept out.
    "PRAGMA journal_mode = WAL",
    # With NORMAL, a power cut takes the last commits along.
    "PRAGMA synchronous = FULL",
    # On macOS, a sync ends before the disk has it.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    # What is deleted is overwritten: patients' texts do not stay in the file.
    "PRAGMA secure_delete = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 30000",
    # Pages, a quarter of SQLite's own: the less is in the `-wal` file alone, the less can be lost with it.
    "PRAGMA wal_autocheckpoint = 250",
)
_FULL: Final = 2
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
# PostgreSQL keeps the plans that it makes while the table is empty, and would read all of it again and again.
_PLAN_WITH_INDEXES: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
# The share of a lease for which a transaction may stand still. A worker whose machine sleeps in the middle of
# one would hold up all others: the database ends it before they lose their own leases by that.
_LONGEST_STANDSTILL: Final = 1 / 3
# In milliseconds, but no less than a busy machine may stand still.
_LEAST_STANDSTILL: Final = 1000
# Seconds. One that takes longer waits for a database that does not answer any more.
_LONGEST_STATEMENT: Final = 120.0
# Seconds. What is left of a connection that was lost.
_LONGEST_GOODBYE: Final = 5.0
# Values would be patients' messages: they are in no error and no log.
_QUIET: Final[dict[str, Any]] = {
    "poolclass": NullPool,
    "hide_parameters": True,
    "logging_name": "healthmsg",
}


def _is_no_row(record: logging.LogRecord) -> bool:
    """Pass what SQLAlchemy logs of our engines, but the rows of results: it does that at DEBUG alone."""
    return record.levelno > logging.DEBUG


# A filter of this logger alone: levels, and those of the loggers above, are the program's to set.
logging.getLogger("sqlalchemy.engine.Engine.healthmsg").addFilter(_is_no_row)
_JSON: Final[dict[str, Any]] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}

_SQLITE_REASONS: Final = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "the file is read-only",
    "SQLITE_NOTADB": "the file is not a database",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_IOERR": "the disk reports an error",
    "SQLITE_BUSY": "another program has locked the file",
    "SQLITE_LOCKED": "another program has locked the file",
    "SQLITE_PERM": "no permission",
}
# By the start of the SQLSTATE.
POSTGRESQL_REASONS: Final = {
    "08": "the connection to the database was lost",
    "25P03": "this machine slept, or its program stood still, in the middle of a transaction",
    "28": "the database refuses the user or the password",
    "3D": "there is no such database",
    "40": "the database gave up the transaction",
    "42501": "the database user may not do this",
    "53100": "the disk of the database is full",
    "53300": "the database has too many connections",
    "53": "the database has no resources left",
    "57P03": "the database is not ready yet",
    "55000": "the database is not ready yet",
    "57": "the database is going down",
}


class JournalDatabase:
    """One connection; a `Writer` sees to it that only one thing at a time is done with it."""

    def __init__(self, line: Line, file: SqliteFile | None, lease: timedelta | None) -> None:
        self._line = line
        self._file = file
        self.is_shared: bool = lease is not None
        """Whether other workers may use it at the same time."""
        self.is_partly_lost: bool = file is not None and file.lost_since is not None
        """Whether its newest state was missing, and that was accepted."""
        self.is_pooled: bool = False
        """Whether a pooler may be in between, which keeps one connection for each session."""
        self._session: int | None = None
        self._continuity: Continuity = Continuity()
        self._connect_again: Callable[[], Line] | None = None
        self.is_sender: bool = False
        """Whether others that share it are to know, as long as it is open, that this one sends."""
        self.changes: Changes | None = None
        self._clock = SteadyClock()
        self._clock_ahead = timedelta()
        self.salt: bytes = b""

    @classmethod
    async def open(cls, target: Target, lease: timedelta, *, is_reading: bool) -> "JournalDatabase":
        """Connect, and bring the tables up to date; for one who only reads, nothing is changed.

        Raises:
            JournalInUseError: somebody else sends with this SQLite file.
            JournalIncompleteError: its `-wal` file is missing.
            JournalVersionError: a newer version of this package made it.
            JournalError: it cannot be used; says why.
        """
        file: SqliteFile | None = None
        connect_again: Callable[[], Line] | None = None
        if target.path is None:
            connect_again = partial(_line, target, lease, is_reading=is_reading)
            line = await asyncio.to_thread(connect_again)
        elif is_reading:
            line = SqliteLine(await asyncio.to_thread(_reading_engine, target.path.resolve(), target))
        else:
            accepts = target.accepts_missing_wal
            file = await asyncio.to_thread(SqliteFile.prepare, target.path, accepts_missing_wal=accepts)
            line = SqliteLine(_writing_engine(file.path))
        database = cls(line, file, lease if target.path is None else None)
        database.is_pooled = target.is_pooled_by_session
        database._connect_again = connect_again
        problem: HealthmsgError
        try:
            await database.start(is_reading=is_reading)
        except HealthmsgError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - drivers raise what they like; it may have private things in it
            problem = JournalError(f"The journal could not be opened: {_describe(error)}.")
        except BaseException:
            await database.close()
            raise
        else:
            return database
        await database.close()
        raise type(problem)(*problem.args)

    async def start(self, *, is_reading: bool) -> None:
        """Connect, and see to the tables."""
        await self._line.start()
        await self._meet_server()
        if self.is_shared:
            await self._line.run_sync(self._continuity.begin)
        if self._file is not None:
            await self._line.run_sync(self._file.start)
        else:
            await self.run(migrations.check_version if is_reading else migrations.bring_up_to_date)
        self.salt = await self.run(migrations.read_salt)
        if self.is_shared:
            asked_at = self._clock.moment()
            now = utc(await self.run(lambda connection: connection.execute(_NOW).scalar_one()))
            self._clock_ahead = now - asked_at - (self._clock.moment() - asked_at) / 2

    def now(self) -> datetime:
        """Return the time of day by PostgreSQL's clock, or by this machine's as it was at the opening."""
        return self._clock.moment() + self._clock_ahead

    async def run(self, work: Callable[[Connection], T], *, into_file: bool = False) -> T:
        """Do something in a transaction: all of it, or nothing.

        `into_file`: an SQLite file has it then even without its `-wal` file, as far as readers allow that.
        """
        if self._file is not None:
            return await self._line.run_sync(partial(self._file.run, work, into_file=into_file))
        if self._continuity.is_lost:
            await self._reconnect()
        in_session = partial(_in_session, work, self._session)
        return await self._line.run_sync(partial(self._continuity.run, in_session))

    async def _meet_server(self) -> None:
        """Note which of the server's processes this session has, where a pooler could give it another."""
        if self.is_pooled:
            self._session = await self._line.run_sync(_read_session_alone)

    async def _reconnect(self) -> None:
        """Connect again, if what is there is still the same database.

        Raises:
            JournalGoneError: it is not.
        """
        connect_again = self._connect_again
        assert connect_again is not None  # noqa: S101 - for mypy: it is there where connections can be lost
        with suppress(Exception):
            async with asyncio.timeout(_LONGEST_GOODBYE):
                await self._line.close()
        self._line = await asyncio.to_thread(connect_again)
        await self._line.start()
        await self._meet_server()
        await self._line.run_sync(partial(self._continuity.resume, is_sender=self.is_sender))

    async def make(
        self, changes: Sequence[Change], works: Sequence[Callable[[Connection], Any]]
    ) -> tuple[list[bool], list[Any]]:
        """Make changes and do work in one transaction; tell of each change whether it was made."""
        if self.changes is None:
            raise JournalError("The journal is open for reading only.")
        maker, now = self.changes, self.now()

        def make_all(connection: Connection) -> tuple[list[bool], list[Any]]:
            maker.make_all(connection, changes, now)
            return [True] * len(changes), [work(connection) for work in works]

        def make_each(connection: Connection) -> tuple[list[bool], list[Any]]:
            return maker.make_each(connection, changes, now), [work(connection) for work in works]

        try:
            # Both give the same kind of result: which of them it was may have to be found out later.
            return await self.run(make_all)
        except ClaimLostError:
            return await self.run(make_each)

    async def compact(self) -> bool:
        """Write an SQLite file anew, without what was deleted; False if a reader prevents the last of it."""
        return self._file is None or await self._line.run_sync(self._file.compact)

    async def close(self) -> None:
        """Let go of the connection and of the lock."""
        try:
            if self._file is not None:
                await self._line.run_sync(self._file.end)
            else:
                await self._line.run_sync(self._continuity.end)
            if self._session is not None and not self._continuity.is_lost:
                # The pooler gives it to others, and need not clean it.
                await self.run(lambda connection: connection.execute(statements.HOLD_NO_LOCK))
        except Exception:  # noqa: BLE001, S110 - what was committed is safe, and whoever closes can do nothing
            pass
        try:
            await self._line.close()
        except Exception:  # noqa: BLE001, S110 - what was committed is safe, and whoever closes can do nothing
            pass
        finally:
            if self._file is not None:
                self._file.release()

    def is_passing(self, error: Exception) -> bool:
        """Tell whether the same may work later: nothing of it was done."""
        original = error.orig if isinstance(error, DBAPIError) else None
        if isinstance(original, sqlite3.Error):
            return getattr(original, "sqlite_errorname", "") == "SQLITE_FULL"
        if self._continuity.is_lost:
            return may_connect_later(error)
        return isinstance(error, StillRunningError) or state_of(error).startswith(("40", "53100"))

    def describe(self, error: Exception) -> str:
        """Say what went wrong, and nothing private."""
        return _describe(error)


def _line(target: Target, lease: timedelta, *, is_reading: bool) -> Line:
    """Say how to connect to PostgreSQL. Blocks.

    Raises:
        JournalError: a file that the URL names cannot be read.
    """
    # It needs asyncpg, which a journal in a file goes without.
    from healthmsg.bulk.journal import pooler  # noqa: PLC0415

    line, engine = postgresql_line(
        _url(target),
        **_QUIET,
        **_JSON,
        isolation_level="READ COMMITTED",
        connect_args={
            "command_timeout": _LONGEST_STATEMENT,
            "async_creator_fn": pooler.connecting(is_by_session=target.is_pooled_by_session),
            **libpq.arguments_of(target.options),
        },
    )
    event.listen(engine, "connect", partial(_check_postgresql, lease, is_reading))
    return line


def _writing_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), **_QUIET, **_JSON)
    event.listen(engine, "connect", _or_close(_read_and_write))
    # It takes the lock at once: taking it later can fail.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE") and None)
    return engine


def _reading_engine(path: Path, target: Target) -> Engine:
    """Connect to a file for reading only. Blocks."""
    sqlite_file.check(path)
    had_wal = wal_mark.has_wal(path)
    # The last to close a `-wal` file brings it into the file and deletes it, which only the next run may do.
    uri = f"{path.as_uri()}?mode={'ro' if had_wal else 'rw'}"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), **_QUIET, **_JSON)

    def read_only(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        _ask(connection, "PRAGMA busy_timeout = 30000")
        _ask(connection, "PRAGMA query_only = ON")
        if not (had_wal or target.accepts_missing_wal):
            wal_mark.require_complete(connection)

    event.listen(engine, "connect", _or_close(read_only))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN") and None)
    return engine


def _url(target: Target) -> URL:
    try:
        return make_url(target.url or "").update_query_dict(libpq.place_of(target.options))
    except (ArgumentError, ValueError):
        # With its own text, a password would be in it.
        pass
    raise ConfigurationError("the URL of the journal's database cannot be understood")


def _or_close(
    check: Callable[[sqlite3.Connection, object], None],
) -> Callable[[sqlite3.Connection, object], None]:
    """Return the check as one that closes what it refuses.

    SQLAlchemy before 2.0.53 leaves it open, and what opens the file next in this process would read what that
    connection saw: without a `-wal` file that was brought since.
    """

    def listener(connection: sqlite3.Connection, record: object) -> None:
        try:
            check(connection, record)
        except BaseException:
            connection.close()
            raise

    return listener


def _read_and_write(connection: Any, _: object) -> None:
    # Only our own BEGINs begin a transaction: Python's leave changes of tables out.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        _ask(connection, pragma)
    if _ask(connection, "PRAGMA synchronous") != _FULL or _ask(connection, "PRAGMA journal_mode") != "wal":
        raise JournalError("SQLite does not promise here that what is written survives a power cut.")


def _check_postgresql(lease: timedelta, is_reading: bool, connection: Any, _: object) -> None:  # noqa: FBT001 - partial's
    encoding = _ask(connection, "SHOW server_encoding")
    if encoding != "UTF8" and not is_reading:
        raise JournalError(_NOT_UTF8.format(encoding))
    if _ask(connection, "SHOW fsync") != "on":
        raise JournalError(
            "This PostgreSQL has `fsync = off`: what is written would not survive a power cut."
        )
    if _ask(connection, "SHOW synchronous_commit") == "off":
        _ask(connection, "SET synchronous_commit = on")
    standstill = max(_LEAST_STANDSTILL, int(lease / timedelta(milliseconds=1) * _LONGEST_STANDSTILL))
    _ask(connection, f"SET idle_in_transaction_session_timeout = {standstill}")
    for setting in _PLAN_WITH_INDEXES:
        _ask(connection, f"SET {setting} = off")
    connection.commit()


def _ask(connection: Any, statement: str) -> object:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
    finally:
        cursor.close()


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


def _describe(error: BaseException) -> str:
    """Say what went wrong by its code: what the databases say themselves may have a patient's text in it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        if error.connection_invalidated:
            return POSTGRESQL_REASONS["08"]
        error = error.orig
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        family = "_".join(name.split("_")[:2])
        return _SQLITE_REASONS.get(family, name or type(error).__name__)
    if isinstance(error, StillRunningError):
        return "the database has not noticed yet that the connection was lost"
    state = state_of(error)
    for length in (5, 2):
        if state[:length] in POSTGRESQL_REASONS:
            return POSTGRESQL_REASONS[state[:length]]
    if isinstance(error, OSError):
        return _describe_connecting(error)
    return f"{type(error).__name__} {state}".strip()


def _describe_connecting(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # Its own text names the line of Python's source.
        return f"the server's certificate is not trusted ({error.verify_message.rstrip('.')})"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection to the database could be made"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):  # the latter is of a socket
        return "no database answers at that address"
    if "rejected SSL" in str(error):
        return "the database does not offer TLS, and `sslmode` asks for it"
    return error.strerror or type(error).__name__
