"""What goes into bulk sending, and what comes out."""

from collections.abc import AsyncIterable, Iterable, Sequence

from attrs import field, frozen

from healthmsg.files import FileToUpload
from healthmsg.models import Outcome, Question
from healthmsg.resources.chats import BaseChat

Recipient = BaseChat | str
"""A chat handle, or an address such as `conversations/c1`, `aux/conversations/patient 7` or `users/u1`."""


@frozen
class Outgoing:
    """One message to send, to a chat, or to a user: `users/…` starts the conversation, once a run.

    In an address as text, all after the kind is the id, taken literally. `key` is yours, to recognise the
    result by. With a `question`, `body` is its text, and there can be no files.
    """

    to: Recipient = field(repr=False)
    body: str = field(repr=False)
    files: Sequence[FileToUpload] = field(default=(), repr=False)
    key: str | None = field(default=None, repr=False)
    question: Question | None = field(default=None, repr=False)


Messages = Iterable[Outgoing] | AsyncIterable[Outgoing]


@frozen
class SendResult:
    """What became of one message.

    `message_id` is set if it was delivered (unless a person decided that), `error` if not. `attempts` is how
    often a call was made for it.
    `index` is its number among the messages that were given, from 0; `None` if it was not among them. From a
    journal, `to` is the address as text, and `key` always set.
    """

    key: str | None = field(repr=False)
    to: Recipient = field(repr=False)
    outcome: Outcome
    message_id: str | None = None
    error: Exception | None = None
    attempts: int = 0
    index: int | None = None


@frozen
class SendReport:
    """What became of all messages of a run. `seconds` is how long it took."""

    messages: int
    delivered: int
    not_sent: int
    unknown: int
    attempts: int
    seconds: float
    failures: tuple[SendResult, ...]
    """The first 1,000 that were not delivered; iterate the run for all of them."""
    other_text: int = 0
    """How many of the messages were for recipients who already got, or may have got, another text from the
    journal: sent too, or not sent with an `OtherTextError`, as `other_text` says."""
    superseded: int = 0
    """How many messages of the journal a run without messages left out, since a later run had something else
    for their recipients."""
