"""The file that says what became of each message."""

import csv
import io
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from healthmsg.bulk import SendResult
from healthmsg.bulk.models import address_of
from healthmsg.cli.names import beside
from healthmsg.cli.private_file import BOM, as_cells, open_private
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.messages import Label, Message
from healthmsg.cli.wording import written

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
