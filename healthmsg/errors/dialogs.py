"""What goes wrong in the dialogs of a bot."""

from healthmsg.errors.base import HealthmsgError
from healthmsg.errors.usage import ClientUsageError


class DialogError(HealthmsgError, RuntimeError):
    """A dialog that cannot begin or go on. What it has done so far is kept."""


class ForeignAwaitError(DialogError):
    """A dialog awaited something else than its `Dialog`, which would not survive a restart.

    `file` and `line` say where. What has to happen outside goes into `d.once(function, …)`.
    """

    def __init__(self, awaited: str, file: str, line: int) -> None:
        self.awaited: str = awaited
        self.file: str = file
        self.line: int = line
        super().__init__(
            f"{file}:{line}: a dialog awaits its Dialog alone, and not {awaited}: that would not survive a"
            " restart. Put what has to happen outside into d.once(function, ...), a wait into d.sleep(...)."
        )


class ProgramExitError(DialogError):
    """A dialog's code has raised what would end the program, such as `SystemExit`.

    It is taken for a failure of that code, as an `Exception` is.

    `file` and `line` say where, `type_name` what.
    """

    def __init__(self, type_name: str, file: str, line: int) -> None:
        self.type_name: str = type_name
        self.file: str = file
        self.line: int = line
        super().__init__(
            f"{file}:{line}: a dialog's code raised {type_name}. It neither ends the program nor the dialog:"
            " let the code return, or raise an Exception."
        )


class StepNotAwaitedError(ClientUsageError):
    """A dialog's code has made a step, such as `d.hand_over(…)`, and never awaited it.

    `file` and `line` say where it was let go of. Neither the step nor what comes after it was done.
    """

    def __init__(self, step: str, file: str, line: int) -> None:
        self.step: str = step
        self.file: str = file
        self.line: int = line
        super().__init__(
            f"{file}:{line}: a step of the dialog was never awaited: {step}. Write `await` in front of it."
            " Neither it nor what comes after it was done."
        )


class StepOutsideDialogError(ClientUsageError):
    """A step was made or awaited outside of the dialog itself, such as in a function given to `d.once`.

    That one runs once, so its steps would be missing at the next replay.

    `file` and `line` say where. Nothing was asked or sent by that step.
    """

    def __init__(self, step: str, file: str, line: int) -> None:
        self.step: str = step
        self.file: str = file
        self.line: int = line
        super().__init__(
            f"{file}:{line}: a step of a dialog, {step}, belongs into the dialog itself: not into a function"
            " given to d.once(...), a task, a thread or asyncio.gather(...). Let the function return what the"
            " dialog is to do. Nothing was asked or sent by this step."
        )


class TooManyStepsError(DialogError):
    """A dialog has more steps than one may have."""

    def __init__(self, dialog: str, most: int) -> None:
        super().__init__(
            f"The dialog {dialog} has taken {most:,} steps. Begin it again with d.restart(with_=...), which"
            " keeps what it is given and forgets the steps."
        )


class DialogOpenError(DialogError):
    """A dialog is open for this chat and user already. The new one has not begun.

    A handler that does not catch it is not called again: the user hears that one is open. Where that one is
    held, the event is parked.
    """

    def __init__(self, name: str, *, is_held: bool = False) -> None:
        self.is_held: bool = is_held
        """Whether it waits for a person, since its code does not fit or fails."""
        super().__init__(
            f"The dialog {name} is open for this chat and user, and there can be one. End it with"
            " dialogs.stop(...) first. The new one has not begun."
        )


class DialogHeldError(DialogError):
    """A dialog is held until a person decides: what came for it was not handled, and nothing was sent."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"The dialog {name} is held ({why}). What came for it was not handled, and nothing was sent. Put"
            " it right and give it back with dialogs.take_back(...), or end it with dialogs.stop(...)."
        )


class OnceFailedError(DialogError):
    """A function given to `d.once` failed with an error that cannot be made again after a restart.

    It is raised in its place: at once, and at every replay. `type_name` is what it was.
    """

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        super().__init__(
            f"A function given to d.once failed with {type_name}, which cannot be made again after a restart:"
            " raise an error of a class that stands in a module, with arguments that are plain values."
        )


class NotKeptError(DialogError):
    """A value that cannot be kept in a dialog's journal. Of `d.once`, the function has run."""

    def __init__(self, type_name: str) -> None:
        super().__init__(
            f"A {type_name} cannot be kept in a dialog. Plain values can, datetime, date, time, timedelta,"
            " Decimal, UUID, bytes, and lists, tuples, sets, dicts, enums, dataclasses and attrs classes of"
            " those."
        )
