"""What goes into bulk sending, and what comes out."""

from collections.abc import Sequence

from attrs import field, frozen

from healthmsg.files import FileToUpload
from healthmsg.models import Outcome
from healthmsg.resources.chats import BaseChat

Recipient = BaseChat | str
"""A chat handle, or an address such as `conversations/c1` or `aux/conversations/patient 7`."""


@frozen
class Outgoing:
    """One message to send, to a chat.

    In an address as text, all after the kind is the id, taken literally. `key` is yours, to recognise the
    result by.
    """

    to: Recipient = field(repr=False)
    body: str = field(repr=False)
    files: Sequence[FileToUpload] = field(default=(), repr=False)
    key: str | None = field(default=None, repr=False)


@frozen
class SendResult:
    """What became of one message.

    `message_id` is set if it was delivered, `error` if not.
    """

    key: str | None = field(repr=False)
    to: Recipient = field(repr=False)
    outcome: Outcome
    message_id: str | None = None
    error: Exception | None = None
