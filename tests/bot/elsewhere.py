"""A helper of dialogs in a file of its own."""

import asyncio


async def wait_elsewhere() -> None:
    await asyncio.sleep(0.01)  # here it waits elsewhere
