"""What a run with a journal knows of other messages, to prove with it what became of one in doubt."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from attrs import define, evolve

from healthmsg.bulk.journal.base import Journal
from healthmsg.delivery.ledger import Delivered, Deliveries
from healthmsg.delivery.proof import Attempt


class DeliveryProofs:
    """Returns delivered messages from this run and from its journal; while there are none, waits for one.

    `when_waiting` is called when something begins to wait for the first one.
    """

    def __init__(self, journal: Journal, deliveries: Deliveries, when_waiting: Callable[[], object]) -> None:
        self._journal = journal
        self._deliveries = deliveries
        self._when_waiting = when_waiting
        self._waiters = deque[asyncio.Future[bool]]()
        self.has_first: bool = False
        """Whether a message of this run was delivered."""

    async def witnesses(self, attempt: Attempt) -> Sequence[Delivered]:
        """Return messages that are known to be delivered, from before the attempt and after it."""
        found = {one.message_id: one for one in self._deliveries.witnesses(attempt)}
        for sample in (
            await self._journal.newest_delivery(attempt.chat.text),
            await self._journal.newest_delivery(before=attempt.departed_at - self.journal_ahead),
        ):
            if sample is not None and sample.message_id not in found:
                found[sample.message_id] = self._delivered(sample)
        return tuple(found.values())

    async def wait(self) -> bool:
        """Wait until the first message of this run is delivered; return False if there will be none."""
        if self.has_first:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._when_waiting()
        try:
            return await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    @property
    def waiting(self) -> int:
        """How many wait for the first one."""
        return len(self._waiters)

    def note_first(self) -> None:
        """Note that a message of this run was delivered: nothing waits any longer."""
        self.has_first = True
        while self._waiters:
            _resolve(self._waiters.popleft(), outcome=True)

    def release_one(self) -> None:
        """Let the first that waits go, since nothing else is under way: a later message may be the first."""
        if self._waiters:
            _resolve(self._waiters.popleft(), outcome=False)

    @property
    def journal_ahead(self) -> timedelta:
        """By how much the client's clock is ahead of the journal's."""
        return self._deliveries.clock.moment() - self._journal.now()

    def date_ahead(self) -> timedelta | None:
        """Return about how much the service's `Date` is ahead of the journal's clock, if that is known."""
        ahead = self._deliveries.clock.date_ahead()
        return None if ahead is None else ahead + self.journal_ahead

    def _delivered(self, found: Delivered) -> Delivered:
        """Bring what the journal has into the client's clock, with what this run knows of it besides."""
        body, files = self._deliveries.text_of(found.message_id) or (found.body, found.files)
        ahead = self.journal_ahead
        departed_at, answered_at = found.departed_at + ahead, found.answered_at + ahead
        return evolve(found, departed_at=departed_at, answered_at=answered_at, body=body, files=files)


def _resolve(waiter: "asyncio.Future[bool]", *, outcome: bool) -> None:
    if not waiter.done():
        waiter.set_result(outcome)


@define
class JournalEvidence:
    """The evidence about one message of a journal."""

    _journal: Journal
    _deliveries: Deliveries
    _proofs: DeliveryProofs
    _key: str
    _had_first: bool = False
    """Whether a message of this run was delivered when the witnesses were asked for."""

    async def claim(self, attempt: Attempt, message_id: str) -> bool:
        """Take a message for the one that was attempted; return whether it belongs to no other."""
        is_anothers = await self._journal.is_claimed_id(message_id, self._key)
        return not is_anothers and self._deliveries.claim(attempt, message_id)

    async def is_claimed(self, message_id: str) -> bool:
        """Return whether a message is known to belong to another sending."""
        if self._deliveries.is_claimed(message_id):
            return True
        return await self._journal.is_claimed_id(message_id, self._key)

    async def witnesses(self, attempt: Attempt) -> Sequence[Delivered]:
        """Return messages that are known to be delivered, from before the attempt and after it."""
        self._had_first = self._proofs.has_first
        return await self._proofs.witnesses(attempt)

    async def wait(self) -> bool:
        """Wait for the first message of this run that is delivered; return whether one came meanwhile."""
        # Without a journal, a run may wait for its next message for ever.
        if self._had_first or not self._journal.is_durable:
            return False
        return await self._proofs.wait()
