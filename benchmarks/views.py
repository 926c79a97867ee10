"""What a user costs: views of one client, beside a client or an aiohttp session for each.

All that is made is kept until it has been measured; nothing is sent.
"""

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable

import aiohttp

from healthmsg import Client, Environment

HERE = Environment("benchmark", "http://127.0.0.1:1")


def token(number: int) -> str:
    """Give each user a token of its own, of the usual length."""
    return f"{number:040x}"


def bytes_each(make: Callable[[int], object], count: int) -> float:
    """Make that many, and give the memory that one takes."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = [make(number) for number in range(count)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(kept)


def microseconds_each(make: Callable[[int], object], count: int, rounds: int) -> float:
    """Make that many, a few times, and give the median time that one takes.

    The garbage collector is off meanwhile: its time grows with all that is kept.
    """
    times = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        started = time.perf_counter()
        kept = [make(number) for number in range(count)]
        times.append((time.perf_counter() - started) / len(kept) * 1e6)
        gc.enable()
    return statistics.median(times)


async def compare(count: int, rounds: int) -> None:
    """Measure all three, and print what each costs and how much more than a view that is."""
    client = Client("benchmark", environment=HERE)
    sessions: list[aiohttp.ClientSession] = []

    def session(_: int) -> aiohttp.ClientSession:
        sessions.append(aiohttp.ClientSession())
        return sessions[-1]

    makers: dict[str, Callable[[int], object]] = {
        "view": lambda number: client.with_token(token(number)),
        "Client": lambda number: Client(token(number), environment=HERE),
        "aiohttp session": session,
    }
    figures = {}
    for name, make in makers.items():
        make(0)
        figures[name] = bytes_each(make, count), microseconds_each(make, count, rounds)
    size, duration = figures["view"]
    for name, (own_size, own_duration) in figures.items():
        print(
            f"{name:15} {own_size:7.0f} bytes ({own_size / size:4.1f})"
            f"   {own_duration:7.1f} µs ({own_duration / duration:4.1f})"
        )
    for each in sessions:
        await each.close()
    await client.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(compare(options.count, options.rounds))


if __name__ == "__main__":
    main()
