"""A limit that several limiters share over a Redis of the tests' own."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from healthmsg import Client, Environment, RateLimit, Retries
from healthmsg.clock import machine_seconds
from healthmsg.errors import ConfigurationError
from healthmsg.fleet import redis as redis_module
from healthmsg.fleet.grants import Grant, GrantedSlot
from healthmsg.fleet.limit import SharedLimit
from healthmsg.fleet.redis import RedisSource
from healthmsg.ratelimit.limiter import Limiter
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.source import StoreAwayError
from healthmsg.ratelimit.window import Slot
from healthmsg.redis_client import connect
from tests.redis_server import RedisServer

# Quick, so that what takes an interval takes little time.
RATE = RateLimit(calls=8, per=0.2, arrival=0.02)
QUARANTINE = RATE.per + RATE.arrival
# How long a call may make its connection with a slot in hand.
IN_HAND = 0.1
Opening = Callable[..., Limiter]


@pytest.fixture
async def opening(
    redis_url: str,
    redis_prefix: str,
    nothing_reaches_the_event_loop: None,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Opening]:
    """Return what makes another limiter that shares the limit of this test."""
    hold_in_hand_for(IN_HAND, monkeypatch)
    async with AsyncExitStack() as stack:

        def make(url: str = redis_url, rate: RateLimit = RATE, **options: Any) -> Limiter:
            limiter = Limiter(rate)
            limiter.use(RedisSource(url, redis_prefix, rate, **options))
            stack.push_async_callback(limiter.close)
            return limiter

        yield make


def hold_in_hand_for(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.fleet.grants.IN_HAND", seconds)
    monkeypatch.setattr(redis_module, "IN_HAND", seconds)
    monkeypatch.setattr(redis_module, "_LONGEST_GOOD_FOR", 0.1)


def source_of(limiter: Limiter) -> RedisSource:
    source = limiter._source
    assert isinstance(source, RedisSource)
    return source


async def call(limiter: Limiter, priority: Priority = Priority.INTERACTIVE) -> float:
    """Make a call that is answered at once, and return when it left."""
    slot = await leave(limiter, priority)
    slot.answered()
    return limiter.now()


async def leave(limiter: Limiter, priority: Priority = Priority.INTERACTIVE) -> Slot:
    async with asyncio.timeout(10):
        while True:
            slot = await limiter.acquire(priority)
            if slot.sent():
                return slot
            slot.release_unused()


def most_in_an_interval(left: list[float]) -> int:
    left = sorted(left)
    return max(sum(first <= other < first + RATE.per for other in left) for first in left)


async def test_workers_together_make_as_many_calls_as_one_may(opening: Opening) -> None:
    workers = [opening() for _ in range(3)]
    left = await asyncio.gather(*(call(worker) for worker in workers for _ in range(7)))
    assert most_in_an_interval(left) <= RATE.calls
    assert max(left) - min(left) < 2 * len(left) / RATE.calls * RATE.per
    assert workers[0].stats().source == "redis"
    assert workers[0].stats().workers == 3


async def test_a_new_store_makes_the_first_call_wait_for_an_interval_and_the_way(opening: Opening) -> None:
    worker = opening()
    began = worker.now()
    assert await call(worker) - began >= QUARANTINE
    began = worker.now()
    await call(worker)
    assert worker.now() - began < QUARANTINE


async def test_after_the_memory_was_lost_no_call_leaves_for_an_interval_and_the_way(
    opening: Opening, own_redis: RedisServer
) -> None:
    workers = [opening(own_redis.url), opening(own_redis.url)]
    await asyncio.gather(*(call(worker) for worker in workers for _ in range(4)))
    last = max(await asyncio.gather(*(call(worker) for worker in workers)))
    own_redis.stop()
    own_redis.start()
    left = await asyncio.gather(*(call(worker) for worker in workers for _ in range(4)))
    assert min(left) - last >= QUARANTINE


async def test_interactive_calls_go_before_the_bulk_of_another_worker(opening: Opening) -> None:
    bulk, interactive = opening(), opening()
    await asyncio.gather(call(bulk), call(interactive))
    in_bulk = [asyncio.create_task(call(bulk, Priority.BACKGROUND)) for _ in range(24)]
    await asyncio.wait(in_bulk, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*(call(interactive) for _ in range(3)))
    # Some of them leave in between: a store grants a little ahead, and here all is in one event loop.
    assert sum(not task.done() for task in in_bulk) > 12
    await asyncio.gather(*in_bulk)


async def test_a_grant_that_is_used_too_late_does_not_leave_and_goes_back(
    opening: Opening, redis_url: str, redis_prefix: str
) -> None:
    worker = opening()
    await call(worker)
    slot = await worker.acquire(Priority.INTERACTIVE)
    time.sleep(0.3)  # noqa: ASYNC251 - the event loop is busy
    assert not slot.sent()
    slot.release_unused()
    await call(worker)
    store = connect(redis_url, 1.0)
    assert isinstance(slot, GrantedSlot)
    assert slot.grant is not None
    assert await store.zscore(f"healthmsg:limit:{{{redis_prefix}}}:slots", slot.grant.id) is None
    await store.aclose()


async def test_the_store_counts_a_call_from_when_it_left_though_it_has_no_answer(
    opening: Opening, redis_url: str, redis_prefix: str
) -> None:
    worker = opening()
    await call(worker)
    slot = await worker.acquire(Priority.INTERACTIVE)
    await asyncio.sleep(0.04)  # the connection is made
    assert slot.sent()
    left_at, store = worker.now(), connect(redis_url, 1.0)
    await asyncio.sleep(0.12)  # it is reported
    assert isinstance(slot, GrantedSlot)
    assert slot.grant is not None
    due = await store.zscore(f"healthmsg:limit:{{{redis_prefix}}}:slots", slot.grant.id)
    seconds, micro = await store.time()
    assert due is not None
    left = due / 1e6 - (seconds + micro / 1e6)
    assert abs(left - (left_at + QUARANTINE - worker.now())) < 0.02
    await store.aclose()


async def test_an_answer_that_comes_while_the_store_is_told_is_told_it_too(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = opening()
    await call(worker)
    source, slot = source_of(worker), await leave(worker)
    assert isinstance(slot, GrantedSlot)
    assert slot.grant is not None
    script = source._script

    async def answer_meanwhile(*arguments: Any) -> Any:
        slot.answered()
        return await script(*arguments)

    await asyncio.sleep(0.01)
    monkeypatch.setattr(source, "_script", answer_meanwhile)
    due = source.window.back[slot.grant.id]
    await source._ask((0, 0, 0))
    assert source.window.back[slot.grant.id] < due


@pytest.mark.parametrize(("seconds", "retries"), [(0.1, Retries.none()), (0.6, Retries(max_wait=0.0))])
async def test_a_connection_that_takes_long_to_make_costs_no_call(
    redis_url: str, sandbox: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, retries: Retries
) -> None:
    """A slot in hand outlasts the making of most; and of the others each is kept for the next try."""
    connect_at_once, made = aiohttp.TCPConnector.connect, 0

    async def connect_slowly(*args: Any) -> Any:
        nonlocal made
        connection = await connect_at_once(*args)
        if connection.protocol not in seen:
            seen.append(connection.protocol)
            made += 1
            await asyncio.sleep(seconds)
        return connection

    seen: list[object] = []
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_slowly)
    environment: Environment = sandbox.environment
    limit = SharedLimit(redis_url, rate=RATE)
    token = sandbox.issue_token()
    async with Client(token, environment=environment, rate_limit=limit, retries=retries) as client:
        await client.me.get()
    assert made == 1


async def test_a_worker_asks_for_no_more_than_it_uses_soon(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each grant waits behind those before it until all are too old, and none is ever used."""
    worker, most = opening(), 0
    window, add = source_of(worker).window, source_of(worker).window.add

    def add_and_look(grants: list[Grant]) -> None:
        nonlocal most
        add(grants)
        most = max(most, len(window.grants))

    monkeypatch.setattr(window, "add", add_and_look)
    await asyncio.gather(*(call(worker, Priority.BACKGROUND) for _ in range(20)))
    assert most <= 2


async def test_a_worker_that_is_gone_holds_its_slots_for_an_interval_only(opening: Opening) -> None:
    gone, other = opening(), opening()
    await asyncio.gather(*(leave(gone) for _ in range(RATE.calls)))
    task = source_of(gone)._task
    assert task is not None
    task.cancel()
    last = gone.now()
    left = await asyncio.gather(*(call(other) for _ in range(RATE.calls)))
    assert most_in_an_interval([last, *left]) <= RATE.calls
    assert min(left) - last < 5 * RATE.per


async def test_a_worker_without_calls_is_counted_as_long_as_it_is_there(
    opening: Opening, redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the others would take its part as well, when the store is away and they divide the limit."""
    monkeypatch.setattr(redis_module, "_BEAT", 0.05)
    worker, store = opening(), connect(redis_url, 1.0)
    await call(worker)
    seen = []
    for _ in range(2):
        await asyncio.sleep(0.3)  # what came back has been reported
        key = f"healthmsg:limit:{{{redis_prefix}}}:workers"
        seen.append(await store.zscore(key, source_of(worker)._me) or 0.0)
    await store.aclose()
    assert seen[1] > seen[0]


async def test_a_pause_is_kept_by_all(opening: Opening) -> None:
    first, second = opening(), opening()
    await asyncio.gather(call(first), call(second))
    slot = await leave(first)
    first.record_429(slot, 0.4)
    began = first.now()
    await asyncio.sleep(0.05)
    assert await call(second) - began >= 0.4
    assert 0.3 < second.adaptive.asked_until - began < 0.6


def test_a_grant_is_kept_for_longer_than_two_calls_are_apart() -> None:
    rate = RateLimit()
    assert 2 * rate.per / rate.calls < redis_module._GOOD_FOR


async def test_a_call_that_waited_for_the_spacing_has_a_grant_that_is_a_little_late(opening: Opening) -> None:
    worker = opening()
    await call(worker)
    window, now, machine = source_of(worker).window, worker.now(), machine_seconds()
    late = Grant("late:1:0", now, machine - 0.001, machine + 1.0)
    window.add([Grant("gone:1:0", now, machine - 1.0, machine - 0.5), late])
    slot = window.make_slot(window, Priority.INTERACTIVE)
    assert isinstance(slot, GrantedSlot)
    assert slot.grant is late
    assert slot.sent()
    assert not window.grants


async def test_calls_do_not_wait_for_ever_where_all_that_is_granted_comes_too_late(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = opening()
    monkeypatch.setattr(redis_module, "_PATIENCE", 0.2)
    with monkeypatch.context() as late:
        hold_in_hand_for(-10.0, late)
        with pytest.raises(StoreAwayError, match="too late"):
            await call(worker)
    await call(worker)


# --- the store's clock and its terms


async def test_a_clock_that_was_set_back_is_a_memory_that_was_lost(
    opening: Opening, redis_url: str, redis_prefix: str
) -> None:
    worker = opening()
    await call(worker)
    store = connect(redis_url, 1.0)
    meta = f"healthmsg:limit:{{{redis_prefix}}}:meta"
    await store.hincrby(meta, "last", 600_000_000)
    began = worker.now()
    assert await call(worker) - began >= QUARANTINE
    await store.aclose()


async def test_a_clock_that_was_set_forward_is_noticed_by_what_has_passed(
    opening: Opening, redis_url: str, redis_prefix: str
) -> None:
    worker = opening()
    await call(worker)
    store = connect(redis_url, 1.0)
    workers = f"healthmsg:limit:{{{redis_prefix}}}:workers"
    await store.zincrby(workers, -5_000_000, source_of(worker)._me)
    began = worker.now()
    assert await call(worker) - began >= QUARANTINE
    began = worker.now()
    await call(worker)
    assert worker.now() - began < QUARANTINE
    await store.aclose()


async def test_no_worker_calls_too_early_by_a_clock_that_was_set_far_forward(
    opening: Opening, redis_url: str, redis_prefix: str
) -> None:
    workers = [opening() for _ in range(2)]
    for worker in workers:
        await call(worker)
    store = connect(redis_url, 1.0)
    key = f"healthmsg:limit:{{{redis_prefix}}}"
    # As if all that the store remembers were that much longer ago.
    member: Any  # by redis-py's types it could be a list
    for kind in ("workers", "slots"):
        for member in await store.zrange(f"{key}:{kind}", 0, -1):
            await store.zincrby(f"{key}:{kind}", -600_000_000, member)
    await store.hincrby(f"{key}:meta", "last", -600_000_000)
    await store.hincrby(f"{key}:meta", "next", -600_000_000)
    began = workers[0].now()
    for left in await asyncio.gather(*map(call, workers)):
        assert left - began >= QUARANTINE
    await store.aclose()


async def test_other_terms_are_refused(opening: Opening) -> None:
    first = opening()
    await call(first)
    other = opening(rate=RateLimit(calls=9, per=0.2))
    for _ in range(2):
        with pytest.raises(StoreAwayError, match="other terms"):
            await call(other)
    # Where none of the others is there any more, the terms have been changed.
    await first.close()
    async with asyncio.timeout(5):
        while isinstance(source_of(other).problem(), StoreAwayError):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    await call(other)


# --- the store is away


async def test_while_the_store_is_away_calls_wait_then_fail_and_then_go_on(
    opening: Opening, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_PATIENCE", 0.2)
    worker = opening(own_redis.url)
    await call(worker)
    own_redis.stop()
    with pytest.raises(StoreAwayError, match="not answered"):
        await asyncio.gather(*(call(worker) for _ in range(3)))
    with pytest.raises(StoreAwayError, match="not answered"):
        await call(worker)
    assert worker.stats().store_away_for is not None
    assert not worker.waiting
    own_redis.start()
    async with asyncio.timeout(5):
        while worker.stats().store_away_for is not None:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
    await call(worker)


async def test_while_the_store_is_away_a_worker_may_go_on_with_its_part(
    opening: Opening,
    own_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(redis_module, "_PATIENCE", 0.2)
    worker = opening(own_redis.url, fallback="divide", workers=4)
    await call(worker)
    own_redis.stop()
    with caplog.at_level(logging.WARNING, "healthmsg"):
        left = await asyncio.gather(*(call(worker) for _ in range(4)))
    assert most_in_an_interval(left) <= RATE.calls // 4
    assert "2 calls" in caplog.text
    own_redis.start()
    back = await asyncio.gather(*(call(worker) for _ in range(9)))
    assert most_in_an_interval([*left, *back]) <= RATE.calls


async def test_a_part_is_used_again_while_the_service_answers_late(
    opening: Opening, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_PATIENCE", 0.2)
    worker = opening(own_redis.url, fallback="divide", workers=4)
    await call(worker)
    own_redis.stop()
    for _ in range(5):  # no call of these is answered
        await leave(worker)


async def test_where_each_has_less_than_a_call_none_goes_on(
    opening: Opening, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_PATIENCE", 0.2)
    worker = opening(own_redis.url, fallback="divide", workers=RATE.calls + 1)
    own_redis.stop()
    with pytest.raises(StoreAwayError, match="not answered"):
        await call(worker)


# --- SharedLimit


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "postgresql://127.0.0.1:1/x"])
def test_a_client_with_a_shared_limit_can_be_made_without_an_event_loop(url: str) -> None:
    environment = Environment("test", "https://api.example/v1")
    client = Client("token", environment=environment, rate_limit=SharedLimit(url))
    assert client.stats().limit.store_away_for is None
    asyncio.run(client.close())


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey"])
async def test_the_url_says_where_the_limit_is_kept(scheme: str) -> None:
    limit = SharedLimit(f"{scheme}://:s3cr3t@127.0.0.1:1/0")
    assert isinstance(limit.source("https://api.example/v1"), RedisSource)
    assert "s3cr3t" not in repr(limit)


def test_a_url_that_is_none_is_refused_without_its_words() -> None:
    with pytest.raises(ConfigurationError, match="redis://") as caught:
        SharedLimit("redis://:s3cr3t@host:port").source("https://api.example/v1")
    assert "s3cr3t" not in str(caught.value)


async def test_clients_share_what_their_urls_name(redis_url: str, sandbox: Any) -> None:
    environment: Environment = sandbox.environment
    limit = SharedLimit(redis_url, rate=RATE)
    async with (
        Client(sandbox.issue_token(), environment=environment, rate_limit=limit) as one,
        Client(sandbox.issue_token(), environment=environment, rate_limit=limit) as other,
    ):
        await asyncio.gather(*(client.me.get() for client in (one, other) for _ in range(6)))
        assert len(sandbox.calls) == 12
        assert {client.stats().limit.workers for client in (one, other)} == {2}
