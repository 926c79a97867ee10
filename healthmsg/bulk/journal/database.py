"""The connection to a journal's database, and what it promises."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from healthmsg.bulk.journal import migrations, sqlite_file, statements
from healthmsg.bulk.journal.changes import Change, Changes
from healthmsg.bulk.journal.line import Line, SqliteLine, postgresql_line
from healthmsg.bulk.journal.schema import utc
from healthmsg.bulk.journal.target import Target
from healthmsg.clock import SteadyClock
from healthmsg.errors import ClaimLostError, ConfigurationError, HealthmsgError, JournalError

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
)
_FULL: Final = 2
_NOW: Final = text("SELECT clock_timestamp()")
# PostgreSQL keeps the plans that it makes while the table is empty, and would read all of it again and again.
_PLAN_WITH_INDEXES: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
# The share of a lease for which a transaction may stand still. A worker whose machine sleeps in the middle of
# one would hold up all others: the database ends it before they lose their own leases by that.
_LONGEST_STANDSTILL: Final = 1 / 3
# In milliseconds, but no less than a busy machine may stand still.
_LEAST_STANDSTILL: Final = 1000
# Seconds. One that takes longer waits for a database that does not answer any more.
_LONGEST_STATEMENT: Final = 120.0
# Values would be patients' messages: they are in no error and no log.
_QUIET: Final[dict[str, Any]] = {"poolclass": NullPool, "hide_parameters": True}
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
    "57": "the database is going down",
}


class JournalDatabase:
    """One connection; a `Writer` sees to it that only one thing at a time is done with it."""

    def __init__(self, line: Line, lock: Any, lease: timedelta | None) -> None:
        self._line = line
        self._lock = lock
        self.is_shared: bool = lease is not None
        """Whether other workers may use it at the same time."""
        self.changes: Changes | None = None
        self._clock = SteadyClock()
        self._clock_ahead = timedelta()
        self.salt: bytes = b""

    @classmethod
    async def open(cls, target: Target, lease: timedelta, *, is_reading: bool) -> "JournalDatabase":
        """Connect, and bring the tables up to date; for one who only reads, nothing is changed.

        Raises:
            JournalInUseError: somebody else sends with this SQLite file.
            JournalVersionError: a newer version of this package made it.
            JournalError: it cannot be used; says why.
        """
        path = None if target.path is None else target.path.resolve()
        lock = None if path is None else await asyncio.to_thread(_prepare_file, path, is_reading)
        line = (
            _line(target, lease) if path is None else SqliteLine(_sqlite_engine(path, is_reading=is_reading))
        )
        database = cls(line, lock, lease if path is None else None)
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
        await self.run(migrations.check_version if is_reading else _prepare_tables)
        self.salt = await self.run(migrations.read_salt)
        if self.is_shared:
            asked_at = self._clock.moment()
            now = utc(await self.run(lambda connection: connection.execute(_NOW).scalar_one()))
            self._clock_ahead = now - asked_at - (self._clock.moment() - asked_at) / 2

    def now(self) -> datetime:
        """Return the time of day by PostgreSQL's clock, or by this machine's as it was at the opening."""
        return self._clock.moment() + self._clock_ahead

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do something in a transaction: all of it, or nothing."""
        return await self._line.run_sync(partial(_in_transaction, work))

    async def make(
        self, changes: Sequence[Change], works: Sequence[Callable[[Connection], Any]]
    ) -> tuple[list[bool], list[Any]]:
        """Make changes and do work in one transaction; tell of each change whether it was made."""
        if self.changes is None:
            raise JournalError("The journal is open for reading only.")
        maker, now = self.changes, self.now()

        def make_all(connection: Connection) -> list[Any]:
            maker.make_all(connection, changes, now)
            return [work(connection) for work in works]

        def make_each(connection: Connection) -> tuple[list[bool], list[Any]]:
            return maker.make_each(connection, changes, now), [work(connection) for work in works]

        try:
            return [True] * len(changes), await self.run(make_all)
        except ClaimLostError:
            return await self.run(make_each)

    async def compact(self) -> bool:
        """Write an SQLite file anew, without what was deleted; False if a reader prevents the last of it."""
        if self.is_shared:
            return True
        return await self._line.run_sync(_compact)

    async def close(self) -> None:
        """Let go of the connection and of the lock."""
        try:
            await self._line.close()
        except Exception:  # noqa: BLE001, S110 - what was committed is safe, and whoever closes can do nothing
            pass
        finally:
            if self._lock is not None:
                self._lock.release()

    def is_passing(self, error: Exception) -> bool:
        """Tell whether the same may work later: nothing of it was done."""
        original = error.orig if isinstance(error, DBAPIError) else None
        if isinstance(original, sqlite3.Error):
            return getattr(original, "sqlite_errorname", "") == "SQLITE_FULL"
        return (getattr(original, "sqlstate", None) or "").startswith(("40", "53100"))

    def describe(self, error: Exception) -> str:
        """Say what went wrong, and nothing private."""
        return _describe(error)


def _prepare_file(path: Path, is_reading: bool) -> Any:  # noqa: FBT001 - called in a thread
    if is_reading or path.exists():
        sqlite_file.check(path)
    if is_reading:
        return None
    lock = sqlite_file.lock(path)
    try:
        sqlite_file.make(path)
        sqlite_file.check(path)
    except BaseException:
        lock.release()
        raise
    return lock


def _line(target: Target, lease: timedelta) -> Line:
    line, engine = postgresql_line(
        _url(target),
        **_QUIET,
        **_JSON,
        isolation_level="READ COMMITTED",
        connect_args={"command_timeout": _LONGEST_STATEMENT},
    )
    event.listen(engine, "connect", partial(_check_postgresql, lease))
    return line


def _sqlite_engine(path: Path, *, is_reading: bool) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), **_QUIET, **_JSON)
    event.listen(engine, "connect", _read_only if is_reading else _read_and_write)
    # One that writes takes the lock at once: taking it later can fail. One that reads does without.
    begin = "BEGIN" if is_reading else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin) and None)
    return engine


def _url(target: Target) -> URL:
    try:
        return make_url(target.url or "")
    except (ArgumentError, ValueError):
        # With its own text, a password would be in it.
        pass
    raise ConfigurationError("the URL of the journal's database cannot be understood")


def _read_and_write(connection: Any, _: object) -> None:
    # Only our own BEGINs begin a transaction: Python's leave changes of tables out.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        _ask(connection, pragma)
    if _ask(connection, "PRAGMA synchronous") != _FULL or _ask(connection, "PRAGMA journal_mode") != "wal":
        raise JournalError("SQLite does not promise here that what is written survives a power cut.")


def _read_only(connection: Any, _: object) -> None:
    connection.isolation_level = None
    _ask(connection, "PRAGMA busy_timeout = 30000")
    _ask(connection, "PRAGMA query_only = ON")


def _check_postgresql(lease: timedelta, connection: Any, _: object) -> None:
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


def _prepare_tables(connection: Connection) -> None:
    migrations.bring_up_to_date(connection)
    if connection.dialect.name == "sqlite":
        # We have the file to ourselves: whoever had a claim is no more.
        connection.execute(statements.LET_GO_OF_ALL)


def _in_transaction(work: Callable[[Connection], T], connection: Connection) -> T:
    with connection.begin():
        return work(connection)


def _compact(connection: Connection) -> bool:
    raw: Any = connection.connection.driver_connection
    raw.execute("VACUUM")
    is_busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


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
    state = getattr(error, "sqlstate", None) or ""
    for length in (5, 2):
        if state[:length] in POSTGRESQL_REASONS:
            return POSTGRESQL_REASONS[state[:length]]
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"{type(error).__name__} {state}".strip()
