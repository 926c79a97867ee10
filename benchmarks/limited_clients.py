"""Clients that keep to 30 calls a second, each in its own way, for `limit.py` to compare."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from itertools import count
from typing import Any

import aiohttp
import limits
import orjson
import pyrate_limiter
from aiolimiter import AsyncLimiter
from attrs import frozen
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from sockets_with_small_buffers import connector

from healthmsg import Client, Environment, HealthmsgError, Outcome, Outgoing, UploadFile

# Of each pause after a 429 it would write a line.
logging.getLogger("healthmsg").setLevel(logging.ERROR)

Call = Callable[[int], Awaitable[bool]]
"""Makes the call of that number, and tells whether it succeeded."""
FILE = bytes(2_000_000)


@frozen
class Load:
    """What is asked of a client."""

    calls: int
    waiting: int | None = None
    """How many callers there are at any time, each of which calls again and again; else a caller a call."""
    upload_every: int | None = None
    """Which of the calls are uploads that take two seconds; the last hundred are none."""

    def is_upload(self, number: int) -> bool:
        """Tell whether the call of that number is one."""
        may_be_one = self.upload_every is not None and number < self.calls - 100
        return may_be_one and number % (self.upload_every or 1) == 0


Run = Callable[[str, Load], Coroutine[Any, Any, int]]
"""Makes calls to a URL, and gives how many succeeded."""


async def drive(call: Call, load: Load) -> int:
    """Have all the calls made, and count those that succeeded."""
    if load.waiting is None:
        return sum(await asyncio.gather(*map(call, range(load.calls))))
    numbers, done = count(), asyncio.Event()
    ended: list[bool] = []

    async def call_again_and_again() -> None:
        while not done.is_set():
            ended.append(await call(next(numbers)))
            if len(ended) >= load.calls:
                done.set()

    callers = [asyncio.create_task(call_again_and_again()) for _ in range(load.waiting)]
    await done.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    return sum(ended[: load.calls])


async def healthmsg(url: str, load: Load) -> int:
    """Send with `send_many`; with a given number of callers, one message a call."""
    async with (
        aiohttp.ClientSession(connector=connector()) as session,
        Client("benchmark", environment=Environment("benchmark", f"{url}/v1"), session=session) as client,
    ):

        async def send(number: int) -> bool:
            try:
                await client.conversations(f"c{number}").send("Hallo")
            except HealthmsgError:
                return False
            return True

        def messages() -> Iterator[Outgoing]:
            for number in range(load.calls):
                files = (UploadFile(FILE, "scan.png"),) if load.is_upload(number) else ()
                yield Outgoing(f"conversations/c{number}", "Hallo", files=files)

        if load.waiting is not None:
            return await drive(send, load)
        return sum([result.outcome is Outcome.DELIVERED async for result in client.send_many(messages())])


async def one_at_a_time(url: str, load: Load) -> int:
    """Send with healthmsg, but wait for each answer before the next call."""
    return await healthmsg(url, Load(load.calls, waiting=1))


@asynccontextmanager
async def plain_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session whose pool holds up no call."""
    async with aiohttp.ClientSession(connector=connector()) as session:
        yield session


async def post(session: aiohttp.ClientSession, url: str, number: int, load: Load) -> aiohttp.ClientResponse:
    """Make a call, and read all of its answer."""
    body = FILE if load.is_upload(number) else orjson.dumps({"body": "Hallo"})
    async with session.post(f"{url}/v1/conversations/c{number}/messages", data=body) as answer:
        await answer.read()
        return answer


def plain_aiohttp(turn: Callable[[], AbstractAsyncContextManager[object]]) -> Run:
    """Make a client of plain aiohttp in which each call waits for its turn."""

    async def run(url: str, load: Load) -> int:
        async with plain_session() as session:
            enter = turn()

            async def call(number: int) -> bool:
                async with enter:
                    pass
                return (await post(session, url, number, load)).ok

            return await drive(call, load)

    return run


class PyrateTurns(AbstractAsyncContextManager[None]):
    """Turns of pyrate-limiter."""

    def __init__(self) -> None:
        rate = pyrate_limiter.Rate(30, pyrate_limiter.Duration.SECOND)
        self._limiter = pyrate_limiter.Limiter(rate)

    async def __aenter__(self) -> None:
        await self._limiter.try_acquire_async("benchmark")

    async def __aexit__(self, *_: object) -> None:
        """Hold nothing."""


class LimitsTurns(AbstractAsyncContextManager[None]):
    """Turns of limits, which does not wait itself: ask again when the window has moved on."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._rate = limits.RateLimitItemPerSecond(30)

    async def __aenter__(self) -> None:
        while not await self._window.hit(self._rate):
            stats = await self._window.get_window_stats(self._rate)
            await asyncio.sleep(max(stats.reset_time - time.time(), 0.005))

    async def __aexit__(self, *_: object) -> None:
        """Hold nothing."""


async def openai_style(url: str, load: Load) -> int:
    """Wait for nothing, and repeat what was refused as openai's client does: after 0.5 and 1 second."""
    async with plain_session() as session:

        async def call(number: int) -> bool:
            for repetition in range(2):
                if (await post(session, url, number, load)).ok:
                    return True
                await asyncio.sleep(0.5 * 2**repetition * (1 - 0.25 * random.random()))
            return (await post(session, url, number, load)).ok

        return await drive(call, load)


CLIENTS: dict[str, Run] = {
    "healthmsg": healthmsg,
    "one at a time": one_at_a_time,
    "AsyncLimiter(30, 1)": plain_aiohttp(lambda: AsyncLimiter(30, 1)),
    "AsyncLimiter(1, 1/30)": plain_aiohttp(lambda: AsyncLimiter(1, 1 / 30)),
    "pyrate-limiter": plain_aiohttp(PyrateTurns),
    "limits": plain_aiohttp(LimitsTurns),
    "no limiter": plain_aiohttp(nullcontext),
    "openai-style retry": openai_style,
}
