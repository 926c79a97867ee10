"""What a database is asked, and what its errors mean."""

import logging
import sqlite3
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import orjson
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

T = TypeVar("T")


class Database(Protocol):
    """One connection to a journal's database, of which one thing at a time is asked."""

    salt: bytes
    is_shared: bool
    """Whether other workers may use it at the same time."""
    is_partly_lost: bool
    """Whether its newest state was missing, and that was accepted."""
    is_sender: bool
    """Whether others that share it are to know, as long as it is open, that this one sends."""

    async def start(self) -> None:
        """Connect, and see to the tables: for one who only reads, that they are there."""

    def now(self) -> datetime:
        """Return the time of day, by the clock of the database's machine as it was at the opening."""

    async def run(self, work: Callable[[Connection], T], *, into_file: bool = False) -> T:
        """Do something in a transaction: all of it, or nothing.

        `into_file`: an SQLite file has it then even without its `-wal` file, as far as readers allow that.
        """

    async def compact(self) -> bool:
        """Rewrite an SQLite file without what was deleted; False if a reader prevents the last of it."""

    async def close(self) -> None:
        """Release the connection and the lock."""

    def is_passing(self, error: Exception) -> bool:
        """Return whether the error may pass. Nothing of the transaction was done."""


# Values would be patients' messages: they are in no error and no log.
ENGINE_OPTIONS: Final[dict[str, Any]] = {
    "poolclass": NullPool,
    "hide_parameters": True,
    "logging_name": "healthmsg",
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}


def _is_no_row(record: logging.LogRecord) -> bool:
    """Pass what SQLAlchemy logs of our engines, but the rows of results: it does that at DEBUG alone."""
    return record.levelno > logging.DEBUG


# A filter of this logger alone: levels, and those of the loggers above, are the program's to set.
logging.getLogger("sqlalchemy.engine.Engine.healthmsg").addFilter(_is_no_row)


def ask(connection: Any, statement: str) -> object:
    """Return the first value that a driver's own connection answers, if any."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
    finally:
        cursor.close()


# PostgreSQL's: entering decides which message of a chat is next, and so does finishing.
ENTER_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtext('healthmsg_messages'))")
FINISH_WHILE_NONE_ENTERS: Final = text("SELECT pg_advisory_xact_lock_shared(hashtext('healthmsg_messages'))")
# Its locks of a session: each sender holds a shared one as long as it is connected.
HOLD_NO_LOCK: Final = text("SELECT pg_advisory_unlock_all()")
IS_ONLY_SENDER: Final = text("SELECT pg_try_advisory_lock(hashtext('healthmsg_senders'))")
BE_SENDER: Final = text("SELECT pg_advisory_lock_shared(hashtext('healthmsg_senders'))")
LET_OTHERS_SEND: Final = text("SELECT pg_advisory_unlock(hashtext('healthmsg_senders'))")

# --- what went wrong

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


class StillRunningError(Exception):
    """The connection was lost, and the server has not noticed yet: its last transaction is still open."""


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error, if it has one."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) or ""


def describe(error: BaseException) -> str:
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
