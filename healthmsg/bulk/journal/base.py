"""The interface of a journal: entries, claims, states, rows."""

# ruff: noqa: ARG002 - the methods take what any journal needs

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from attrs import field, frozen

from healthmsg.bulk.models import Outgoing, shown_recipient
from healthmsg.codec import Model
from healthmsg.database.states import State
from healthmsg.delivery.ledger import Delivered
from healthmsg.errors import InvalidInputError, JournalError, JournalMismatchError, Outcome


@frozen
class JournalFile(Model):
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
    """The hash of its content, if it is known already."""
    label: str | None = field(default=None, repr=False)
    """The caller's own text: it does not identify the message."""


@frozen
class EntryStatus:
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
class Claim:
    """A message that this worker alone may send.

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
    index: int | None = None
    """Its number among the messages that were given, where the journal knows that."""
    message: Outgoing | None = field(default=None, repr=False)
    """The message itself, if it is in memory. Without a durable journal, `body`, `files` and `question` are
    empty then."""
    campaign: str | None = None
    """`None`: it is of a run, or a bot's."""


@frozen
class Begun:
    """A call that is about to be made: when, to which chat, and how far the service's `Date` was ahead."""

    started_at: datetime
    sent_to: str = field(repr=False)
    date_ahead: timedelta | None = None


@frozen
class Entered:
    """A message that was entered by itself."""

    status: EntryStatus
    claim: Claim | None = None
    """`None`: it is done, another worker has it, or an earlier one to its recipient goes first."""


@frozen
class Decision(Model):
    """A person's decision about a message."""

    outcome: Outcome
    by: str = field(repr=False)
    at: datetime


@frozen
class JournalMessage(Model):
    """A message as a journal has it. What a delivered one said is no longer there, unless texts are kept.

    `to` is its address as text, `sent_to` that of the chat in which it would be, if a call was made for it.
    `started_at`, aware, is when the last call was made, by the service's clock.
    """

    key: str = field(repr=False)
    position: int
    """Its place in the order of the journal."""
    to: str = field(repr=shown_recipient)
    body: str | None = field(repr=False)
    files: tuple[JournalFile, ...] = field(repr=False)
    question: Mapping[str, object] | None = field(repr=False)
    state: State
    is_final: bool
    """Whether nothing more happens to it by itself."""
    message_id: str | None
    error: str | None
    """Why it was not sent, or why nothing is proven."""
    attempts: int
    started_at: datetime | None
    sent_to: str | None = field(repr=shown_recipient)
    updated_at: datetime
    run: int = 0
    """Which run entered it, counted from 1; 0: one that was not counted."""
    is_superseded: bool = False
    """Whether a later run had something else for this recipient instead."""
    decision: Decision | None = None
    """The last decision of a person; a later attempt may have overtaken it."""
    label: str | None = field(default=None, repr=False)
    campaign: str | None = None
    """The campaign that it is of, if it is of one."""


class Journal(ABC):
    """What a run needs of its journal: `SqlJournal`, or `MemoryJournal` for a run that leaves nothing.

    What is not abstract is here as it is in a journal that leaves nothing.

    A message waits until it is claimed. Then it is begun, and finished with its outcome. If it was certainly
    not sent, it is requeued instead.
    """

    is_durable: bool = False
    """Whether the journal outlives the run."""
    is_partly_lost: bool = False
    """Whether its newest state was lost, and that was accepted: `?accept_missing_wal=1`."""
    lease: timedelta | None = None
    """For how long claims are held unless they are renewed; `None`: as long as the journal is open."""
    salt: bytes
    """Random bytes from which keys and hashes are derived."""

    @property
    def paused_by(self) -> JournalError | None:
        """Why it cannot write just now; `None` if it can. It may pass."""
        return None

    def now(self) -> datetime:
        """Return the time by the journal's clock."""
        return datetime.now(UTC)

    @abstractmethod
    async def claim(self, most: int) -> list[Claim]:
        """Take the next messages to send, in order.

        At most one for each recipient, and none while an earlier one is open. All addresses that are known to
        lead to the same chat count as one recipient.
        """

    async def claim_in_doubt(self) -> list[Claim]:
        """Take the messages that a run which has ended may have sent."""
        return []

    @abstractmethod
    async def begin(
        self, claim: Claim, started_at: datetime, sent_to: str, date_ahead: timedelta | None = None
    ) -> None:
        """Note, before the call is made, that it is about to be, and to which chat.

        Raises:
            ClaimLostError: another worker has it, or an earlier message goes first: do not make the call.
        """

    @abstractmethod
    async def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        message_id: str | None = None,
        error: str | None = None,
        is_final: bool = False,
    ) -> None:
        """Note its outcome. An `UNKNOWN` one blocks its chat until it `is_final`.

        Raises:
            ClaimLostError: another worker has it, and handles it.
        """

    @abstractmethod
    async def requeue(self, claim: Claim) -> None:
        """Let it wait again: it was certainly not sent.

        Raises:
            ClaimLostError: another worker has it.
        """

    @abstractmethod
    async def park(self, claim: Claim) -> None:
        """Leave it to a run that is given it: it has certainly not been sent.

        Raises:
            ClaimLostError: another worker has it.
        """

    @abstractmethod
    def abandon(self, claim: Claim) -> None:
        """Note that this run gives a message up. A durable journal keeps it for the next run."""

    @abstractmethod
    def left_over(self) -> list[Claim]:
        """Return the messages that are lost with this run, unsent. A durable journal keeps them."""

    async def learn_same(self, groups: Sequence[Sequence[str]]) -> None:  # noqa: B027 - nothing to note
        """Note that the addresses of each group lead to the same chat: then their messages keep one order.

        Messages that are begun by then are not interrupted.
        """

    async def same_chats(self, chats: Iterable[str]) -> list[tuple[str, ...]]:
        """Return the groups of addresses that lead to the same chat as one of these."""
        return []

    async def conversation_with(self, chat: str) -> str | None:
        """Return the chat to which the last message to this recipient went, if there was one."""
        return None

    async def is_claimed_id(self, message_id: str, besides: str) -> bool:
        """Return whether a message is known to be that of another entry than `besides`."""
        return False

    async def newest_delivery(
        self, chat: str | None = None, *, before: datetime | None = None
    ) -> Delivered | None:
        """Return the newest delivered message whose id is known: of this chat if there is one, or of any.

        With `before`, the newest one of any chat that was noted by then. Times are by the journal's clock.
        """
        return None

    async def renew(self) -> Mapping[str, int]:
        """Renew the lease on all claims; return the key and `fence` of each."""
        return {}

    def stop_retrying(self) -> None:  # noqa: B027 - nothing is tried again
        """Stop retrying failed writes, since the run is ending."""
