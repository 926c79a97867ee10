"""Reading a list page by page, one page ahead of the reader."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from healthmsg.errors import ClientClosedError, InvalidInputError

PAGE_SIZE: Final = 100
"""Items asked for per page. A server may give fewer [A]."""


class HasId(Protocol):
    """What can stand in a list: items are told apart by their id."""

    @property
    def id(self) -> str:
        """What tells it apart."""


ItemT = TypeVar("ItemT", bound=HasId)

Spawn = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]
"""Starts a task that the client owns: it ends with the client at the latest."""


class Pager(Generic[ItemT]):
    """A list that is read from the service while it is iterated.

    `async for item in pager` gives items, `pager.pages()` gives pages, `await pager.first()` the first page.
    While the consumer works, the next page is fetched, never more than one ahead. A list ends at an empty
    page or at one that brings no new id; an id seen before is given once [A].

    Breaking out of a loop leaves at most one fetch behind, which ends with the client; `async with pager`
    ends it at once.
    """

    def __init__(self, fetch: Callable[[int], Awaitable[tuple[ItemT, ...]]], spawn: Spawn) -> None:
        self._fetch = fetch
        self._spawn = spawn
        self._ahead: set[asyncio.Task[Any]] = set()

    async def first(self) -> tuple[ItemT, ...]:
        """Fetch the first page alone."""
        return await self._fetch(0)

    async def pages(self) -> AsyncGenerator[tuple[ItemT, ...], None]:
        """Give page after page, without the items that an earlier page had."""
        seen: set[str] = set()
        page_number = 0
        ahead = self._fetch_ahead(page_number)
        try:
            while True:
                page = await _result(ahead)
                new = tuple({item.id: item for item in page if item.id not in seen}.values())
                if not new:
                    return
                seen.update(item.id for item in new)
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
        return await self._fetch(page_number)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._ahead.discard(task)
        # A page that nobody came for may fail without anybody's harm.
        if not task.cancelled():
            task.exception()


async def _result(ahead: "asyncio.Task[tuple[ItemT, ...]]") -> tuple[ItemT, ...]:
    await asyncio.wait([ahead])
    if ahead.cancelled():
        raise ClientClosedError
    return ahead.result()


def check_page_size(page_size: int) -> int:
    """Refuse a page size that cannot be one.

    Raises:
        InvalidInputError: it is not a whole number of at least 1.
    """
    if isinstance(page_size, bool) or not isinstance(page_size, int) or page_size < 1:
        raise InvalidInputError("page_size must be a whole number of at least 1")
    return page_size
