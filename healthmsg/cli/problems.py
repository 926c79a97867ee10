"""What goes wrong, in words for a terminal, and how a command ends then.

Everything wrong with the input is reported at once, with its lines, and without anything of a patient.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final, NoReturn

from attrs import Factory, define, field, frozen
from rich.console import Console
from rich.prompt import Confirm
from rich.text import Text

from healthmsg import errors
from healthmsg.errors import (
    ConfigurationError,
    HealthmsgError,
    InvalidInputError,
    QuotaExceededError,
    ReauthorizationRequiredError,
    StatusError,
)

MOST_SHOWN: Final = 20
"""Problems that are listed; the others are only counted."""


@frozen
class Problem:
    """Something that has to be put right. `line` is that of the file where the row begins."""

    text: str
    line: int | None = None
    value: str = field(default="", repr=False)
    """What it is about, which may be a patient's: for a terminal, and nothing that is kept."""

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class RefusedError(Exception):
    """The input cannot be right. Nothing was sent."""

    def __init__(self, *problems: Problem | str, advice: str = "") -> None:
        self._advice = advice
        self.problems: tuple[Problem, ...] = tuple(
            Problem(problem) if isinstance(problem, str) else problem for problem in problems
        )
        super().__init__(*map(str, self.problems))

    @property
    def text(self) -> str:
        """The first problems, how many more there are, and what to do about them."""
        lines = [f"{len(self.problems):,} problems"] if len(self.problems) > 1 else []
        lines += [str(problem) for problem in self.problems[:MOST_SHOWN]]
        if (more := len(self.problems) - MOST_SHOWN) > 0:
            lines.append(f"… and {more:,} more")
        if self._advice:
            lines.append(self._advice)
        return "\n".join(lines)


class ResultsError(Exception):
    """The results of a run without a journal cannot be written: nothing more is sent."""


@define
class Problems:
    """Problems that are being collected."""

    _found: list[Problem] = Factory(list)

    def add(self, text: str, line: int | None = None, value: str = "") -> None:
        """Add one."""
        self._found.append(Problem(text, line, value))

    def in_order(self) -> list[Problem]:
        """Return them in the order of their lines."""
        return sorted(self._found, key=lambda problem: problem.line or 0)

    def refuse_if_any(self) -> None:
        """Refuse the input, with the problems in the order of its lines.

        Raises:
            RefusedError: there is at least one.
        """
        if self._found:
            raise RefusedError(*self.in_order())


# The more special come first.
_KINDS: Final[tuple[tuple[type[errors.HealthmsgError], str], ...]] = (
    (errors.ReauthorizationRequiredError, "the token is not accepted: the user has to authorize again"),
    (errors.QuotaExceededError, "the user's quota is used up"),
    (errors.TokenRenewalError, "the token could not be renewed"),
    (errors.DeliveryUnknownError, "may have arrived"),
    (errors.ConnectError, "no connection was made"),
    (errors.ConnectionLostError, "the connection broke"),
    (errors.CallTimeoutError, "no answer in time"),
    (errors.InvalidResponseError, "the answer could not be understood"),
    (errors.UploadFileError, "a file could not be read, or was changed"),
    (errors.DownloadError, "a file could not be fetched"),
    (errors.InvalidFileError, "files that cannot be sent"),
    (errors.AmbiguousAuxIdError, "an auxiliary id with a diacritic"),
    (errors.InvalidIdError, "an address that cannot be right"),
    (errors.InvalidInputError, "refused before anything was sent"),
    (errors.ConfigurationError, "settings that cannot work"),
    (errors.EarlierRunError, "not delivered by an earlier run"),
    (errors.OtherTextError, "already got another text"),
    (errors.SendingStoppedError, "the run was ended before"),
    (errors.JournalError, "the journal could not be used"),
)
_NAME_FIRST: Final = re.compile(r"\A[A-Z]\w*(?:Error|Exception)\b:? ?")


def error_kind(error: Exception) -> str:
    """Return what kind of thing went wrong, in a few words, the same for all errors of that kind."""
    if isinstance(error, StatusError) and not isinstance(
        error, ReauthorizationRequiredError | QuotaExceededError
    ):
        return error.problem
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError):
        return system_reason(error)
    return "something else" if isinstance(error, HealthmsgError) else "a mistake in this program"


def error_text(error: Exception) -> str:
    """Return what an error says, without what only a program could look up in it.

    Of an unforeseen one, which may have private things in it, only the kind.
    """
    if isinstance(error, RefusedError):
        return error.text
    if isinstance(error, ResultsError):
        return str(error)
    if isinstance(error, OSError):
        return system_reason(error)
    if not isinstance(error, HealthmsgError):
        return f"{type(error).__name__}, which is a mistake in this program"
    text = strip_class_name(str(error))
    if isinstance(error, StatusError) and "`" in error.advice:
        text = text.removesuffix(error.advice).rstrip()
    return text or error_kind(error)


def system_reason(error: OSError) -> str:
    """Return what the system says of it."""
    return error.strerror or "the system gives no reason"


def strip_class_name(recorded: str) -> str:
    """Return what a journal has recorded of an error, without the name of its class at the start."""
    return _NAME_FIRST.sub("", recorded) or recorded


class ExitCode(IntEnum):
    """The exit status of a command."""

    DONE = 0
    FAILED = 1
    """Something was not delivered, or the run broke off."""
    REFUSED = 2
    """The input cannot be right; nothing was done."""
    UNKNOWN = 3
    """The one message that was to be sent may have arrived."""
    INTERRUPTED = 130


def print_text(console: Console, text: str | Text) -> None:
    """Print text as it is: nothing in it is taken for markup or an emoji, and it is not wrapped."""
    console.print(Text(text) if isinstance(text, str) else text, soft_wrap=True)


def fail(problem: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Print why, and exit."""
    print_text(Console(stderr=True), Text.assemble(("Error:", "bold red"), " ", problem))
    sys.exit(code)


def warn(problem: str) -> None:
    """Print what is wrong, though it changes nothing of what was done."""
    print_text(Console(stderr=True), Text.assemble(("Warning:", "yellow"), " ", problem))


@contextmanager
def exit_on_error(progress: str | Callable[[], str] = "") -> Iterator[None]:
    """Print what goes wrong within, and how far the command had come, and exit."""
    try:
        yield
    except (RefusedError, HealthmsgError, OSError) as error:
        is_refusal = isinstance(error, RefusedError | ConfigurationError | InvalidInputError)
        problem, code = error_text(error), ExitCode.REFUSED if is_refusal else ExitCode.FAILED
    except KeyboardInterrupt:
        problem, code = "interrupted", ExitCode.INTERRUPTED
    else:
        return
    how_far = progress if isinstance(progress, str) else progress()
    fail("\n".join(filter(None, [problem, how_far])), code)


def require_terminal() -> None:
    """Check that a question can be asked.

    Raises:
        RefusedError: the standard input is no terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise RefusedError("there is no terminal to ask at: give --yes to begin without asking")


def confirm(console: Console, question: str) -> bool:
    """Ask, and take everything but a clear yes for a no.

    Raises:
        RefusedError: the standard input is no terminal.
    """
    require_terminal()
    try:
        return Confirm.ask(question, console=console, default=False)
    except (EOFError, OSError, UnicodeError):  # the terminal is gone, or what it sends is no text
        return False
