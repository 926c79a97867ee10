"""What is to be done."""

from collections.abc import Iterator

from attrs import frozen

from healthmsg.bulk import Outgoing, SendManyOptions
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

    def send_options(self) -> SendManyOptions:
        """Return the options of the client."""
        options = SendManyOptions(
            settle=self.settle,
            retry_failed=self.retry_failed,
            stop_after=self.stop_after,
            superseded=self.superseded,
        )
        if self.journal is not None:
            options["journal"] = self.journal.target
            if self.messages is not None:
                options["other_text"] = "skip" if self.skips_sent else "send"
        return options

    def outgoing(self, client: Client) -> Iterator[Outgoing] | None:
        """Give the messages as the client takes them."""
        return None if self.messages is None else self.messages.outgoing(client, is_exact=self.is_exact)

    def message(self, index: int | None) -> Message | None:
        """Give the message of a result."""
        return None if self.messages is None or index is None else self.messages.all[index]
