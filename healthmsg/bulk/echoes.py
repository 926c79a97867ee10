"""One's own messages as a stream of events brings them, and what that proves of one without an answer.

The gateway sends a user's own messages back [V]. Such an echo is the message that was sent, if

- it is of this user, in the same chat, and was received while nothing was missed: not read later from a list,
  where it may have stood before the call;
- it says what was sent, in the very form or in one in which this service is known to keep texts and files; of
  a request for verification, which has no text: it is one;
- it was received after the call had begun;
- it is not known to be another sending's: by the journal, or by what this client has delivered;
- no other message with this text to this recipient is under way, in doubt, or stays unknown;
- no second one like it was heard since.

*Assumed: no other program of this user, which shares neither client nor journal, sends an equal text to the
same chat in the same moments, as `delivery/proof.py` assumes; and what the gateway brings after a call has
begun is no equal message from before it of which this client knows nothing.*

Whatever is no proof is left to the search in the list, which goes by stamps.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import define, field

from healthmsg.bulk.entries import is_verification
from healthmsg.bulk.journal.base import Claim
from healthmsg.bulk.reconcile import JournalEvidence, Reconciled
from healthmsg.delivery.aliases import Aliases
from healthmsg.delivery.ledger import Deliveries, Files
from healthmsg.delivery.proof import Attempt
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, Outcome, VerificationPayload

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

Search = Callable[[], Awaitable[Reconciled]]


@define(eq=False)
class _Expected:
    """A message whose call has begun, and what was heard of it."""

    chat: ChatAddress
    body: str = field(repr=False)
    files: Files = field(repr=False)
    is_verification: bool
    began_at: datetime
    heard: str | None = None
    """The id of the message that may be it."""
    is_ambiguous: bool = False
    """Whether there was more than one."""
    interrupt: Callable[[], None] | None = field(default=None, repr=False)
    """Ends the search for it."""


class Echoes:
    """The messages whose calls have begun, until they are forgotten, and their echoes."""

    def __init__(self, journal: "SqlJournal", deliveries: Deliveries, aliases: Aliases) -> None:
        self._journal = journal
        self._deliveries = deliveries
        self._aliases = aliases
        self._expected: dict[str, _Expected] = {}

    def expect(self, claim: Claim, chat: ChatAddress) -> None:
        """Note that the call with a message begins now; what was heard of an earlier one stays."""
        earlier = self._expected.get(claim.key)
        if earlier is not None:
            return  # a late echo of the earlier call is of the same message
        message = claim.message
        self._expected[claim.key] = _Expected(
            chat,
            claim.body if message is None else message.body,
            tuple((file.name, file.size) for file in claim.files),
            is_verification(claim),
            self._deliveries.clock.moment(),
        )

    def forget(self, key: str) -> None:
        """Forget a message: what became of it is known, or it is left to another run."""
        self._expected.pop(key, None)

    def hear(self, chat: ChatAddress, message: Message, received_at: datetime) -> None:
        """Take in a message of this user's that the gateway has just brought."""
        if self._deliveries.is_claimed(message.id):
            return  # its call was answered
        for one in self._expected.values():
            if received_at >= one.began_at and self._is_like(one, chat, message):
                one.is_ambiguous |= one.heard not in {None, message.id}
                one.heard = message.id
                if one.interrupt is not None:
                    one.interrupt()

    def of(self, claim: Claim, evidence: JournalEvidence) -> "Echo | None":
        """Return the echo of a message that is in doubt, if it is one whose call this process has made."""
        expected = self._expected.get(claim.key)
        return None if expected is None else Echo(self._journal, claim.key, expected, evidence)

    def _is_like(self, one: _Expected, chat: ChatAddress, message: Message) -> bool:
        if self._aliases.are_same(one.chat.text, chat.text) is not True:
            return False
        if one.is_verification or isinstance(message.payload, VerificationPayload):
            return one.is_verification and isinstance(message.payload, VerificationPayload)
        files = tuple((file.name, file.size) for file in message.attachments)
        return self._deliveries.rewritings.is_surely(one.body, message.body or "", one.files, files)


@define(eq=False)
class Echo:
    """The echo of one message in doubt, which may have come already, or come while it is searched for."""

    _journal: "SqlJournal"
    _key: str = field(repr=False)
    _expected: _Expected
    _evidence: JournalEvidence

    async def or_else(self, search: Search, attempt: Attempt) -> Reconciled:
        """Return what the echo proves, as soon as it is there, or else what a search finds."""
        looked_at: str | None = None
        while True:
            heard = self._expected.heard
            if heard != looked_at and heard is not None and await self._is_proof(heard, attempt):
                return Reconciled(Outcome.DELIVERED, heard)
            looked_at = heard
            if self._expected.heard != looked_at:
                continue  # one that came meanwhile
            limit = asyncio.timeout(None)
            try:
                async with limit:
                    self._expected.interrupt = lambda limit=limit: self._end(limit)
                    return await search()
            except TimeoutError:
                if not limit.expired():
                    raise
            finally:
                self._expected.interrupt = None

    def _end(self, limit: asyncio.Timeout) -> None:
        self._expected.interrupt = None
        limit.reschedule(asyncio.get_running_loop().time())

    async def _is_proof(self, message_id: str, attempt: Attempt) -> bool:
        if self._expected.is_ambiguous or await self._journal.has_equal_in_doubt(self._key):
            return False
        return await self._evidence.claim(attempt, message_id)
