"""The tables of a journal, as the newest version has them. `migrations` makes them."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine


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
    """Say of a moment as a database gives it that it is in UTC."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
    # Who is behind the chat's address, which may have others: see `recipients`. What is on its way when it
    # turns out that another message to the same one is on its way, too, has none until its end.
    Column("recipient", Text),
    # These three are emptied on delivery.
    Column("body", Text),
    Column("files", Text),
    Column("question", Text),
    Column("fingerprint", LargeBinary, nullable=False),
    # NULL in a row that was delivered before there was such a column.
    Column("body_hash", LargeBinary),
    Column("state", Text, nullable=False),
    # Nothing more happens to it by itself, and it does not hold up its chat.
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
    # How many times it was claimed: whoever comes with an earlier number has lost it.
    Column("claims", Integer, nullable=False),
    # NULL with SQLite, where one process has all claims.
    Column("lease_until", Utc),
    Column("updated_at", Utc, nullable=False),
    # Which run entered it: what one run was given is not instead of one another.
    Column("run", BigInteger, nullable=False),
    # A later run had something else for this recipient: sent only when that is asked for by name.
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
