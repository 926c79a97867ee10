"""The database of a journal: its tables, how they are made, and what its errors mean."""

import logging
import secrets
import sqlite3
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import orjson
from attrs import field, frozen
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

from healthmsg.errors import JournalError, JournalNotFoundError, JournalVersionError

T = TypeVar("T")


class Utc(TypeDecorator[datetime]):
    """A moment. It is stored in UTC: SQLite would drop the zone."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = DateTime(timezone=True)
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Bring it to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Say that it is in UTC."""
        return None if value is None else utc(value)


def utc(value: datetime) -> datetime:
    """Say of a moment as a database returns it that it is in UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# --- the tables

METADATA: Final = MetaData()

META: Final = Table(
    "healthmsg_journal",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

MESSAGES: Final = Table(
    "healthmsg_messages",
    METADATA,
    Column("key", Text, primary_key=True),
    # The order of entry.
    Column("position", BigInteger, nullable=False, unique=True),
    Column("chat", Text, nullable=False),
    # The recipient that the chat's address leads to, by RECIPIENTS. What is on its way when it
    # turns out that another message to the same one is on its way, too, has none until its end.
    Column("recipient", Text),
    # These three are emptied on delivery.
    Column("body", Text),
    Column("files", Text),
    Column("question", Text),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    # It is done, and does not block its chat.
    Column("is_final", Boolean, nullable=False),
    # The first to its recipient that is not final. A unique index sees to it that each recipient has at most
    # one, and nothing else is ever claimed: that is how the messages to one recipient are kept in order.
    Column("is_next", Boolean, nullable=False),
    Column("message_id", Text),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    Column("started_at", Utc),
    # Milliseconds by which the service's `Date` was ahead of the journal's clock then; NULL: not known.
    Column("date_ahead", BigInteger),
    # Where its call goes to: for a user, the conversation that was started.
    Column("sent_to", Text),
    Column("claimed_by", Text),
    # How many times it was claimed: a worker that comes with an earlier number has lost it.
    Column("claims", Integer, nullable=False),
    # NULL with SQLite, where one process has all claims.
    Column("lease_until", Utc),
    Column("updated_at", Utc, nullable=False),
    # Which run entered it: what one run was given is not instead of one another.
    Column("run", BigInteger, nullable=False),
    # A later run had another text for this recipient: sent only with `superseded=True`.
    Column("is_superseded", Boolean, nullable=False),
    # What a person said became of it, who, and when.
    Column("decided", Text),
    Column("decided_by", Text),
    Column("decided_at", Utc),
    # The sender's own, which comes back in the result.
    Column("label", Text),
)

# The addresses of which more than one is known to lead to the same recipient.
RECIPIENTS: Final = Table(
    "healthmsg_recipients",
    METADATA,
    Column("address", Text, primary_key=True),
    Column("recipient", Text, nullable=False),
)

# What is known of the user's chats, and what happened in them: see `healthmsg/gateway/inbox/`.
CHATS: Final = Table(
    "healthmsg_chats",
    METADATA,
    Column("key", Text, primary_key=True),
    # JSON: ids of messages; NULL: it was never read.
    Column("anchor", Text),
    Column("anchor_at", Utc),
    Column("hint", Text),
    # JSON: ids of users.
    Column("members", Text),
    Column("closed", Boolean, nullable=False),
    Column("counter", BigInteger, nullable=False),
)
INBOX: Final = Table(
    "healthmsg_inbox",
    METADATA,
    # The order in which events are handed out.
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    # A hash of the event's id, which may say what a patient answered. It stays when the event is done, so
    # that the event is not taken in again.
    Column("id", Text, nullable=False, unique=True),
    # JSON; NULL once it is done.
    Column("body", Text),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
)
QUESTIONS: Final = Table(
    "healthmsg_questions",
    METADATA,
    Column("message_id", Text, primary_key=True),
    Column("chat", Text, nullable=False),
    # JSON: ids of events.
    Column("answered", Text, nullable=False),
)
# Which process has the inbox, in PostgreSQL.
HOLDER: Final = Table(
    "healthmsg_holder",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("lease_until", Utc, nullable=False),
)

# As it stands in the indexes: SQLite uses these only where it reads the same words.
IS_NEXT: Final = text("is_next")


def _index(name: str, *columns: Column[Any], where: str | None = None, unique: bool = False) -> None:
    """Add an index; with `where`, of some rows only."""
    part: dict[str, Any] = (
        {} if where is None else {f"{dialect}_where": text(where) for dialect in ("sqlite", "postgresql")}
    )
    Index(f"healthmsg_{name}", *columns, unique=unique, **part)


_M = MESSAGES.c
# What may be claimed, in order.
_index("next", _M.state, _M.position, where="is_next")
_index("one_next", _M.recipient, where="is_next", unique=True)
_index("chat", _M.chat, _M.is_final, _M.position)
_index("recipient", _M.recipient, _M.is_final, _M.position)
_index("runs", _M.recipient, _M.run)
_index("id", _M.message_id, where="message_id IS NOT NULL")
_index("delivered", _M.updated_at, where="message_id IS NOT NULL")
_index("addresses", RECIPIENTS.c.recipient)
_index("inbox_next", INBOX.c.sequence, where="state = 'new'")
_index("inbox_running", INBOX.c.sequence, where="state = 'running'")

# --- making them, and what the journal says of itself

# Development versions had lower ones.
VERSION: Final = 8
_VERSION: Final = "version"
_SALT: Final = "salt"
_ACCOUNT: Final = "account"
_API_URL: Final = "api_url"
_SALT_LENGTH: Final = 32


@frozen
class Owner:
    """What a journal belongs to; `None`: not known, or nothing yet."""

    api_url: str | None
    """In its comparable form."""
    account: str | None = field(repr=False)
    """The user's id there."""


def check_version(connection: Connection) -> bool:
    """Return whether there is a journal, of the one version that is known here.

    Raises:
        JournalVersionError: another version of this package made it.
    """
    found = int(read_meta(connection, _VERSION) or 0) if inspect(connection).has_table(META.name) else 0
    if found not in {0, VERSION}:
        age, remedy = (
            ("newer", "Use that one")
            if found > VERSION
            else ("older", "Go on with that one, or start a new journal")
        )
        raise JournalVersionError(
            f"The journal has version {found}, and this healthmsg has {VERSION}: one that is {age} made it."
            f" Nothing was sent. {remedy}."
        )
    return found != 0


def require_tables(connection: Connection) -> None:
    """Refuse a database without a journal.

    Raises:
        JournalNotFoundError: it has none.
        JournalVersionError: another version of this package made it.
    """
    if not check_version(connection):
        raise JournalNotFoundError("There is no journal in it.")


def make_tables(connection: Connection) -> None:
    """Make the tables if there are none, in the transaction that has begun: all of them, or nothing.

    Raises:
        JournalVersionError: another version of this package made those that there are.
        JournalError: this is some other program's SQLite file.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    if not is_sqlite:
        # Two workers may start at the same time.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('healthmsg_journal'))"))
    if check_version(connection):
        return
    if is_sqlite and inspect(connection).get_table_names():
        raise JournalError("The file is a database, but not a journal.")
    METADATA.create_all(connection, checkfirst=False)
    write_meta(connection, _SALT, secrets.token_hex(_SALT_LENGTH))
    write_meta(connection, _VERSION, str(VERSION))


def read_salt(connection: Connection) -> bytes:
    """Return the journal's random salt."""
    return bytes.fromhex(read_meta(connection, _SALT) or "")


def set_owner(connection: Connection, owner: Owner) -> Owner:
    """Return what the journal belongs to: this, as far as it belonged to nothing yet."""
    known = read_owner(connection)
    if known.api_url is None and owner.api_url is not None:
        write_meta(connection, _API_URL, owner.api_url)
    if known.account is None and owner.account is not None:
        write_meta(connection, _ACCOUNT, owner.account)
    return Owner(known.api_url or owner.api_url, known.account or owner.account)


def read_owner(connection: Connection) -> Owner:
    """Return what the journal belongs to."""
    return Owner(read_meta(connection, _API_URL), read_meta(connection, _ACCOUNT))


def write_meta(connection: Connection, name: str, value: str) -> None:
    """Set one of the facts about the journal itself."""
    connection.execute(META.delete().where(META.c.name == name))
    connection.execute(META.insert(), {"name": name, "value": value})


def read_meta(connection: Connection, name: str) -> str | None:
    """Return one of the facts about the journal itself, if it is known."""
    return connection.execute(select(META.c.value).where(META.c.name == name)).scalar_one_or_none()


# --- the connection


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
