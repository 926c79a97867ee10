"""Every statement that changes or reads messages. SQLAlchemy compiles each once.

Many rows are one parameter, or one answer: see `healthmsg.database.rows`.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from attrs import frozen
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Delete,
    Insert,
    Interval,
    LargeBinary,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    case,
    delete,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from healthmsg.bulk.journal.input_index import HASH_LENGTH
from healthmsg.database.rows import (
    FIRST_TEXTS,
    big_number_at,
    flag_at,
    in_one_row,
    moment_at,
    number_at,
    text_at,
)
from healthmsg.database.states import CampaignState, State
from healthmsg.database.tables import CAMPAIGNS, IS_NEXT, MESSAGES, RECIPIENTS, UNCLAIMED, Utc
from healthmsg.errors import Outcome
from healthmsg.ids import USERS, ChatKind

M: Final = MESSAGES.c
R: Final = RECIPIENTS.c
C: Final = CAMPAIGNS.c
# Runs leave alone what is a campaign's: workers send that.
_OF_RUNS: Final = M.campaign.is_(None)
_NOW: Final = bindparam("b_now", type_=Utc)
_IN_DOUBT: Final = (State.SENDING.value, State.UNKNOWN.value)
_SETTLED: Final = (State.DELIVERED.value, State.NOT_SENT.value, State.PARKED.value)

# Entering.

LAST_POSITION: Final = select(func.coalesce(func.max(M.position), -1))
KNOWN: Final = select(
    *(M.key, M.chat, M.fingerprint, M.state, M.is_final, M.message_id, M.error, M.attempts, M.run, M.label)
).where(M.key.in_(FIRST_TEXTS))
WITH_NEXT: Final = select(M.recipient).where(IS_NEXT, M.recipient.in_(FIRST_TEXTS))
"""Those of some recipients that have a next message already."""
# Hashes are no JSON, so they are cut out of a parameter of their own, which has them one after the other.
_HASHES: Final = bindparam("hashes", type_=LargeBinary)
_NEW: Final[dict[Column[Any], Any]] = {
    M.key: text_at(0),
    M.chat: text_at(1),
    M.recipient: text_at(8),
    M.body: text_at(2),
    M.files: text_at(3),
    M.question: text_at(4),
    M.fingerprint: func.substr(_HASHES, number_at(5), HASH_LENGTH),
    M.body_hash: func.substr(_HASHES, number_at(5) + HASH_LENGTH, HASH_LENGTH),
    M.position: big_number_at(6),
    M.is_next: flag_at(7),
    M.state: bindparam("b_state", type_=Text),
    M.is_final: bindparam("b_is_final", type_=Boolean),
    M.attempts: literal(0),
    M.claims: literal(0),
    M.updated_at: _NOW,
    M.run: bindparam("b_run", type_=BigInteger),
    M.is_superseded: false(),
    M.label: text_at(9),
    M.campaign: bindparam("b_campaign", type_=Text),
}
INSERT: Final[Insert] = insert(MESSAGES).from_select(list(_NEW), select(*_NEW.values()))
# The same files, which are in another place now.
MOVE_FILES: Final[Update] = (
    update(MESSAGES)
    .where(M.key == text_at(0), M.state != State.DELIVERED.value, M.files != text_at(1))
    .values(files=text_at(1))
)
# Of a message that certainly was not sent.
REPLACE: Final[Update] = (
    update(MESSAGES)
    .where(M.key == bindparam("b_key"), M.state.in_((State.PARKED.value, State.WAITING.value)))
    .values(
        body=bindparam("b_body"),
        files=bindparam("b_files"),
        question=bindparam("b_question"),
        fingerprint=bindparam("b_fingerprint"),
        body_hash=bindparam("b_hash"),
        label=bindparam("b_label"),
    )
)
LABEL: Final[Update] = update(MESSAGES).where(M.key == text_at(0)).values(label=text_at(1))
# A message that no active run is to send does not block its chat.
PARK_WAITING: Final[Update] = (
    update(MESSAGES)
    .where(M.state == State.WAITING.value, _OF_RUNS)
    .values(state=State.PARKED.value, is_final=True, is_next=False, **UNCLAIMED)
)
HAS_CAMPAIGNS: Final = select(C.name).limit(1)
UNPARK_ALL: Final[Update] = (
    update(MESSAGES)
    .where(M.state.in_(bindparam("states", expanding=True)), ~M.is_superseded, _OF_RUNS)
    .values(state=State.WAITING.value, is_final=False, error=None, updated_at=_NOW)
)
NOTHING_FREE_IS_NEXT: Final[Update] = (
    update(MESSAGES)
    .where(IS_NEXT, M.state == State.WAITING.value, M.claimed_by.is_(None))
    .values(is_next=False)
)
# The recipient of an address, as far as it is known.
_PLAIN: Final = case(
    (
        M.chat.startswith(USERS),
        literal(f"{ChatKind.CONVERSATION.path}/") + func.substr(M.chat, len(USERS) + 1),
    ),
    else_=M.chat,
)
_KNOWN_RECIPIENT: Final = select(R.recipient).where(R.address == _PLAIN).correlate(MESSAGES)
_RECIPIENT: Final = func.coalesce(_KNOWN_RECIPIENT.scalar_subquery(), _PLAIN)
REOPEN: Final[Update] = (
    update(MESSAGES)
    .where(M.key.in_(FIRST_TEXTS))
    .values(
        state=State.WAITING.value,
        is_final=False,
        error=None,
        is_superseded=False,
        updated_at=_NOW,
        recipient=func.coalesce(M.recipient, _RECIPIENT),
    )
)
RECIPIENTS_OF_KEYS: Final = (
    select(M.recipient).distinct().where(M.key.in_(FIRST_TEXTS), M.recipient.is_not(None))
)
# What was left to its end beside another message to the same recipient, and has come to it.
JOIN_AGAIN: Final[Update] = (
    update(MESSAGES)
    .where(
        M.recipient.is_(None),
        or_(M.is_final, and_(M.state == State.WAITING.value, M.claimed_by.is_(None))),
    )
    .values(recipient=_RECIPIENT, is_next=False)
)
# Where an earlier message is to be sent after all. One that is claimed stays the next.
NO_LONGER_NEXT: Final[Update] = (
    update(MESSAGES)
    # Not "waiting", which SQLite would take for a hint to look at all that wait.
    .where(IS_NEXT, M.recipient.in_(FIRST_TEXTS), M.state.not_in(_IN_DOUBT), M.claimed_by.is_(None))
    .values(is_next=False)
)

# Texts of earlier runs, which a later run may replace.

_OWN_RUN: Final = bindparam("own", type_=BigInteger)
_TO_RECIPIENTS: Final = select(M.key, M.recipient, M.state, M.run).where(
    M.recipient.in_(FIRST_TEXTS), _OF_RUNS
)
_PRESENT_RUN: Final = bindparam("present", type_=BigInteger)
# Two ranges of the index: all that one run was given for a recipient is passed over. And the few messages
# that are left to their end beside another one to the same recipient.
EARLIER: Final = union_all(
    _TO_RECIPIENTS.where(M.run < _OWN_RUN),
    _TO_RECIPIENTS.where(M.run > _OWN_RUN, M.run < _PRESENT_RUN),
    select(M.key, _RECIPIENT.label("recipient"), M.state, M.run).where(
        *(M.recipient.is_(None), M.run != _OWN_RUN, M.run < _PRESENT_RUN),
        *(_RECIPIENT.in_(FIRST_TEXTS), _OF_RUNS),
    ),
)
_REPLACEABLE: Final = (State.PARKED.value, State.NOT_SENT.value, *_IN_DOUBT)
SUPERSEDE: Final[Update] = (
    update(MESSAGES).where(M.key.in_(FIRST_TEXTS), M.state.in_(_REPLACEABLE)).values(is_superseded=True)
)
SUPERSEDE_EARLIER: Final[Update] = (
    update(MESSAGES)
    .where(
        *(M.run < bindparam("b_before", type_=BigInteger), M.state.in_(_REPLACEABLE)),
        *(~M.is_superseded, _OF_RUNS),
    )
    .values(is_superseded=True)
)
NOTHING_IS_SUPERSEDED: Final[Update] = update(MESSAGES).where(M.is_superseded).values(is_superseded=False)
COUNT_SUPERSEDED: Final = (
    select(M.state, func.count())
    .where(
        M.state.in_((State.PARKED.value, State.NOT_SENT.value)),
        *(or_(M.is_superseded, M.run < bindparam("before", type_=BigInteger)), _OF_RUNS),
    )
    .group_by(M.state)
)

# What becomes of claims, as long as they are held.

_FIRST: Final = MESSAGES.alias("first")
_ENDED_ONE: Final = MESSAGES.alias("ended")


def _promoting(whose: Select[Any]) -> Update:
    """Make the first open message of each of some recipients the next one."""
    return (
        update(MESSAGES)
        .where(
            M.position.in_(
                select(func.min(_FIRST.c.position))
                .where(_FIRST.c.recipient.in_(whose), ~_FIRST.c.is_final)
                .group_by(_FIRST.c.recipient)
            )
        )
        .values(is_next=True)
    )


PROMOTE: Final[Update] = _promoting(FIRST_TEXTS)
# By the keys of messages that have ended: their recipient may have been learnt since they were claimed.
PROMOTE_AFTER: Final[Update] = _promoting(
    select(_ENDED_ONE.c.recipient).where(_ENDED_ONE.c.key.in_(FIRST_TEXTS))
)
# That addresses lead to the same recipient.

RECIPIENTS_OF: Final = select(R.address, R.recipient).where(R.address.in_(FIRST_TEXTS))
ADDRESSES_OF: Final = select(R.address, R.recipient).where(R.recipient.in_(FIRST_TEXTS))
FORGET_ADDRESSES: Final[Delete] = delete(RECIPIENTS).where(R.address.in_(FIRST_TEXTS))
NOTE_ADDRESSES: Final[Insert] = insert(RECIPIENTS).from_select(
    [R.address, R.recipient], select(text_at(0), text_at(1))
)
FORGET_UNUSED_ADDRESSES: Final[Delete] = delete(RECIPIENTS).where(
    ~select(M.key).where(M.recipient == R.recipient).exists(),
    # Whose those are that are left to their end, their addresses alone tell.
    ~select(M.key).where(M.recipient.is_(None)).exists(),
)
CHATS_OF: Final = select(M.chat).distinct().where(M.chat.in_(FIRST_TEXTS))
IS_OPEN_IN: Final = select(M.key).where(M.chat.in_(FIRST_TEXTS), ~M.is_final).limit(1)
# Claims that were not begun: their worker gets ClaimLostError before the call is made.
REVOKE_UNBEGUN: Final[Update] = (
    update(MESSAGES)
    .where(IS_NEXT, M.recipient.in_(FIRST_TEXTS), M.state.not_in(_IN_DOUBT))
    .values(is_next=False, **UNCLAIMED)
)
BEGUN_OF: Final = (
    select(M.key, M.chat, M.recipient).where(IS_NEXT, M.recipient.in_(FIRST_TEXTS)).order_by(M.position)
)
SET_APART: Final[Update] = update(MESSAGES).where(M.key.in_(FIRST_TEXTS)).values(recipient=null())
MOVE: Final[Update] = (
    update(MESSAGES).where(M.chat == text_at(0), M.recipient.is_not(None)).values(recipient=text_at(1))
)


def _changing(*states: State) -> Update:
    """Change messages that this worker holds, given as key, number of the claim, and what is noted."""
    return update(MESSAGES).where(
        M.key == text_at(0),
        M.claims == number_at(1),
        M.claimed_by == bindparam("b_worker"),
        M.state.in_([state.value for state in states]),
    )


_BEGUN: Final = (State.SENDING, State.UNKNOWN)
# What was never begun can only have failed, or not been tried.
_OPEN_YET: Final = (State.WAITING, *_BEGUN)
_REQUEUE: Final[Update] = _changing(*_OPEN_YET).values(
    state=State.WAITING.value, error=None, is_superseded=False, updated_at=_NOW, **UNCLAIMED
)
_ENDED: Final = {"is_final": True, "is_next": False, "updated_at": _NOW, **UNCLAIMED}
_SAME: Final = MESSAGES.alias("same")
# Not under an id that is another message's already: the answer cannot be true then.
_DELIVER: Final[Update] = (
    _changing(*_BEGUN)
    .where(~select(_SAME.c.key).where(_SAME.c.message_id == text_at(2), _SAME.c.key != M.key).exists())
    .values(state=State.DELIVERED.value, message_id=text_at(2), error=None, **_ENDED)
)

# A person's decision about an unknown message. No worker may hold it.
_DECIDE: Final[Update] = (
    update(MESSAGES)
    .where(M.key == bindparam("b_key"), M.state.in_(_IN_DOUBT))
    .values(
        state=bindparam("b_state"),
        decided=bindparam("b_decided"),
        decided_by=bindparam("b_by"),
        decided_at=bindparam("b_at", type_=Utc),
        **_ENDED,
    )
)

ADD_ID: Final[Update] = (
    update(MESSAGES)
    .where(M.key == bindparam("b_key"), M.decided == Outcome.DELIVERED.value, M.message_id.is_(None))
    .values(message_id=bindparam("b_message_id"))
)
"""Of a message that was delivered by a person's word, which did not say which one it is."""

# Reading.

IS_CLAIMED_ID: Final = (
    select(M.key).where(M.message_id == bindparam("message_id"), M.key != bindparam("besides")).limit(1)
)
_DELIVERED: Final = select(M.key, M.sent_to, M.message_id, M.body_hash, M.started_at, M.updated_at).where(
    *(M.message_id.is_not(None), M.sent_to.is_not(None)),
    M.started_at.is_not(None),
    # A person's decision is no proof that a search works.
    *(M.state == State.DELIVERED.value, M.decided_by.is_(None)),
)
NEWEST_OF_CHAT: Final = (
    _DELIVERED.where(M.chat == bindparam("chat"), M.is_final).order_by(M.position.desc()).limit(1)
)
NEWEST: Final = _DELIVERED.order_by(M.updated_at.desc()).limit(1)
NEWEST_BEFORE: Final = NEWEST.where(M.updated_at <= bindparam("before", type_=Utc))
CONVERSATION_WITH: Final = (
    select(M.sent_to)
    .where(M.chat == bindparam("chat"), M.sent_to.is_not(None))
    .order_by(M.position.desc())
    .limit(1)
)
_DOUBTED: Final = MESSAGES.alias("doubted")
EQUAL_IN_DOUBT: Final = (
    select(_DOUBTED.c.key)
    .where(
        *(M.key == bindparam("key"), _DOUBTED.c.key != M.key),
        *(_DOUBTED.c.recipient == M.recipient, _DOUBTED.c.body_hash == M.body_hash),
        _DOUBTED.c.state.in_(_IN_DOUBT),
    )
    .limit(1)
)
MESSAGE: Final = select(MESSAGES).where(M.key == bindparam("key"))
MESSAGE_WITH_ID: Final = select(MESSAGES).where(M.message_id == bindparam("message_id")).limit(1)
# Each chat with an open one has one that is next: that, or one behind another that is a campaign's.
OPEN: Final = select(M.key).where(IS_NEXT, _OF_RUNS).limit(1)
_BEHIND: Final = MESSAGES.alias("behind")
OPEN_BEHIND: Final = (
    select(_BEHIND.c.key)
    .where(
        *(_BEHIND.c.campaign.is_(None), ~_BEHIND.c.is_final),
        _BEHIND.c.recipient.in_(select(M.recipient).where(IS_NEXT, M.campaign.is_not(None))),
    )
    .limit(1)
)
COUNT_IN_DOUBT: Final = select(func.count()).where(IS_NEXT, M.state.in_(_IN_DOUBT), _OF_RUNS)
COUNTS: Final = select(M.state, func.count()).group_by(M.state)
COUNTS_OF_RUNS: Final = COUNTS.where(_OF_RUNS)
PAGE: Final = (
    select(MESSAGES)
    .where(
        M.position > bindparam("after"),
        or_(bindparam("state", type_=MESSAGES.c.state.type).is_(None), M.state == bindparam("state")),
    )
    .order_by(M.position)
    .limit(bindparam("most"))
)
_OPEN_ONE: Final = MESSAGES.alias("open_one")
_OPEN_STATES: Final = [one.value for one in State if one not in {State.DELIVERED, State.NOT_SENT}]
# Those that may still be added to by who began them: then the keys tell what they have had.
_GOES_ON: Final = (
    select(C.name)
    .where(
        C.name == M.campaign,
        C.state != CampaignState.CANCELLED.value,
        or_(
            ~C.is_entered,
            select(_OPEN_ONE.c.key)
            .where(_OPEN_ONE.c.campaign == C.name, _OPEN_ONE.c.state.in_(_OPEN_STATES))
            .exists(),
        ),
    )
    .exists()
)
PURGE: Final[Delete] = delete(MESSAGES).where(
    *(M.state.in_(_SETTLED), M.updated_at < bindparam("before", type_=Utc)),
    # What is held of a campaign is still to be sent, or to be noted as cancelled.
    or_(_OF_RUNS, and_(M.state != State.PARKED.value, ~_GOES_ON)),
)


class Kind(Enum):
    """A kind of change."""

    BEGIN = "begin"
    DELIVER = "deliver"
    CLOSE = "close"
    DOUBT = "doubt"
    REQUEUE = "requeue"
    PARK = "park"
    RELEASE = "release"
    """It can be claimed again, and keeps its state."""


@frozen
class Claiming:
    """The statements about claims, which differ between databases.

    PostgreSQL's workers share, and a claim is theirs for the length of a lease, by the database's clock.
    With SQLite one process has everything, and no lease.
    """

    take_next: Select[Any]
    take_these: Select[Any]
    """The same, of the messages with some keys."""
    take_of_campaign: Select[Any]
    """The same, of one campaign."""
    take_in_doubt: Select[Any]
    take_all_in_doubt: Select[Any]
    """The same, those of campaigns too."""
    take: Update
    renew: ReturningUpdate[tuple[str, int]]
    release_all: Update
    changes: Mapping[Kind, Update]
    decide: Mapping[Outcome, Update]

    @classmethod
    def of(cls, lease: timedelta | None, *, keep_bodies: bool) -> "Claiming":
        """Make them; without a lease, for SQLite."""
        free = _free(lease)
        next_one = and_(M.state == State.WAITING.value, free)
        in_doubt = and_(M.state.in_(_IN_DOUBT), free)
        mine = M.claimed_by == bindparam("b_worker")
        renewed = {"lease_until": _end_of(lease)}
        emptied: dict[str, Any] = {} if keep_bodies else {"body": None, "files": None, "question": None}
        decided: dict[str, Any] = {"error": None, "message_id": bindparam("b_message_id")}
        return cls(
            take_next=in_one_row(_to_take(and_(next_one, _OF_RUNS), lease).limit(bindparam("most"))),
            take_of_campaign=in_one_row(
                _to_take(and_(next_one, M.campaign == bindparam("campaign")), lease).limit(bindparam("most"))
            ),
            take_these=in_one_row(_to_take(and_(next_one, M.key.in_(FIRST_TEXTS)), lease)),
            take_in_doubt=in_one_row(_to_take(and_(in_doubt, _OF_RUNS), lease)),
            take_all_in_doubt=in_one_row(_to_take(in_doubt, lease)),
            take=update(MESSAGES)
            .where(M.key.in_(FIRST_TEXTS))
            .values(claimed_by=bindparam("b_worker"), claims=M.claims + 1, **renewed),
            renew=update(MESSAGES).where(IS_NEXT, mine).values(renewed).returning(M.key, M.claims),
            release_all=update(MESSAGES).where(IS_NEXT, mine).values(UNCLAIMED),
            changes=_changes(renewed, emptied),
            decide={
                Outcome.DELIVERED: _DECIDE.where(free).values(decided | emptied),
                Outcome.NOT_SENT: _DECIDE.where(free),
            },
        )


# By what is committed: a campaign that is paused is paused for every worker at once.
_MAY_BEGIN: Final = or_(
    _OF_RUNS,
    select(C.name).where(C.name == M.campaign, C.state == CampaignState.RUNNING.value).exists(),
)


def _changes(renewed: dict[str, Any], emptied: dict[str, Any]) -> dict[Kind, Update]:
    begun = {
        "state": State.SENDING.value,
        "attempts": M.attempts + 1,
        "started_at": moment_at(3),
        "date_ahead": big_number_at(4),
        "sent_to": text_at(2),
        "updated_at": _NOW,
    }
    doubted = {"state": State.UNKNOWN.value, "error": text_at(2), "updated_at": _NOW}
    close = _changing(*_OPEN_YET).values(state=text_at(2), error=text_at(3), **_ENDED)
    return {
        Kind.BEGIN: _changing(State.WAITING, State.UNKNOWN).where(_MAY_BEGIN).values(begun | renewed),
        Kind.DELIVER: _DELIVER.values(emptied) if emptied else _DELIVER,
        Kind.CLOSE: close,
        Kind.PARK: close,
        Kind.DOUBT: _changing(*_BEGUN).values(doubted | renewed),
        Kind.REQUEUE: _REQUEUE,
        Kind.RELEASE: _changing(*_OPEN_YET).values(UNCLAIMED),
    }


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
            *(M.position, M.key, M.chat, M.body, M.files, M.question, M.state, M.attempts),
            *(M.started_at, M.date_ahead, M.sent_to, M.claims, M.is_superseded, M.label, M.campaign),
        )
        .where(IS_NEXT, which)
        .order_by(M.position)
    )
    return found if lease is None else found.with_for_update(skip_locked=True)
