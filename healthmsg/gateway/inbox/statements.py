"""Every statement on the inbox's tables."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
from attrs import evolve
from sqlalchemy import Connection, bindparam, delete, func, select, text, update
from sqlalchemy.types import Interval

from healthmsg.bulk.journal.database import CHATS, HOLDER, QUESTIONS
from healthmsg.codec import encode
from healthmsg.errors import InvalidInputError, JournalError
from healthmsg.events import Event, MessageCreated, event_from_dict
from healthmsg.gateway.inbox.base import ChatRecord, OpenQuestion

_C, _Q = CHATS.c, QUESTIONS.c

# --- one process at a time (PostgreSQL alone)

ADD_HOLDER: Final = text(
    "INSERT INTO healthmsg_holder (name, holder, lease_until) VALUES ('inbox', '', 'epoch')"
    " ON CONFLICT (name) DO NOTHING"
)
_LEASE: Final = bindparam("lease", type_=Interval())
TAKE_HOLD: Final = (
    update(HOLDER)
    .where(HOLDER.c.name == "inbox", HOLDER.c.lease_until < func.clock_timestamp())
    .values(holder=bindparam("b_holder"), lease_until=func.clock_timestamp() + _LEASE)
)
RENEW_HOLD: Final = (
    update(HOLDER)
    .where(
        HOLDER.c.name == "inbox",
        HOLDER.c.holder == bindparam("b_holder"),
        HOLDER.c.lease_until >= func.clock_timestamp(),
    )
    .values(lease_until=func.clock_timestamp() + _LEASE)
)
LET_GO: Final = (
    update(HOLDER)
    .where(HOLDER.c.name == "inbox", HOLDER.c.holder == bindparam("b_holder"))
    .values(lease_until=func.to_timestamp(0))
)
LOCK_HOLD: Final = text(
    "SELECT 1 FROM healthmsg_holder WHERE name = 'inbox' AND holder = :holder"
    " AND lease_until >= clock_timestamp() FOR UPDATE"
)

# --- chats

KEYS: Final = select(_C.key, _C.hint)
LOAD: Final = select(CHATS).where(_C.key.in_(bindparam("keys", expanding=True)))
_DELETE_CHAT: Final = delete(CHATS).where(_C.key == bindparam("b_key"))
_UPSERT_CHAT: Final = text(
    "INSERT INTO healthmsg_chats (key, anchor, anchor_at, hint, members, closed, counter)"
    " VALUES (:key, :anchor, :anchor_at, :hint, :members, :closed, :counter)"
    " ON CONFLICT (key) DO UPDATE SET anchor = excluded.anchor, anchor_at = excluded.anchor_at,"
    " hint = excluded.hint, members = excluded.members, closed = excluded.closed, counter = excluded.counter"
).bindparams(bindparam("anchor_at", type_=_C.anchor_at.type), bindparam("closed", type_=_C.closed.type))


def record_of(row: Any) -> ChatRecord:
    """Return the record in a row."""
    return ChatRecord(
        row.key,
        None if row.anchor is None else tuple(orjson.loads(row.anchor)),
        row.anchor_at,
        row.hint,
        None if row.members is None else tuple(orjson.loads(row.members)),
        row.closed,
        row.counter,
    )


def write_record(connection: Connection, record: ChatRecord, *, removed: bool) -> None:
    """Write the record of a chat, or delete it."""
    if removed:
        connection.execute(_DELETE_CHAT, {"b_key": record.key})
        return
    values = {
        "key": record.key,
        "anchor": _json(record.anchor),
        "anchor_at": record.anchor_at,
        "hint": record.hint,
        "members": _json(record.members),
        "closed": record.closed,
        "counter": record.counter,
    }
    connection.execute(_UPSERT_CHAT, values)


def _json(value: Sequence[str] | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


# --- questions

OPEN_QUESTIONS: Final = select(_Q.message_id, _Q.chat, _Q.answered).order_by(_Q.message_id)
REMEMBER: Final = text(
    "INSERT INTO healthmsg_questions (message_id, chat, answered) VALUES (:message_id, :chat, :answered)"
    " ON CONFLICT (message_id) DO NOTHING"
)
FORGET: Final = delete(QUESTIONS).where(_Q.message_id.in_(bindparam("ids", expanding=True)))


def row_of_question(question: OpenQuestion) -> dict[str, object]:
    """Return a question as a row."""
    return {
        "message_id": question.message_id,
        "chat": question.chat,
        "answered": _json(question.answered),
    }


# --- events
#
# Many rows are one parameter, as JSON: see the journal's statements.

RELEASE_ALL: Final = text("UPDATE healthmsg_inbox SET state = 'new' WHERE state = 'running'")
# In words, not parameters: SQLite takes a partial index only where it reads the same words.
_TAKE: Final = text(
    "UPDATE healthmsg_inbox SET state = 'running', attempts = attempts + 1 WHERE sequence IN"
    " (SELECT sequence FROM healthmsg_inbox WHERE state = 'new' ORDER BY sequence LIMIT :most)"
    " RETURNING sequence, body, attempts"
)
_NUMBERS: Final = {
    "sqlite": "(SELECT value FROM json_each(:numbers))",
    "postgresql": "(SELECT value::text::bigint FROM json_array_elements(CAST(:numbers AS json)))",
}
_FINISH: Final = {
    dialect: text(f"UPDATE healthmsg_inbox SET state = 'done', body = NULL WHERE sequence IN {numbers}")  # noqa: S608 - our own words
    for dialect, numbers in _NUMBERS.items()
}
_RELEASE: Final = {
    dialect: text(
        f"UPDATE healthmsg_inbox SET state = 'new' WHERE state = 'running' AND sequence IN {numbers}"  # noqa: S608 - as above
    )
    for dialect, numbers in _NUMBERS.items()
}
_INSERT: Final = {
    "sqlite": text(
        "INSERT INTO healthmsg_inbox (id, body, state, attempts)"
        " SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), 'new', 0 FROM json_each(:rows)"
        " WHERE true ON CONFLICT (id) DO NOTHING"
    ),
    "postgresql": text(
        "INSERT INTO healthmsg_inbox (id, body, state, attempts) SELECT value ->> 0, value ->> 1, 'new', 0"
        " FROM json_array_elements(CAST(:rows AS json)) WITH ORDINALITY ORDER BY ordinality"
        " ON CONFLICT (id) DO NOTHING"
    ),
}


def body_of(event: Event) -> str:
    """Return an event as text."""
    try:
        return encode(event).decode()
    except InvalidInputError:
        pass
    # JSON that is nested so deeply can be read, but not written: it goes without what is not known of it.
    if isinstance(event, MessageCreated):
        event = evolve(event, extra={}, message=evolve(event.message, extra={}, payload=None))
    return encode(evolve(event, extra={})).decode()


def event_of(body: str, attempts: int) -> Event:
    """Return the event of a row.

    Raises:
        JournalError: it cannot be read; the text is not in the error.
    """
    try:
        return evolve(event_from_dict(orjson.loads(body)), attempt=attempts)
    except Exception:  # noqa: BLE001, S110 - whatever is in the file
        pass
    raise JournalError("An event in the store cannot be read: another version of this package wrote it.")


def insert_events(connection: Connection, rows: Sequence[tuple[str, str]]) -> int:
    """Insert events, but for those whose id is known, and return how many are new."""
    inserted = connection.execute(_INSERT[connection.dialect.name], {"rows": orjson.dumps(rows).decode()})
    return inserted.rowcount


def take(connection: Connection, most: int) -> list[tuple[int, str, int]]:
    """Begin the next events; return the number and the text of each, and how often it was begun."""
    rows = connection.execute(_TAKE, {"most": most}).all()
    return sorted((row[0], row[1], row[2]) for row in rows)


def finish(connection: Connection, numbers: Sequence[int]) -> None:
    """Note that events are done, and erase what they say."""
    connection.execute(_FINISH[connection.dialect.name], {"numbers": orjson.dumps(numbers).decode()})


def release(connection: Connection, numbers: Sequence[int]) -> None:
    """Have events begun again."""
    connection.execute(_RELEASE[connection.dialect.name], {"numbers": orjson.dumps(numbers).decode()})
