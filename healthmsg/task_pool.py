"""Working on many items at once, with the results as they come."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from attrs import frozen

from healthmsg.aio import AsyncIterationOnly
from healthmsg.errors import InvalidInputError
from healthmsg.log import log
from healthmsg.paging import Spawn

T = TypeVar("T")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_Task = asyncio.Task[None]


@frozen
class Words:
    """The words for a kind of run in log messages."""

    run: str
    items: str
    do: str
    done: str


class Places(asyncio.Semaphore):
    """Places of which one can be taken without waiting: then the next one that is released is gone."""

    _owed = 0

    def take(self) -> None:
        """Take a place, if need be one that is not free yet."""
        self._owed += 1

    def release(self) -> None:
        """Free a place."""
        if self._owed:
            self._owed -= 1
        else:
            super().release()


@frozen(eq=False)
class Job(Generic[ItemT, ResultT]):
    """What a pool is to do, as functions of the object that uses it."""

    words: Words
    feed: Callable[[], Awaitable[None]]
    """Launches the items, each with a place of its own, and returns after the last one."""
    work: Callable[[ItemT], Awaitable[ResultT | None]]
    """Works on one item; what goes wrong is part of the result. `None`: there is no result to report."""
    cancelled_result: Callable[[ItemT, _Task], ResultT | None]
    """Returns the result, if there is one, of an item whose task was cancelled or had a bug."""
    may_finish: Callable[[_Task], bool] = lambda _: False
    """Returns whether a task that is under way when the pool is closed may finish."""
    forget: Callable[[_Task], object] = lambda _: None
    """Called with each task that has ended."""
    finish: Callable[[], object] = lambda: None
    """Called when nothing more will be begun, and nothing is under way."""


class TaskPool(Generic[ItemT, ResultT]):
    """Worker places, the tasks that hold them, and the results in the order in which they come.

    A result holds its task's place until it is read, so that unread results block the work.
    """

    def __init__(self, job: Job[ItemT, ResultT], spawn: Spawn, *, places: int) -> None:
        self._job = job
        self._spawn = spawn
        self.places: Places = Places(places)
        self.in_flight: dict[_Task, ItemT] = {}
        """The items that are being worked on."""
        self.is_stopping: bool = False
        """Whether nothing more is to be begun."""
        self._feeding: _Task | None = None
        self._results: asyncio.Queue[ResultT | None] = asyncio.Queue()
        self._reported = set[_Task | None]()
        self._unread = 0
        self._on_end: Callable[[], object] | None = None

    # --- from the beginning to the end

    def start(self) -> None:
        """Begin to work."""
        if self._feeding is None and not self.is_stopping:
            self._feeding = self._spawn(self._feed())
            # Not in the task itself, which may be cancelled before it has begun.
            self._feeding.add_done_callback(lambda _: self._finish())

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Call this when all results have been read, or the pool was closed."""
        self._on_end = tell

    def stop(self) -> None:
        """Begin nothing more. What runs on goes to its end, all else is cancelled."""
        if self.is_stopping:
            return
        self.is_stopping = True
        if self._feeding is not None:
            self._feeding.cancel()
            self.cancel_unless(self._job.may_finish)
            return
        words = self._job.words
        log(logging.WARNING, f"{words.run} was closed without being iterated: it has {words.done} nothing")
        self._results.put_nowait(None)

    async def close(self) -> None:
        """Begin nothing more, and wait for the end of what is under way."""
        self.stop()
        if self._feeding is not None:
            await asyncio.wait([self._feeding])
        self._end(is_read=False)

    async def results(self) -> AsyncGenerator[ResultT, None]:
        """Go through the results, and raise what has ended the feeding after the last one."""
        self.start()
        while (result := await self._results.get()) is not None:
            self._unread -= 1
            self.places.release()
            yield result
        self._results.put_nowait(None)  # the end, for the next one who iterates
        if self._feeding is None:
            return
        self._end(is_read=True)
        if not self._feeding.cancelled():
            self._feeding.result()

    def _end(self, *, is_read: bool) -> None:
        tell, self._on_end = self._on_end, None
        if tell is None:
            return
        tell()
        words = self._job.words
        if self._unread:
            left = f"%(unread)d {words.items} have been handled whose results have not been read"
            log(logging.WARNING, left, unread=self._unread)
        if is_read or self._feeding is None or self._feeding.cancelled():
            return
        if error := self._feeding.exception():  # iterating on would raise it, if the program did
            failed = f"reading the {words.items} to {words.do} failed with %(error)s"
            log(logging.ERROR, failed, error=type(error).__name__)

    # --- feeding

    async def feed_all(
        self, items: Iterable[T] | AsyncIterable[T], accept: Callable[[T], Awaitable[ItemT]]
    ) -> None:
        """Launch every item: read when there is a place for it, and accepted before the next one is read."""
        async with aclosing(each(items)) as reading:
            async for item in reading:
                await self.places.acquire()
                self.launch(await accept(item))

    def launch(self, item: ItemT) -> None:
        """Begin to work on an item, for which a place was acquired."""
        task = self._spawn(self._handle(item))
        self.in_flight[task] = item
        task.add_done_callback(self._landed)

    def report(self, result: ResultT | None) -> None:
        """Add a result, which holds its place until it is read. `None`: the place is free."""
        if result is None:
            self.places.release()
            return
        self._unread += 1
        self._results.put_nowait(result)

    def cancel_unless(self, may_finish: Callable[[_Task], bool]) -> None:
        """Cancel the tasks that are not to run on."""
        for task in self.in_flight:
            if not may_finish(task):
                task.cancel()

    async def wait_for_in_flight(self) -> None:
        """Wait until nothing is under way."""
        while self.in_flight:
            # Closing cancels this, and the client's end also those in flight: their results come first.
            with suppress(asyncio.CancelledError):
                await asyncio.wait(self.in_flight)

    async def _feed(self) -> None:
        try:
            await self._job.feed()
        finally:
            await self.wait_for_in_flight()

    def _finish(self) -> None:
        self._results.put_nowait(None)
        self._job.finish()

    async def _handle(self, item: ItemT) -> None:
        self.report(await self._job.work(item))
        self._reported.add(asyncio.current_task())

    def _landed(self, task: _Task) -> None:
        item = self.in_flight.pop(task)
        if task in self._reported:
            # Even if it is cancelled: by the program's `on_call`, after the last step at which it could be.
            self._reported.remove(task)
        elif task.cancelled():
            self.report(self._job.cancelled_result(item, task))
        elif (error := task.exception()) is not None:
            # A mistake of ours, of which no item may be the victim in silence.
            failed = f"one of the {self._job.words.items} failed with %(error)s"
            log(logging.ERROR, failed, error=type(error).__name__)
            self.report(self._job.cancelled_result(item, task))
        self._job.forget(task)


class BulkRun(AsyncIterationOnly, Generic[ResultT]):
    """Items that are worked on at the same time. Iterate it for the results, in the order they come.

    Items are read as they are needed. One that fails does not stop the others; an error in reading the items
    is raised after the results. Unread results block the work. Leaving the `async with` (or
    closing the client) begins nothing more, and the results that are left can still be read by iterating on.
    """

    _instead_of_await = "await its all()"
    _pool: TaskPool[Any, ResultT]

    def __aiter__(self) -> AsyncIterator[ResultT]:
        return self._pool.results()

    async def all(self) -> list[ResultT]:
        """Wait until everything is done, and return all results in the order they came."""
        async with self:
            return [result async for result in self]

    async def __aenter__(self) -> Self:
        self._pool.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    def start(self) -> None:
        """Begin to work; iterating begins it too."""
        self._pool.start()

    def when_ended(self, tell: Callable[[Self], object]) -> None:
        """Call this when all results have been read, or the run was closed."""
        self._pool.when_ended(lambda: tell(self))

    def stop(self) -> None:
        """Begin nothing more. What is under way goes on to its end: iterate on for its results."""
        self._pool.stop()

    async def close(self) -> None:
        """Begin nothing more, and wait for the end of what is under way."""
        await self._pool.close()


async def each(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """Go through an iterable of either kind.

    Raises:
        InvalidInputError: a cancelled task or future ended it. That is not the end of the items.
    """
    try:
        if isinstance(items, AsyncIterable):
            async for item in items:
                yield item
        else:
            for item in items:
                yield item
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise  # it is we who are cancelled
    else:
        return
    raise InvalidInputError("reading what was given was cut off: something that it waited for was cancelled")


RegisterRun = Callable[[BulkRun[Any]], object]
"""Makes a run end with the client at the latest."""
