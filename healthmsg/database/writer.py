"""The one task that uses the database: callers that wait for it can be cancelled, its work cannot.

What is asked for together is batched, since each transaction costs a sync of the disk.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from attrs import field, frozen
from sqlalchemy import Connection

from healthmsg.aio import start
from healthmsg.database.base import Database, describe
from healthmsg.errors import ClaimLostError, HealthmsgError, InboxLostError, JournalError, JournalGoneError
from healthmsg.log import log


class Change(Protocol):
    """A change that can be made together with others."""

    @property
    def subject(self) -> str:
        """What it changes: no two changes of one batch have the same."""


C = TypeVar("C", bound=Change)
C_contra = TypeVar("C_contra", bound=Change, contravariant=True)


class Maker(Protocol[C_contra]):
    """Makes changes in a transaction that has begun; `now` is noted with each."""

    def make_all(
        self, connection: Connection, changes: Sequence[C_contra], now: datetime
    ) -> Sequence[object]:
        """Make all of them, and return the result of each.

        Raises:
            ClaimLostError: one cannot be made. The transaction must be undone.
        """

    def make_each(
        self, connection: Connection, changes: Sequence[C_contra], now: datetime
    ) -> Sequence[object]:
        """Make those that can be, and return a `ClaimLostError` for each of the others."""


T = TypeVar("T")
Make = Callable[[Connection, Sequence[C], datetime], Sequence[object]]
_MOST_AT_ONCE: Final = 512
# Turns of the event loop to wait, so that what follows from the last transaction joins the batch.
_TURNS: Final = 3
# Seconds.
_BETWEEN_TRIES: Final = 1.0
_CLOSED: Final = "The journal is closed."


@frozen
class _Asked(Generic[C]):
    """A change to note, or work within a transaction, or else some work of its own."""

    change: C | None = None
    work: Callable[[Connection], Any] | None = field(default=None, repr=False)
    own_work: Callable[[], Awaitable[Any]] | None = field(default=None, repr=False)
    done: "asyncio.Future[Any]" = field(
        factory=lambda: asyncio.get_running_loop().create_future(), repr=False, init=False
    )


class Writer(Generic[C]):
    """Does one thing after another, in the order in which they were asked for.

    Queued changes are made in one transaction, and after them the work from `run_in_batch`. A thing is in the
    queue as soon as it is asked for, so that cancelling its caller cannot lose it. The queue is as long as
    there are callers, since each waits for its own. After the database's first failure, everything fails.
    """

    def __init__(self, database: Database, maker: Maker[C] | None = None, patience: float = 0.0) -> None:
        self._database = database
        self._maker = maker
        self.patience = patience
        """Seconds for which it retries. Time asleep does not count."""
        self.paused_by: JournalError | None = None
        """Why it waits just now, before a retry."""
        self._queue: deque[_Asked[C]] = deque()
        self._current: list[_Asked[C]] = []
        self._wake = asyncio.Event()
        self._failure: JournalError | None = None
        self.is_closing: bool = False
        """Whether nothing more can be asked for."""
        self._task = start(self._go_on(), name="healthmsg journal")

    @property
    def has_failed(self) -> bool:
        """Whether the database has failed, and with it all that follows."""
        return self._failure is not None

    def note(self, change: C) -> "asyncio.Future[None]":
        """Ask for a change; it is on the disk when the future is done."""
        return self._ask(_Asked(change))

    def run_in_batch(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Ask for work that is done in the same transaction as queued changes, after them."""
        return self._ask(_Asked(work=work))

    def do(self, work: Callable[[], Awaitable[T]]) -> "asyncio.Future[T]":
        """Ask for work on the database, while nothing else is done with it."""
        return self._ask(_Asked(own_work=work))

    async def close(self) -> None:
        """Finish what was asked for, and end."""
        self.is_closing = True
        self._wake.set()
        # The task may have been cancelled with everything else.
        await asyncio.wait([self._task])

    def _ask(self, asked: _Asked[C]) -> "asyncio.Future[Any]":
        if self.is_closing:
            raise JournalError(_CLOSED)
        self._queue.append(asked)
        self._wake.set()
        return asked.done

    async def _go_on(self) -> None:
        try:
            while self._queue or not self.is_closing:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                await self._do_next()
                self._current = []
        finally:
            # Nothing is left unless this task itself was cancelled.
            self.is_closing = True
            for asked in (*self._current, *self._queue):
                _fail(asked, JournalError(_CLOSED))
            await self._database.close()

    async def _do_next(self) -> None:
        self._current = [self._queue.popleft()]
        own_work = self._current[0].own_work
        if own_work is None:
            self._fill_batch()
        if self._failure is not None:
            self._fail_current(self._failure)
            return
        try:
            if own_work is not None:
                results = [await self._with_retries(own_work)]
            else:
                results = await self._with_retries(partial(self._run_batch, self._current))
        except Exception as error:  # noqa: BLE001 - it is raised in the callers
            self._fail_current(error)
        else:
            for asked, result in zip(self._current, results, strict=True):
                if isinstance(result, ClaimLostError):
                    _fail(asked, result)
                elif not asked.done.done():
                    asked.done.set_result(result)

    def _fill_batch(self) -> None:
        """Add to the batch what is queued, up to a second change of the same subject."""
        subjects = {asked.change.subject for asked in self._current if asked.change is not None}
        while self._queue and len(self._current) < _MOST_AT_ONCE:
            change = self._queue[0].change
            if self._queue[0].own_work is not None or (change is not None and change.subject in subjects):
                return
            if change is not None:
                subjects.add(change.subject)
            self._current.append(self._queue.popleft())

    async def _run_batch(self, batch: Sequence[_Asked[C]]) -> list[Any]:
        """Make changes, then do work, in one transaction; return the result of each.

        That of a change which was not made is an error.
        """
        changes = [asked.change for asked in batch if asked.change is not None]
        maker, now = self._maker, self._database.now()

        def run(make: "Make[C] | None", connection: Connection) -> list[Any]:
            made = iter(make(connection, changes, now) if make is not None and changes else ())
            return [next(made) if one.work is None else one.work(connection) for one in batch]

        if maker is None:
            return await self._database.run(partial(run, None))
        try:
            # Both return the same kind of result: after a lost connection it is not known which of them ran.
            return await self._database.run(partial(run, maker.make_all))
        except ClaimLostError:
            return await self._database.run(partial(run, maker.make_each))

    async def _with_retries(self, work: Callable[[], Awaitable[T]]) -> T:
        """Retry while the disk is full, or the server is away."""
        loop = asyncio.get_running_loop()
        began, logged = loop.time(), ""
        try:
            while True:
                try:
                    return await work()
                except HealthmsgError:
                    raise
                except Exception as error:
                    is_late = self.is_closing or loop.time() >= began + self.patience
                    if is_late or not self._database.is_passing(error):
                        raise
                    reason = describe(error)
                self.paused_by = JournalError(f"The journal waits: {reason}.")
                if reason != logged:
                    log(logging.WARNING, "the journal waits: %(reason)s", reason=reason)
                    logged = reason
                await asyncio.sleep(_BETWEEN_TRIES)
        finally:
            self.paused_by = None

    def _fail_current(self, error: Exception) -> None:
        is_refused = isinstance(error, HealthmsgError) and not isinstance(error, JournalGoneError)
        if not (is_refused and self._current[0].own_work is not None):  # else only this request was refused
            error = self._failure = self._failure or _failure_by(error)
        for asked in self._current:
            _fail(asked, error)


def _failure_by(error: Exception) -> JournalError:
    if isinstance(error, JournalGoneError | InboxLostError):
        return error
    return JournalError(
        f"The journal failed: {describe(error)}. What was acknowledged before is kept; start again with the"
        " same journal to go on."
    )


def _fail(asked: _Asked[Any], error: Exception) -> None:
    """Fail what was asked for; each gets an error of its own, with a traceback of its own."""
    if not asked.done.done():
        asked.done.set_exception(type(error)(*error.args))
