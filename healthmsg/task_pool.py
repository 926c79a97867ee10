"""Working on many items at once, with the results as they come."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from attrs import frozen

from healthmsg.aio import AsyncIterationOnly
from healthmsg.errors import InvalidInputError
from healthmsg.log import log
from healthmsg.paging import Spawn

T = TypeVar("T")
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@frozen
class Words:
    """How a kind of run is spoken of in the log."""

    run: str
    items: str
    do: str
    done: str


class Many(AsyncIterationOnly, Generic[ItemT, ResultT]):
    """Many items that are worked on at the same time. Iterate it for the results, in the order they come.

    Items are read as they are needed. One that fails does not stop the others; an error in reading the items
    is raised after the results. Results that nobody reads hold up the work. Leaving the `async with` (or
    closing the client) begins nothing more, and the results that are left can still be read by iterating on.
    """

    _words: ClassVar[Words]
    _instead_of_await = "await its all()"

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], spawn: Spawn, *, places: int) -> None:
        self._items = items
        self._spawn = spawn
        self._feeding: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(places)
        self._results: asyncio.Queue[ResultT | None] = asyncio.Queue()
        self._in_flight: dict[asyncio.Task[None], ItemT] = {}
        self._reported = set[asyncio.Task[None] | None]()
        self._is_stopping = False
        self._unread = 0
        self._on_end: Callable[[Many[ItemT, ResultT]], None] | None = None

    # --- what makes a kind of run

    def _accept(self, item: Any) -> ItemT:
        """Take an item in, or raise what ends the reading of items."""
        raise NotImplementedError

    async def _take(self, item: Any) -> ItemT:
        """Take an item in as it is now: the next one may be made of the same things."""
        return self._accept(item)

    async def _work(self, item: ItemT) -> ResultT | None:
        """Work on one item; what goes wrong is part of the result. `None`: nothing has become of it."""
        raise NotImplementedError

    def _cut_off(self, item: ItemT, task: "asyncio.Task[None]") -> ResultT | None:
        """Give the result, if there is one, of an item whose work was cancelled."""
        raise NotImplementedError

    def _is_waited_for(self, task: "asyncio.Task[None]") -> bool:  # noqa: ARG002 - of interest to some
        """Tell whether work that is under way when the run is closed goes on to its end."""
        return False

    def _forget(self, task: "asyncio.Task[None]") -> None:
        """Drop what is known of work that has come to its end."""

    # --- reading the results

    async def __aiter__(self) -> AsyncIterator[ResultT]:
        self.start()
        while (result := await self._results.get()) is not None:
            self._unread -= 1
            self._places.release()
            yield result
        self._results.put_nowait(None)  # whoever iterates again finds the end as well
        if self._feeding is None:
            return
        self._end(told=True)
        if not self._feeding.cancelled():
            self._feeding.result()  # raises what reading the items raised

    async def all(self) -> list[ResultT]:
        """Wait until everything is done, and give all results in the order they came."""
        async with self:
            return [result async for result in self]

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- from the beginning to the end

    def start(self) -> None:
        """Begin to work; iterating begins it too."""
        if self._feeding is None and not self._is_stopping:
            self._feeding = self._spawn(self._feed())
            # Not in the task itself, which may be cancelled before it has begun.
            self._feeding.add_done_callback(lambda _: self._finish())

    def when_ended(self, tell: "Callable[[Many[ItemT, ResultT]], None]") -> None:
        """Have somebody told when all results have been read, or the run was closed."""
        self._on_end = tell

    def stop(self) -> None:
        """Begin nothing more. What is under way goes on to its end: iterate on for its results."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self._feeding is not None:
            self._stop(self._feeding)
            return
        words = self._words
        log(logging.WARNING, f"{words.run} was closed without being iterated: it has {words.done} nothing")
        self._results.put_nowait(None)

    async def close(self) -> None:
        """Begin nothing more, and wait for the end of what is under way."""
        self.stop()
        if self._feeding is not None:
            await asyncio.wait([self._feeding])
        self._end(told=False)

    def _stop(self, feeding: "asyncio.Task[None]") -> None:
        feeding.cancel()
        for task in self._in_flight:
            if not self._is_waited_for(task):
                task.cancel()

    def _end(self, *, told: bool) -> None:
        tell, self._on_end = self._on_end, None
        if tell is None:
            return
        tell(self)
        words = self._words
        if self._unread:
            left = f"%(unread)d {words.items} have been handled whose results have not been read"
            log(logging.WARNING, left, unread=self._unread)
        if told or self._feeding is None or self._feeding.cancelled():
            return
        if error := self._feeding.exception():  # iterating on would raise it, but nobody may
            failed = f"reading the {words.items} to {words.do} failed with %(error)s"
            log(logging.ERROR, failed, error=type(error).__name__)

    async def _feed(self) -> None:
        try:
            async with aclosing(each(self._items)) as items:
                async for item in items:
                    await self._places.acquire()
                    self._launch(await self._take(item))
        finally:
            await self._wait_for_those_in_flight()

    async def _wait_for_those_in_flight(self) -> None:
        while self._in_flight:
            # Closing cancels this, and the client's end also those in flight: their results come first.
            with suppress(asyncio.CancelledError):
                await asyncio.wait(self._in_flight)

    def _launch(self, item: ItemT) -> None:
        task = self._spawn(self._handle(item))
        self._in_flight[task] = item
        task.add_done_callback(self._landed)

    def _finish(self) -> None:
        """Note that nothing more will be begun, and nothing is under way."""
        self._results.put_nowait(None)

    async def _handle(self, item: ItemT) -> None:
        self._report(await self._work(item))
        self._reported.add(asyncio.current_task())

    def _landed(self, task: "asyncio.Task[None]") -> None:
        item = self._in_flight.pop(task)
        if task in self._reported:
            # Even if it is cancelled: by the program's `on_call`, after the last step at which it could be.
            self._reported.remove(task)
        elif task.cancelled():
            self._report(self._cut_off(item, task))
        elif (error := task.exception()) is not None:
            # A mistake of ours, of which no item may be the victim in silence.
            failed = f"one of the {self._words.items} failed with %(error)s"
            log(logging.ERROR, failed, error=type(error).__name__)
            self._report(self._cut_off(item, task))
        self._forget(task)

    def _report(self, result: ResultT | None) -> None:
        if result is None:
            self._places.release()
            return
        self._unread += 1
        self._results.put_nowait(result)


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


Keep = Callable[[Many[Any, Any]], object]
"""Has a run end with the client at the latest."""
