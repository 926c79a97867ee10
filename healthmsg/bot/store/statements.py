"""Every statement of a bot's store. Many rows are one parameter, or one answer: see `database.rows`."""

from functools import cache
from typing import Any, Final

from attrs import frozen
from sqlalchemy import (
    Column,
    ColumnElement,
    Delete,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from healthmsg.bot.store.records import TIMERS_OF_STEPS
from healthmsg.database.rows import FIRST_TEXTS, big_number_at, in_one_row, moment_at, text_at
from healthmsg.database.tables import DIALOG_STEPS, DIALOGS, ENDED_DIALOGS, INBOX, TIMERS

_I, _D, _S, _T, _E = INBOX.c, DIALOGS.c, DIALOG_STEPS.c, TIMERS.c, ENDED_DIALOGS.c
# As words, not parameters: SQLite takes a partial index only where it reads the same words.
_NEW: Final[ColumnElement[str]] = literal_column("'new'")
_RUNNING: Final[ColumnElement[str]] = literal_column("'running'")
_PARKED: Final[ColumnElement[str]] = literal_column("'parked'")
_DONE: Final[ColumnElement[str]] = literal_column("'done'")
_NOTHING: Final[ColumnElement[Any]] = literal_column("NULL")
_ZERO: Final[ColumnElement[int]] = literal_column("0")

# --- events: each takes rows whose first column is the sequence


def _of_events(*states: ColumnElement[str]) -> Update:
    return update(INBOX).where(_I.sequence == big_number_at(0), or_(*(_I.state == one for one in states)))


BEGIN: Final[Update] = _of_events(_NEW).values(state=_RUNNING, attempts=_I.attempts + 1, not_before=_NOTHING)
FINISH: Final[Update] = _of_events(_NEW, _RUNNING, _PARKED).values(
    state=_DONE, body=_NOTHING, problem=_NOTHING
)
POSTPONE: Final[Update] = _of_events(_NEW, _RUNNING).values(state=_NEW, not_before=moment_at(1))
PARK: Final[Update] = _of_events(_NEW, _RUNNING).values(
    state=_PARKED, problem=text_at(1), parked_at=moment_at(2)
)
# It waits behind what waits already: what has been read once is not looked for again.
UNPARK: Final[Update] = _of_events(_PARKED).values(
    sequence=big_number_at(1),
    state=_NEW,
    attempts=_ZERO,
    crashes=_ZERO,
    not_before=_NOTHING,
    problem=_NOTHING,
    parked_at=_NOTHING,
)
WAITING_ROW: Final = (_I.sequence, _I.attempts, _I.crashes, _I.not_before)
_WAITING: Final = (
    select(*WAITING_ROW)
    .where(_I.state == _NEW, _I.sequence > bindparam("after"))
    .order_by(_I.sequence)
    .limit(bindparam("most"))
)
WAITING: Final[Select[Any]] = in_one_row(_WAITING)
WAITING_IN: Final[Select[Any]] = in_one_row(
    _WAITING.where(_I.chat == bindparam("chat"), _I.sequence <= bindparam("until"))
)
# By how the text begins: a chat may have thousands of messages that wait, and none of them is to be read.
TIMERS_WAITING_IN: Final[Select[Any]] = in_one_row(
    select(_I.body).where(
        *(_I.state == _NEW, _I.chat == bindparam("chat")),
        _I.body.startswith('{"kind":"timer_due"', autoescape=True),
    )
)
CRASHED: Final[Select[Any]] = in_one_row(
    select(*WAITING_ROW).where(_I.state == _NEW, _I.crashes > _ZERO).order_by(_I.sequence)
)
PARKED: Final[Select[Any]] = in_one_row(
    select(_I.sequence, _I.attempts, _I.problem, _I.parked_at)
    .where(_I.state == _PARKED, _I.sequence > bindparam("after"))
    .order_by(_I.sequence)
    .limit(bindparam("most"))
)
PARKED_REASONS: Final[Select[Any]] = in_one_row(select(_I.sequence, _I.problem).where(_I.state == _PARKED))
COUNT_PARKED: Final[Select[Any]] = in_one_row(select(func.count()).where(_I.state == _PARKED))

# --- dialogs

DIALOG_ROW: Final = (
    *(_D.id, _D.name, _D.version, _D.chat, _D.user_id, _D.state, _D.document),
    *(_D.started_at, _D.updated_at),
)
DIALOGS_OF_ALL: Final[Select[Any]] = in_one_row(select(*DIALOG_ROW))
DIALOG_WITH: Final[Select[Any]] = in_one_row(
    select(*DIALOG_ROW).where(_D.chat == bindparam("chat"), _D.user_id == bindparam("user"))
)
DIALOG: Final[Select[Any]] = in_one_row(select(*DIALOG_ROW).where(_D.id == bindparam("id")))
HAS_ENDED: Final[Select[Any]] = in_one_row(select(_E.id).where(_E.id == bindparam("id")))
FORGET_DIALOG: Final[Delete] = delete(DIALOGS).where(_D.id.in_(FIRST_TEXTS))
STEPS: Final[Select[Any]] = in_one_row(
    select(_S.dialog, _S.number, _S.kind, _S.key, _S.value, _S.event).where(_S.dialog == bindparam("dialog"))
)
FORGET_STEPS: Final[Delete] = delete(DIALOG_STEPS).where(
    _S.dialog == bindparam("dialog"), _S.number >= bindparam("number")
)

# --- timers

TIMER_ROW: Final = (_T.id, _T.due, _T.chat, _T.user_id, _T.dialog, _T.kind, _T.document)
DUE: Final[Select[Any]] = in_one_row(
    select(*TIMER_ROW).where(_T.due <= moment_at(0)).order_by(_T.due, _T.id).limit(bindparam("most"))
)
TIMERS_OF_KIND: Final[Select[Any]] = in_one_row(select(*TIMER_ROW).where(_T.kind == bindparam("kind")))
TIMER: Final[Select[Any]] = in_one_row(select(*TIMER_ROW).where(_T.id == bindparam("id")))
IS_KNOWN: Final[Select[Any]] = in_one_row(select(func.count()).where(_I.id == bindparam("id")))
NEXT_DUE: Final[Select[Any]] = in_one_row(select(func.min(_T.due)))
CANCEL: Final[Delete] = delete(TIMERS).where(_T.id.in_(FIRST_TEXTS))
CANCEL_ALL: Final[Delete] = delete(TIMERS).where(_T.dialog.in_(FIRST_TEXTS))
CANCEL_OF_STEPS: Final[Delete] = CANCEL_ALL.where(
    _T.kind.in_([literal_column(f"'{kind}'") for kind in TIMERS_OF_STEPS])
)
# Not where it was set again meanwhile: for another moment, or to do something else at the same one.
TAKE: Final[Delete] = CANCEL.where(
    _T.due.in_(select(moment_at(1))),
    _T.document.in_(select(text_at(2))),
    func.coalesce(_T.chat, "").in_(select(text_at(3))),
    func.coalesce(_T.user_id, "").in_(select(text_at(4))),
)
MOVE: Final[Update] = (
    update(TIMERS).where(_T.id == text_at(0), _T.due == moment_at(1)).values(due=moment_at(2))
)

# --- rows that are added or replaced

_DIALOG: Final[dict[Column[Any], Any]] = {
    _D.id: text_at(0),
    _D.name: text_at(1),
    _D.version: big_number_at(2),
    _D.chat: text_at(3),
    _D.user_id: text_at(4),
    _D.state: text_at(5),
    _D.document: text_at(6),
    _D.started_at: moment_at(7),
    _D.updated_at: moment_at(8),
}
_STEP: Final[dict[Column[Any], Any]] = {
    _S.dialog: text_at(0),
    _S.number: big_number_at(1),
    _S.kind: text_at(2),
    _S.key: text_at(3),
    _S.value: text_at(4),
    _S.event: text_at(5),
}
_TIMER: Final[dict[Column[Any], Any]] = {
    _T.id: text_at(0),
    _T.due: moment_at(1),
    _T.chat: text_at(2),
    _T.user_id: text_at(3),
    _T.dialog: text_at(4),
    _T.kind: text_at(5),
    _T.document: text_at(6),
}


@frozen
class Puts:
    """The statements that add or replace rows, which are another kind of SQLAlchemy's for each database."""

    dialogs: Insert
    steps: Insert
    timers: Insert
    new_timers: Insert
    """Leaves alone what is there, or has become an event, whose hash is the last of each row."""
    ended: Insert

    @classmethod
    @cache
    def of(cls, dialect: str) -> "Puts":
        """Make them."""
        insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[dialect]

        def put(table: Table, values: dict[Column[Any], Any]) -> Any:
            # With a condition, since SQLite would take what follows a bare query for a part of a join.
            made = insert(table).from_select(list(values), select(*values.values()).where(true()))
            keys = list(table.primary_key.columns)
            replaced = {column.name: made.excluded[column.name] for column in values if column not in keys}
            if not replaced:
                return made.on_conflict_do_nothing(index_elements=keys)
            return made.on_conflict_do_update(index_elements=keys, set_=replaced)

        has_fired = select(_I.sequence).where(_I.id == text_at(len(_TIMER))).exists()
        new = insert(TIMERS).from_select(list(_TIMER), select(*_TIMER.values()).where(~has_fired))
        return cls(
            *(put(DIALOGS, _DIALOG), put(DIALOG_STEPS, _STEP), put(TIMERS, _TIMER)),
            new.on_conflict_do_nothing(index_elements=[_T.id]),
            put(ENDED_DIALOGS, {_E.id: text_at(0)}),
        )
