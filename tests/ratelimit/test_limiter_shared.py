"""One limiter for several clients, and in other event loops than asyncio's own."""

import asyncio
import itertools
import time

import pytest
import uvloop

from healthmsg import Client
from healthmsg.errors import ClientClosedError, WrongEventLoopError
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.sandbox import Sandbox
from tests.servers import a_request, in_fake_time, response


@pytest.mark.slow
async def test_clients_that_share_a_limiter_keep_one_limit_together() -> None:
    limit = RateLimit(calls=4, per=0.2, arrival=0.02)
    limiter = Limiter(limit)
    async with Sandbox(rate_limit=None) as sandbox:
        clients = [
            Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limiter)
            for _ in range(3)
        ]
        await asyncio.gather(*(client.me.get() for client in clients for _ in range(8)))
        for client in clients:
            await client.close()
        ordered = sandbox.arrivals
        assert len(ordered) == 24
        assert all(last - first >= limit.per for first, last in zip(ordered, ordered[4:], strict=False))


async def test_a_client_that_is_closed_leaves_the_limiter_to_the_others() -> None:
    limiter = Limiter(RateLimit(calls=30, per=0.3))
    async with Sandbox(rate_limit=None) as sandbox:
        first = Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limiter)
        second = Client(sandbox.issue_token(), environment=sandbox.environment, rate_limit=limiter)
        # The dispatcher is started by a call of the one that is closed.
        doomed = [asyncio.create_task(first.me.get()) for _ in range(3)]
        await asyncio.sleep(0)
        others = [asyncio.create_task(second.me.get()) for _ in range(10)]
        await asyncio.sleep(0)
        for call in doomed:
            call.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        await first.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*others)
        assert limiter.waiting == 0
        await second.me.get()
        await second.close()


async def test_what_waited_for_its_token_does_not_leave_once_the_client_is_closed() -> None:
    step = LimitStep(Limiter(), longest_pause=60)
    left: list[Request] = []

    async def leave(request: Request) -> Response:
        left.append(request)
        return response()

    step.close()
    with pytest.raises(ClientClosedError):
        await step(a_request(), leave)

    assert not left


def test_a_limiter_stays_in_the_event_loop_where_it_was_first_used() -> None:
    limiter = Limiter()

    async def use() -> None:
        (await limiter.acquire(Priority.INTERACTIVE)).release_unused()

    in_fake_time(use)

    async def use_elsewhere() -> None:
        with pytest.raises(WrongEventLoopError):
            await limiter.acquire(Priority.INTERACTIVE)

    in_fake_time(use_elsewhere)


def test_a_limiter_tells_what_it_keeps_to_and_how_many_wait() -> None:
    assert repr(Limiter()) == "<Limiter RateLimit(calls=30, per=1.0, burst=1, arrival=0.1) waiting=0>"


@pytest.mark.slow
def test_uvloop_whose_timers_fire_early_changes_nothing() -> None:
    limit = RateLimit(calls=10, per=0.2, arrival=0.01)

    async def departures() -> list[float]:
        limiter, left = Limiter(limit), list[float]()

        async def call(priority: Priority) -> None:
            slot = await limiter.acquire(priority)
            slot.sent()
            left.append(time.monotonic())
            await asyncio.sleep(0.003)
            slot.answered()

        await asyncio.gather(*(call(priority) for priority in [*Priority] * 15))
        return left

    def is_kept(left: list[float]) -> bool:
        gaps = [after - before for before, after in itertools.pairwise(left)]
        return (
            len(left) == 60
            and all(last - first >= limit.per for first, last in zip(left, left[10:], strict=False))
            and min(gaps) > 0.9 * limit.per / limit.calls - 0.0015
            and sum(gaps) < 1.5 * 60 * limit.per / limit.calls
        )

    # A busy machine may take note of a departure late; early timers would do harm each time.
    assert any(is_kept(uvloop.run(departures())) for _ in range(3))
