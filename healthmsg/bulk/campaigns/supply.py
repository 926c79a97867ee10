"""What a worker sends: what campaigns have, as it comes, for as long as the worker runs."""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from attrs import define, field

from healthmsg.aio import start
from healthmsg.bulk.intake import Intake
from healthmsg.bulk.journal.base import Claim
from healthmsg.bulk.models import Messages
from healthmsg.errors import ClaimLostError, JournalError
from healthmsg.ratelimit.limiter import RateLimit

if TYPE_CHECKING:
    from healthmsg.bulk.journal.campaigns import CampaignTables
    from healthmsg.bulk.journal.store import SqlJournal

# Seconds between two looks at what was changed from elsewhere: it has to take effect within two.
_LOOK_EVERY: Final = 0.5
# Looks between two notes that the worker is there.
_NOTES_EVERY: Final = 10
# Seconds for which all workers together hold messages whose calls have not left: so soon a share is another,
# and what comes with a greater one is sent. But no less than keeps a worker busy while it asks the journal.
_AHEAD: Final = 0.8
_LEAST_AHEAD: Final = 2
_STOPPED: Final = (
    "The campaign of this message was paused or cancelled before its call was made: it was not sent."
)


@define
class CampaignIntake(Intake):
    """Reads nothing: what is to be sent is in the journal already, and there is always more to come."""

    async def take(self, messages: Messages) -> None:
        """See `Intake`."""

    def is_pending(self, claim: Claim) -> bool:
        """Return whether it is to be sent again if it was not sent: not what a run has left behind."""
        return claim.campaign is not None

    async def has_open_elsewhere(self) -> bool:
        """See `Intake`."""
        return True


@define(eq=False)
class CampaignSupply:
    """What a runner takes from campaigns, while it looks every half second at what was changed elsewhere."""

    _rate: RateLimit
    """That of all workers together."""
    _problem: Callable[[], Exception | None]
    """Returns why nothing is sent just now."""
    wake: Callable[[], object] = lambda: None
    """Called when there may be more to claim."""
    intake: CampaignIntake = field(factory=CampaignIntake, init=False)
    waiting: int = field(default=0, init=False)
    """Messages of campaigns that are sent which nothing has begun; some seconds old."""
    has_begun: bool = field(default=False, init=False)
    """Whether what is there is being sent."""
    _workers: int = field(default=1, init=False)
    """How many share the work, this one too."""
    _stopped: Collection[str] = field(default=(), init=False)
    """Campaigns of which nothing more may be begun."""
    _id: str = field(factory=lambda: token_hex(8), init=False)
    _tables: "CampaignTables" = field(init=False)
    _started_at: datetime = field(init=False)
    _looking: "asyncio.Task[None] | None" = field(default=None, init=False)

    @property
    def most_ahead(self) -> int:
        """How many messages are held at most whose calls have not left yet: a part of all workers'."""
        in_all = _AHEAD * self._rate.calls / self._rate.per
        return max(_LEAST_AHEAD, int(in_all / self._workers))

    async def begin(self, journal: "SqlJournal") -> None:
        """Look at what there is, and go on looking."""
        from healthmsg.bulk.journal.campaigns import CampaignTables  # noqa: PLC0415 - needs SQLAlchemy

        self._tables, self._started_at = CampaignTables(journal), journal.now()
        await self._look(0)
        self._looking = start(self._go_on_looking())
        self.has_begun: bool = True

    async def claim(self, most: int) -> list[Claim]:
        """Take what is next of campaigns, of each its share."""
        return await self._tables.claim(most)

    async def claim_in_doubt(self) -> list[Claim]:
        """Take what others may have sent, runs too: it holds up what is behind it."""
        return await self._tables.claim_in_doubt()

    def check(self, claim: Claim, check_lease: Callable[[], None] | None) -> None:
        """Refuse to make a call of a campaign that was paused or cancelled after its message had begun.

        Raises:
            ClaimLostError: it was, or the lease may have ended.
        """
        if check_lease is not None:
            check_lease()
        if claim.campaign in self._stopped:
            raise ClaimLostError(_STOPPED)

    async def end(self) -> None:
        """Stop looking, and leave nothing undone."""
        looking, self._looking = self._looking, None
        if looking is None:
            return
        looking.cancel()
        await asyncio.wait([looking])
        if not looking.cancelled() and looking.exception() is not None:
            return  # the journal has failed, which all its users see
        try:
            while await self._tables.settle_behind():
                pass
            await self._tables.forget_worker(self._id)
        except JournalError:
            pass

    async def _go_on_looking(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            number += 1
            await self._look(number)

    async def _look(self, number: int) -> None:
        tables = self._tables
        before, self._stopped = self._stopped, await tables.stopped()
        if await tables.settle_behind() or before != self._stopped:
            self.wake()
        if number % _NOTES_EVERY == 0:
            problem = self._problem()
            text = None if problem is None else str(problem)
            await tables.note_worker(self._id, self._started_at, text)
            self._workers: int = max(1, len(await tables.workers()))
            self.waiting: int = await tables.count_waiting()
