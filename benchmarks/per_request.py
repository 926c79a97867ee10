"""What a sent message costs: `healthmsg` beside plain aiohttp doing the same.

Both send a message over one kept-alive connection and give the typed (or parsed) answer. healthmsg does it
with token, limit, retries and the `on_call` hook on; plain aiohttp with a shared session and orjson. They
take turns, so that a change of the machine's speed hits both.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import aiohttp
import orjson
from counting_server import counting_server

from healthmsg import CallRecord, Client, Environment, RateLimit

TOKEN = "benchmark-token"  # noqa: S105 - no secret
BODY = "Uw afspraak van morgen om 10.15 uur is bevestigd."
Send = Callable[[], Awaitable[object]]


async def measure(send: Send, calls: int) -> tuple[float, float]:
    """Give CPU and wall time per call, in microseconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        await send()
    return (
        (time.process_time() - cpu) / calls * 1e6,
        (time.perf_counter() - wall) / calls * 1e6,
    )


async def compare(url: str, *, rounds: int, calls: int) -> None:
    """Measure both in turn, and print the medians and their ratio."""
    records: list[CallRecord] = []

    def remember(record: CallRecord) -> None:
        records[:] = [record]

    # The limit is at work, but lets everything go.
    unlimited = RateLimit(calls=10_000, per=0.1)
    environment = Environment("benchmark", f"{url}/v1")
    async with (
        aiohttp.ClientSession() as session,
        Client(TOKEN, environment=environment, rate_limit=unlimited, on_call=remember) as client,
    ):

        async def plain() -> object:
            async with session.post(
                f"{url}/v1/conversations/c1/messages",
                data=orjson.dumps({"body": BODY}),
                headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            ) as answer:
                answer.raise_for_status()
                return orjson.loads(await answer.read())

        async def ours() -> object:
            return await client.conversations("c1").send(BODY)

        await measure(plain, calls)
        await measure(ours, calls)
        pairs = []
        for number in range(rounds):  # each goes first in turn
            if number % 2:
                own, theirs = await measure(ours, calls), await measure(plain, calls)
            else:
                theirs, own = await measure(plain, calls), await measure(ours, calls)
            pairs.append((theirs, own))
    for index, what in enumerate(("CPU", "wall")):
        medians = [statistics.median(pair[who][index] for pair in pairs) for who in (0, 1)]
        ratio = statistics.median(pair[1][index] / pair[0][index] for pair in pairs)
        figures = f"plain aiohttp {medians[0]:6.0f} µs   healthmsg {medians[1]:6.0f} µs"
        print(f"{what:5} {figures}   ratio {ratio:.2f}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--calls", type=int, default=100, help="per round and client")
    options = parser.parse_args()
    with counting_server() as url:
        asyncio.run(compare(url, rounds=options.rounds, calls=options.calls))


if __name__ == "__main__":
    main()
