"""Rows of the journal as values."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from healthmsg.bulk.journal.base import Begun, Claim, Decision, JournalMessage
from healthmsg.bulk.journal.input_index import files_of_json, question_of_json
from healthmsg.bulk.journal.transactions import LONGEST, can_be_stored
from healthmsg.database.rows import moment
from healthmsg.database.states import State
from healthmsg.database.tables import utc
from healthmsg.errors import InvalidInputError, Outcome

_MILLISECOND: Final = timedelta(milliseconds=1)


def claim_of(row: Sequence[Any]) -> Claim:
    """Read a message that was taken."""
    (_, key, chat, body, files, question, state, attempts, *last) = row
    started_at, date_ahead, sent_to, claims, is_superseded, label, campaign = last
    return Claim(
        key,
        chat,
        body,
        files_of_json(files),
        question_of_json(question),
        State(state),
        attempts,
        None if started_at is None else utc(datetime.fromisoformat(started_at)),
        sent_to,
        claims + 1,
        None if date_ahead is None else date_ahead * _MILLISECOND,
        bool(is_superseded),
        label,
        campaign=campaign,
    )


def message_of(row: Any) -> JournalMessage:
    """Read a message whole."""
    return JournalMessage(
        row.key,
        row.position,
        row.chat,
        row.body,
        files_of_json(row.files),
        question_of_json(row.question),
        State(row.state),
        row.is_final,
        row.message_id,
        row.error,
        row.attempts,
        row.started_at,
        row.sent_to,
        row.updated_at,
        row.run,
        row.is_superseded,
        None if row.decided is None else Decision(Outcome(row.decided), row.decided_by, row.decided_at),
        row.label,
        row.campaign,
    )


def as_noted(begun: Begun) -> tuple[str | None, ...]:
    """Return what is noted of a call that is about to be made.

    Raises:
        InvalidInputError: it cannot be noted.
    """
    if begun.started_at.tzinfo is None:
        raise InvalidInputError("started_at must have a time zone")
    if not can_be_stored(begun.sent_to, LONGEST):
        raise InvalidInputError("the address of the chat cannot be stored")
    ahead = begun.date_ahead
    milliseconds = None if ahead is None else str(ahead // _MILLISECOND)
    return begun.sent_to, moment(begun.started_at), milliseconds
