"""What a turn costs while many wait: CPU time and memory, under a clock that jumps to the next timer.

All callers come at once; each waits for its turn, 30 a second. healthmsg's also tells when its call leaves
and when it is answered. Beside it are aiolimiter alone with the same spacing, and pyrate-limiter.
"""

import argparse
import asyncio
import gc
import itertools
import selectors
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pyrate_limiter
from aiolimiter import AsyncLimiter

from healthmsg import RateLimit
from healthmsg.ratelimit.limiter import Limiter
from healthmsg.ratelimit.queue import Priority

Turn = Callable[[], Awaitable[object]]


class JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: it moves the clock on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> "list[tuple[selectors.SelectorKey, int]]":
        """Let the time pass for which the event loop would wait."""
        self.now += max(timeout or 0.0, 0.0)
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        self._looks = itertools.count()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Give the time, a little later with each look: aiolimiter needs a clock that moves."""
        return self._jumping.now + next(self._looks) * 1e-9


class JumpingBucket(pyrate_limiter.InMemoryBucket):
    """pyrate-limiter's bucket by the event loop's clock, in milliseconds."""

    def now(self) -> int:
        """Give the time."""
        return int(asyncio.get_running_loop().time() * 1000)


def of_healthmsg() -> Turn:
    """Make our limiter."""
    limiter = Limiter(RateLimit())

    async def turn() -> None:
        slot = await limiter.acquire(Priority.INTERACTIVE)
        slot.sent()
        slot.answered()

    return turn


def of_pyrate_limiter() -> Turn:
    """Make that of pyrate-limiter."""
    limiter = pyrate_limiter.Limiter(JumpingBucket([pyrate_limiter.Rate(30, 1000)]))
    return lambda: limiter.try_acquire_async("benchmark")


LIMITERS: dict[str, Callable[[], Turn]] = {
    "aiolimiter": lambda: AsyncLimiter(1.06, 1.06 / 30).acquire,
    "healthmsg": of_healthmsg,
    "pyrate-limiter": of_pyrate_limiter,
}


async def cpu_of(turn: Turn, waiters: int, turns: int) -> float:
    """Give the CPU seconds of a turn, while that many wait; each waits again, so many turns are taken."""

    async def caller() -> None:
        for _ in range(max(1, turns // waiters)):
            await turn()

    started = time.process_time()
    await asyncio.gather(*(caller() for _ in range(waiters)))
    return (time.process_time() - started) / (waiters * max(1, turns // waiters))


async def memory_of(turn: Turn, waiters: int) -> float:
    """Give the bytes that a waiting caller takes, its task included."""
    await turn()
    gc.collect()
    tracemalloc.start()
    callers = [asyncio.ensure_future(turn()) for _ in range(waiters)]
    await asyncio.sleep(0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.sleep(0)
    return size / waiters


def in_jumping_time(measured: Coroutine[Any, Any, float]) -> float:
    """Measure in an event loop of its own."""
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(measured)
    finally:
        loop.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiters", type=int, nargs="+", default=[1, 10, 100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2_000, help="at least so many a round")
    options = parser.parse_args()
    print(f"{'':16}{'waiting':>8}{'CPU a turn':>14}{'ratio':>7}{'memory a waiter':>19}")
    for waiters in options.waiters:
        times: dict[str, list[float]] = {name: [] for name in LIMITERS}
        for _ in range(options.rounds if waiters < 100_000 else 2):
            for name, make in LIMITERS.items():  # in turn, so that a busy machine slows all of them alike
                times[name].append(in_jumping_time(cpu_of(make(), waiters, options.turns)))
        base = statistics.median(times["aiolimiter"])
        for name, make in LIMITERS.items():
            cpu = statistics.median(times[name])
            memory = in_jumping_time(memory_of(make(), waiters))
            print(
                f"{name:16}{waiters:8}{cpu * 1e6:11.1f} µs{cpu / base:7.2f}{memory:13.0f} bytes", flush=True
            )


if __name__ == "__main__":
    main()
