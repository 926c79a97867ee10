"""Those who wait for the limit, for the tests of it."""

import asyncio

from healthmsg.pipeline.request import Lane
from healthmsg.ratelimit.limiter import Limiter
from healthmsg.ratelimit.window import CallSlot


def is_empty(limiter: Limiter) -> bool:
    return (
        not limiter.waiting
        and not any(limiter._lanes._lanes.values())
        and asyncio.all_tasks() == {asyncio.current_task()}
    )


async def waiting(limiter: Limiter, count: int = 1) -> list[asyncio.Task[CallSlot]]:
    """Start callers, and let them get in line."""
    tasks = [asyncio.create_task(limiter.acquire(Lane.INTERACTIVE)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def all_slots_come_back(limiter: Limiter) -> bool:
    await asyncio.sleep(5)
    return limiter._slots.is_one_free(limiter.now()) and limiter._slots.free == limiter.rate.calls


async def answered_slot(limiter: Limiter) -> CallSlot:
    slot = await limiter.acquire(Lane.INTERACTIVE)
    slot.sent()
    slot.answered()
    return slot


async def until_the_spacing_holds(limiter: Limiter) -> None:
    """Let calls go until the next one has a slot at once, but not its place in the spacing."""
    await answered_slot(limiter)
    (await limiter.acquire(Lane.INTERACTIVE)).never_left()
