"""What a run with a journal knows of other messages, to prove with it what became of one in doubt."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from attrs import define, evolve

from healthmsg.bulk.journal import Journal, Sample
from healthmsg.delivery.ledger import Delivered, Deliveries
from healthmsg.delivery.proof import Attempt
from healthmsg.ids import ChatAddress


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
            await self._journal.delivered_sample(attempt.chat.text),
            await self._journal.delivered_sample(before=attempt.departed_at - self.journal_ahead),
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

    def _delivered(self, sample: Sample) -> Delivered:
        ahead = self.journal_ahead
        delivered = Delivered(
            ChatAddress.of_text(sample.sent_to),
            sample.message_id,
            sample.started_at + ahead,
            sample.noted_at + ahead,
            partial(self._journal.is_body, sample),
        )
        # A delivery of this run's may be in the journal already.
        text = self._deliveries.text_of(sample.message_id)
        return delivered if text is None else evolve(delivered, body=text[0], files=text[1])


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
        if self._had_first:
            return False
        return await self._proofs.wait()
