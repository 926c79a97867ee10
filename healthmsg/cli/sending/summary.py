"""What is said at the end."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from rich.console import Console

from healthmsg.cli.ending import say, warn
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.journal_place import HIDDEN
from healthmsg.cli.sending.results import Results
from healthmsg.cli.sending.running import Ending, ResultsError
from healthmsg.cli.service import is_on_this_machine, named
from healthmsg.cli.shell import joined
from healthmsg.cli.terminal import shown
from healthmsg.errors import ConfigurationError, HealthmsgError, JournalGoneError
from healthmsg.models import Outcome

_RETRY: Final = " --retry-failed"
_CHANGED: Final = (
    "not sent because a file, or the message under that key, is not what it was: trying again is refused"
    " again. Put the files back as they were, or send what is new as new messages, with keys of their own in"
    " a column `key`, to those recipients alone."
)


def tell(console: Console, job: Job, results: Results, ending: Ending, how_to_go_on: str | None) -> None:
    """Say what became of the messages, where it stands for each, and how to go on."""
    tally = ending.tally
    say(console, f"{tally}{ending.remaining}")
    _tell_where(console, job)
    for kind, count in tally.failures.most_common():
        say(console, f"  {count:,}x {kind}")
    say(console, f"Results: {shown(str(results.path))}")
    if ending.error is not None:
        say(console, f"The run broke off: {said(ending.error)}")
    _tell_how_to_go_on(console, ending, how_to_go_on)
    _tell_way_out(console, job, ending)
    if how_to_go_on is not None and HIDDEN in how_to_go_on and (ending.is_early or tally.failed):
        say(console, f"A password was left out of this, {HIDDEN} stands for it: put it back.")
    if results.problem is not None:
        _tell_missing(job, results)
    for warning in ending.warnings:
        warn(warning)


def _tell_where(console: Console, job: Job) -> None:
    """Say that nothing of it went to the service itself, if it did not."""
    with suppress(ConfigurationError):
        environment = job.service.environment
        if is_on_this_machine(environment):
            say(console, f"Service: {named(environment)}")


def _tell_how_to_go_on(console: Console, ending: Ending, how_to_go_on: str | None) -> None:
    tally = ending.tally
    if how_to_go_on is None:
        # What to do about a journal that is gone, its error says.
        if ending.is_early and not isinstance(ending.error, JournalGoneError):
            say(console, "There is no journal to go on with. The results say what was delivered.")
    elif ending.is_early:
        say(console, f"Go on with: {how_to_go_on}")
    elif tally.outcomes[Outcome.NOT_SENT] > tally.changed:
        option = "" if how_to_go_on.endswith(_RETRY) or f"{_RETRY} " in how_to_go_on else _RETRY
        say(console, f"Try again what was not sent: {how_to_go_on}{option}")
    if tally.changed and not ending.is_early:
        say(console, f"{tally.changed:,} {_CHANGED}")


def _tell_way_out(console: Console, job: Job, ending: Ending) -> None:
    """Say how a person can settle what stays unknown."""
    if ending.tally.outcomes[Outcome.UNKNOWN] and job.journal is not None and not ending.is_early:
        command = ("healthmsg", "journal", "unknown", job.journal.word, *job.service.words())
        say(console, f"See what may have been sent, and settle it: {joined(command)}")


def said(error: Exception) -> str:
    """Return what an error says; of an unforeseen one, which may have private things in it, only its kind."""
    if isinstance(error, HealthmsgError | ResultsError):
        return str(error)
    if isinstance(error, RefusedError):
        return error.shown
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"{type(error).__name__}, which is a mistake in this program"


def _tell_missing(job: Job, results: Results) -> None:
    """Say what the file of results does not, by the lines of the recipients."""
    problem = f"The results are not complete: {results.problem}."
    for outcome, lines in results.lines_without_row().items():
        problem += f" {outcome.capitalize()}, but not in the results: lines {_ranges(lines)}."
    if job.journal is not None:
        command = ("healthmsg", "journal", "export", job.journal.word, "--to", "results.csv")
        problem += f" The journal has them: {joined(command)}"
    warn(problem)


def _ranges(lines: Sequence[int]) -> str:
    """Write numbers down in short: 2-5, 9."""
    found: list[list[int]] = []
    for line in sorted(lines):
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)
