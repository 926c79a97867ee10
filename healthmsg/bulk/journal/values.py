"""What goes into a journal, and what comes out."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum

from attrs import field, frozen

from healthmsg.errors import InvalidInputError, JournalMismatchError, Outcome


class State(Enum):
    """How far a message is."""

    WAITING = "waiting"
    SENDING = "sending"
    """Its call has been, or is about to be, made."""
    DELIVERED = "delivered"
    NOT_SENT = "not sent"
    UNKNOWN = "unknown"
    SET_ASIDE = "set aside"
    """An earlier run was to send it, and the present one was not given it."""


@frozen
class Owner:
    """What a journal belongs to; `None`: not known, or nothing yet."""

    api_url: str | None
    """In its comparable form."""
    account: str | None = field(repr=False)
    """The user's id there."""


@frozen
class JournalFile:
    """A file of a message, as the journal knows it: never its contents."""

    path: str = field(repr=False)
    name: str = field(repr=False)
    size: int | None = None
    content_type: str | None = None
    digest: str | None = field(default=None, repr=False)
    """SHA-256 of what it held when it was entered: nothing else is sent under its name."""


@frozen
class Entry:
    """A message to enter. `question` is anything that JSON can hold."""

    key: str = field(repr=False)
    chat: str = field(repr=False)
    body: str = field(repr=False)
    files: tuple[JournalFile, ...] = field(default=(), repr=False)
    question: Mapping[str, object] | None = field(default=None, repr=False)
    fingerprint: bytes | None = field(default=None, repr=False)
    """What tells it from others, if that is known already."""
    label: str | None = field(default=None, repr=False)
    """The sender's own: it tells nothing from anything."""


@frozen
class Standing:
    """What is known of a message that was entered.

    If it was refused, `problem` says why: another text is known under its key (then the rest is that other
    message's), or it has something that no journal can hold (then there is no state).
    """

    key: str = field(repr=False)
    chat: str = field(repr=False)
    state: State | None
    is_new: bool = False
    is_final: bool = False
    """Whether nothing more happens to it by itself."""
    message_id: str | None = None
    error: str | None = None
    attempts: int = 0
    problem: JournalMismatchError | InvalidInputError | None = None
    run: int | None = None
    """Which run entered it; `None`: none did yet."""
    label: str | None = field(default=None, repr=False)


@frozen
class Claimed:
    """A message that this worker has, and nobody else.

    `state` is what it was when it was claimed. `started_at` and `sent_to`, the chat, are of the last attempt,
    if there was one.
    """

    key: str = field(repr=False)
    chat: str = field(repr=False)
    body: str = field(repr=False)
    files: tuple[JournalFile, ...] = field(repr=False)
    question: Mapping[str, object] | None = field(repr=False)
    state: State
    attempts: int
    started_at: datetime | None
    sent_to: str | None = field(repr=False)
    fence: int
    """How many times the message has been claimed: an earlier claim is void."""
    date_ahead: timedelta | None = None
    """By how much the service's `Date` was ahead of the journal's clock then, if that is known."""
    is_superseded: bool = False
    """Whether a later run had something else for this recipient instead."""
    label: str | None = field(default=None, repr=False)


@frozen
class Sample:
    """A delivered message of which the id is known, where it went and when; of its text, only a hash.

    Its call did not leave before `started_at`, and was answered by `noted_at`, by the journal's clock.
    """

    key: str = field(repr=False)
    sent_to: str = field(repr=False)
    message_id: str
    body_hash: bytes = field(repr=False)
    started_at: datetime
    noted_at: datetime


@frozen
class Earlier:
    """A message that an earlier run was given: of one run are those that were entered by it together.

    `chat` is the address that was asked for: the message may have gone to another one of the same recipient.
    """

    key: str = field(repr=False)
    chat: str = field(repr=False)
    state: State
    run: int


@frozen
class Decision:
    """What a person said became of a message, and when."""

    outcome: Outcome
    by: str = field(repr=False)
    at: datetime


@frozen
class Row:
    """One line of the journal. What a delivered message said is no longer there, unless bodies are kept."""

    key: str = field(repr=False)
    position: int
    chat: str = field(repr=False)
    body: str | None = field(repr=False)
    files: tuple[JournalFile, ...] = field(repr=False)
    question: Mapping[str, object] | None = field(repr=False)
    state: State
    is_final: bool
    message_id: str | None
    error: str | None
    attempts: int
    started_at: datetime | None
    sent_to: str | None = field(repr=False)
    updated_at: datetime
    run: int = 0
    """Which run entered it, counted from 1; 0: one that was not counted."""
    is_superseded: bool = False
    """Whether a later run had something else for this recipient instead."""
    decision: Decision | None = None
    """What a person decided last, which a later attempt may have made history."""
    label: str | None = field(default=None, repr=False)
