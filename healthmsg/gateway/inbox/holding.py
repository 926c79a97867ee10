"""That one process at a time has the inbox of a PostgreSQL database, and how another one takes it over."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from secrets import token_hex
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from healthmsg.aio import start
from healthmsg.clock import SteadyClock
from healthmsg.database.writer import Writer
from healthmsg.errors import InboxLostError, JournalError
from healthmsg.gateway.inbox import statements

T = TypeVar("T")
LEASE: Final = timedelta(seconds=10)
"""How long another process waits for a sign of the one that has the inbox."""
_RENEW_EVERY: Final = 3.0
_POLL_EVERY: Final = 2.0
_LOST: Final = (
    "Another process has taken the inbox over, since this one gave no sign for 10 seconds: it was stopped,"
    " blocked or disconnected. Nothing was written or handed out after that. Open it again to wait"
    " until it is free."
)
_NOT_HELD: Final = "The inbox is not this process's yet: wait for `hold()` first. Nothing was written."


class Hold:
    """A lease in the database, by the database's clock.

    While the lease is over, the inbox is still this process's until another one takes it. Each transaction
    locks the row that says whose it is, so the other one comes before it or after it. Whatever stood still
    meanwhile finds another name in that row.
    """

    def __init__(self, writer: Writer[Any]) -> None:
        self.lost: asyncio.Event = asyncio.Event()
        """Set when it is seen that another process has it."""
        self._writer = writer
        self._name = {"b_holder": token_hex(16)}
        self._clock = SteadyClock()
        self._end: float | None = None
        """Until when, by this machine's clock, no other process can have taken it; `None`: not held."""
        self._renewing: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Wait until this process has it."""
        while not await self.take_at_once():  # noqa: ASYNC110 - another process has no event for it
            await asyncio.sleep(_POLL_EVERY)

    async def take_at_once(self) -> bool:
        """Return whether this process has it; False: another one has it."""
        if self._end is not None:
            return True
        asked_at = self._clock.now()
        if not await self._do(self._try):
            return False
        self._end = asked_at + LEASE.total_seconds()
        self._renewing = start(self._keep(), name="healthmsg inbox")
        return True

    def require_taken(self) -> None:
        """Refuse what is asked for too early.

        Raises:
            JournalError: it was never this process's.
        """
        if self._end is None:
            raise JournalError(_NOT_HELD)

    def require(self, connection: Connection) -> None:
        """Keep others from taking it before the transaction that has begun has ended.

        Raises:
            InboxLostError: another process has it.
        """
        if connection.execute(statements.LOCK_HOLD, self._name).first() is None:
            raise InboxLostError(_LOST)

    async def require_now(self) -> None:
        """Look whether it is this process's, if it has stood still since the lease was renewed.

        Raises:
            InboxLostError: another process has it.
        """
        if self._end is not None and self._clock.now() < self._end:
            return
        try:
            await self._do(self.require)
        except InboxLostError:
            self.lost.set()
            raise

    async def close(self) -> None:
        """Let another process have it at once."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.wait([self._renewing])
        if not self._writer.has_failed:
            with suppress(JournalError):  # else the lease ends
                await self._do(self._let_go)

    def _try(self, connection: Connection) -> bool:
        connection.execute(statements.ADD_HOLDER)
        return connection.execute(statements.TAKE_HOLD, self._name | {"b_lease": LEASE}).rowcount == 1

    def _renew(self, connection: Connection) -> bool:
        return connection.execute(statements.RENEW_HOLD, self._name | {"b_lease": LEASE}).rowcount == 1

    def _let_go(self, connection: Connection) -> None:
        connection.execute(statements.LET_GO, self._name)

    async def _keep(self) -> None:
        """Renew the lease until it is lost. What is asked for next fails where that cannot be done."""
        with suppress(JournalError):
            while True:
                await asyncio.sleep(_RENEW_EVERY)
                asked_at = self._clock.now()
                if not await self._do(self._renew):
                    self.lost.set()
                    return
                self._end = asked_at + LEASE.total_seconds()

    async def _do(self, work: Callable[[Connection], T]) -> T:
        return await self._writer.run_in_batch(work)
