"""What is wrong with the input: all of it at once, each with its line, and nothing of a patient in it."""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final, NoReturn

from attrs import Factory, define, field, frozen
from rich.console import Console
from rich.prompt import Confirm
from rich.text import Text

from healthmsg.errors import (
    AmbiguousAuxIdError,
    CallTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryUnknownError,
    DownloadError,
    EarlierRunError,
    HealthmsgError,
    InvalidFileError,
    InvalidIdError,
    InvalidInputError,
    InvalidResponseError,
    JournalError,
    OtherTextError,
    QuotaExceededError,
    ReauthorizationRequiredError,
    SendingStoppedError,
    StatusError,
    TokenRenewalError,
    UploadFileError,
)

_MOST_SHOWN: Final = 20


@frozen
class Problem:
    """One thing that has to be put right. `line` is that of the file where the row begins."""

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
    def shown(self) -> str:
        """Return the first problems, how many more there are, and what to do about them."""
        lines = [f"{len(self.problems):,} problems"] if len(self.problems) > 1 else []
        lines += [str(problem) for problem in self.problems[:_MOST_SHOWN]]
        if (more := len(self.problems) - _MOST_SHOWN) > 0:
            lines.append(f"… and {more:,} more")
        if self._advice:
            lines.append(self._advice)
        return "\n".join(lines)


@define
class Problems:
    """Problems that are being collected."""

    _found: list[Problem] = Factory(list)

    def add(self, text: str, line: int | None = None, value: str = "") -> None:
        """Note one."""
        self._found.append(Problem(text, line, value))

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Note some."""
        self._found.extend(problems)

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
_KINDS: Final[tuple[tuple[type[HealthmsgError], str], ...]] = (
    (ReauthorizationRequiredError, "the token is not accepted: the user has to authorize again"),
    (QuotaExceededError, "the user's quota is used up"),
    (TokenRenewalError, "the token could not be renewed"),
    (DeliveryUnknownError, "may have arrived"),
    (ConnectError, "no connection was made"),
    (ConnectionLostError, "the connection broke"),
    (CallTimeoutError, "no answer in time"),
    (InvalidResponseError, "the answer could not be understood"),
    (UploadFileError, "a file could not be read, or was changed"),
    (DownloadError, "a file could not be fetched"),
    (InvalidFileError, "files that cannot be sent"),
    (AmbiguousAuxIdError, "an auxiliary id with a diacritic"),
    (InvalidIdError, "an address that cannot be right"),
    (InvalidInputError, "refused before anything was sent"),
    (ConfigurationError, "settings that cannot work"),
    (EarlierRunError, "not delivered by an earlier run"),
    (OtherTextError, "already got another text"),
    (SendingStoppedError, "the run was ended before"),
    (JournalError, "the journal could not be used"),
)
_NAME_FIRST: Final = re.compile(r"\A[A-Z]\w*(?:Error|Exception)\b:? ?")


def kind_of(error: Exception) -> str:
    """Return what kind of thing went wrong, in a few words, the same for all errors of that kind."""
    if isinstance(error, StatusError) and not isinstance(
        error, ReauthorizationRequiredError | QuotaExceededError
    ):
        return error.problem
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError):
        return reason_of(error)
    return "something else" if isinstance(error, HealthmsgError) else "a mistake in this program"


def reason_of(error: OSError) -> str:
    """Return what the system says of it."""
    return error.strerror or "the system gives no reason"


def without_name(noted: str) -> str:
    """Return what a journal has noted of an error, without the name of its class at the start."""
    return _NAME_FIRST.sub("", noted) or noted


def written(error: Exception) -> str:
    """Return what an error says, without what only a program could look up in it."""
    text = without_name(str(error))
    if isinstance(error, StatusError) and "`" in error.advice:
        text = text.removesuffix(error.advice).rstrip()
    return text or kind_of(error)


class ExitCode(IntEnum):
    """What a command tells who called it."""

    DONE = 0
    FAILED = 1
    """Something was not delivered, or the run broke off."""
    REFUSED = 2
    """What was given cannot be right; nothing was done."""
    UNKNOWN = 3
    """The one message that was to be sent may have arrived."""
    INTERRUPTED = 130


def fail(problem: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Say why, and end."""
    say(Console(stderr=True), Text.assemble(("Error:", "bold red"), " ", problem))
    sys.exit(code)


def warn(problem: str) -> None:
    """Say what is wrong, though it changes nothing of what was done."""
    say(Console(stderr=True), Text.assemble(("Warning:", "yellow"), " ", problem))


def say(console: Console, text: str | Text) -> None:
    """Print text as it is: nothing in it is taken for markup or an emoji, and it is not wrapped."""
    console.print(Text(text) if isinstance(text, str) else text, soft_wrap=True)


@contextmanager
def problems_told(how_far: str | Callable[[], str] = "") -> Iterator[None]:
    """Say what goes wrong within, and how far it had come, and end."""
    try:
        yield
    except RefusedError as error:
        problem, code = error.shown, ExitCode.REFUSED
    except (ConfigurationError, InvalidInputError) as error:
        problem, code = str(error), ExitCode.REFUSED
    except HealthmsgError as error:
        problem, code = written(error), ExitCode.FAILED
    except OSError as error:
        problem, code = reason_of(error), ExitCode.FAILED
    except KeyboardInterrupt:
        problem, code = "interrupted", ExitCode.INTERRUPTED
    else:
        return
    said = how_far if isinstance(how_far, str) else how_far()
    fail("\n".join(filter(None, [problem, said])), code)


def require_somebody() -> None:
    """See to it that there is somebody to ask.

    Raises:
        RefusedError: nobody can answer.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise RefusedError("nobody can be asked: give --yes to begin without")


def confirmed(console: Console, question: str) -> bool:
    """Ask, and take all but a clear yes for a no.

    Raises:
        RefusedError: nobody can answer.
    """
    require_somebody()
    try:
        return Confirm.ask(question, console=console, default=False)
    except (EOFError, OSError, UnicodeError):  # the terminal is gone, or what it sends is no text
        return False
