"""The one task that uses the database: whoever waits for it can be cancelled, its work cannot."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from attrs import field, frozen
from sqlalchemy import Connection

from healthmsg.aio import start
from healthmsg.bulk.journal.changes import Change
from healthmsg.errors import ClaimLostError, HealthmsgError, JournalError, JournalGoneError
from healthmsg.log import log

T = TypeVar("T")
_MOST_AT_ONCE: Final = 512
# Of the event loop: by then, what follows from the last transaction has been asked for, and goes along.
_TURNS: Final = 3
# Seconds.
_BETWEEN_TRIES: Final = 1.0
_CLOSED: Final = "The journal is closed."


class Database(Protocol):
    """What the writer works with."""

    async def make(
        self, changes: Sequence[Change], works: Sequence[Callable[[Connection], Any]]
    ) -> tuple[Sequence[bool], Sequence[Any]]:
        """Make changes and do work in one transaction; tell of each change whether it was made."""

    async def close(self) -> None:
        """Let go of the connection."""

    def is_passing(self, error: Exception) -> bool:
        """Tell whether the same may work later: nothing of it was done."""

    def describe(self, error: Exception) -> str:
        """Say what went wrong, and nothing private."""


@frozen
class _Asked:
    """A change to note, or work within a transaction, or else some work of its own."""

    change: Change | None = None
    work: Callable[[Connection], Any] | None = field(default=None, repr=False)
    own_work: Callable[[], Awaitable[Any]] | None = field(default=None, repr=False)
    done: "asyncio.Future[Any]" = field(
        factory=lambda: asyncio.get_running_loop().create_future(), repr=False, init=False
    )


class Writer:
    """Does one thing after another, in the order in which they were asked for.

    Changes that have queued up are made in one transaction, and after them the work that goes along. A thing
    is in the queue as soon as it is asked for, so that cancelling whoever waits cannot lose it: the queue is
    as long as there are callers, since each waits for its own. After the database's first failure, everything
    fails.
    """

    def __init__(self, database: Database, patience: float = 0.0) -> None:
        self._database = database
        self.patience = patience
        """Seconds for which it tries again what may work later. While the machine sleeps none pass."""
        self.paused_by: JournalError | None = None
        """What may work later, and does not just now."""
        self._queue: deque[_Asked] = deque()
        self._current: list[_Asked] = []
        self._wake = asyncio.Event()
        self._failure: JournalError | None = None
        self.is_closing: bool = False
        """Whether nothing more can be asked for."""
        self._task = start(self._go_on(), name="healthmsg journal")

    @property
    def has_failed(self) -> bool:
        """Whether the database has failed, and with it all that follows."""
        return self._failure is not None

    def note(self, change: Change) -> "asyncio.Future[None]":
        """Ask for a change; it is on the disk when the future is done."""
        return self._ask(_Asked(change))

    def run_in_batch(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Ask for work that is done with changes, after them: each transaction has its price."""
        return self._ask(_Asked(work=work))

    def do(self, work: Callable[[], Awaitable[T]]) -> "asyncio.Future[T]":
        """Ask for work on the database, while nothing else is done with it."""
        return self._ask(_Asked(own_work=work))

    async def close(self) -> None:
        """Do what was asked for, and end."""
        self.is_closing = True
        self._wake.set()
        # It may have been cancelled with everything else.
        await asyncio.wait([self._task])

    def _ask(self, asked: _Asked) -> "asyncio.Future[Any]":
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
            self._take_along()
        if self._failure is not None:
            self._fail_current(self._failure)
        elif own_work is not None:
            await self._do(own_work, self._current[0])
        else:
            await self._make()
        self._current = []

    def _take_along(self) -> None:
        """Take what can be done together, up to a second change of the same message."""
        keys = {asked.change.claim.key for asked in self._current if asked.change is not None}
        while self._queue and len(self._current) < _MOST_AT_ONCE:
            change = self._queue[0].change
            if self._queue[0].own_work is not None or (change is not None and change.claim.key in keys):
                return
            if change is not None:
                keys.add(change.claim.key)
            self._current.append(self._queue.popleft())

    async def _do(self, work: Callable[[], Awaitable[Any]], asked: _Asked) -> None:
        refused: HealthmsgError | None = None
        try:
            result = await self._patiently(work)
        except JournalGoneError as error:
            self._failure = refused = error
        except HealthmsgError as error:
            # An answer: the database itself is well.
            refused = error
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits to be told
            self._failure = self._failed(error)
            refused = self._failure
        if refused is not None:
            _fail(asked, refused)
        else:
            _answer(asked, result)

    async def _make(self) -> None:
        noted = [(asked, asked.change) for asked in self._current if asked.change is not None]
        others = [(asked, asked.work) for asked in self._current if asked.work is not None]
        work = partial(self._database.make, [change for _, change in noted], [work for _, work in others])
        try:
            made, results = await self._patiently(work)
        except Exception as error:  # noqa: BLE001 - whatever it is, all of them wait to be told
            self._failure = self._failed(error)
        else:
            for (asked, _), is_made in zip(noted, made, strict=True):
                if is_made:
                    _answer(asked, None)
                else:
                    _fail(asked, ClaimLostError("This message is no longer this worker's: not noted."))
            for (asked, _), result in zip(others, results, strict=True):
                _answer(asked, result)
            return
        self._fail_current(self._failure)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it again while the disk is full, or the server is away: that may pass."""
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
                    reason = self._database.describe(error)
                self.paused_by = JournalError(f"The journal waits: {reason}.")
                if reason != logged:
                    log(logging.WARNING, "the journal waits: %(reason)s", reason=reason)
                    logged = reason
                await asyncio.sleep(_BETWEEN_TRIES)
        finally:
            self.paused_by = None

    def _failed(self, error: Exception) -> JournalError:
        if isinstance(error, JournalGoneError):
            return error
        return JournalError(
            f"The journal failed: {self._database.describe(error)}. What was acknowledged before is kept;"
            " start again with the same journal to go on."
        )

    def _fail_current(self, error: JournalError) -> None:
        for asked in self._current:
            _fail(asked, error)


def _answer(asked: _Asked, result: Any) -> None:
    if not asked.done.done():
        asked.done.set_result(result)


def _fail(asked: _Asked, error: HealthmsgError) -> None:
    """Tell whoever waits; each gets an error of its own, with a traceback of its own."""
    if not asked.done.done():
        asked.done.set_exception(type(error)(*error.args))
