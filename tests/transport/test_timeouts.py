import asyncio
from collections.abc import Awaitable, Callable

import pytest

from healthmsg import CallTimeoutError, Client, ConnectError, Retries, Timeout
from healthmsg.sandbox import Delay, Sandbox
from healthmsg.transport.timeouts import Deadline

pytestmark = pytest.mark.looptime


class UpError(Exception):
    """The time was up."""


async def within(deadline: Deadline, work: Callable[[], Awaitable[object]]) -> object:
    """Do what the wire step does."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    deadline.begin(task)
    try:
        return await work()
    except asyncio.CancelledError:
        if not deadline.end(task) or task.uncancel() > before:
            raise
    finally:
        deadline.end(task)
    raise UpError


async def test_what_takes_too_long_is_ended_in_time_and_the_rest_is_not() -> None:
    deadline, loop = Deadline(10), asyncio.get_running_loop()
    took: dict[float, float] = {}

    async def one(seconds: float) -> None:
        await asyncio.sleep(seconds / 100)  # they begin one after the other
        started = loop.time()
        try:
            await within(deadline, lambda: asyncio.sleep(seconds))
        except UpError:
            took[seconds] = loop.time() - started

    await asyncio.gather(*map(one, (1, 5, 9.9, 11, 50, 300)))

    assert took == {11: pytest.approx(10), 50: pytest.approx(10), 300: pytest.approx(10)}


async def test_a_task_goes_on_unhurt_after_its_time_was_up() -> None:
    deadline = Deadline(10)
    with pytest.raises(UpError):
        await within(deadline, lambda: asyncio.sleep(60))

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(60)
    await within(deadline, lambda: asyncio.sleep(9))


async def test_a_cancellation_stays_one_even_when_the_time_is_up_as_well() -> None:
    deadline = Deadline(10)
    for moment in (5.0, 10.0):
        task = asyncio.ensure_future(within(deadline, lambda: asyncio.sleep(60)))
        asyncio.get_running_loop().call_later(moment, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_nothing_strikes_after_the_end() -> None:
    deadline = Deadline(10)
    await within(deadline, lambda: asyncio.sleep(9))
    await asyncio.sleep(1000)

    await within(deadline, lambda: asyncio.sleep(9))
    deadline.close()
    await asyncio.sleep(1000)


async def test_a_call_without_an_answer_ends_after_its_total_time(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=Delay(1000), times=None)
    loop = asyncio.get_running_loop()
    options = {"timeout": Timeout(total=20), "retries": Retries.none()}
    async with Client(sandbox.issue_token(), environment=sandbox.environment, **options) as client:  # type: ignore[arg-type]
        started = loop.time()
        results = await asyncio.gather(*(client.me.get() for _ in range(5)), return_exceptions=True)

    assert [type(result) for result in results] == [CallTimeoutError] * 5
    assert loop.time() - started == pytest.approx(20, abs=1)
    assert not any(isinstance(result, ConnectError) for result in results)
