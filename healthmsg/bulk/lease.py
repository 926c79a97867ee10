"""Keeping what this worker has claimed in a journal that others use too.

When a lease ends is decided by the database, by the clock of its machine. A worker judges by its own
clocks whether the lease may have ended, and where the machine sleeps, or a virtual one is paused, some of
them stand still. So the time since a claim was confirmed is taken from the one that has gone furthest: the
machine's, which goes on during suspend, the time of day, or the event loop's. If one of them was only set
forward, the worker asks the database once more, and goes on.

A timer cannot do this, since it stands still with the event loop's clock. So each try of a call looks by
itself: when it has its turn within the limit, when it has a connection, directly before its first byte
leaves, and an upload once more before its last chunk does. What is left is a machine that falls asleep
between that look and the sending, or while the operating system still has the bytes: then `settle` must be
longer than the service keeps a silent connection open.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self

from healthmsg.aio import start
from healthmsg.bulk.journal import Claim, Journal
from healthmsg.clock import Stopwatch
from healthmsg.errors import ClaimLostError

# So many times within a lease it is renewed.
_RENEWALS: Final = 4
# The share of a lease after which it counts as lost, so that a call that has just left arrives within it.
_SAFE: Final = 1 - 1 / _RENEWALS
_LOST: Final = "The lease on this message may have ended before its call was made: it was not sent."


class Lease:
    """Renews the lease on all claims, and tells of each call whether it may still be made.

    When renewing has not worked until shortly before the end, by the event loop's clock, all are lost: `lose`
    has to see to it that no call is made any more, nor still under way. With SQLite there is nothing to do.
    """

    def __init__(self, journal: Journal, lose: Callable[[], None]) -> None:
        self._journal = journal
        self._lose = lose
        self._length = journal.lease
        self._safe_seconds = 0.0 if self._length is None else self._length.total_seconds() * _SAFE
        self._renewed: _SinceConfirmed | None = None
        self._kept: Mapping[str, int] = {}
        """What was this worker's when it was renewed last: keys, and the number of each claim."""
        self._end: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._length is not None:
            self._postpone_end(self._length)
            self._renewing = start(self._renew(self._length))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            if not self._renewing.cancelled():
                self._renewing.exception()  # the journal has failed, which all its users are told
        if self._end is not None:
            self._end.cancel()

    def of(self, claim: Claim) -> Callable[[], None] | None:
        """Return what a call with this message has to ask before it leaves; `None` where there is no lease.

        That raises `ClaimLostError` once another worker may have taken the message over. To be called before
        the journal is asked to note that the message is begun, since that confirms the claim.
        """
        return None if self._length is None else partial(self._check, claim, _SinceConfirmed())

    def _check(self, claim: Claim, begun: "_SinceConfirmed") -> None:
        if begun.seconds() < self._safe_seconds:
            return
        is_kept = self._renewed is not None and self._kept.get(claim.key) == claim.fence
        if is_kept and self._renewed is not None and self._renewed.seconds() < self._safe_seconds:
            return
        raise ClaimLostError(_LOST)

    async def _renew(self, length: timedelta) -> None:
        while True:
            await asyncio.sleep(length.total_seconds() / _RENEWALS)
            asked_at, asked = asyncio.get_running_loop().time(), _SinceConfirmed()
            # What is claimed while this is under way counts from its own beginning.
            self._kept = await self._journal.renew()
            self._renewed = asked
            self._postpone_end(length, asked_at)

    def _postpone_end(self, length: timedelta, now: float | None = None) -> None:
        if self._end is not None:
            self._end.cancel()
        loop = asyncio.get_running_loop()
        now = loop.time() if now is None else now
        self._end = loop.call_at(now + length.total_seconds() * _SAFE, self._lose)


class _SinceConfirmed(Stopwatch):
    """How long ago the database was asked to confirm a claim, by the clock that has gone furthest."""

    __slots__ = ("_day",)

    def __init__(self) -> None:
        super().__init__()
        self._day = time.time()

    def seconds(self) -> float:
        # A paused virtual machine's other clocks may stand still; its time of day is put right afterwards.
        day, others = time.time() - self._day, Stopwatch.seconds(self)
        return day if day > others else others  # noqa: FURB136 - a third of the time of max()
