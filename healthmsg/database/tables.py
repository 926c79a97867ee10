"""The tables of a database: what bulk sending, an inbox and a bot keep, how they are made, whose they are."""

import secrets
from datetime import UTC, datetime
from typing import Any, Final

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
from sqlalchemy.types import TypeEngine

from healthmsg.errors import JournalError, JournalMismatchError, JournalNotFoundError, JournalVersionError


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
    # NULL: it was given to a run, or is a bot's.
    Column("campaign", Text),
)

# What workers send, and how: see `healthmsg/bulk/campaigns/`.
CAMPAIGNS: Final = Table(
    "healthmsg_campaigns",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("weight", Integer, nullable=False),
    # Whether all that was to be added at first is there. Before that, nothing of it is sent.
    Column("is_entered", Boolean, nullable=False),
    Column("created_at", Utc, nullable=False),
    # When its state, its weight, or whether it is entered was changed last.
    Column("updated_at", Utc, nullable=False),
)
# Which workers there are. For people only: nothing depends on it.
WORKERS: Final = Table(
    "healthmsg_workers",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("started_at", Utc, nullable=False),
    Column("seen_at", Utc, nullable=False),
    # Why it sends nothing just now, if anything is wrong.
    Column("problem", Text),
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
    # ISO 8601, in UTC.
    Column("anchor_at", Text),
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
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    # A hash of the event's id, which may say what a patient answered. It stays when the event is done, so
    # that the event is not taken in again.
    Column("id", Text, nullable=False, unique=True),
    # At most one event of a chat is being handled; empty: it is of no chat.
    Column("chat", Text, nullable=False),
    # JSON; NULL once it is done.
    Column("body", Text),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    # How often the process died while it was being handled.
    Column("crashes", Integer, nullable=False),
    # A bot's: until when it waits, and its chat with it.
    Column("not_before", Utc),
    # A bot's: why it is parked, and since when.
    Column("problem", Text),
    Column("parked_at", Utc),
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

# What a bot keeps: see `healthmsg/bot/store/`.
DIALOGS: Final = Table(
    "healthmsg_dialogs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("chat", Text, nullable=False),
    # Whose dialog it is.
    Column("user_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    # JSON of the engine of dialogs.
    Column("document", Text, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("updated_at", Utc, nullable=False),
)
DIALOG_STEPS: Final = Table(
    "healthmsg_dialog_steps",
    METADATA,
    Column("dialog", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    # JSON; NULL: it is not completed.
    Column("value", Text),
    # The hash of the id of the event that completed it.
    Column("event", Text),
)
# So that a dialog that has ended does not begin again with its event. As the ids of events, these stay.
ENDED_DIALOGS: Final = Table("healthmsg_ended_dialogs", METADATA, Column("id", Text, primary_key=True))
TIMERS: Final = Table(
    "healthmsg_timers",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("due", Utc, nullable=False),
    Column("chat", Text),
    Column("user_id", Text),
    Column("dialog", Text),
    Column("kind", Text, nullable=False),
    # JSON of the one that has set it.
    Column("document", Text, nullable=False),
)

UNCLAIMED: Final = {"claimed_by": None, "lease_until": None}
# As it stands in the indexes: SQLite uses these only where it reads the same words.
IS_NEXT: Final = text("is_next")
IS_FINAL: Final = text("is_final")


def _index(name: str, *columns: Column[Any], where: str | None = None, unique: bool = False) -> None:
    """Add an index; with `where`, of some rows only."""
    part: dict[str, Any] = (
        {} if where is None else {f"{dialect}_where": text(where) for dialect in ("sqlite", "postgresql")}
    )
    Index(f"healthmsg_{name}", *columns, unique=unique, **part)


_M = MESSAGES.c
# What may be claimed, in order.
_index("next", _M.state, _M.campaign, _M.position, where="is_next")
_index("one_next", _M.recipient, where="is_next", unique=True)
_index("chat", _M.chat, _M.is_final, _M.position)
_index("recipient", _M.recipient, _M.is_final, _M.position)
_index("runs", _M.recipient, _M.run)
_index("id", _M.message_id, where="message_id IS NOT NULL")
# What nothing more is done about, and of which the id is not known.
_index("unnamed", _M.state, where="message_id IS NULL AND is_final")
_index("delivered", _M.updated_at, where="message_id IS NOT NULL")
_index("campaign", _M.campaign, _M.state, _M.position, where="campaign IS NOT NULL")
_index("addresses", RECIPIENTS.c.recipient)
_index("inbox_next", INBOX.c.sequence, where="state = 'new'")
_index("inbox_running", INBOX.c.chat, where="state = 'running'")
_index("inbox_chat", INBOX.c.chat, INBOX.c.sequence, where="state = 'new'")
_index("inbox_parked", INBOX.c.sequence, where="state = 'parked'")
# One of a chat and user.
_index("dialog_of", DIALOGS.c.chat, DIALOGS.c.user_id, unique=True)
_index("due", TIMERS.c.due)
_index("timers_of", TIMERS.c.dialog)

# --- making them, and what the journal says of itself

# Development versions had lower ones.
VERSION: Final = 12
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
        JournalError: this is some other program's SQLite file.
    """
    if not check_version(connection):
        _refuse_other_files(connection)
        raise JournalNotFoundError("There is no journal in it.")


def _refuse_other_files(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and inspect(connection).get_table_names():
        raise JournalError("The file is a database, but not a journal.")


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
    _refuse_other_files(connection)
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


def require_same(known: Owner, owner: Owner) -> None:
    """Refuse what belongs to another account, or to another URL.

    Raises:
        JournalMismatchError: it does.
    """
    if known.api_url is not None and known.api_url != owner.api_url:
        raise JournalMismatchError(
            f"The journal belongs to {known.api_url}, and this client is for {owner.api_url}: nothing was"
            " sent. Use each journal with its own environment only."
        )
    if None not in {known.account, owner.account} and known.account != owner.account:
        raise JournalMismatchError("The journal belongs to another account: nothing was sent.")


def write_meta(connection: Connection, name: str, value: str) -> None:
    """Set one of the facts about the journal itself."""
    connection.execute(META.delete().where(META.c.name == name))
    connection.execute(META.insert(), {"name": name, "value": value})


def read_meta(connection: Connection, name: str) -> str | None:
    """Return one of the facts about the journal itself, if it is known."""
    return connection.execute(select(META.c.value).where(META.c.name == name)).scalar_one_or_none()
