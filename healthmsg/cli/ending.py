"""How a command asks, and how it ends when it cannot go on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.prompt import Confirm

from healthmsg.cli.recipients.problems import RefusedError
from healthmsg.errors import ConfigurationError, HealthmsgError, InvalidInputError


class ExitCode(IntEnum):
    """What a command tells who called it."""

    DONE = 0
    FAILED = 1
    """Something was not delivered, or the run broke off."""
    REFUSED = 2
    """What was given cannot be right; nothing was done."""
    INTERRUPTED = 130


def fail(problem: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Say why, and end."""
    Console(stderr=True).print(f"[bold red]Error:[/] {escape(problem)}", highlight=False, soft_wrap=True)
    sys.exit(code)


@contextmanager
def problems_told(nothing_done: str = "") -> Iterator[None]:
    """Say what goes wrong within, and that nothing was done, and end."""
    try:
        yield
    except RefusedError as error:
        problem, code = error.shown, ExitCode.REFUSED
    except (ConfigurationError, InvalidInputError) as error:
        problem, code = str(error), ExitCode.REFUSED
    except HealthmsgError as error:
        problem, code = str(error), ExitCode.FAILED
    except KeyboardInterrupt:
        problem, code = "interrupted", ExitCode.INTERRUPTED
    else:
        return
    fail("\n".join(filter(None, [problem, nothing_done])), code)


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
    except EOFError:
        return False
