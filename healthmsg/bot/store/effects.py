"""What one transaction of a bot's store changes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from attrs import define, field, frozen

from healthmsg.bot.store.records import DialogRecord, StepRecord, TimerRecord
from healthmsg.events import TimerDue


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
    """A dialog has ended, which is kept. Its steps and timers are deleted, and with them what was said."""

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
    is_new: bool = False
    """Whether one that is there stays as it is, and one that has fired is not set again. If another one has
    this id, all that is committed with it is refused."""


@frozen
class MoveTimer:
    """A timer is due at another moment, if it is there and still due at this one."""

    timer: str
    due: datetime
    to: datetime


@frozen
class CancelTimer:
    """A timer is deleted, if it is there."""

    id: str


@frozen
class CancelTimers:
    """All timers of a dialog's steps are deleted. What was asked of it from outside stays."""

    dialog: str


@frozen
class Fire:
    """A timer becomes an event in the inbox: both, or neither. If it is gone or another one, none."""

    timer: str
    event: TimerDue
    again: TimerRecord | None = None
    """The timer that follows it. Then it becomes none while its last event waits, if that is for the same: it
    stands for both."""


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
    | MoveTimer
    | CancelTimer
    | CancelTimers
    | Fire
)

E = TypeVar("E")


def take_endings(effects: list[Effect]) -> list[CloseDialog]:
    """Take out the ends of dialogs, and all else of these: written after its end, it would stay for good."""
    endings = [one for one in effects if isinstance(one, CloseDialog)]
    ended = {one.id for one in endings}
    effects[:] = [one for one in effects if _dialog_of(one) not in ended]
    return endings


def _dialog_of(effect: Effect) -> str | None:
    match effect:
        case PutDialog(dialog):
            return dialog.id
        case PutStep(step):
            return step.dialog
        case PutTimer(timer):
            return timer.dialog
        case CloseDialog(dialog) | ForgetSteps(dialog) | CancelTimers(dialog):
            return dialog
        case _:
            return None


class Watchers:
    """Who learns of what was committed: of all of it, or of effects of one kind."""

    def __init__(self) -> None:
        self._of_all: list[Callable[[Sequence[Effect]], object]] = []
        self._of_kind: dict[type, list[Callable[[Any], object]]] = {}

    def add(self, watch: Callable[[Sequence[Effect]], object]) -> None:
        """Have it called with each commit."""
        self._of_all.append(watch)

    def add_for(self, kind: type[E], watch: Callable[[E], object]) -> None:
        """Have it called with each effect of this kind. Most commits have none that is watched."""
        self._of_kind.setdefault(kind, []).append(watch)

    def note(self, effects: Sequence[Effect]) -> None:
        """Say that these were committed together."""
        for one in effects:
            for watch in self._of_kind.get(type(one), ()):
                watch(one)
        for watch_all in self._of_all:
            watch_all(effects)
