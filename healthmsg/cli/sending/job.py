"""What is to be done."""

from collections.abc import Iterator

from attrs import frozen

from healthmsg.bulk import Outgoing, Preview, SendMany
from healthmsg.bulk.options import OtherText
from healthmsg.cli.sending.journal_place import JournalPlace
from healthmsg.cli.sending.messages import Message, Messages
from healthmsg.cli.service import Service
from healthmsg.client import Client


@frozen
class Job:
    """A run: these messages, or without them all that the journal still holds."""

    messages: Messages | None
    journal: JournalPlace | None
    is_exact: bool
    """Whether diacritics in auxiliary ids are meant."""
    retry_failed: bool
    settle: float
    stop_after: float
    skips_sent: bool = False
    """Whether those are left out who already got another text from the journal."""
    superseded: bool = False
    """Whether the journal's texts are sent too that a later run replaced by others."""
    service: Service = Service()

    def send(self, client: Client) -> SendMany:
        """Make the run."""
        return client.send_many(
            self.outgoing(client),
            journal=None if self.journal is None else self.journal.target,
            settle=self.settle,
            retry_failed=self.retry_failed,
            stop_after=self.stop_after,
            other_text=self._other_text,
            superseded=self.superseded,
        )

    def preview(self, client: Client, *, check_chats: bool = False) -> Preview:
        """Make its preview."""
        return client.preview_many(
            self.outgoing(client),
            journal=None if self.journal is None else self.journal.target,
            check_chats=check_chats,
            retry_failed=self.retry_failed,
            other_text=self._other_text,
            superseded=self.superseded,
        )

    @property
    def _other_text(self) -> OtherText:
        has_both = self.journal is not None and self.messages is not None
        return "skip" if self.skips_sent and has_both else "send"

    def outgoing(self, client: Client) -> Iterator[Outgoing] | None:
        """Give the messages as the client takes them."""
        return None if self.messages is None else self.messages.outgoing(client, is_exact=self.is_exact)

    def message(self, index: int | None) -> Message | None:
        """Give the message of a result."""
        return None if self.messages is None or index is None else self.messages.all[index]
