"""Waiting for what has no event."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, soon or never: on a busy machine a command takes ten seconds to start."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is about other processes, sockets and threads
            await asyncio.sleep(0.005)
