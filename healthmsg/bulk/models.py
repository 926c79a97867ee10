"""What goes into bulk sending, how a run is to go about it, and what comes out."""

import os
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Final, Literal, TypeGuard

from attrs import field, frozen

from healthmsg.api import Api
from healthmsg.codec import Model
from healthmsg.errors import CallError, HealthmsgError, InvalidIdError, InvalidInputError
from healthmsg.files import FileToUpload
from healthmsg.ids import USERS, ChatAddress
from healthmsg.models import Outcome, Question
from healthmsg.resources.chat import BaseChat, belongs_to
from healthmsg.structuring import in_json
from healthmsg.validation import check_choice, check_flag, check_seconds

Recipient = BaseChat | str
"""A chat handle, or an address such as `conversations/c1`, `aux/conversations/patient 7` or `users/u1`."""


def shown_recipient(to: object) -> str:
    """Show a recipient in `repr`. An auxiliary id, and what is no address, may name a patient: left out."""
    if to is None or isinstance(to, BaseChat):
        return repr(to)
    if isinstance(to, str) and to.startswith(USERS):
        return repr(to)
    try:
        return repr(ChatAddress.parse(to).shown)  # type: ignore[arg-type] # refuses what is no text
    except InvalidIdError:
        return "'…'"


def _address_text(to: object) -> str:
    """Return a recipient for JSON; what is neither a handle nor text is left out."""
    if isinstance(to, BaseChat):
        return to.address.text
    return to if isinstance(to, str) else ""


RECIPIENT: Final = in_json(str, _address_text)
"""Metadata of a recipient in a result: its dict has the address as text."""


@frozen
class Outgoing:
    """One message to send, to a chat, or to a user: `users/…` starts the conversation, once a run.

    In an address as text, all after the kind is the id, taken literally; an id alone is no address, and its
    message is not sent (`InvalidIdError`), since it does not say what it is the id of. `key` is yours, to
    recognise the result by, and tells messages apart. `label` is yours, too, and only comes back in the
    result, also of a later run with the same journal (1,000 bytes at most). With a `question`, `body` is its
    text, there can be no files, and a bot that is given the journal knows the answers by the label:
    `@router.answered("visit")`.

    What is sent is what the files hold when the run takes the message from its iterable, before it asks for
    the next one: see `UploadFile`. Give each message files of its own. With a journal, files must have a path
    and stay as they are until they are delivered, also by a later run; a file that holds something else then
    is refused. One that lies elsewhere in the next run is found there, if it holds the same.

    A conversation has several addresses: `conversations/…` with its own id or with that of the user [V],
    `users/…`, and `aux/conversations/…`. The order of the messages is kept over all of them, and a preview
    counts repeats over all of them, as soon as the client knows that they are one. It always knows that of
    `users/u` and `conversations/u`; it learns the others when it starts a conversation, reads one (`get`) or
    lists them, reads a user by auxiliary id, or invites one. While it has read nothing, it cannot know who
    has an auxiliary id, nor that `conversations/…` with the id of the conversation and with that of the user
    are one: list the conversations first, or make a preview with `check_chats` with the same client. What it
    learns during a run counts from then on; what is on its way by then is left to its end. A journal keeps
    it for later runs. Where a message is sent never depends on it.
    """

    to: Recipient = field(repr=shown_recipient)
    body: str = field(repr=False)
    files: Sequence[FileToUpload] = field(default=(), repr=False)
    key: str | None = field(default=None, repr=False)
    question: Question | None = field(default=None, repr=False)
    label: str | None = field(default=None, repr=False)


@frozen
class VerificationRequest(Outgoing):
    """A bot's request that a user prove who they are. It has no text by which it could be found in a chat."""

    user_id: str = field(default="", repr=False, kw_only=True)
    provider_id: str = field(default="", kw_only=True)


Messages = Iterable[Outgoing] | AsyncIterable[Outgoing]
OnUnknown = Literal["reconcile", "report"]
"""What to do with a message that may have been delivered: look for it in its chat, or report it."""
OtherText = Literal["send", "skip"]
"""What to do with a message whose recipient already got, or may have got, another one from the journal."""
OTHER_TEXTS: Final[tuple[OtherText, ...]] = ("send", "skip")
JournalTarget = str | os.PathLike[str]
"""A file, or the URL of a PostgreSQL database."""


@frozen
class SendOptions:
    """The options of `send_many`; see there.

    Raises:
        InvalidInputError: an option cannot be right.
    """

    on_unknown: OnUnknown
    settle: float
    retry_failed: bool
    stop_after: float
    other_text: OtherText = "send"
    superseded: bool = False

    def __attrs_post_init__(self) -> None:
        check_choice(self.on_unknown, "on_unknown", ("reconcile", "report"))
        check_seconds(self.settle, "settle")
        check_flag(self.retry_failed, "retry_failed")
        check_seconds(self.stop_after, "stop_after")
        check_choice(self.other_text, "other_text", OTHER_TEXTS)
        check_flag(self.superseded, "superseded")

    def check_fit(self, messages: Messages | None, journal: JournalTarget | None) -> None:
        """Refuse options that do not fit the input.

        Raises:
            InvalidInputError: there are neither messages nor a journal, or an option needs one of them.
        """
        if messages is None and journal is None:
            raise InvalidInputError("send_many needs messages, or a journal that holds some")
        if self.superseded and messages is not None:
            raise InvalidInputError("superseded is for a run without messages: what is given is sent anyway")
        if self.other_text != "send" and (journal is None or messages is None):
            raise InvalidInputError("other_text needs messages, and a journal, which knows who got what")


@frozen
class SendResult(Model):
    """The result of one message.

    `message_id` is set if it was delivered (unless a person decided that), `error` if not, or if it was and
    that could not be noted in the journal. `attempts` is how often a call was made for it. `index` is its
    number among the messages that were given, from 0; `None` if it was not among them. `label` is that of the
    message. From a journal, `to` is the address as text, and `key` always set.
    """

    key: str | None = field(repr=False)
    to: Recipient = field(repr=shown_recipient, metadata=RECIPIENT)
    outcome: Outcome
    message_id: str | None = None
    error: Exception | None = None
    attempts: int = 0
    index: int | None = None
    label: str | None = field(default=None, repr=False)


@frozen
class SendReport(Model):
    """The summary of a run. `seconds` is how long it took."""

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


def check_outgoing(item: object) -> Outgoing:
    """Return what is a message.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(item, Outgoing):
        return item
    raise InvalidInputError(f"send_many takes Outgoing messages, not {type(item).__name__}")


def address_of(to: Recipient) -> ChatAddress:
    """Return the address that a recipient stands for.

    Raises:
        InvalidIdError: it is none.
    """
    return to.address if isinstance(to, BaseChat) else ChatAddress.parse(to)


def check_own(to: Recipient, api: Api | None) -> None:
    """Refuse a handle that belongs to another user or client; without an `api`, any.

    Raises:
        InvalidInputError: it is another user's or client's.
    """
    if isinstance(to, BaseChat) and api is None:
        raise InvalidInputError(
            "a campaign needs the address of a chat as text, since it knows no client: `handle.address.text`,"
            " with an auxiliary id `exact_aux_id(handle.address.text)`"
        )
    if isinstance(to, BaseChat) and api is not None and not belongs_to(to, api):
        raise InvalidInputError("this chat is another user's or client's: send to it with a run of that one")


def is_user(to: Recipient) -> TypeGuard[str]:
    """Return whether it is a user, who may not have a conversation with the sender yet."""
    return isinstance(to, str) and to.startswith(USERS)


def outcome_of(error: Exception) -> Outcome:
    """Return what is known of an item that ended in an error."""
    if isinstance(error, CallError):
        return error.outcome
    if isinstance(error, HealthmsgError):  # refused, or not authorized: before anything was sent
        return Outcome.NOT_SENT
    return Outcome.UNKNOWN
