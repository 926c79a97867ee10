import ast
import asyncio
import gc
import logging
import re
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from attrs import frozen

from healthmsg.errors import ClientClosedError, InvalidInputError, NotFoundError
from healthmsg.paging import PAGE_SIZE, Pager

# Time passes as fast as it can: a test that waits for what never comes fails instead of hanging.
pytestmark = pytest.mark.looptime

ERROR = NotFoundError("GET conversations", 404)


@frozen
class Item:
    id: str
    label: str = ""


class FakeService:
    """A list in pages, of which the held ones do not come before they are released."""

    def __init__(self, *pages: Sequence[str] | Exception, held: Sequence[int] = ()) -> None:
        self.pages = pages
        self.asked: list[int] = []
        self.amounts: list[int] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.seconds_per_page = 0.0
        self._gates = {page_number: asyncio.Event() for page_number in held}

    async def fetch(self, page_number: int, amount: int) -> tuple[Item, ...]:
        self.asked.append(page_number)
        self.amounts.append(amount)
        await asyncio.sleep(self.seconds_per_page)
        if page_number in self._gates:
            async with asyncio.timeout(500):
                await self._gates[page_number].wait()
        page = self.pages[page_number] if page_number < len(self.pages) else ()
        if isinstance(page, Exception):
            raise page
        return tuple(Item(item, f"page {page_number}") for item in page)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    def pager(self, *, page_size: int = PAGE_SIZE, limit: int | None = None) -> Pager[Item]:
        return Pager(self.fetch, self.spawn, page_size=page_size, limit=limit)

    def release(self, page_number: int) -> None:
        self._gates[page_number].set()

    @property
    def running(self) -> list["asyncio.Task[Any]"]:
        return [task for task in self.tasks if not task.done() or _timed_out(task)]


def _timed_out(task: "asyncio.Task[Any]") -> bool:
    return not task.cancelled() and isinstance(task.exception(), TimeoutError)


async def settle() -> None:
    """Let everything happen that can happen without anybody's help."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ids(pager: Pager[Item]) -> list[str]:
    return [item.id async for item in pager]


async def test_items_come_in_order_up_to_an_empty_page() -> None:
    service = FakeService("abc", "de", "fgh", "", "never")

    assert "".join(await ids(service.pager())) == "abcdefgh"
    assert service.asked == [0, 1, 2, 3]
    assert service.running == []


async def test_an_empty_list_has_no_items() -> None:
    service = FakeService("")

    assert await ids(service.pager()) == []
    assert service.asked == [0]


async def test_a_short_page_is_not_the_end() -> None:
    assert "".join(await ids(FakeService("abcd", "e", "fghi").pager())) == "abcdefghi"


async def test_an_id_is_given_once() -> None:
    assert "".join(await ids(FakeService("aab", "bcc", "acd").pager())) == "abcd"


@pytest.mark.parametrize("again", ["abc", "a", "cba", "aa"])
async def test_a_list_ends_at_a_page_that_brings_no_new_id(again: str) -> None:
    service = FakeService("abc", again, "never")

    assert "".join(await ids(service.pager())) == "abc"
    assert 2 not in service.asked


async def test_pages_come_without_what_an_earlier_page_had() -> None:
    pages = [page async for page in FakeService("ab", "bc", "d").pager().pages()]

    assert [[item.id for item in page] for page in pages] == [["a", "b"], ["c"], ["d"]]


async def test_first_page_is_fetched_alone() -> None:
    service = FakeService("ab", "cd")

    assert [item.id for item in await service.pager().first_page()] == ["a", "b"]
    await settle()
    assert (service.asked, service.amounts) == ([0], [PAGE_SIZE])
    assert service.tasks == []
    assert await FakeService("").pager().first_page() == ()


async def test_first_is_an_item_and_asks_for_one() -> None:
    service = FakeService("ab", "cd")

    assert await service.pager().first() == Item("a", "page 0")
    await settle()
    assert (service.asked, service.amounts) == ([0], [1])
    assert service.tasks == []


async def test_first_of_an_empty_list_is_none() -> None:
    assert await FakeService("").pager().first() is None


@pytest.mark.parametrize(
    ("limit", "page_size", "asked", "amount"),
    [
        (1, 100, [0], 1),
        (2, 100, [0], 2),
        (3, 2, [0, 1], 2),
        (4, 4, [0, 1], 4),
        (9, 2, [0, 1, 2, 3], 2),
    ],
)
async def test_a_limit_ends_the_list_and_asks_for_no_more(
    limit: int, page_size: int, asked: list[int], amount: int
) -> None:
    service = FakeService("ab", "bcd", "e")
    pager = service.pager(page_size=page_size, limit=limit)

    assert [item.id for item in await pager.all()] == list("abcde")[:limit]
    assert service.asked == asked
    assert set(service.amounts) == {amount}
    assert [item.id for item in await pager.first_page()] == ["a", "b"][:limit]
    assert service.running == []


@pytest.mark.parametrize(
    ("statement", "hint"),
    [
        ("for _ in pager: pass", "a Pager is read with `async for`"),
        ("list(pager)", "a Pager is read with `async for`"),
        ("with pager: pass", "a Pager is entered with `async with`"),
        ("await pager", "read it with `async for`, or await its first(), first_page() or all()"),
    ],
)
async def test_what_cannot_work_says_what_to_write_instead(statement: str, hint: str) -> None:
    code = compile(statement, "a user's program", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    with pytest.raises(TypeError, match=re.escape(hint)):
        await (eval(code, {"pager": FakeService("ab").pager()}) or settle())  # noqa: S307 - ours


async def test_making_a_pager_asks_for_nothing() -> None:
    service = FakeService("ab")

    async with service.pager():
        await settle()

    assert service.asked == []


async def test_the_next_page_is_fetched_ahead_and_never_a_second_one() -> None:
    service = FakeService("ab", "cd", "ef", "gh")
    page_number = -1

    async for page in service.pager().pages():
        page_number += 1
        await settle()
        assert page[0].label == f"page {page_number}"
        assert service.asked == list(range(page_number + 2))

    assert page_number == 3


async def test_the_next_page_is_fetched_while_the_consumer_works() -> None:
    service = FakeService("a", "b", "c")
    service.seconds_per_page = 10
    loop = asyncio.get_running_loop()
    start = loop.time()

    async for _ in service.pager():
        await asyncio.sleep(10)

    # The first page is waited for; the three others come while the consumer works for 30 s.
    assert loop.time() - start == pytest.approx(40)


async def test_a_break_leaves_nothing_running_after_the_async_with() -> None:
    service = FakeService("ab", "cd", held=[1])

    async with service.pager() as pager:
        async for _ in pager:
            await settle()
            break
        assert len(service.tasks) == 2

    assert service.running == []
    assert service.tasks[1].cancelled()


async def test_an_error_in_the_loop_leaves_nothing_running_after_the_async_with() -> None:
    service = FakeService("ab", "cd", held=[1])

    async def fail() -> None:
        async with service.pager() as pager:
            async for _ in pager:
                await settle()
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert service.running == []


async def test_a_break_without_async_with_leaves_at_most_one_fetch_behind() -> None:
    service = FakeService("ab", "cd", held=[1])

    async for _ in service.pager():
        await settle()
        break

    assert len(service.running) <= 1


async def test_an_iteration_that_is_kept_open_ends_with_the_async_with() -> None:
    service = FakeService("ab", "cd", held=[1])

    async with service.pager() as pager:
        pages = pager.pages()
        await anext(pages)
        await settle()

    assert service.running == []
    await pages.aclose()


async def test_a_page_that_is_not_awaited_may_fail_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService("ab", ERROR)

    with caplog.at_level(logging.DEBUG):
        async for _ in service.pager():
            await settle()
            break
        await settle()
        service.tasks.clear()
        gc.collect()

    assert caplog.records == []


async def test_a_page_that_fails_when_it_is_ended_fails_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def fetch(page_number: int, _: int) -> tuple[Item, ...]:
        if page_number == 0:
            return (Item("a"),)
        try:
            await asyncio.sleep(500)
        finally:
            raise ERROR

    service = FakeService()

    with caplog.at_level(logging.DEBUG):
        async for _ in Pager(fetch, service.spawn):
            await settle()
            break
        await settle()
        service.tasks.clear()
        gc.collect()

    assert caplog.records == []


async def test_an_error_comes_after_the_items_before_it() -> None:
    seen: list[str] = []
    pager = FakeService("ab", ERROR).pager()

    async def read() -> None:
        async for item in pager:
            await settle()
            seen.append(item.id)

    with pytest.raises(NotFoundError) as caught:
        await read()

    assert caught.value is ERROR
    assert seen == ["a", "b"]


async def test_after_an_error_nothing_more_is_fetched() -> None:
    service = FakeService("ab", ERROR, "cd")

    with pytest.raises(NotFoundError):
        await ids(service.pager())

    await settle()
    assert service.asked == [0, 1]


async def test_a_pager_can_be_read_again_after_an_error() -> None:
    service = FakeService(ERROR, "cd")
    pager = service.pager()
    with pytest.raises(NotFoundError):
        await ids(pager)

    service.pages = ("ab",)

    assert await ids(pager) == ["a", "b"]


async def test_a_client_that_closes_ends_the_waiting_consumer_with_client_closed() -> None:
    service = FakeService("ab", "cd", held=[1])
    consumer = asyncio.create_task(ids(service.pager()))
    await settle()

    for task in service.tasks:
        task.cancel()

    with pytest.raises(ClientClosedError):
        await consumer
    assert service.running == []


async def test_a_client_that_closed_while_the_consumer_worked_ends_it_with_client_closed() -> None:
    service = FakeService("a", "b", held=[1])
    pages = service.pager().pages()
    await anext(pages)
    await settle()

    service.tasks[1].cancel()
    await settle()

    with pytest.raises(ClientClosedError):
        await anext(pages)


async def test_a_closed_client_starts_nothing() -> None:
    def refuse(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        work.close()
        raise ClientClosedError

    with pytest.raises(ClientClosedError):
        await ids(Pager(FakeService("ab").fetch, refuse))


async def test_cancelling_the_consumer_cancels_the_fetch_it_waits_for() -> None:
    service = FakeService("ab", "cd", held=[1])
    consumer = asyncio.create_task(ids(service.pager()))
    await settle()
    assert len(service.running) == 1

    consumer.cancel()

    with pytest.raises(asyncio.CancelledError):
        await consumer
    await settle()
    assert service.tasks[1].cancelled()
    assert service.running == []


async def test_cancelling_the_consumer_at_work_cancels_the_fetch_ahead() -> None:
    service = FakeService("ab", "cd", held=[1])

    async def work() -> None:
        async for _ in service.pager():
            await asyncio.Event().wait()

    consumer = asyncio.create_task(work())
    await settle()
    consumer.cancel()

    with pytest.raises(asyncio.CancelledError):
        await consumer
    await settle()
    assert service.running == []


async def test_two_iterations_of_one_pager_do_not_know_of_each_other() -> None:
    service = FakeService("ab", "bc", "d")
    pager = service.pager()

    first, second = await asyncio.gather(ids(pager), ids(pager))

    assert first == second == ["a", "b", "c", "d"]
    assert sorted(service.asked) == sorted([0, 1, 2, 3] * 2)


async def test_breaking_out_of_one_iteration_leaves_the_other_alone() -> None:
    service = FakeService("ab", "cd", held=[1])
    pager = service.pager()
    other = asyncio.create_task(ids(pager))

    async for _ in pager:
        await settle()
        break
    await settle()
    service.release(1)

    assert await other == ["a", "b", "c", "d"]


async def test_closing_twice_is_harmless() -> None:
    service = FakeService("ab", "cd", held=[1])
    pager = service.pager()
    async for _ in pager:
        await settle()
        break

    await pager.close()
    await pager.close()

    assert service.running == []


@pytest.mark.parametrize("number", [0, -1, True, False, 1.0, "20"])
@pytest.mark.parametrize("name", ["page_size", "limit"])
def test_a_size_or_limit_below_one_is_refused(name: str, number: object) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} must be a whole number of at least 1"):
        FakeService().pager(**{name: number})  # type: ignore[arg-type]
