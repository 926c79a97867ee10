"""What one transaction of a bot's store changes."""

from datetime import datetime

from attrs import define, field, frozen

from healthmsg.bot.store.records import DialogRecord, StepRecord, TimerRecord
from healthmsg.events import Event


@define  # see `records.Waiting`
class Begin:
    """An event is about to be handled: this counts as an attempt."""

    sequence: int


@define  # see `records.Waiting`
class Finish:
    """An event is done; its text is erased."""

    sequence: int


@frozen
class Postpone:
    """An event waits, and with it its chat, until a moment."""

    sequence: int
    not_before: datetime


@frozen
class Park:
    """An event is left to a person; its chat goes on."""

    sequence: int
    reason: str = field(repr=False)


@frozen
class Unpark:
    """A parked event waits again, as if it had never been begun."""

    sequence: int


@frozen
class PutDialog:
    """A dialog has begun or changed."""

    dialog: DialogRecord


@frozen
class CloseDialog:
    """A dialog has ended. Its steps and timers are deleted, and with them what was said."""

    id: str


@frozen
class PutStep:
    """A step is written, or completed."""

    step: StepRecord


@frozen
class ForgetSteps:
    """The steps of a dialog from a number on are deleted."""

    dialog: str
    from_number: int


@frozen
class PutTimer:
    """A timer is set, or set again."""

    timer: TimerRecord


@frozen
class CancelTimer:
    """A timer is deleted, if it is there."""

    id: str


@frozen
class CancelTimers:
    """All timers of a dialog are deleted."""

    dialog: str


@frozen
class Fire:
    """A timer becomes an event in the inbox: both, or neither. One that is not there fires nothing."""

    timer: str
    event: Event
    again: TimerRecord | None = None
    """The timer that follows it."""


Effect = (
    Begin
    | Finish
    | Postpone
    | Park
    | Unpark
    | PutDialog
    | CloseDialog
    | PutStep
    | ForgetSteps
    | PutTimer
    | CancelTimer
    | CancelTimers
    | Fire
)
