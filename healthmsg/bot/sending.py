"""A bot's outbox, as far as its other parts need it: none of them needs another one to be built."""

from typing import Protocol

from healthmsg.bot.content import Content
from healthmsg.ids import ChatAddress
from healthmsg.models import IdentityProvider, SentMessage


class Replies(Protocol):
    """A bot's outbox, as far as handlers need it."""

    async def send(
        self, key: str, chat: ChatAddress, content: Content, *, retry_refused: bool = False
    ) -> SentMessage:
        """Send a message once; with the same key again, return what was sent.

        With `retry_refused`, what was certainly not sent then is sent now.
        """

    async def request_verification(
        self,
        key: str,
        chat: ChatAddress,
        user_id: str,
        provider: IdentityProvider,
        *,
        retry_refused: bool = False,
    ) -> SentMessage:
        """Ask a user to prove who they are, once; see `send`."""


class KnownMessage(Protocol):
    """A message that this program has sent."""

    @property
    def key(self) -> str:
        """What makes it the same in the next run; of a campaign, the recipient's key."""

    @property
    def label(self) -> str | None:
        """The name of its question."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which its answers are known: the label, and that of the campaign."""


class SentMessages(Protocol):
    """Where messages that were sent are found again: the outbox, or the journal of a campaign."""

    async def message_of(self, message_id: str, chat: ChatAddress) -> KnownMessage | None:
        """Return the message with that id of the service's in a chat; `None` if it was not sent from here."""


class DialogOutbox(Replies, SentMessages, Protocol):
    """An outbox, as far as dialogs need it."""

    async def is_unknown(self, key: str) -> bool:
        """Return whether it stays unknown if a message was delivered."""
