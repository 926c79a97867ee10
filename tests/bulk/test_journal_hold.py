"""A run with a journal that is paused: nothing that can still be sent is reported as not sent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from healthmsg import (
    Client,
    ConnectError,
    ForbiddenError,
    Outcome,
    Outgoing,
    RateLimitedError,
    SendResult,
    UnauthorizedError,
)
from healthmsg.bulk import circuit_breaker
from healthmsg.bulk.journal import State
from healthmsg.errors import JournalGoneError, SendingGivenUpError
from healthmsg.sandbox import (
    AnswerStatus,
    CutAfter,
    Fault,
    Outage,
    RevokeToken,
    Sandbox,
    TooManyRequests,
)
from tests.bulk.journal_runs import fresh_client, lose, outcomes, sent, states
from tests.bulk.sources import Source, bodies, chats, posts, read_into
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


@pytest.mark.slow
async def test_a_host_that_goes_away_for_a_while_is_waited_for(sandbox: Sandbox, file: Path) -> None:
    addresses = chats(sandbox, 4)
    lose(sandbox, Outage(0.5), addresses[2])
    async with fresh_client(sandbox) as client:
        results = await sent(client, Source(addresses, count=20), journal=file)

    assert outcomes(results) == [Outcome.DELIVERED] * 20
    assert [bodies(sandbox, to) for to in addresses] == [
        [f"bericht {number}" for number in range(chat, 20, 4)] for chat in range(4)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (RevokeToken(), UnauthorizedError),
        (TooManyRequests(), RateLimitedError),
        (AnswerStatus(403), ForbiddenError),
    ],
)
async def test_a_run_that_is_given_up_can_be_gone_on_with(
    sandbox: Sandbox, file: Path, fault: Fault, error: type[Exception]
) -> None:
    addresses = chats(sandbox, 40)
    messages = list(Source(addresses, count=50))
    if isinstance(fault, AnswerStatus):
        sandbox.faults.add(kind=fault, method="GET", template="me", times=None, after=1)
    sandbox.faults.add(kind=fault, method="POST", after=5, times=None)
    seen: list[SendResult] = []
    async with fresh_client(sandbox) as client:
        with pytest.raises(SendingGivenUpError, match="Start again with the same journal") as caught:
            await read_into(seen, client.send_many(messages, journal=file, stop_after=0.5))

    assert isinstance(caught.value.__cause__, error)
    assert outcomes(seen) == [Outcome.DELIVERED] * 5
    assert sorted((await states(file)).values(), key=str) == [State.DELIVERED] * 5 + [State.WAITING] * 45

    sandbox.faults.clear()
    async with fresh_client(sandbox) as client:
        results = await sent(client, messages, journal=file)
    assert outcomes(results) == [Outcome.DELIVERED] * 50
    assert [len(bodies(sandbox, to)) for to in addresses] == [2] * 10 + [1] * 30


@pytest.mark.slow
async def test_a_service_that_is_away_at_the_first_call_is_waited_for(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    away = asyncio.create_task(sandbox.go_offline(1))
    await asyncio.sleep(0)
    run = client.send_many([Outgoing(chat, "1")], journal=file)
    run.start()
    await until(lambda: run.paused_by is not None)  # while the call is being made again by itself, too
    paused_by = run.paused_by
    results = await run.all()
    await away

    assert isinstance(paused_by, ConnectError)
    assert f":{paused_by.port} refused the connection" in str(paused_by)
    assert outcomes(results) == [Outcome.DELIVERED]
    assert run.paused_by is None


@pytest.mark.parametrize("has_journal", [True, False])
async def test_stop_after_holds_from_the_first_call(
    client: Client, sandbox: Sandbox, file: Path, *, has_journal: bool
) -> None:
    addresses = chats(sandbox, 1)
    away = asyncio.create_task(sandbox.go_offline(30))
    await asyncio.sleep(0)
    options: Any = {"journal": file} if has_journal else {}
    async with asyncio.timeout(5):
        with pytest.raises(SendingGivenUpError) as caught:
            await client.send_many(Source(addresses, count=1), stop_after=0.5, **options).all()
    away.cancel()
    await asyncio.wait([away])

    assert isinstance(caught.value.__cause__, ConnectError)


@pytest.mark.slow
async def test_a_run_that_is_held_up_ends_at_once_when_its_journal_is_gone(
    sandbox: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "_FIRST_WAIT", 0.3)
    addresses = chats(sandbox, 10)
    sandbox.faults.add(kind=AnswerStatus(403), method="GET", template="me", times=None, after=1)
    lose(sandbox, AnswerStatus(403), times=None)
    seen: list[SendResult] = []
    async with fresh_client(sandbox) as client:
        run = client.send_many(Source(addresses, count=10), journal=file)
        reading = asyncio.create_task(read_into(seen, run))
        await until(
            lambda: (
                posts(sandbox) >= 10 and len(run._pool.in_flight) == 10 and not run._runner._calls.requests
            )
        )
        file.with_name(f"{file.name}.lock").unlink()
        async with asyncio.timeout(10):
            with pytest.raises(JournalGoneError, match="lock"):
                await reading

    assert State.WAITING in (await states(file)).values()


@pytest.mark.slow
async def test_what_is_in_doubt_when_the_run_is_given_up_stays_in_doubt(sandbox: Sandbox, file: Path) -> None:
    chat, other = chats(sandbox, 2)
    messages = [Outgoing(chat, "1", key="a"), Outgoing(chat, "2", key="b"), Outgoing(other, "x", key="c")]
    lose(sandbox, CutAfter(), chat)
    sandbox.faults.add(kind=AnswerStatus(503), method="GET", times=None, after=1)
    seen: list[SendResult] = []
    async with fresh_client(sandbox) as client:
        with pytest.raises(SendingGivenUpError):
            await read_into(seen, client.send_many(messages, journal=file, stop_after=0.5, settle=0.1))

    assert {result.key: result.outcome for result in seen if result.key != "c"} == {"a": Outcome.UNKNOWN}
    assert (await states(file))["a"] is State.UNKNOWN
    assert (await states(file))["b"] is State.WAITING

    sandbox.faults.clear()
    async with fresh_client(sandbox) as client:
        assert outcomes(await sent(client, messages, journal=file)) == [Outcome.DELIVERED] * 3
    assert bodies(sandbox, chat) == ["1", "2"]


@pytest.mark.slow
async def test_one_in_doubt_that_waits_for_a_proof_does_not_keep_a_run_that_is_given_up(
    sandbox: Sandbox, file: Path
) -> None:
    chat, other = chats(sandbox, 2)
    sandbox.faults.add(kind=AnswerStatus(500), method="POST", path_contains=chat)
    sandbox.faults.add(kind=TooManyRequests(), method="POST", path_contains=other, times=None)
    seen: list[SendResult] = []
    async with fresh_client(sandbox) as client:
        messages = [Outgoing(chat, "1", key="a"), Outgoing(other, "x", key="b")]
        with pytest.raises(SendingGivenUpError):
            await read_into(seen, client.send_many(messages, journal=file, stop_after=1, settle=0))

    assert await states(file) == {"a": State.UNKNOWN, "b": State.WAITING}


@pytest.mark.parametrize("status", [400, 403, 404, 412])
async def test_what_is_wrong_with_one_chat_stops_no_other(sandbox: Sandbox, file: Path, status: int) -> None:
    bad, *good = chats(sandbox, 3)
    lose(sandbox, AnswerStatus(status), bad, times=None)

    async with fresh_client(sandbox) as client:
        results = await sent(client, Source([bad, *good], count=9), journal=file)

    assert outcomes(results) == [Outcome.NOT_SENT, Outcome.DELIVERED, Outcome.DELIVERED] * 3


async def test_after_an_outage_a_chat_that_is_forbidden_does_not_keep_the_others(
    sandbox: Sandbox, file: Path
) -> None:
    bad, *good = chats(sandbox, 3)
    lose(sandbox, TooManyRequests(), bad)
    lose(sandbox, AnswerStatus(403), bad, times=None)

    async with fresh_client(sandbox) as client:
        results = await sent(client, Source([bad, *good], count=3), journal=file, stop_after=5)

    assert outcomes(results) == [Outcome.NOT_SENT, Outcome.DELIVERED, Outcome.DELIVERED]


async def test_who_leaves_while_the_run_is_held_up_does_not_wait_and_goes_on_later(
    sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, 3)
    async with fresh_client(sandbox) as client:
        lose(sandbox, TooManyRequests(), times=None)
        run = client.send_many(Source(addresses, count=6), journal=file)
        async with run, asyncio.timeout(10):
            await until(lambda: run.paused_by)
            assert not isinstance(run.paused_by, ConnectError)
        assert [result async for result in run] == []
        assert set((await states(file)).values()) == {State.WAITING}

        sandbox.faults.clear()
        results = await sent(client, Source(addresses, count=6), journal=file)
    assert outcomes(results) == [Outcome.DELIVERED] * 6
