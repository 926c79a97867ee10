"""Keeping what this worker has claimed in a journal that others use too."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from healthmsg.bulk.journal import Journal
from healthmsg.tasks import start

# So many times within a lease it is renewed.
_RENEWALS: Final = 4


class Lease:
    """Renews the lease on all claims. When that has not worked until shortly before its end, they are lost.

    Whoever takes a message over then relies on its call not being made any more, nor still being under way:
    `lose` has to see to that at once. With SQLite there is nothing to do.
    """

    def __init__(self, journal: Journal, lose: Callable[[], None]) -> None:
        self._journal = journal
        self._lose = lose
        self._length = journal.lease
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

    async def _renew(self, length: timedelta) -> None:
        while True:
            await asyncio.sleep(length.total_seconds() / _RENEWALS)
            asked_at = asyncio.get_running_loop().time()
            await self._journal.renew()
            self._postpone_end(length, asked_at)

    def _postpone_end(self, length: timedelta, now: float | None = None) -> None:
        if self._end is not None:
            self._end.cancel()
        loop = asyncio.get_running_loop()
        seconds = length.total_seconds()
        now = loop.time() if now is None else now
        self._end = loop.call_at(now + seconds - seconds / _RENEWALS, self._lose)
