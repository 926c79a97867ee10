"""A limit that several processes share over PostgreSQL, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from healthmsg import Client, Outgoing, RateLimit, Retries, SharedLimit
from healthmsg.errors import ConfigurationError, LimitUnavailableError
from healthmsg.fleet.leases import LeasedSource
from healthmsg.fleet.postgresql import PostgresqlLedger
from healthmsg.ratelimit.limiter import Limiter
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.source import StoreAwayError
from healthmsg.sandbox import Sandbox
from tests.waiting import until

API = "https://api.example/v1"
# Short, so that a test need not take long: 10 calls in 0.3 s.
FAST = RateLimit(10, 0.3, arrival=0.05)


@asynccontextmanager
async def sharing(url: str, rate: RateLimit = FAST) -> AsyncIterator[Limiter]:
    limiter = SharedLimit(url, rate=rate).limiter(API)
    try:
        yield limiter
    finally:
        await limiter.close()


async def call_for(seconds: float, limiter: Limiter, left: list[float], priority: Priority) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def caller() -> None:
        while loop.time() < until:
            slot = await limiter.acquire(priority)
            if slot.sent():
                left.append(loop.time())
                await asyncio.sleep(0.001)
                slot.answered()
            else:
                slot.release_unused()

    await asyncio.gather(*(caller() for _ in range(15)))


def most_within(seconds: float, left: list[float]) -> int:
    left = sorted(left)
    return max(sum(at <= other < at + seconds for other in left) for at in left)


async def test_two_that_share_a_limit_together_keep_it_and_use_it(database: str) -> None:
    left: list[float] = []
    async with sharing(database) as one, sharing(database) as other:
        await asyncio.gather(
            call_for(2.0, one, left, Priority.BACKGROUND),
            call_for(2.0, other, left, Priority.BACKGROUND),
        )
        held = [limiter.stats().held or 0 for limiter in (one, other)]

    assert most_within(FAST.per, left) <= FAST.calls
    assert len(left) > 0.5 * FAST.calls * 2.0 / FAST.per
    assert sum(held) == FAST.calls
    assert min(held) >= FAST.calls // 3


async def test_what_one_gives_back_at_its_end_the_next_has_at_once(database: str) -> None:
    async with sharing(database) as first:
        (await first.acquire(Priority.INTERACTIVE)).release_unused()
        await until(lambda: first.stats().held == FAST.calls)
    async with sharing(database) as second, asyncio.timeout(1):
        (await second.acquire(Priority.INTERACTIVE)).release_unused()
        assert second.stats().workers == 1


async def test_a_pause_of_one_holds_for_the_other(database: str) -> None:
    async with sharing(database) as one, sharing(database) as other:
        for limiter in (one, other):
            (await limiter.acquire(Priority.INTERACTIVE)).release_unused()

        one.pause_as_asked(30.0)

        await until(lambda: other.asked_pause_left() > 0)
        # However long it took to hear of it, both wait until the same moment.
        assert other.asked_pause_left() == pytest.approx(one.asked_pause_left(), abs=2)


async def test_a_store_that_is_not_there_is_said_and_calls_are_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("healthmsg.fleet.leases._PATIENCE", 0.2)
    async with sharing("postgresql://secret:canary@127.0.0.1:1/nowhere") as limiter:
        with pytest.raises(StoreAwayError, match="no connection to PostgreSQL") as refused:
            await limiter.acquire(Priority.INTERACTIVE)

    assert "canary" not in str(refused.value)


async def test_a_call_without_the_store_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.fleet.leases._PATIENCE", 0.1)
    limit = SharedLimit("postgresql://127.0.0.1:1/nowhere")
    async with Sandbox() as sandbox:
        token, place, once = sandbox.issue_token(), sandbox.environment, Retries.none()
        async with Client(token, environment=place, rate_limit=limit, retries=once) as client:
            with pytest.raises(LimitUnavailableError, match="See to the store"):
                await client.me.get()


async def test_with_divide_each_goes_on_with_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.fleet.leases._PATIENCE", 0.1)
    shared = SharedLimit("postgresql://127.0.0.1:1/nowhere", rate=FAST, fallback="divide", workers=5)
    limiter = shared.limiter(API)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(5):
            for _ in range(2):
                (await limiter.acquire(Priority.INTERACTIVE)).sent()
            # Not before all leases of the others must be over.
            assert loop.time() - began > 1.2
            for _ in range(6):  # so long that the store has been tried again
                assert (await limiter.acquire(Priority.INTERACTIVE)).sent()
        assert limiter.stats().held == 2
    finally:
        await limiter.close()


@pytest.mark.slow
@pytest.mark.thorough
async def test_who_has_divided_goes_on_with_the_others_when_the_store_is_back(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, is_away = PostgresqlLedger.connect, True

    async def connect_if_it_is_there(ledger: PostgresqlLedger, patience: float) -> None:
        if is_away:
            raise ConnectionRefusedError
        await connect(ledger, patience)

    monkeypatch.setattr(PostgresqlLedger, "connect", connect_if_it_is_there)
    monkeypatch.setattr("healthmsg.fleet.leases._PATIENCE", 0.1)
    shared = SharedLimit(database, rate=FAST, fallback="divide", workers=2)
    limiters, left = [shared.limiter(API) for _ in range(2)], list[float]()
    sending = [asyncio.create_task(call_for(9.0, limiter, left, Priority.BACKGROUND)) for limiter in limiters]
    await asyncio.sleep(4)
    divided, is_away = len(left), False
    await asyncio.gather(*sending)
    stats = [limiter.stats() for limiter in limiters]
    for limiter in limiters:
        await limiter.close()

    assert divided > 30
    assert len(left) - divided > 30
    assert most_within(FAST.per, left) <= FAST.calls
    assert [(at.workers, at.store_away_for) for at in stats] == [(2, None), (2, None)]


async def test_with_less_than_a_call_for_each_none_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.fleet.leases._PATIENCE", 0.1)
    shared = SharedLimit(
        "postgresql://127.0.0.1:1/nowhere", rate=FAST, fallback="divide", workers=FAST.calls + 1
    )
    limiter = shared.limiter(API)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(StoreAwayError, match="See to the store"):
                await limiter.acquire(Priority.INTERACTIVE)
    finally:
        await limiter.close()


async def test_a_session_that_is_ended_is_made_again(database: str) -> None:
    async with sharing(database) as limiter:
        (await limiter.acquire(Priority.INTERACTIVE)).release_unused()
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid > 0"
        )
        await connection.close()
        left: list[float] = []
        await call_for(1.0, limiter, left, Priority.BACKGROUND)

    assert most_within(FAST.per, left) <= FAST.calls
    assert len(left) > FAST.calls


async def test_other_terms_than_those_of_a_process_at_work_are_refused(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healthmsg.fleet.leases._PATIENCE", 0.3)
    async with sharing(database) as one, sharing(database, RateLimit(20, 0.3)) as other:
        (await one.acquire(Priority.INTERACTIVE)).release_unused()
        with pytest.raises(StoreAwayError, match="by other terms"):
            await other.acquire(Priority.INTERACTIVE)


async def test_a_postgresql_journal_shares_the_limit_while_it_is_open(database: str) -> None:
    async with (
        Sandbox() as sandbox,
        Client(sandbox.issue_token(), environment=sandbox.environment) as client,
    ):
        assert client.stats().limit.source == "local"
        message = Outgoing(f"conversations/{sandbox.add_conversation()}", "Hallo")
        async for _ in client.send_many([message], journal=database):
            assert client.stats().limit.source == "postgresql"
        assert client.stats().limit.source == "local"


async def test_a_limit_is_shared_through_a_pooler_too(
    database: str, pgbouncer: Callable[[str, int, str], str]
) -> None:
    url = f"{database.partition('host=')[0]}host={pgbouncer('transaction', 5, 'DISCARD ALL')}"
    left: list[float] = []
    async with sharing(url) as one, sharing(url) as other:
        await asyncio.gather(
            call_for(2.0, one, left, Priority.BACKGROUND),
            call_for(2.0, other, left, Priority.BACKGROUND),
        )
        held = [limiter.stats().held or 0 for limiter in (one, other)]

    assert most_within(FAST.per, left) <= FAST.calls
    assert sum(held) == FAST.calls
    assert min(held) >= FAST.calls // 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: SharedLimit("recall.db"),
        lambda: SharedLimit("postgresql://h/d", fallback="guess"),  # type: ignore[arg-type]
        lambda: SharedLimit("postgresql://h/d", workers=0),
    ],
)
def test_what_cannot_be_a_shared_limit_is_refused(make: Callable[[], SharedLimit]) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_a_shared_limit_shows_no_password() -> None:
    assert "canary" not in repr(SharedLimit("postgresql://user:canary@host/database"))
    assert isinstance(SharedLimit("postgresql://h/d").source(API), LeasedSource)
