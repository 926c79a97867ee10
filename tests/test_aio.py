import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from healthmsg import Client, Environment
from healthmsg.aio import start


class Done(asyncio.Future[Any]):
    def set_name(self, name: object) -> None:
        """Take the name, as a task does: Python 3.13 gives each one that is made."""


async def test_a_task_begins_after_it_is_known_whatever_the_task_factory() -> None:
    begun: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        begun.append(asyncio.current_task())

    def eagerly(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **_: Any) -> Any:
        try:
            work.send(None)
        except StopIteration as end:
            done = Done(loop=loop)
            done.set_result(end.value)
            return done
        raise AssertionError

    loop = asyncio.get_running_loop()
    loop.set_task_factory(eagerly)  # type: ignore[arg-type] # as much of one as is needed
    try:
        await loop.create_task(work())
        task = start(work())
    finally:
        loop.set_task_factory(None)

    assert begun == [asyncio.current_task()]
    await task
    assert begun[1:] == [task]


@pytest.mark.parametrize(
    ("what", "name", "instead"),
    [
        ("client", "a Client", ""),
        ("client.conversations.list()", "a Pager", "first_page() or all()"),
        ("client.send_many([])", "a send_many", "report()"),
        ("client.preview_many([])", "a Preview", "report()"),
        ("client.upload_many([])", "an UploadMany", "all()"),
        ("client.conversations('c1').download_all(to='x')", "a DownloadAll", "all()"),
        ("client.conversations('c1').download_stream('a1')", "a FileStream", "async for"),
    ],
)
def test_what_is_async_only_says_so(what: str, name: str, instead: str) -> None:
    client = Client("token", environment=Environment("here", "http://127.0.0.1:1"))
    thing: Any = eval(what, {"client": client})  # noqa: S307 - ours

    with pytest.raises(TypeError, match=f"{name} is entered with `async with`"), thing:
        pass
    if thing is not client:
        with pytest.raises(TypeError, match=f"{name} is read with `async for`"):
            iter(thing)
        with pytest.raises(TypeError) as caught:
            thing.__await__()
        assert instead in str(caught.value)
