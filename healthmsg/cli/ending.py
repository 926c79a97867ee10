"""How a command asks, and how it ends when it cannot go on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from rich.console import Console
from rich.prompt import Confirm
from rich.text import Text

from healthmsg.cli.recipients.problems import RefusedError
from healthmsg.cli.wording import reason_of, written
from healthmsg.errors import ConfigurationError, HealthmsgError, InvalidInputError


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
