"""Ways in which several processes keep 30 calls a second together, for `fleet.py` to compare."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import limits
import pyrate_limiter
import redis.asyncio as redis
import throttled.asyncio as throttled
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

CALLS: Final = 30
Turn = Callable[[], Awaitable[object]]
"""Waits until a call may leave."""
# Seconds after which a limiter that does not wait itself is asked again at the earliest.
_ASK_AGAIN: Final = 0.005


@asynccontextmanager
async def pyrate_on_redis(store: str) -> AsyncIterator[Turn]:
    """Open pyrate-limiter's Redis bucket."""
    rate = pyrate_limiter.Rate(CALLS, pyrate_limiter.Duration.SECOND)
    async with redis.Redis.from_url(store) as connection:
        bucket = await pyrate_limiter.RedisBucket.init([rate], connection, "fleet")
        limiter = pyrate_limiter.Limiter(bucket)
        try:
            yield lambda: limiter.try_acquire_async("fleet")
        finally:
            limiter.close()


@asynccontextmanager
async def pyrate_on_postgresql(store: str) -> AsyncIterator[Turn]:
    """Open pyrate-limiter's PostgreSQL bucket, which blocks: each turn has a thread."""
    from psycopg_pool import ConnectionPool  # noqa: PLC0415 - not everywhere installed

    rate = pyrate_limiter.Rate(CALLS, pyrate_limiter.Duration.SECOND)
    folder = store.rpartition("host=")[2]
    with ConnectionPool(f"host={folder} user=postgres dbname=fleet", min_size=1, max_size=4) as pool:
        bucket = pyrate_limiter.PostgresBucket(pool, "fleet", [rate])
        limiter = pyrate_limiter.Limiter(bucket)
        try:
            yield lambda: asyncio.to_thread(limiter.try_acquire, "fleet")
        finally:
            limiter.close()


@asynccontextmanager
async def limits_on_redis(store: str) -> AsyncIterator[Turn]:
    """Open the moving window of `limits`; it does not wait itself: ask again when the window has moved on."""
    url = store.replace("unix://", "async+redis+unix://")
    window = MovingWindowRateLimiter(RedisStorage(url, implementation="redispy"))
    rate = limits.RateLimitItemPerSecond(CALLS)

    async def turn() -> None:
        while not await window.hit(rate, "fleet"):
            stats = await window.get_window_stats(rate, "fleet")
            await asyncio.sleep(max(stats.reset_time - time.time(), _ASK_AGAIN))

    yield turn


@asynccontextmanager
async def throttled_on_redis(store: str) -> AsyncIterator[Turn]:
    """Open the sliding window of throttled-py, which waits itself."""
    limiter = throttled.Throttled(
        key="fleet",
        using=throttled.RateLimiterType.SLIDING_WINDOW.value,
        quota=throttled.per_sec(CALLS),
        store=throttled.RedisStore(server=store),
        timeout=10,
    )

    async def turn() -> None:
        while (await limiter.limit()).limited:  # noqa: ASYNC110 - what it waits for has no event here
            await asyncio.sleep(_ASK_AGAIN)

    yield turn


OTHERS: Final = {
    "pyrate, Redis": pyrate_on_redis,
    "pyrate, PostgreSQL": pyrate_on_postgresql,
    "limits, Redis": limits_on_redis,
    "throttled-py, Redis": throttled_on_redis,
}
"""Limiters for plain aiohttp, by name: each takes the URL of its store."""
OURS: Final = {
    "leases": "SharedLimit on PostgreSQL",
    "per call": "SharedLimit on Redis",
    "each its own": "a limiter of each process",
    "1/N each": "a limiter of each process, with its share of the limit",
}
"""healthmsg's, by name."""


def store_of(limit: str) -> str | None:
    """Return in what a limit is kept; `None` for one in the process."""
    if limit == "leases" or limit.endswith("PostgreSQL"):
        return "PostgreSQL"
    return "Redis" if limit == "per call" or limit.endswith("Redis") else None
