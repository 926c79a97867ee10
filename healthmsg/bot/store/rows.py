"""How the records of a bot's store stand in its tables."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from healthmsg.bot.store.records import DialogRecord, StepRecord, TimerRecord
from healthmsg.database.rows import moment
from healthmsg.database.tables import utc
from healthmsg.errors import InvalidInputError

Row = tuple[Any, ...]
_NOT_KEPT: Final = "�"


def storable(text: str) -> str:
    """Return a text without what a database does not take: NUL, and halves of characters."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", _NOT_KEPT)


def storable_if_known(text: str | None) -> str | None:
    """Return the same of a text that may be missing."""
    return None if text is None else storable(text)


def moment_of(value: datetime) -> str:
    """Write a moment.

    Raises:
        InvalidInputError: it has no time zone.
    """
    if value.tzinfo is None:
        raise InvalidInputError("a moment in a bot's store needs a time zone")
    return moment(value)


def read_moment(text: str) -> datetime:
    """Read a moment as a database returns it in JSON."""
    return utc(datetime.fromisoformat(text))


def row_of_dialog(dialog: DialogRecord) -> Row:
    """Write a dialog as the statement takes it."""
    return (
        *(storable(dialog.id), storable(dialog.name), dialog.version),
        *(storable(dialog.chat), storable(dialog.user), dialog.state, storable(dialog.document)),
        *(moment_of(dialog.started_at), moment_of(dialog.updated_at)),
    )


def dialog_of(row: Sequence[Any]) -> DialogRecord:
    """Read a dialog."""
    dialog, name, version, chat, user, state, document, *moments = row
    started_at, updated_at = map(read_moment, moments)
    return DialogRecord(dialog, name, version, chat, user, state, document, started_at, updated_at)


def row_of_step(step: StepRecord) -> Row:
    """Write a step as the statement takes it."""
    return (
        *(storable(step.dialog), step.number, storable(step.kind), storable(step.key)),
        *(storable_if_known(step.value), step.event),
    )


def row_of_timer(timer: TimerRecord) -> Row:
    """Write a timer as the statement takes it."""
    return (
        *(storable(timer.id), moment_of(timer.due), storable_if_known(timer.chat)),
        *(storable_if_known(timer.user), storable_if_known(timer.dialog)),
        *(storable(timer.kind), storable(timer.document)),
    )


def timer_of(row: Sequence[Any]) -> TimerRecord:
    """Read a timer."""
    timer, due, *rest = row
    return TimerRecord(timer, read_moment(due), *rest)
