"""What a person decides about a message of which nothing can be proven."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.entering import can_be_stored
from healthmsg.bulk.journal.values import Decision, State
from healthmsg.errors import InvalidInputError, JournalInUseError, Outcome

_LONGEST: Final = 1000
# What was not sent waits for a run that is to send it.
_STATES: Final = {Outcome.DELIVERED: State.DELIVERED, Outcome.NOT_SENT: State.SET_ASIDE}
_IN_QUESTION: Final = (State.UNKNOWN, State.SENDING)
_CLAIMED: Final = (
    "A worker has this message just now, and is finding out what became of it. Nothing was changed: wait"
    " until its run has ended."
)


def check_decision(decision: Decision, message_id: str | None) -> None:
    """Refuse what settles nothing, or cannot be stored.

    Raises:
        InvalidInputError: says which.
    """
    if decision.outcome not in _STATES:
        raise InvalidInputError("a decision is Outcome.DELIVERED or Outcome.NOT_SENT")
    if (
        not isinstance(decision.by, str)
        or not decision.by.strip()
        or not can_be_stored(decision.by, _LONGEST)
    ):
        raise InvalidInputError("a decision needs the name of the person who makes it")
    if decision.at.tzinfo is None:
        raise InvalidInputError("the moment of a decision must have a time zone")
    if message_id is None:
        return
    if decision.outcome is not Outcome.DELIVERED:
        raise InvalidInputError("only a message that was delivered has an id")
    if not isinstance(message_id, str) or not message_id.strip() or not can_be_stored(message_id, _LONGEST):
        raise InvalidInputError("the id of a message must be text that is not blank")


def decide(
    connection: Connection,
    claiming: statements.Claiming,
    key: str,
    decision: Decision,
    message_id: str | None,
) -> None:
    """Settle it in the transaction that has begun, and let the next message of its chat go.

    Raises:
        InvalidInputError: there is no such message, it is not in question, or the id is another one's.
        JournalInUseError: a worker is finding out about it.
    """
    found = connection.execute(statements.KNOWN, {"rows": [[key]]}).first()
    if found is None:
        raise InvalidInputError("The journal has no message with this key. Nothing was changed.")
    _refuse_settled(State(found.state))
    taken = {"message_id": message_id, "besides": key}
    if message_id is not None and connection.execute(statements.IS_CLAIMED_ID, taken).first():
        raise InvalidInputError(
            "The journal has another message with this message id. Nothing was changed: look again which of"
            " the two it is."
        )
    is_delivered = decision.outcome is Outcome.DELIVERED
    statement = claiming.decide_delivered if is_delivered else claiming.decide_not_sent
    noted = {
        "b_key": key,
        "b_state": _STATES[decision.outcome].value,
        "b_message_id": message_id,
        "b_decided": decision.outcome.value,
        "b_by": decision.by,
        "b_at": decision.at,
        "b_now": datetime.now(UTC),
    }
    if not connection.execute(statement, noted).rowcount:
        raise JournalInUseError(_CLAIMED)
    _promote_after(connection, key)


def _promote_after(connection: Connection, key: str) -> None:
    """Let the next message to the same recipient go."""
    whose = connection.execute(statements.RECIPIENTS_OF_KEYS, {"rows": [[key]]}).scalars()
    recipients = {"rows": [[recipient] for recipient in whose]}
    if recipients["rows"] and not connection.execute(statements.WITH_NEXT, recipients).first():
        connection.execute(statements.PROMOTE, recipients)


def _refuse_settled(state: State) -> None:
    if state not in _IN_QUESTION:
        raise InvalidInputError(
            f"This message is {state.value}, not unknown: there is nothing to decide. Nothing was changed."
        )
