"""The file that says what became of each message."""

import csv
from collections.abc import Container
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from healthmsg.bulk import SendResult
from healthmsg.bulk.sending import address_of
from healthmsg.cli.private_file import create_private
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.messages import Message

COLUMNS: Final = ("line", "key", "to", "outcome", "message_id", "error", "attempts")
OPEN: Final = "open"
"""Written for what a run did not come to: with a journal, it may be known there."""


class Results:
    """Writes a row as soon as it is known, so that a crash leaves all that was.

    Raises:
        RefusedError: on entering: the file exists already, or cannot be made.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self._path = path
        self._delimiter = delimiter

    @classmethod
    def beside(cls, path: Path, delimiter: str) -> "Results":
        """Name the file after another one, and the time."""
        now = datetime.now().astimezone()
        return cls(path.with_name(f"{path.stem}.results-{now:%Y%m%d-%H%M%S}.csv"), delimiter)

    @property
    def path(self) -> Path:
        """Where they are."""
        return self._path

    def add(self, result: SendResult, message: Message | None) -> None:
        """Write down what became of a message; `None` is one that only the journal knows."""
        error = result.error
        said = "" if error is None else f"{type(error).__name__}: {error}"
        to = message.to if message is not None else _as_text(result)
        line = "" if message is None else message.line
        known = (result.key or "", to, result.outcome.value, result.message_id or "", said, result.attempts)
        self._writer.writerow((line, *known))
        self._file.flush()

    def add_open(self, job: Job, seen: Container[int]) -> None:
        """Write down those of which the run has said nothing, by their positions."""
        said = "The run ended before this message was done."
        for index, message in enumerate(job.messages.all if job.messages is not None else ()):
            if index not in seen:
                self._writer.writerow((message.line, message.key or "", message.to, OPEN, "", said, 0))

    def __enter__(self) -> Self:
        self._file = create_private(self._path)
        self._writer = csv.writer(self._file, delimiter=self._delimiter)
        self._writer.writerow(COLUMNS)
        self._file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _as_text(result: SendResult) -> str:
    if isinstance(result.to, str):
        return result.to
    address = address_of(result.to)
    return f"{address.kind.path}/{address.id}"
