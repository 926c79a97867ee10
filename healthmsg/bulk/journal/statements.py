"""Every statement that changes or reads messages. SQLAlchemy compiles each once."""

from datetime import timedelta
from typing import Any, Final

from attrs import frozen
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Delete,
    Insert,
    Interval,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    text,
    update,
)

from healthmsg.bulk.journal.schema import MESSAGES, Utc
from healthmsg.bulk.journal.values import State

M: Final = MESSAGES.c
# As it stands in the indexes: SQLite uses these only where it reads the same words.
IS_NEXT: Final = text("is_next")
_KEY: Final[BindParameter[str]] = bindparam("b_key")
_NOW: Final = bindparam("b_now", type_=Utc)
_IN_DOUBT: Final = (State.SENDING.value, State.UNKNOWN.value)
_SETTLED: Final = (State.DELIVERED.value, State.NOT_SENT.value, State.SET_ASIDE.value)
_EMPTY: Final = {"body": None, "files": None, "question": None}
_NOBODY: Final = {"claimed_by": None, "lease_until": None}

# Entering.

LAST_POSITION: Final = select(func.coalesce(func.max(M.position), -1))
KNOWN: Final = select(
    M.key, M.chat, M.fingerprint, M.state, M.is_final, M.message_id, M.error, M.attempts
).where(M.key.in_(bindparam("keys", expanding=True)))
CHATS_WITH_NEXT: Final = select(M.chat).where(IS_NEXT, M.chat.in_(bindparam("chats", expanding=True)))
INSERT: Final[Insert] = insert(MESSAGES)
# What no run that is still alive is to send does not hold up its chat.
SET_ASIDE: Final[Update] = (
    update(MESSAGES)
    .where(M.state == State.WAITING.value)
    .values(state=State.SET_ASIDE.value, is_final=True, is_next=False, **_NOBODY)
)
TAKE_UP_ALL: Final[Update] = (
    update(MESSAGES)
    .where(M.state.in_(bindparam("states", expanding=True)))
    .values(state=State.WAITING.value, is_final=False, error=None, updated_at=_NOW)
)
NOTHING_FREE_IS_NEXT: Final[Update] = (
    update(MESSAGES)
    .where(IS_NEXT, M.state == State.WAITING.value, M.claimed_by.is_(None))
    .values(is_next=False)
)
REOPEN: Final[Update] = (
    update(MESSAGES)
    .where(M.key == _KEY)
    .values(state=State.WAITING.value, is_final=False, error=None, updated_at=_NOW)
)
# Of a chat where an earlier message is to be sent after all. One that somebody has stays the next.
NO_LONGER_NEXT: Final[Update] = (
    update(MESSAGES)
    .where(IS_NEXT, M.chat == bindparam("b_chat"), M.state == State.WAITING.value, M.claimed_by.is_(None))
    .values(is_next=False)
)

# What became of claims. That they are still held is seen to first.

_FIRST: Final = MESSAGES.alias("first")
PROMOTE: Final[Update] = (
    update(MESSAGES)
    .where(
        M.position.in_(
            select(func.min(_FIRST.c.position))
            .where(_FIRST.c.chat.in_(bindparam("chats", expanding=True)), ~_FIRST.c.is_final)
            .group_by(_FIRST.c.chat)
        )
    )
    .values(is_next=True)
)
_OTHER: Final = MESSAGES.alias("other")
_OPEN: Final = MESSAGES.alias("open")
PROMOTE_ALL: Final[Update] = (
    update(MESSAGES)
    .where(
        M.position.in_(select(func.min(_OPEN.c.position)).where(~_OPEN.c.is_final).group_by(_OPEN.c.chat)),
        ~select(_OTHER.c.key).where(_OTHER.c.is_next, _OTHER.c.chat == M.chat).exists(),
    )
    .values(is_next=True)
)
PUT_BACK: Final[Update] = (
    update(MESSAGES)
    .where(M.key == _KEY)
    .values(state=State.WAITING.value, error=bindparam("b_error"), updated_at=_NOW, **_NOBODY)
)
LET_GO: Final[Update] = update(MESSAGES).where(M.key == _KEY).values(_NOBODY)
CLOSE: Final[Update] = (
    update(MESSAGES)
    .where(M.key == _KEY)
    .values(
        state=bindparam("b_state"),
        error=bindparam("b_error"),
        is_final=True,
        is_next=False,
        updated_at=_NOW,
        **_NOBODY,
    )
)
_DELIVER: Final[Update] = (
    update(MESSAGES)
    .where(M.key == _KEY)
    .values(
        state=State.DELIVERED.value,
        message_id=bindparam("b_message_id"),
        error=None,
        is_final=True,
        is_next=False,
        updated_at=_NOW,
        **_NOBODY,
    )
)

# Reading.

IS_CLAIMED_ID: Final = (
    select(M.key).where(M.message_id == bindparam("message_id"), M.key != bindparam("besides")).limit(1)
)
_DELIVERED: Final = select(M.key, M.sent_to, M.message_id, M.body_hash).where(
    *(M.message_id.is_not(None), M.body_hash.is_not(None), M.sent_to.is_not(None)),
    M.state == State.DELIVERED.value,
)
NEWEST_OF_CHAT: Final = (
    _DELIVERED.where(M.chat == bindparam("chat"), M.is_final).order_by(M.position.desc()).limit(1)
)
NEWEST: Final = _DELIVERED.order_by(M.updated_at.desc()).limit(1)
CONVERSATION_WITH: Final = (
    select(M.sent_to)
    .where(M.chat == bindparam("chat"), M.sent_to.is_not(None))
    .order_by(M.position.desc())
    .limit(1)
)
# Each chat with an open one has one that is next.
OPEN: Final = select(M.key).where(IS_NEXT).limit(1)
COUNT_IN_DOUBT: Final = select(func.count()).where(IS_NEXT, M.state.in_(_IN_DOUBT))
COUNTS: Final = select(M.state, func.count()).group_by(M.state)
PAGE: Final = (
    select(MESSAGES)
    .where(
        M.position > bindparam("after"),
        or_(bindparam("state", type_=MESSAGES.c.state.type).is_(None), M.state == bindparam("state")),
    )
    .order_by(M.position)
    .limit(bindparam("most"))
)
PURGE: Final[Delete] = delete(MESSAGES).where(
    M.state.in_(_SETTLED), M.updated_at < bindparam("before", type_=Utc)
)


@frozen
class Claiming:
    """The statements about claims, which differ between databases.

    PostgreSQL's workers share, and a claim is theirs for the length of a lease, by the database's clock.
    With SQLite one process has everything, and no lease.
    """

    take_next: Select[Any]
    take_in_doubt: Select[Any]
    held: Select[Any]
    take: Update
    begin: Update
    doubt: Update
    renew: Update
    let_go: Update
    deliver: Update

    @classmethod
    def of(cls, lease: timedelta | None, *, keep_bodies: bool) -> "Claiming":
        """Make them; without a lease, for SQLite."""
        lease_until = _end_of(lease)
        mine = M.claimed_by == bindparam("b_worker")
        free = _free(lease)
        held = (
            select(M.key, M.chat, M.claims, M.state)
            .where(M.key.in_(bindparam("keys", expanding=True)), mine)
            .order_by(M.key)
        )
        renewed = update(MESSAGES).values(lease_until=lease_until)
        begun = {
            "state": State.SENDING.value,
            "attempts": M.attempts + 1,
            "started_at": bindparam("b_started_at", type_=Utc),
            "sent_to": bindparam("b_sent_to"),
            "updated_at": _NOW,
        }
        return cls(
            take_next=_to_take(and_(M.state == State.WAITING.value, free), lease).limit(bindparam("most")),
            take_in_doubt=_to_take(and_(M.state.in_(_IN_DOUBT), free), lease),
            held=held if lease is None else held.with_for_update(),
            take=renewed.where(M.key.in_(bindparam("keys", expanding=True))).values(
                claimed_by=bindparam("b_worker"), claims=M.claims + 1
            ),
            begin=renewed.where(M.key == _KEY).values(begun),
            doubt=renewed.where(M.key == _KEY).values(
                state=State.UNKNOWN.value, error=bindparam("b_error"), updated_at=_NOW
            ),
            renew=renewed.where(IS_NEXT, mine),
            let_go=update(MESSAGES).where(IS_NEXT, mine).values(_NOBODY),
            deliver=_DELIVER if keep_bodies else _DELIVER.values(_EMPTY),
        )


def _end_of(lease: timedelta | None) -> ColumnElement[Any]:
    if lease is None:
        return null()
    return func.clock_timestamp() + bindparam("lease", lease, type_=Interval())


def _free(lease: timedelta | None) -> ColumnElement[bool]:
    if lease is None:
        return M.claimed_by.is_(None)
    return or_(M.claimed_by.is_(None), M.lease_until < func.clock_timestamp())


def _to_take(which: ColumnElement[bool], lease: timedelta | None) -> Select[Any]:
    found = (
        select(
            *(M.key, M.chat, M.body, M.files, M.question, M.state, M.attempts),
            *(M.started_at, M.sent_to, M.claims),
        )
        .where(IS_NEXT, which)
        .order_by(M.position)
    )
    return found if lease is None else found.with_for_update(skip_locked=True)


LET_GO_OF_ALL: Final[Update] = update(MESSAGES).where(IS_NEXT, M.claimed_by.is_not(None)).values(_NOBODY)
# PostgreSQL's: entering decides which message of a chat is next, and so does finishing.
ENTER_ALONE: Final = text("SELECT pg_advisory_xact_lock(hashtext('healthmsg_messages'))")
FINISH_WHILE_NOBODY_ENTERS: Final = text(
    "SELECT pg_advisory_xact_lock_shared(hashtext('healthmsg_messages'))"
)
# Each sender holds a shared one as long as it is connected.
IS_ONLY_SENDER: Final = text("SELECT pg_try_advisory_lock(hashtext('healthmsg_senders'))")
BE_SENDER: Final = text("SELECT pg_advisory_lock_shared(hashtext('healthmsg_senders'))")
LET_OTHERS_SEND: Final = text("SELECT pg_advisory_unlock(hashtext('healthmsg_senders'))")
