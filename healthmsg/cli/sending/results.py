"""What became of the messages, in numbers."""

import csv
import io
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from attrs import Factory, define, frozen
from rich.console import Console

from healthmsg.bulk import SendResult
from healthmsg.bulk.journal import Journal, State
from healthmsg.bulk.sending import address_of
from healthmsg.cli.files import BOM, HIDDEN, as_cells, beside, open_private
from healthmsg.cli.problems import RefusedError, kind_of, say, warn, written
from healthmsg.cli.recipients.messages import Label, Message
from healthmsg.cli.sending.options import Job
from healthmsg.cli.service import is_on_this_machine, named
from healthmsg.cli.terminal import joined, shown
from healthmsg.errors import (
    ConfigurationError,
    HealthmsgError,
    InvalidFileError,
    JournalGoneError,
    JournalMismatchError,
    OtherTextError,
    UploadFileError,
)
from healthmsg.models import Outcome

# Trying again does not help as long as the files and the recipients are what they are.
_OF_CHANGES: Final = (InvalidFileError, UploadFileError, JournalMismatchError)


@define
class Tally:
    """Counts results."""

    outcomes: Counter[Outcome] = Factory(Counter)
    failures: Counter[str] = Factory(Counter)
    """How often each kind of error."""
    seen: set[int] = Factory(set)
    """The messages of this run that have a result, by their positions."""

    changed: int = 0
    """How many were not sent since a file, or what the journal has under their key, is another one by now."""

    left_out: int = 0
    """How many were not sent since their recipients got another text: that was asked for."""

    def add(self, result: SendResult) -> None:
        """Count one."""
        if result.index is not None:
            self.seen.add(result.index)
        if isinstance(result.error, OtherTextError):
            self.left_out += 1
            return
        self.outcomes[result.outcome] += 1
        if result.error is not None:
            self.failures[kind_of(result.error)] += 1
        self.changed += isinstance(result.error, _OF_CHANGES)

    @property
    def failed(self) -> int:
        """Count those that are not known to be delivered."""
        return self.outcomes[Outcome.NOT_SENT] + self.outcomes[Outcome.UNKNOWN]

    @property
    def results(self) -> int:
        """Count all results."""
        return sum(self.outcomes.values())

    def __str__(self) -> str:
        told = [f"{outcome.value} {self.outcomes[outcome]:,}" for outcome in Outcome]
        if self.left_out:
            told.append(f"left out {self.left_out:,}")
        return " · ".join(told)


@frozen
class Remaining:
    """How many messages have no result."""

    to_send: int = 0
    """Certainly not sent, and still to be."""
    in_doubt: int = 0
    """May have been sent: the next run with the journal finds out."""
    without_result: int = 0
    """Some of these may have been sent, and there is no journal that says which."""

    def __str__(self) -> str:
        figures = (
            (self.to_send, "still to send"),
            (self.in_doubt, "in doubt"),
            (self.without_result, "without a result"),
        )
        return "".join(f" · {name} {count:,}" for count, name in figures if count)


async def find_remaining(job: Job, count: int, unknown: int, *, is_abandoned: bool) -> Remaining:
    """Find out about those without a result.

    `unknown` is how many have the result that nothing is known; `is_abandoned`: what was under way was not
    waited for.
    """
    if count <= 0:
        return Remaining()
    certain = Remaining(without_result=count) if is_abandoned else Remaining(to_send=count)
    if job.journal is None:
        return certain
    try:
        if not job.journal.may_exist:
            return certain
        async with Journal.open(job.journal.target, is_reading=True) as journal:
            in_doubt, counts = await journal.count_in_doubt(), await journal.counts()
    except (HealthmsgError, OSError):  # the journal cannot say which of them have left
        return Remaining(without_result=count)
    # Those of which this run said that nothing is known are in doubt in the journal, too.
    in_doubt = min(count, max(counts[State.SENDING], in_doubt - unknown))
    to_send = count - in_doubt
    if job.messages is None:
        # Another worker, or a person, may have seen to some.
        waiting = counts[State.WAITING] + counts[State.SET_ASIDE]
        to_send = min(to_send, waiting + (counts[State.NOT_SENT] if job.retry_failed else 0))
    return Remaining(to_send, in_doubt)


class ResultsError(Exception):
    """The results of a run without a journal cannot be written: nothing more is sent."""


@define
class Ending:
    """How a run ended."""

    tally: Tally = Factory(Tally)
    error: Exception | None = None
    """What broke it off."""
    is_interrupted: bool = False
    is_abandoned: bool = False
    """Whether nobody waited for what was under way."""
    warnings: list[str] = Factory(list)
    """What went wrong afterwards: it changes nothing of what was sent."""
    remaining: Remaining = Remaining()

    @property
    def is_early(self) -> bool:
        """Whether there may be messages that it did not come to."""
        return self.error is not None or self.is_interrupted


COLUMNS: Final = ("line", "key", "to", "outcome", "message_id", "error", "attempts")
OPEN: Final = "open"
"""Written for what a run did not come to: with a journal, it may be known there."""
_AT_ONCE: Final = 1 << 20
_MOST_COPIES: Final = 100


class Results:
    """Writes a row as soon as it is known, so that a crash leaves all that was.

    Writing never fails: what could not be written is kept and tried again with each row, and at the end.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self._path = path
        self._delimiter = delimiter
        self._descriptor = -1
        self._pending = bytearray()
        self._rows: list[tuple[int, int | None, str]] = []
        """Where in the file each row ends, its line among the recipients, and its outcome."""
        self._size = self._written = 0
        self.problem: str | None = None
        """Why the file does not have everything, if it has not."""

    @classmethod
    def beside(cls, path: Path, delimiter: str) -> "Results":
        """Name the file after another one, and the time."""
        now = datetime.now().astimezone()
        return cls(beside(path, f".results-{now:%Y%m%d-%H%M%S}.csv"), delimiter)

    @property
    def path(self) -> Path:
        """Where they are."""
        return self._path

    def like_those_of(self, delimiter: str) -> None:
        """Separate the cells as an earlier file of results does; before this one is made."""
        self._delimiter = delimiter

    def check_folder(self) -> None:
        """Refuse a folder in which no file can be made, before anything else is done.

        Raises:
            RefusedError: it is none, or it cannot be written to.
        """
        folder = self._path.parent
        if not os.path.isdir(folder):  # noqa: PTH112 - unlike that of a path, it takes every error for a no
            raise RefusedError(f"{folder}, where the results go, is no folder; --results says where they go")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RefusedError(f"{folder}, where the results go, is read-only; --results says where they go")

    def create(self) -> None:
        """Make the file.

        Raises:
            RefusedError: it exists already, or cannot be made.
        """
        self._descriptor = open_private(self._path)
        self._write(BOM + self._encoded(COLUMNS), None, "")

    def add(self, result: SendResult, message: Message | None) -> None:
        """Write down what became of a message.

        `None` is one that only the journal knows, and with it the line that it once had.
        """
        error = result.error
        said = "" if error is None else written(error)
        to = message.to if message is not None else _as_text(result)
        place = Label.parse(result.label)
        line = message.line if message is not None else None if place is None else place.line
        outcome = result.outcome.value
        known = (result.key or "", to, outcome, result.message_id or "", said, result.attempts)
        self._write(self._encoded(("" if line is None else line, *known)), line, outcome)

    def finish(self, job: Job, seen: Container[int]) -> None:
        """Write down those of which the run has said nothing, by their positions, and close the file.

        A file that was deleted or replaced meanwhile is made again.
        """
        said = "The run ended before this message was done."
        for index, message in enumerate(job.messages.all if job.messages is not None else ()):
            if index not in seen:
                row = (message.line, message.key or "", message.to, OPEN, "", said, 0)
                self._write(self._encoded(row), message.line, OPEN)
        self._flush()
        if self.problem is None and not self._is_in_place():
            self._make_again()
        with suppress(OSError):
            os.close(self._descriptor)

    def lines_without_row(self) -> Mapping[str, Sequence[int]]:
        """Return the lines of the recipients that the file does not tell of, by what became of them."""
        lines: dict[str, list[int]] = {}
        for end, line, outcome in self._rows:
            if line is not None and end > self._written:
                lines.setdefault(outcome, []).append(line)
        return lines

    def _encoded(self, row: Sequence[object]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter).writerow(as_cells(row))
        return text.getvalue().encode("utf-8", "backslashreplace")

    def _write(self, row: bytes, line: int | None, outcome: str) -> None:
        self._pending += row
        self._size += len(row)
        self._rows.append((self._size, line, outcome))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._pending:
                del self._pending[: os.write(self._descriptor, self._pending)]
        except OSError as error:
            self.problem = error.strerror or type(error).__name__
        else:
            self.problem = None
        self._written = self._size - len(self._pending)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def _make_again(self) -> None:
        """Copy what was written to a file that is there."""
        self._written = 0
        for path in _others(self._path):
            try:
                copy = open_private(path)
            except RefusedError as error:
                self.problem = str(error)
                continue
            try:
                _copy(self._descriptor, copy)
            except OSError as error:
                self.problem = error.strerror or type(error).__name__
            else:
                self._path, self._written, self.problem = path, self._size, None
            finally:
                os.close(copy)
            return


def _others(path: Path) -> Iterator[Path]:
    """Return the path itself, and others that are called nearly the same."""
    yield path
    for number in range(2, _MOST_COPIES):
        yield beside(path, f"-{number}.csv")


def _copy(source: int, to: int) -> None:
    os.lseek(source, 0, os.SEEK_SET)
    while block := os.read(source, _AT_ONCE):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(to, rest) :]


def _as_text(result: SendResult) -> str:
    if isinstance(result.to, str):
        return result.to
    address = address_of(result.to)
    return f"{address.kind.path}/{address.id}"


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
