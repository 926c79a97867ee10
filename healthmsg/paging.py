"""Reading a list page by page, one page ahead of the reader."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

from healthmsg.aio import AsyncIterationOnly
from healthmsg.errors import ClientClosedError
from healthmsg.validation import check_count

PAGE_SIZE: Final = 100
"""Items asked for per page. The service may return fewer [A]."""


class HasId(Protocol):
    """An item of a list, which its id distinguishes from the others."""

    @property
    def id(self) -> str:
        """What no other item has."""


T = TypeVar("T")
ItemT = TypeVar("ItemT", bound=HasId)


class Spawn(Protocol):
    """Starts a task that the client owns: it ends with the client at the latest."""

    def __call__(self, work: Coroutine[object, object, T], /) -> "asyncio.Task[T]":
        """Start it."""


Fetch = Callable[[int, int], Awaitable[tuple[ItemT, ...]]]
"""Reads a page by its number, from 0, and its size in items."""


class Pager(AsyncIterationOnly, Generic[ItemT]):
    """A list that is read from the service while it is iterated.

    `async for item in pager` yields items, `pager.pages()` pages; `await pager.first()` is the first item,
    and `await pager.first_page()` the first page. While the consumer works, the next page is fetched, never
    more than one ahead. A list ends at an empty page or at one that brings no new id; an id that was seen
    before is yielded once [A]. With a `limit`, it ends after so many items, and asks for no more.

    Breaking out of a loop leaves at most one fetch running, which ends with the client; `async with pager`
    ends it at once.
    """

    _instead_of_await = "await its first(), first_page() or all()"

    def __init__(
        self,
        fetch: Fetch[ItemT],
        spawn: Spawn,
        *,
        page_size: int = PAGE_SIZE,
        limit: int | None = None,
    ) -> None:
        self._limit = None if limit is None else check_count(limit, "limit", at_least=1)
        size = check_count(page_size, "page_size", at_least=1)
        self._page_size = size if self._limit is None else min(size, self._limit)
        self._fetch = fetch
        self._spawn = spawn
        self._ahead: set[asyncio.Task[object]] = set()

    def __repr__(self) -> str:
        return f"<Pager page_size={self._page_size} limit={self._limit}>"

    async def first(self) -> ItemT | None:
        """Fetch the first item alone; `None` if the list is empty. Of messages, that is the newest one."""
        return next(iter(await self._fetch(0, 1)), None)

    async def first_page(self) -> tuple[ItemT, ...]:
        """Fetch the first page alone. It is empty if the list is."""
        return (await self._fetch(0, self._page_size))[: self._limit]

    async def all(self) -> list[ItemT]:
        """Read the whole list, or as much of it as `limit` says."""
        return [item async for item in self]

    async def pages(self) -> AsyncGenerator[tuple[ItemT, ...], None]:
        """Yield page after page, without the items that an earlier page had."""
        seen: set[str] = set()
        page_number = 0
        ahead = self._fetch_ahead(page_number)
        try:
            while True:
                page = await _result(ahead)
                new = tuple({item.id: item for item in page if item.id not in seen}.values())
                if self._limit is not None:
                    new = new[: self._limit - len(seen)]
                if not new:
                    return
                seen.update(item.id for item in new)
                if self._limit is not None and len(seen) >= self._limit:
                    yield new
                    return
                page_number += 1
                ahead = self._fetch_ahead(page_number)
                yield new
        finally:
            ahead.cancel()

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        async for page in self.pages():
            for item in page:
                yield item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End what is still being fetched."""
        for task in self._ahead:
            task.cancel()
        await asyncio.gather(*self._ahead, return_exceptions=True)

    def _fetch_ahead(self, page_number: int) -> "asyncio.Task[tuple[ItemT, ...]]":
        task = self._spawn(self._fetch_page(page_number))
        self._ahead.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _fetch_page(self, page_number: int) -> tuple[ItemT, ...]:
        return await self._fetch(page_number, self._page_size)

    def _forget(self, task: "asyncio.Task[object]") -> None:
        self._ahead.discard(task)
        # Retrieve the exception of an unused prefetch, so that asyncio does not log it.
        if not task.cancelled():
            task.exception()


async def _result(ahead: "asyncio.Task[tuple[ItemT, ...]]") -> tuple[ItemT, ...]:
    await asyncio.wait([ahead])
    if ahead.cancelled():
        raise ClientClosedError
    return ahead.result()
