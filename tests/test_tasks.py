import asyncio
from collections.abc import Coroutine
from typing import Any

from healthmsg.tasks import start


async def test_a_task_begins_after_it_is_known_whatever_the_task_factory() -> None:
    begun: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        begun.append(asyncio.current_task())

    def eagerly(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **_: Any) -> Any:
        try:
            work.send(None)
        except StopIteration as end:
            done = loop.create_future()
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
