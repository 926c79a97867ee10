"""Waiting for what has no event."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, which it does soon or never."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is about other processes, sockets and threads
            await asyncio.sleep(0.005)
