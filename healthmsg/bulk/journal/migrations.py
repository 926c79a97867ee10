"""Makes a journal's tables, and brings those of an older version up to date."""

import secrets
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, bindparam, inspect, select, text, update

from healthmsg.bulk.journal.base import Owner
from healthmsg.bulk.journal.input_index import body_hash
from healthmsg.bulk.journal.schema import MESSAGES, META
from healthmsg.errors import JournalError, JournalNotFoundError, JournalVersionError

_VERSION: Final = "version"
_SALT: Final = "salt"
_ACCOUNT: Final = "account"
_API_URL: Final = "api_url"
_SALT_LENGTH: Final = 32
_AT_ONCE: Final = 1000

# Both databases understand these. What SQLite has no type for, it stores as it comes.
_TABLES: Final = (
    "CREATE TABLE healthmsg_journal (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    """
    CREATE TABLE healthmsg_messages (
        key TEXT NOT NULL PRIMARY KEY,
        position BIGINT NOT NULL UNIQUE,
        chat TEXT NOT NULL,
        body TEXT,
        files TEXT,
        question TEXT,
        fingerprint BYTEA NOT NULL,
        state TEXT NOT NULL,
        is_final BOOLEAN NOT NULL,
        is_next BOOLEAN NOT NULL,
        message_id TEXT,
        error TEXT,
        attempts INTEGER NOT NULL,
        started_at TIMESTAMPTZ,
        claimed_by TEXT,
        claims INTEGER NOT NULL,
        lease_until TIMESTAMPTZ,
        updated_at TIMESTAMPTZ NOT NULL
    )
    """,
    # What may be claimed, in order.
    "CREATE INDEX healthmsg_next ON healthmsg_messages (state, position) WHERE is_next",
    "CREATE UNIQUE INDEX healthmsg_one_next ON healthmsg_messages (chat) WHERE is_next",
    "CREATE INDEX healthmsg_chat ON healthmsg_messages (chat, is_final, position)",
    "CREATE INDEX healthmsg_id ON healthmsg_messages (message_id) WHERE message_id IS NOT NULL",
    "CREATE INDEX healthmsg_delivered ON healthmsg_messages (updated_at) WHERE message_id IS NOT NULL",
)


def _make_tables(connection: Connection) -> None:
    for statement in _TABLES:
        connection.execute(text(statement))
    write_meta(connection, _SALT, secrets.token_hex(_SALT_LENGTH))


def _add_what_reconciling_needs(connection: Connection) -> None:
    """Add where an attempt went to, and a hash of the text that outlives it."""
    connection.execute(text("ALTER TABLE healthmsg_messages ADD COLUMN sent_to TEXT"))
    connection.execute(text("ALTER TABLE healthmsg_messages ADD COLUMN body_hash BYTEA"))
    connection.execute(text("UPDATE healthmsg_messages SET sent_to = chat WHERE started_at IS NOT NULL"))
    salt = read_salt(connection)
    hashed = (
        update(MESSAGES).where(MESSAGES.c.key == bindparam("b_key")).values(body_hash=bindparam("b_hash"))
    )
    last = -1
    while True:
        rows = connection.execute(
            select(MESSAGES.c.position, MESSAGES.c.key, MESSAGES.c.body)
            .where(MESSAGES.c.body.is_not(None), MESSAGES.c.position > last)
            .order_by(MESSAGES.c.position)
            .limit(_AT_ONCE)
        ).all()
        if not rows:
            break
        connection.execute(hashed, [{"b_key": key, "b_hash": body_hash(salt, body)} for _, key, body in rows])
        last = rows[-1][0]


def _add_the_service_s_clock(connection: Connection) -> None:
    """Add what `Date` said when a call was about to leave."""
    connection.execute(text("ALTER TABLE healthmsg_messages ADD COLUMN date_ahead BIGINT"))


# Who is behind the address of a chat, and that two addresses are one's.
_ADD_RECIPIENTS: Final = (
    "CREATE TABLE healthmsg_recipients (address TEXT NOT NULL PRIMARY KEY, recipient TEXT NOT NULL)",
    "CREATE INDEX healthmsg_addresses ON healthmsg_recipients (recipient)",
    """
    INSERT INTO healthmsg_recipients
    SELECT sent_to, MIN('conversations/' || substr(chat, 7)) FROM healthmsg_messages
    WHERE chat LIKE 'users/%' AND sent_to LIKE 'conversations/%' GROUP BY sent_to
    """,
    """
    INSERT INTO healthmsg_recipients
    SELECT DISTINCT recipient, recipient FROM healthmsg_recipients
    WHERE recipient NOT IN (SELECT address FROM healthmsg_recipients)
    """,
    "ALTER TABLE healthmsg_messages ADD COLUMN recipient TEXT",
    """
    UPDATE healthmsg_messages
    SET recipient = CASE WHEN chat LIKE 'users/%' THEN 'conversations/' || substr(chat, 7) ELSE chat END
    """,
    """
    UPDATE healthmsg_messages SET recipient = (
        SELECT found.recipient FROM healthmsg_recipients found
        WHERE found.address = healthmsg_messages.recipient
    ) WHERE recipient IN (SELECT address FROM healthmsg_recipients)
    """,
    "DROP INDEX healthmsg_one_next",
    # What was not begun is decided on again. Of what was begun, the first is the next.
    """
    UPDATE healthmsg_messages SET is_next = FALSE, claimed_by = NULL, lease_until = NULL
    WHERE is_next AND state = 'waiting'
    """,
    """
    UPDATE healthmsg_messages SET recipient = NULL WHERE is_next AND position NOT IN (
        SELECT MIN(position) FROM healthmsg_messages WHERE is_next GROUP BY recipient
    )
    """,
    "CREATE UNIQUE INDEX healthmsg_one_next ON healthmsg_messages (recipient) WHERE is_next",
    "CREATE INDEX healthmsg_recipient ON healthmsg_messages (recipient, is_final, position)",
    """
    UPDATE healthmsg_messages SET is_next = TRUE WHERE position IN (
        SELECT MIN(position) FROM healthmsg_messages
        WHERE NOT is_final AND recipient IS NOT NULL
        GROUP BY recipient HAVING MAX(CAST(is_next AS INTEGER)) = 0
    )
    """,
)


def _add_recipients(connection: Connection) -> None:
    """Keep the order by who is behind an address; of users, the journal knows the conversation."""
    for statement in _ADD_RECIPIENTS:
        connection.execute(text(statement))


def _add_runs_and_decisions(connection: Connection) -> None:
    """Add which run entered a message, whether a later one replaced it, and what a person decided."""
    for column in (
        "run BIGINT NOT NULL DEFAULT 0",
        "is_superseded BOOLEAN NOT NULL DEFAULT FALSE",
        "decided TEXT",
        "decided_by TEXT",
        "decided_at TIMESTAMPTZ",
    ):
        connection.execute(text(f"ALTER TABLE healthmsg_messages ADD COLUMN {column}"))
    connection.execute(text("CREATE INDEX healthmsg_runs ON healthmsg_messages (recipient, run)"))


def _add_labels(connection: Connection) -> None:
    """Add what the sender calls a message."""
    connection.execute(text("ALTER TABLE healthmsg_messages ADD COLUMN label TEXT"))


Step = Callable[[Connection], None]

STEPS: Final[tuple[Step, ...]] = (
    _make_tables,
    _add_what_reconciling_needs,
    _add_recipients,
    _add_the_service_s_clock,
    _add_runs_and_decisions,
    _add_labels,
)
"""The n-th makes version n of what was version n - 1."""


def bring_up_to_date(connection: Connection, steps: tuple[Step, ...] = STEPS) -> None:
    """Make or change the tables, in the transaction that has begun: all of it happens, or nothing.

    Raises:
        JournalVersionError: they were made by a newer version of this package.
        JournalError: this is some other program's SQLite file.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    if not is_sqlite:
        # Two workers may start at the same time.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('healthmsg_journal'))"))
    found = _version(connection)
    if found == 0 and is_sqlite and inspect(connection).get_table_names():
        raise JournalError("The file is a database, but not a journal.")
    _refuse_newer(found, len(steps))
    if found < len(steps):
        for step in steps[found:]:
            step(connection)
        write_meta(connection, _VERSION, str(len(steps)))


def refuse_newer(connection: Connection) -> None:
    """Refuse what a newer version of this package made, before anything is changed.

    Raises:
        JournalVersionError: it did.
    """
    _refuse_newer(_version(connection), len(STEPS))


def check_version(connection: Connection) -> None:
    """Refuse what only `bring_up_to_date` can make readable."""
    found = _version(connection)
    _refuse_newer(found, len(STEPS))
    if found == 0:
        raise JournalNotFoundError("There is no journal in it.")
    if found < len(STEPS):
        raise JournalVersionError(
            "The journal was made by an older version of healthmsg. Sending with it brings it up to date."
        )


def read_salt(connection: Connection) -> bytes:
    """Give the journal's random salt."""
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


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table(META.name):
        return 0
    return int(read_meta(connection, _VERSION) or 0)


def _refuse_newer(found: int, known: int) -> None:
    if found > known:
        raise JournalVersionError(
            f"The journal has version {found}, and this healthmsg knows up to {known}. Use a newer one."
        )
