"""Those who wait for the limit, for the tests of it."""

import asyncio

from healthmsg.ratelimit.limiter import Limiter
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import Slot


def is_empty(limiter: Limiter) -> bool:
    return (
        not limiter.waiting
        and not any(limiter._queue._queues.values())
        and asyncio.all_tasks() == {asyncio.current_task()}
    )


async def waiting(limiter: Limiter, count: int = 1) -> list[asyncio.Task[Slot]]:
    """Start callers, and let them get in line."""
    tasks = [asyncio.create_task(limiter.acquire(Priority.INTERACTIVE)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def all_slots_come_back(limiter: Limiter) -> bool:
    await asyncio.sleep(5)
    return limiter._window.count_returned(limiter.now()) and limiter._window.free == limiter.rate.calls


async def answered_slot(limiter: Limiter) -> Slot:
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    slot.answered()
    return slot


async def until_the_spacing_holds(limiter: Limiter) -> None:
    """Let calls go until the next one has a slot at once, but not its place in the spacing."""
    await answered_slot(limiter)
    (await limiter.acquire(Priority.INTERACTIVE)).release_unused()
