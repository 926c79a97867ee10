"""What became of the messages: counted, in the file of results, and in the summary at the end."""

import csv
import io
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from shutil import copyfileobj
from typing import Final

from attrs import Factory, define, frozen
from rich.console import Console

from healthmsg.bulk import SendResult
from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.labels import LineLabel
from healthmsg.bulk.models import address_of
from healthmsg.cli.files import BOM, HIDDEN, JournalLocation, escape_formulas, open_private, sibling_path
from healthmsg.cli.problems import RefusedError, error_kind, error_text, print_text, system_reason, warn
from healthmsg.cli.recipients.messages import Message
from healthmsg.cli.sending.options import Job
from healthmsg.cli.service import describe, is_on_this_machine
from healthmsg.cli.terminal import printable, shell_join
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
COLUMNS: Final = ("line", "key", "to", "outcome", "message_id", "error", "attempts")
OPEN: Final = "open"
"""The outcome of messages without a result: a journal may know more."""
_MOST_COPIES: Final = 100
_RETRY: Final = " --retry-failed"
_CHANGED: Final = (
    "not sent because a file, or the message under that key, is not what it was: trying again is refused"
    " again. Put the files back as they were, or send what is new as new messages, with keys of their own in"
    " a column `key`, to those recipients alone."
)


@define
class Tally:
    """Counts results."""

    outcomes: Counter[Outcome] = Factory(Counter)
    failures: Counter[str] = Factory(Counter)
    """How often each kind of error occurred."""
    seen: set[int] = Factory(set)
    """The messages of this run that have a result, by their positions."""
    changed: int = 0
    """Not sent because a file, or the journal's message under their key, has changed."""
    left_out: int = 0
    """Not sent, as the user asked, because their recipients already got another text."""

    def add(self, result: SendResult) -> None:
        """Count one."""
        if result.index is not None:
            self.seen.add(result.index)
        if isinstance(result.error, OtherTextError):
            self.left_out += 1
            return
        self.outcomes[result.outcome] += 1
        if result.error is not None:
            self.failures[error_kind(result.error)] += 1
        self.changed += isinstance(result.error, _OF_CHANGES)

    @property
    def failed(self) -> int:
        """How many are not known to be delivered."""
        return self.outcomes[Outcome.NOT_SENT] + self.outcomes[Outcome.UNKNOWN]

    def __str__(self) -> str:
        parts = [f"{outcome.value} {self.outcomes[outcome]:,}" for outcome in Outcome]
        if self.left_out:
            parts.append(f"left out {self.left_out:,}")
        return " · ".join(parts)


@frozen
class Remaining:
    """How many messages have no result."""

    to_send: int = 0
    """Certainly not sent, and still to be sent."""
    in_doubt: int = 0
    """May have been sent: the next run with the journal finds out."""
    without_result: int = 0
    """Some may have been sent, and no journal says which."""

    def __str__(self) -> str:
        figures = (
            (self.to_send, "still to send"),
            (self.in_doubt, "in doubt"),
            (self.without_result, "without a result"),
        )
        return "".join(f" · {name} {count:,}" for count, name in figures if count)


async def find_remaining(job: Job, count: int, unknown: int, *, is_abandoned: bool) -> Remaining:
    """Return what is known about messages without a result.

    `unknown` is the number of results with that outcome; `is_abandoned`: calls were not waited for.
    """
    if count <= 0:
        return Remaining()
    certain = Remaining(without_result=count) if is_abandoned else Remaining(to_send=count)
    if job.journal is None:
        return certain
    try:
        if not job.journal.may_exist:
            return certain
        async with open_journal(job.journal.target, is_reading=True) as journal:
            in_doubt, counts = await journal.count_in_doubt(), await journal.counts(of_runs=True)
    except (HealthmsgError, OSError):  # the journal cannot say which were sent
        return Remaining(without_result=count)
    # Those with an unknown outcome in this run are in doubt in the journal, too.
    in_doubt = min(count, max(counts[State.SENDING], in_doubt - unknown))
    to_send = count - in_doubt
    if job.messages is None:
        # Another worker, or a person, may have settled some.
        waiting = counts[State.WAITING] + counts[State.PARKED]
        to_send = min(to_send, waiting + (counts[State.NOT_SENT] if job.options.retry_failed else 0))
    return Remaining(to_send, in_doubt)


async def count_entries(location: JournalLocation) -> int:
    """Return how many messages a journal has."""
    async with open_journal(location.target, is_reading=True) as journal:
        return sum((await journal.counts(of_runs=True)).values())


async def is_all_delivered(location: JournalLocation) -> bool:
    """Return whether everything in a journal was delivered, or replaced by another text."""
    async with open_journal(location.target, is_reading=True) as journal:
        counts = await journal.counts(of_runs=True)
        for state, count in (await journal.count_superseded()).items():
            counts[state] -= count
    return not any(count for state, count in counts.items() if state is not State.DELIVERED)


@define
class Ending:
    """How a run ended."""

    tally: Tally = Factory(Tally)
    error: Exception | None = None
    """The error that ended it early."""
    is_interrupted: bool = False
    is_abandoned: bool = False
    """Whether it ended without waiting for calls that were running."""
    warnings: list[str] = Factory(list)
    """What went wrong afterwards, without effect on what was sent."""
    remaining: Remaining = Remaining()

    @property
    def is_early(self) -> bool:
        """Whether it may have left messages."""
        return self.error is not None or self.is_interrupted


class Results:
    """Writes each row as soon as it is known, so that a crash loses none.

    Writing never fails: what could not be written is kept, and tried again with each row and at the end.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self.path: Path = path
        self.delimiter: str = delimiter
        self._descriptor = -1
        self._pending = bytearray()
        self._rows: list[tuple[int, int | None, str]] = []
        """Where each row ends in the file, its line among the recipients, and its outcome."""
        self._size = self._written = 0
        self.problem: str | None = None
        """Why the file is not complete, if it is not."""

    @classmethod
    def for_file(cls, path: Path, delimiter: str) -> "Results":
        """Return the results in a file that is named after another one, and the time."""
        now = datetime.now().astimezone()
        return cls(sibling_path(path, f".results-{now:%Y%m%d-%H%M%S}.csv"), delimiter)

    def check_folder(self) -> None:
        """Check the folder, before anything else is done.

        Raises:
            RefusedError: it is no folder, or cannot be written to.
        """
        folder = self.path.parent
        if not os.path.isdir(folder):  # noqa: PTH112 - unlike Path.is_dir, it never fails
            raise RefusedError(f"{folder}, where the results go, is no folder; --results says where they go")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RefusedError(f"{folder}, where the results go, is read-only; --results says where they go")

    def create(self) -> None:
        """Create the file.

        Raises:
            RefusedError: it exists, or cannot be created.
        """
        self._descriptor = open_private(self.path)
        self._write(BOM + self._encoded(COLUMNS), None, "")

    def add(self, result: SendResult, message: Message | None) -> None:
        """Write what became of a message; without `message`, it is one that only the journal has."""
        reason = "" if result.error is None else error_text(result.error)
        to = message.to if message is not None else _as_text(result)
        label = LineLabel.parse(result.label)
        line = message.line if message is not None else None if label is None else label.line
        outcome = result.outcome.value
        known = (result.key or "", to, outcome, result.message_id or "", reason, result.attempts)
        self._write(self._encoded(("" if line is None else line, *known)), line, outcome)

    def finish(self, job: Job, seen: Container[int]) -> None:
        """Write the messages without a result (`seen` has one, by positions), and close the file.

        A file that was deleted or replaced meanwhile is created again.
        """
        reason = "The run ended before this message was done."
        for index, message in enumerate(job.messages.all if job.messages is not None else ()):
            if index not in seen:
                row = (message.line, message.key or "", message.to, OPEN, "", reason, 0)
                self._write(self._encoded(row), message.line, OPEN)
        self._flush()
        if self.problem is None and not self._is_in_place():
            self._recreate()
        with suppress(OSError):
            os.close(self._descriptor)

    def lines_without_row(self) -> Mapping[str, Sequence[int]]:
        """Return the lines of recipients that are missing in the file, by their outcomes."""
        lines: dict[str, list[int]] = {}
        for end, line, outcome in self._rows:
            if line is not None and end > self._written:
                lines.setdefault(outcome, []).append(line)
        return lines

    def _encoded(self, row: Sequence[object]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter).writerow(escape_formulas(row))
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
            self.problem = system_reason(error)
        else:
            self.problem = None
        self._written = self._size - len(self._pending)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def _recreate(self) -> None:
        """Copy what was written to a new file."""
        self._written = 0
        for path in _candidates(self.path):
            try:
                copy = open_private(path)
            except RefusedError as error:
                self.problem = str(error)
                continue
            try:
                _copy(self._descriptor, copy)
            except OSError as error:
                self.problem = system_reason(error)
            else:
                self.path, self._written, self.problem = path, self._size, None
            finally:
                os.close(copy)
            return


def _candidates(path: Path) -> Iterator[Path]:
    """Return the path itself, and others that are called nearly the same."""
    yield path
    for number in range(2, _MOST_COPIES):
        yield sibling_path(path, f"-{number}.csv")


def _copy(source: int, to: int) -> None:
    os.lseek(source, 0, os.SEEK_SET)
    with open(source, "rb", closefd=False) as reader, open(to, "wb", closefd=False) as writer:
        copyfileobj(reader, writer)


def _as_text(result: SendResult) -> str:
    if isinstance(result.to, str):
        return result.to
    address = address_of(result.to)
    return f"{address.kind.path}/{address.id}"


def print_summary(
    console: Console, job: Job, results: Results, ending: Ending, next_command: str | None
) -> None:
    """Print what became of the messages, where each one is listed, and how to go on."""
    tally = ending.tally
    print_text(console, f"{tally}{ending.remaining}")
    _print_service(console, job)
    for kind, count in tally.failures.most_common():
        print_text(console, f"  {count:,}x {kind}")
    print_text(console, f"Results: {printable(str(results.path))}")
    if ending.error is not None:
        print_text(console, f"The run broke off: {error_text(ending.error)}")
    _print_next_command(console, ending, next_command)
    _print_unknown_command(console, job, ending)
    if next_command is not None and HIDDEN in next_command and (ending.is_early or tally.failed):
        print_text(console, f"A password was left out of this, {HIDDEN} stands for it: put it back.")
    if results.problem is not None:
        _print_missing(job, results)
    for warning in ending.warnings:
        warn(warning)


def _print_service(console: Console, job: Job) -> None:
    """Print that it was a sandbox that got everything, if it was."""
    with suppress(ConfigurationError):
        environment = job.options.service.environment
        if is_on_this_machine(environment):
            print_text(console, f"Service: {describe(environment)}")


def _print_next_command(console: Console, ending: Ending, next_command: str | None) -> None:
    tally = ending.tally
    if next_command is None:
        # The error of a journal that is gone says what to do.
        if ending.is_early and not isinstance(ending.error, JournalGoneError):
            print_text(console, "There is no journal to go on with. The results say what was delivered.")
    elif ending.is_early:
        print_text(console, f"Go on with: {next_command}")
    elif tally.outcomes[Outcome.NOT_SENT] > tally.changed:
        option = "" if next_command.endswith(_RETRY) or f"{_RETRY} " in next_command else _RETRY
        print_text(console, f"Try again what was not sent: {next_command}{option}")
    if tally.changed and not ending.is_early:
        print_text(console, f"{tally.changed:,} {_CHANGED}")


def _print_unknown_command(console: Console, job: Job, ending: Ending) -> None:
    """Print how a person can settle what stays unknown."""
    if ending.tally.outcomes[Outcome.UNKNOWN] and job.journal is not None and not ending.is_early:
        command = ("healthmsg", "journal", "unknown", job.journal.argument, *job.options.service.arguments())
        print_text(console, f"See what may have been sent, and settle it: {shell_join(command)}")


def _print_missing(job: Job, results: Results) -> None:
    """Print what the file of results lacks, by the lines of the recipients."""
    problem = f"The results are not complete: {results.problem}."
    for outcome, lines in results.lines_without_row().items():
        problem += f" {outcome.capitalize()}, but not in the results: lines {_ranges(lines)}."
    if job.journal is not None:
        command = ("healthmsg", "journal", "export", job.journal.argument, "--to", "results.csv")
        problem += f" The journal has them: {shell_join(command)}"
    warn(problem)


def _ranges(lines: Sequence[int]) -> str:
    """Return numbers in short: 2-5, 9."""
    found: list[list[int]] = []
    for line in sorted(lines):
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)
