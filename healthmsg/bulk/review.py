"""What stays unknown in a journal: a person looks at it, and settles it."""

import os
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from attrs import field, frozen

from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.journal.target import Target
from healthmsg.bulk.models import shown_recipient
from healthmsg.codec import Model
from healthmsg.errors import JournalNotFoundError
from healthmsg.errors.base import hides_arguments
from healthmsg.models import Outcome


@frozen
class UnknownMessage(Model):
    """A message of a journal that may have been delivered.

    `to` is its address as text, `sent_to` that of the chat in which it would be, if a call was made for it.
    `started_at`, aware, is when the last call was made, by the service's clock. `error` says why nothing is
    proven. With `is_final`, no run looks for it any more; otherwise the next run does.
    """

    key: str = field(repr=False)
    to: str = field(repr=shown_recipient)
    body: str = field(repr=False)
    sent_to: str | None = field(repr=shown_recipient)
    started_at: datetime | None
    error: str | None
    attempts: int
    is_final: bool


class JournalReview:
    """What stays unknown in a journal, and a person's word about it. Making one opens nothing.

    `journal` is given as to `send_many`. To look works beside a run; to decide does not with an SQLite file
    that a run has open, nor about a message that a worker has just now.

    Raises:
        ConfigurationError: it is neither a file nor a PostgreSQL database.
    """

    @hides_arguments  # the URL may have a password in it
    def __init__(self, journal: str | os.PathLike[str]) -> None:
        self._path = Target.parse(journal).path
        self._journal = journal

    async def unknown(self) -> AsyncGenerator[UnknownMessage, None]:
        """Go through the messages of which it is not known whether they were delivered, in order.

        Raises:
            JournalError: there is none, or it cannot be read.
        """
        async with open_journal(self._journal, is_reading=True) as journal:
            for state in (State.UNKNOWN, State.SENDING):
                async for row in journal.rows(state):
                    yield UnknownMessage(
                        *(row.key, row.chat, row.body or "", row.sent_to, row.started_at, row.error),
                        *(row.attempts, row.is_final),
                    )

    async def decide(self, key: str, outcome: Outcome, *, by: str, message_id: str | None = None) -> None:
        """Settle what became of a message by a person's word; the journal keeps who it was, and when.

        `Outcome.DELIVERED` is final: it is not sent again. With `Outcome.NOT_SENT` it is sent again by the
        next run that is given it, or that goes on with the journal, unless a later run had something else
        for its recipient. Either way the later messages of its chat wait no longer. `message_id` is that of
        the message in the chat, where it was found.

        Raises:
            InvalidInputError: there is no such message, it is not unknown, or the id is another message's.
            JournalInUseError: a run has the journal, or a worker the message.
            JournalError: there is no journal, or it cannot be used.
        """
        if self._path is not None and not self._path.exists():
            raise JournalNotFoundError("There is no journal there.")
        async with open_journal(self._journal) as journal:
            await journal.decide(key, outcome, by=by, at=datetime.now(UTC), message_id=message_id)
