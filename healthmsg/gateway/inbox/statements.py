"""Every statement on the inbox's tables. Many rows are one parameter, or one answer: see `database.rows`."""

from functools import cache
from typing import Any, Final

from attrs import frozen
from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Insert,
    Interval,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from healthmsg.database.rows import FIRST_TEXTS, big_number_at, flag_at, in_one_row, text_at
from healthmsg.database.tables import CHATS, HOLDER, INBOX, QUESTIONS

_C, _I, _Q, _H = CHATS.c, INBOX.c, QUESTIONS.c, HOLDER.c

# --- one process at a time (PostgreSQL alone)

_IS_INBOX: Final = _H.name == "inbox"
_IS_MINE: Final = _H.holder == bindparam("b_holder")
_LEASE_END: Final = func.clock_timestamp() + bindparam("b_lease", type_=Interval())
ADD_HOLDER: Final = (
    postgresql.insert(HOLDER)
    .values(name="inbox", holder="", lease_until=func.to_timestamp(0))
    .on_conflict_do_nothing(index_elements=[_H.name])
)
TAKE_HOLD: Final[Update] = (
    update(HOLDER)
    .where(_IS_INBOX, _H.lease_until < func.clock_timestamp())
    .values(holder=bindparam("b_holder"), lease_until=_LEASE_END)
)
# Also when the lease is over: until another process takes the inbox, it is this one's.
RENEW_HOLD: Final[Update] = update(HOLDER).where(_IS_INBOX, _IS_MINE).values(lease_until=_LEASE_END)
LET_GO: Final[Update] = (
    update(HOLDER).where(_IS_INBOX, _IS_MINE).values(holder="", lease_until=func.to_timestamp(0))
)
# Another process waits for this row until the transaction has ended.
LOCK_HOLD: Final = select(_H.name).where(_IS_INBOX, _IS_MINE).with_for_update()

# --- reading

KEYS: Final = in_one_row(select(_C.key, _C.hint))
LOAD: Final = in_one_row(
    select(_C.key, _C.anchor, _C.anchor_at, _C.hint, _C.members, _C.closed, _C.counter).where(
        _C.key.in_(FIRST_TEXTS)
    )
)
OPEN_QUESTIONS: Final = in_one_row(select(_Q.message_id, _Q.chat, _Q.answered))
LAST_SEQUENCE: Final = select(func.coalesce(func.max(_I.sequence), 0))
COUNT_WAITING: Final = select(func.count()).where(_I.state == literal_column("'new'"))

# --- events

# As words, not parameters: SQLite takes a partial index only where it reads the same words.
_NEW: Final[ColumnElement[str]] = literal_column("'new'")
_RUNNING: Final[ColumnElement[str]] = literal_column("'running'")
_DONE: Final[ColumnElement[str]] = literal_column("'done'")
_OTHER: Final = INBOX.alias("other")
_BUSY: Final = select(_OTHER.c.chat).where(_OTHER.c.state == _RUNNING, _OTHER.c.chat != literal(""))
_SEQUENCES: Final = select(big_number_at(0))

NEXT: Final[Select[Any]] = in_one_row(
    select(_I.sequence, _I.attempts)
    .where(_I.state == _NEW, _I.chat.not_in(_BUSY))
    .order_by(_I.sequence)
    .limit(bindparam("most"))
)
BODIES: Final[Select[Any]] = in_one_row(select(_I.sequence, _I.body).where(_I.sequence.in_(_SEQUENCES)))
BEGIN: Final[Update] = (
    update(INBOX).where(_I.sequence.in_(_SEQUENCES)).values(state=_RUNNING, attempts=_I.attempts + 1)
)
FINISH: Final[Update] = update(INBOX).where(_I.sequence.in_(_SEQUENCES)).values(state=_DONE, body=None)
RELEASE: Final[Update] = (
    update(INBOX).where(_I.sequence.in_(_SEQUENCES), _I.state == _RUNNING).values(state=_NEW)
)
# What its caller did not wait for was never begun.
TAKE_BACK: Final[Update] = RELEASE.values(attempts=_I.attempts - 1)
# Of a process that has died.
RELEASE_ALL: Final[Update] = (
    update(INBOX).where(_I.state == _RUNNING).values(state=_NEW, crashes=_I.crashes + 1)
)

# --- writing

DELETE_CHATS: Final[Delete] = delete(CHATS).where(_C.key.in_(FIRST_TEXTS))
FORGET_QUESTIONS: Final[Delete] = delete(QUESTIONS).where(_Q.message_id.in_(FIRST_TEXTS))
_EVENT: Final[dict[Column[Any], Any]] = {
    _I.sequence: big_number_at(0),
    _I.id: text_at(1),
    _I.chat: text_at(2),
    _I.body: text_at(3),
    _I.state: _NEW,
    _I.attempts: literal_column("0"),
    _I.crashes: literal_column("0"),
}
_CHAT: Final[dict[Column[Any], Any]] = {
    _C.key: text_at(0),
    _C.anchor: text_at(1),
    _C.anchor_at: text_at(2),
    _C.hint: text_at(3),
    _C.members: text_at(4),
    _C.closed: flag_at(5),
    _C.counter: big_number_at(6),
}
_QUESTION: Final[dict[Column[Any], Any]] = {
    _Q.message_id: text_at(0),
    _Q.chat: text_at(1),
    _Q.answered: text_at(2),
}


@frozen
class Inserts:
    """The statements that add rows, which are another kind of SQLAlchemy's for each database."""

    add_events: Insert
    """Leaves alone what is known by its id."""
    write_chats: Insert
    """Replaces the rows of chats that are known."""
    add_questions: Insert

    @classmethod
    @cache
    def of(cls, dialect: str) -> "Inserts":
        """Make them."""
        insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]

        def rows(table: Table, values: dict[Column[Any], Any]) -> Any:
            # With a condition, since SQLite would take what follows a bare query for a part of a join.
            return insert(table).from_select(list(values), select(*values.values()).where(true()))

        chats = rows(CHATS, _CHAT)
        replaced = {column.name: chats.excluded[column.name] for column in _CHAT if column is not _C.key}
        counted = {"preserve_rowcount": True}
        return cls(
            rows(INBOX, _EVENT).on_conflict_do_nothing(index_elements=[_I.id]).execution_options(**counted),
            chats.on_conflict_do_update(index_elements=[_C.key], set_=replaced),
            rows(QUESTIONS, _QUESTION).on_conflict_do_nothing(index_elements=[_Q.message_id]),
        )
