"""How fast 600 calls go, and how many of them a server would refuse.

Each client sends 600 calls at once to a server in another process that notes when each arrives. Four ways
of counting "30 calls a second" then judge the same arrivals: fixed window, sliding window, token bucket and
spike arrest (no two calls closer than 1/30 s, less 5 ms). "Jitter" delays each call by 5 to 80 ms on the
way there, and its answer by as much on the way back.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import orjson
from aiolimiter import AsyncLimiter
from counting_server import counting_server

from healthmsg import Client, Environment, Outcome, Outgoing
from healthmsg.sandbox.limits import (
    FixedWindow,
    Policy,
    SlidingWindow,
    SpikeArrest,
    TokenBucket,
    count_rejections,
    most_in_any_period,
)

POLICIES: dict[str, Callable[[], Policy]] = {
    "fixed": FixedWindow,
    "sliding": SlidingWindow,
    "bucket": TokenBucket,
    "spike": SpikeArrest,
}
Run = Callable[[str, int], Coroutine[Any, Any, int]]


async def healthmsg(url: str, calls: int) -> int:
    """Send with `send_many`, and give how many were delivered."""
    messages = (Outgoing(f"conversations/c{number}", "Hallo") for number in range(calls))
    async with Client("benchmark", environment=Environment("benchmark", f"{url}/v1")) as client:
        return sum([result.outcome is Outcome.DELIVERED async for result in client.send_many(messages)])


@asynccontextmanager
async def plain_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session whose pool holds up nobody."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


def plain_aiohttp(turn: Callable[[], AbstractAsyncContextManager[None]]) -> Run:
    """Make a client of plain aiohttp in which each call waits for its turn."""

    async def run(url: str, calls: int) -> int:
        async with plain_session() as session:
            enter = turn()

            async def call(number: int) -> bool:
                async with enter:
                    pass
                body = orjson.dumps({"body": "Hallo"})
                async with session.post(f"{url}/v1/conversations/c{number}/messages", data=body) as answer:
                    await answer.read()
                    return answer.ok

            return sum(await asyncio.gather(*map(call, range(calls))))

    return run


CLIENTS: dict[str, Run] = {
    "healthmsg": healthmsg,
    "AsyncLimiter(30, 1)": plain_aiohttp(lambda: AsyncLimiter(30, 1)),
    "no limiter": plain_aiohttp(nullcontext),
}


async def arrivals_of(url: str) -> list[float]:
    """Ask the server when the calls arrived."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/arrivals") as answer:
        moments: list[float] = await answer.json()
        return moments


def judge(name: str, path: str, delivered: int, calls: int, arrivals: list[float]) -> str:
    """Make a row of the table."""
    rate = (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])
    refused = [count_rejections(policy(), arrivals) for policy in POLICIES.values()]
    most = most_in_any_period(arrivals)
    columns = "".join(f"{count:8}" for count in refused)
    return f"{name:20} {path:7} {rate:8.2f}{columns}{calls - delivered:8}{most:10}"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--only", choices=CLIENTS, help="one client instead of all")
    options = parser.parse_args()
    print(f"{'':20} {'path':7} {'calls/s':>8}" + "".join(f"{name:>8}" for name in POLICIES), end="")
    print(f"{'lost':>8}{'most in 1 s':>12}", flush=True)
    for path, (low, high) in {"quiet": (0.0, 0.0), "jitter": (0.005, 0.080)}.items():
        for name, run in CLIENTS.items():
            if options.only in {None, name}:
                with counting_server(low, high) as url:
                    delivered = asyncio.run(run(url, options.calls))
                    arrivals = asyncio.run(arrivals_of(url))
                print(judge(name, path, delivered, options.calls, arrivals), flush=True)
    print(f"({time.strftime('%Y-%m-%d')}, {options.calls} calls a row)")


if __name__ == "__main__":
    main()
