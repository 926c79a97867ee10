"""Who goes next, and who does not wait any longer."""

import asyncio
import itertools

import pytest

from healthmsg.errors import ClientClosedError, RateLimitedError
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from tests.ratelimit.waiters import all_slots_come_back, is_empty, until_the_spacing_holds, waiting
from tests.servers import a_request, response

pytestmark = [pytest.mark.looptime(noop_cycles=0), pytest.mark.usefixtures("ticking_clock")]


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(RateLimit(calls=2))


async def refused_for(seconds: float, step: LimitStep) -> None:
    async def refuse(request: Request) -> Response:
        assert request.current.slot is not None
        request.current.slot.sent()
        request.current.slot.answered()
        raise RateLimitedError("GET x", 429, retry_after=seconds)

    with pytest.raises(RateLimitedError):
        await step(a_request(), refuse)


async def unreachable(_: Request) -> Response:
    raise AssertionError("it was to wait")


async def test_a_pause_that_is_too_long_fails_who_waits_already_and_who_comes_later(limiter: Limiter) -> None:
    step, patient = LimitStep(limiter, longest_pause=60), LimitStep(limiter, longest_pause=4000)
    refused = asyncio.create_task(refused_for(600, step))
    waiters = [asyncio.create_task(step(a_request(), unreachable)) for _ in range(20)]
    left = asyncio.create_task(patient(a_request(), answer))
    await refused
    began = limiter.now()

    for waiter in waiters:
        with pytest.raises(RateLimitedError) as caught:
            await waiter
        assert caught.value.retry_after == pytest.approx(600, abs=0.1)
    await asyncio.sleep(100)
    with pytest.raises(RateLimitedError) as caught:
        await step(a_request(), unreachable)
    assert caught.value.retry_after == pytest.approx(500, abs=1)
    assert "not made, since an earlier call was answered 429" in str(caught.value)
    assert limiter.waiting == 1
    await left
    assert limiter.now() - began == pytest.approx(600, abs=1)
    assert (await step(a_request(), answer)).status == 200
    assert is_empty(limiter)
    assert await all_slots_come_back(limiter)


@pytest.mark.parametrize("waiters", [1, 5])
async def test_who_waits_for_no_pause_waits_for_the_limit_all_the_same(
    limiter: Limiter, waiters: int
) -> None:
    step = LimitStep(limiter, longest_pause=0)
    await until_the_spacing_holds(limiter)
    await asyncio.gather(*(step(a_request(), answer) for _ in range(waiters)))
    assert is_empty(limiter)


async def answer(request: Request) -> Response:
    assert request.current.slot is not None
    request.current.slot.sent()
    request.current.slot.answered()
    return response()


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_a_step_that_is_closed_ends_its_waits_and_leaves_the_limiter_open(
    limiter: Limiter, count: int
) -> None:
    closing, other = LimitStep(limiter, longest_pause=60), LimitStep(limiter, longest_pause=60)
    await until_the_spacing_holds(limiter)
    waiters = [asyncio.create_task(closing(a_request(), unreachable)) for _ in range(count)]
    left = asyncio.create_task(other(a_request(), answer))
    await asyncio.sleep(0)
    began = limiter.now()
    closing.close()

    for waiter in waiters:
        with pytest.raises(ClientClosedError):
            await waiter
    with pytest.raises(ClientClosedError):
        await closing(a_request(), unreachable)
    await left
    assert limiter.now() - began < 1
    assert is_empty(limiter)
    assert await all_slots_come_back(limiter)


async def test_the_end_of_an_upload_gets_a_tenth_of_the_turns_while_others_want_all() -> None:
    limiter = Limiter(RateLimit(calls=30))
    order: list[Priority] = []

    async def call(priority: Priority) -> None:
        (await limiter.acquire(priority)).release_unused()
        order.append(priority)

    lanes = [Priority.INTERACTIVE] * 60 + [Priority.BACKGROUND] * 3 + [Priority.FINISHING] * 3
    await asyncio.gather(*(call(priority) for priority in lanes))
    turns = [number for number, priority in enumerate(order) if priority is Priority.FINISHING]
    assert turns[0] < 12
    assert [after - before for before, after in itertools.pairwise(turns)] == [10, 10]
    assert order[-3:] == [Priority.BACKGROUND] * 3


async def test_emptied_queues_keep_no_cancelled_call(limiter: Limiter) -> None:
    await until_the_spacing_holds(limiter)
    [first] = await waiting(limiter)
    cancelled = [asyncio.create_task(limiter.acquire(Priority.BACKGROUND)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in cancelled:
        task.cancel()
    (await first).release_unused()
    assert is_empty(limiter)
