"""Every statement on the inbox's tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from attrs import evolve
from sqlalchemy import Connection, bindparam, delete, func, select, text, update
from sqlalchemy.types import Interval

from healthmsg.bulk.journal.database import CHATS, HOLDER, INBOX, QUESTIONS
from healthmsg.codec import encode
from healthmsg.errors import InvalidInputError, JournalError
from healthmsg.events import Event, MessageCreated
from healthmsg.gateway.inbox.base import ChatRecord, OpenQuestion

_NEW: Final = "new"
_RUNNING: Final = "running"
_DONE: Final = "done"
_I, _C, _Q = INBOX.c, CHATS.c, QUESTIONS.c

# --- one process at a time (PostgreSQL alone)

ADD_HOLDER: Final = text(
    "INSERT INTO healthmsg_holder (name, holder, lease_until) VALUES ('inbox', '', 'epoch')"
    " ON CONFLICT (name) DO NOTHING"
)
_LEASE: Final = bindparam("lease", type_=Interval())
TAKE_HOLD: Final = (
    update(HOLDER)
    .where(HOLDER.c.name == "inbox", HOLDER.c.lease_until < func.clock_timestamp())
    .values(holder=bindparam("holder"), lease_until=func.clock_timestamp() + _LEASE)
)
RENEW_HOLD: Final = (
    update(HOLDER)
    .where(
        HOLDER.c.name == "inbox",
        HOLDER.c.holder == bindparam("holder"),
        HOLDER.c.lease_until >= func.clock_timestamp(),
    )
    .values(lease_until=func.clock_timestamp() + _LEASE)
)
LET_GO: Final = (
    update(HOLDER)
    .where(HOLDER.c.name == "inbox", HOLDER.c.holder == bindparam("holder"))
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

RELEASE_ALL: Final = update(INBOX).where(_I.state == _RUNNING).values(state=_NEW)
_INSERT: Final = text(
    "INSERT INTO healthmsg_inbox (id, body, state, attempts) VALUES (:id, :body, 'new', 0)"
    " ON CONFLICT (id) DO NOTHING"
)
_TAKE: Final = select(_I.id, _I.body, _I.attempts).where(_I.state == _NEW).order_by(_I.sequence)
_OF_IDS: Final = _I.id.in_(bindparam("ids", expanding=True))
_BEGIN: Final = update(INBOX).where(_OF_IDS).values(state=_RUNNING, attempts=_I.attempts + 1)
_FINISH: Final = update(INBOX).where(_OF_IDS).values(state=_DONE, body=None)
_RELEASE: Final = update(INBOX).where(_OF_IDS, _I.state == _RUNNING).values(state=_NEW)


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


def event_of(body: str, attempts: int, read: Callable[[Mapping[str, object]], Event]) -> Event:
    """Return the event of a row.

    Raises:
        JournalError: it cannot be read; the text is not in the error.
    """
    try:
        return evolve(read(orjson.loads(body)), attempt=attempts)
    except Exception:  # noqa: BLE001, S110 - whatever is in the file
        pass
    raise JournalError("An event in the store cannot be read: another version of this package wrote it.")


def insert_events(connection: Connection, rows: Sequence[Mapping[str, object]]) -> int:
    """Insert events, but for those whose id is known, and return how many are new."""
    before = connection.execute(_LAST).scalar_one()
    connection.execute(_INSERT, rows)
    return int(connection.execute(_COUNT_AFTER, {"before": before}).scalar_one())


_LAST: Final = select(func.coalesce(func.max(_I.sequence), 0))
_COUNT_AFTER: Final = select(func.count()).where(_I.sequence > bindparam("before"))


def take(connection: Connection, most: int) -> list[tuple[str, int]]:
    """Begin the next events, and return the text of each and how often it was begun."""
    rows = connection.execute(_TAKE.limit(most)).all()
    if rows:
        connection.execute(_BEGIN, {"ids": [row.id for row in rows]})
    return [(row.body, row.attempts + 1) for row in rows]


def finish(connection: Connection, ids: Sequence[bytes]) -> None:
    """Note that events are done, and erase what they say."""
    connection.execute(_FINISH, {"ids": list(ids)})


def release(connection: Connection, ids: Sequence[bytes]) -> None:
    """Have events begun again."""
    connection.execute(_RELEASE, {"ids": list(ids)})
