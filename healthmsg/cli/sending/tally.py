"""What became of the messages, in numbers."""

from collections import Counter
from typing import Final

from attrs import Factory, define

from healthmsg.bulk import SendResult
from healthmsg.cli.wording import kind_of
from healthmsg.errors import InvalidFileError, JournalMismatchError, OtherTextError, UploadFileError
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
