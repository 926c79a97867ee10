"""A bot's outbox, as far as its other parts need it: none of them needs another one to be built."""

from collections.abc import Callable
from typing import Protocol

from healthmsg.bot.content import Content
from healthmsg.bot.retrying import Retry
from healthmsg.ids import ChatAddress
from healthmsg.models import IdentityProvider, Message, SentMessage


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


class NotKnownYet(Exception):  # noqa: N818 - no failure: a state that ends
    """It cannot be said yet whether a message was sent from here, if the bot's own user has sent it."""

    def __init__(
        self,
        reason: str,
        retry: Retry,
        may_be: Callable[[Message], bool] = lambda _: True,
    ) -> None:
        self.reason: str = reason
        """Why, and what is to be done about it. It names no person."""
        self.retry: Retry = retry
        """When to ask again, and how often."""
        self.may_be: Callable[[Message], bool] = may_be
        """Whether it is still in question, once the message itself is known."""
        super().__init__(reason)


class SentMessages(Protocol):
    """Where messages that were sent are found again: the outbox, or the journal of a campaign."""

    async def message_of(
        self, message_id: str, chat: ChatAddress, user_id: str | None = None
    ) -> KnownMessage | None:
        """Return the message with that id of the service's in a chat; `None` if it was not sent from here.

        `user_id` is who has answered it.

        Raises:
            NotKnownYet: it may be known later.
        """


class DialogOutbox(Replies, SentMessages, Protocol):
    """An outbox, as far as dialogs need it."""

    async def is_unknown(self, key: str) -> bool:
        """Return whether it stays unknown if a message was delivered."""
