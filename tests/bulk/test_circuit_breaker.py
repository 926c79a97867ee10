"""A run that is paused, without a journal: over the sandbox and in fake time."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from healthmsg import (
    Client,
    ConnectError,
    DeliveryUnknownError,
    ForbiddenError,
    MemoryTokenStore,
    NotFoundError,
    Outcome,
    Outgoing,
    QuotaExceededError,
    RateLimitedError,
    Retries,
    SendResult,
    Token,
    TokenManager,
    UnauthorizedError,
)
from healthmsg.errors import (
    BadRequestError,
    EmptyMessageError,
    PreconditionFailedError,
    SendingGivenUpError,
    SendingStoppedError,
)
from healthmsg.sandbox import (
    AnswerStatus,
    CutAfter,
    CutBefore,
    Fault,
    Forbidden,
    RevokeToken,
    Sandbox,
    TooManyRequests,
)
from tests.bulk.sources import Source, bodies, chats, posts, read_into
from tests.machine import Machine

pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=3),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]


@pytest.fixture
async def hasty(sandbox: Sandbox) -> AsyncIterator[Client]:
    """Return a client that tries nothing again by itself."""
    async with Client(
        sandbox.issue_token(), environment=sandbox.environment, retries=Retries.none()
    ) as client:
        yield client


def now() -> float:
    return asyncio.get_running_loop().time()


def strike(sandbox: Sandbox, fault: Fault, chat: str = "", **options: Any) -> None:
    sandbox.faults.add(
        kind=fault, method="POST", path_contains=f"{chat}/messages", **{"times": None} | options
    )


def outcomes(results: list[SendResult]) -> list[Outcome]:
    return [result.outcome for result in results]


def insufficient_scope() -> AnswerStatus:
    body = b'{"error": "insufficient_scope", "message": "c4nary"}'
    return AnswerStatus(403, body, {"Content-Type": "application/json"})


# --- for a while


@pytest.mark.parametrize("seconds", [5, 300])
async def test_a_host_that_is_away_for_a_while_holds_the_run_up_and_then_it_goes_on(
    client: Client, sandbox: Sandbox, seconds: float
) -> None:
    addresses = chats(sandbox, 10)
    run = client.send_many(Source(addresses, count=100))
    async with run:
        reading = aiter(run)
        first = await anext(reading)
        away = asyncio.create_task(sandbox.go_offline(seconds))
        results = [first, *[result async for result in reading]]
        await away

    assert outcomes(results) == [Outcome.DELIVERED] * 100
    assert [bodies(sandbox, to) for to in addresses] == [
        [f"bericht {number}" for number in range(chat, 100, 10)] for chat in range(10)
    ]


async def test_what_holds_a_run_up_can_be_seen_as_long_as_it_does(
    hasty: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "healthmsg")
    (chat,) = chats(sandbox, 1)
    run = hasty.send_many([Outgoing(chat, "c4nary")])
    away = asyncio.create_task(sandbox.go_offline(100))
    await asyncio.sleep(1)
    run.start()
    await asyncio.sleep(50)
    held_up_by = run.paused_by
    assert isinstance(held_up_by, ConnectError)
    await away
    assert outcomes(await run.all()) == [Outcome.DELIVERED]
    assert run.paused_by is None
    assert "sending is paused" in caplog.text
    assert "sending continues" in caplog.text
    assert "c4nary" not in caplog.text


async def test_a_run_is_not_given_up_because_the_machine_slept(
    hasty: Client, sandbox: Sandbox, machine: Machine
) -> None:
    (chat,) = chats(sandbox, 1)
    away = asyncio.create_task(sandbox.go_offline(100))
    await asyncio.sleep(1)
    run = hasty.send_many([Outgoing(chat, "1")])
    run.start()
    await asyncio.sleep(50)
    machine.sleep(36_000)  # and its network is not there at once when it wakes up
    await away
    assert outcomes(await run.all()) == [Outcome.DELIVERED]


@pytest.mark.parametrize("fault", [TooManyRequests(), insufficient_scope(), Forbidden()])
async def test_a_storm_is_sat_out_with_few_calls_and_then_it_goes_on(
    hasty: Client, sandbox: Sandbox, fault: Fault
) -> None:
    sandbox.faults.add(kind=fault, method="POST", seconds=200)
    if isinstance(fault, Forbidden):
        sandbox.faults.add(kind=fault, method="GET", template="me", seconds=200)

    results = await hasty.send_many(Source(chats(sandbox, 40), count=40)).all()

    assert outcomes(results) == [Outcome.DELIVERED] * 40
    assert len(sandbox.calls) < 40 * 3 + 2 * 20


async def test_a_token_that_may_still_come_into_its_store_is_waited_for(sandbox: Sandbox) -> None:
    store = MemoryTokenStore()
    await store.save("jansen", Token(sandbox.issue_token()))
    tokens = await TokenManager.load(store, "jansen")
    sandbox.faults.add(kind=AnswerStatus(401), method="POST", seconds=200)

    async with Client(tokens, environment=sandbox.environment, retries=Retries.none()) as client:
        results = await client.send_many(Source(chats(sandbox, 4), count=4)).all()

    assert outcomes(results) == [Outcome.DELIVERED] * 4


async def test_a_token_that_cannot_be_replaced_ends_the_run_at_once(hasty: Client, sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(401), method="POST", times=None)
    began = now()

    with pytest.raises(SendingGivenUpError) as caught:
        await hasty.send_many(Source(chats(sandbox, 4), count=4)).all()

    assert isinstance(caught.value.__cause__, UnauthorizedError)
    assert now() - began < 10


# --- of one chat


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((400, BadRequestError), (403, ForbiddenError)),
        *((404, NotFoundError), (412, PreconditionFailedError)),
    ],
)
async def test_what_is_wrong_with_one_chat_stops_no_other(
    hasty: Client, sandbox: Sandbox, status: int, error: type[Exception]
) -> None:
    bad, *good = chats(sandbox, 5)
    strike(sandbox, AnswerStatus(status), bad)
    began = now()

    results = await hasty.send_many(Source([bad, *good], count=100)).all()

    failed = [result for result in results if result.outcome is Outcome.NOT_SENT]
    assert {(result.to, type(result.error)) for result in failed} == {(bad, error)}
    assert (len(failed), len(results)) == (20, 100)
    assert now() - began < 10


async def test_after_an_outage_a_chat_that_is_forbidden_does_not_keep_the_others(
    hasty: Client, sandbox: Sandbox
) -> None:
    bad, *good = chats(sandbox, 5)
    strike(sandbox, AnswerStatus(403), bad)
    away = asyncio.create_task(sandbox.go_offline(10))
    await asyncio.sleep(1)

    began = now()
    results = await hasty.send_many([Outgoing(to, "x") for to in (bad, *good)], stop_after=60).all()
    await away

    by_chat = {result.to: result.outcome for result in results}
    assert by_chat == {bad: Outcome.NOT_SENT, **dict.fromkeys(good, Outcome.DELIVERED)}
    assert now() - began < 40


async def test_a_conversation_that_is_not_started_after_an_outage_does_not_hold_up_the_others(
    hasty: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    users = [f"users/{sandbox.add_user('Zieke', f'{number}')}" for number in range(3)]
    sandbox.faults.add(kind=CutBefore(), method="POST", template="conversations", times=None)
    away = asyncio.create_task(sandbox.go_offline(2))
    await asyncio.sleep(0.5)
    began = now()

    results = await hasty.send_many([*(Outgoing(user, "1") for user in users), Outgoing(chat, "2")]).all()
    await away

    assert sorted(outcomes(results), key=str) == [Outcome.DELIVERED, *[Outcome.NOT_SENT] * 3]
    assert now() - began < 40


async def test_messages_that_are_refused_here_do_not_keep_the_others_after_an_outage(
    hasty: Client, sandbox: Sandbox
) -> None:
    chat, other = chats(sandbox, 2)
    away = asyncio.create_task(sandbox.go_offline(10))
    await asyncio.sleep(1)
    messages = [Outgoing(other, "x"), *[Outgoing(chat, "")] * 20, Outgoing(chat, "x")]

    began = now()
    results = await hasty.send_many(messages, stop_after=60).all()
    await away

    assert outcomes(results).count(Outcome.DELIVERED) == 2
    assert sum(isinstance(result.error, EmptyMessageError) for result in results) == 20
    assert now() - began < 40


async def test_twenty_chats_in_succession_that_are_forbidden_hold_the_run_up(
    hasty: Client, sandbox: Sandbox
) -> None:
    strike(sandbox, AnswerStatus(403))
    seen: list[SendResult] = []

    with pytest.raises(SendingGivenUpError) as caught:
        await read_into(seen, hasty.send_many(Source(chats(sandbox, 400), count=400), stop_after=100))

    assert isinstance(caught.value.__cause__, ForbiddenError)
    refused = [result for result in seen if isinstance(result.error, ForbiddenError)]
    assert len(refused) < 20
    assert len(seen) < 200


@pytest.mark.parametrize("on_unknown", ["reconcile", "report"])
async def test_a_service_that_fails_everybody_is_not_given_the_whole_list(
    hasty: Client, sandbox: Sandbox, on_unknown: Literal["reconcile", "report"]
) -> None:
    strike(sandbox, AnswerStatus(503), times=None)
    to = chats(sandbox, 400)

    with pytest.raises(SendingGivenUpError) as caught:
        await hasty.send_many(Source(to, count=400), stop_after=100, on_unknown=on_unknown, settle=1e4).all()

    assert isinstance(caught.value.__cause__, DeliveryUnknownError)
    assert posts(sandbox) < 200


@pytest.mark.slow
async def test_messages_that_arrive_though_the_line_breaks_hold_no_other_up_for_long(
    hasty: Client, sandbox: Sandbox
) -> None:
    await hasty.me.get()  # which tells the time
    strike(sandbox, CutAfter(), times=None)
    to = chats(sandbox, 100)

    results = await hasty.send_many(Source(to, count=100), stop_after=100).all()

    assert outcomes(results) == [Outcome.DELIVERED] * 100
    assert all(len(sandbox.messages(chat)) == 1 for chat in to)


# --- for good


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error", "lasts"),
    [
        (RevokeToken(), UnauthorizedError, 0),  # no other can come
        (TooManyRequests(), RateLimitedError, 100),
        (insufficient_scope(), ForbiddenError, 100),
    ],
)
async def test_what_concerns_everyone_for_too_long_ends_the_run_with_one_error(
    hasty: Client, sandbox: Sandbox, fault: Fault, error: type[Exception], lasts: float
) -> None:
    strike(sandbox, fault, after=10)
    seen: list[SendResult] = []
    began = now()

    with pytest.raises(SendingGivenUpError) as caught:
        await read_into(seen, hasty.send_many(Source(chats(sandbox, 500), count=500), stop_after=100))

    assert isinstance(caught.value.__cause__, error)
    assert outcomes(seen)[:10] == [Outcome.DELIVERED] * 10
    left = seen[10:]
    assert set(outcomes(left)) == {Outcome.NOT_SENT}
    assert all(isinstance(result.error, SendingGivenUpError) for result in left)
    assert lasts <= now() - began < lasts + 30
    assert "c4nary" not in str(caught.value)


async def test_a_host_that_stays_away_ends_the_run(hasty: Client, sandbox: Sandbox) -> None:
    addresses = chats(sandbox, 3)
    await sandbox.stop()
    began = now()

    with pytest.raises(SendingGivenUpError, match="Nothing gets through") as caught:
        await hasty.send_many(Source(addresses, count=3), stop_after=100).report()

    assert isinstance(caught.value.__cause__, ConnectError)
    assert 100 <= now() - began < 130


async def test_a_run_whose_next_message_is_long_in_coming_is_given_up_too(
    hasty: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    strike(sandbox, RevokeToken())

    async def one_and_then_none() -> AsyncIterator[Outgoing]:
        yield Outgoing(chat, "x")
        await asyncio.Event().wait()

    seen: list[SendResult] = []
    with pytest.raises(SendingGivenUpError):
        await read_into(seen, hasty.send_many(one_and_then_none(), stop_after=10))
    assert outcomes(seen) == [Outcome.NOT_SENT]


async def test_a_quota_that_is_reset_too_late_ends_the_run(sandbox: Sandbox, hasty: Client) -> None:
    sandbox.quota.limit = 20
    seen: list[SendResult] = []
    with pytest.raises(SendingGivenUpError) as caught:
        await read_into(seen, hasty.send_many(Source(chats(sandbox, 5), count=30), stop_after=20))
    assert isinstance(caught.value.__cause__, QuotaExceededError)
    assert outcomes(seen)[:20] == [Outcome.DELIVERED] * 20


# --- leaving


async def test_who_leaves_while_the_run_is_held_up_does_not_wait_for_its_end(
    hasty: Client, sandbox: Sandbox
) -> None:
    addresses = chats(sandbox, 3)
    strike(sandbox, TooManyRequests())
    run = hasty.send_many(Source(addresses, count=9))
    async with run:
        await asyncio.sleep(20)
        assert isinstance(run.paused_by, RateLimitedError)
        sandbox.faults.clear()
        began = now()
    assert now() - began < 5

    results = [result async for result in run]
    assert outcomes(results) == [Outcome.NOT_SENT] * 9
    assert all(isinstance(result.error, SendingStoppedError) for result in results)
    await asyncio.sleep(1000)
    assert not [message for to in addresses for message in sandbox.messages(to)]


@pytest.mark.slow
async def test_who_leaves_with_all_places_taken_and_one_in_doubt_is_not_kept(
    client: Client, sandbox: Sandbox
) -> None:
    addresses = chats(sandbox, 300)
    strike(sandbox, CutAfter(), addresses[0], times=1)
    async with client.send_many(Source(addresses, count=300)):
        await asyncio.sleep(200)
        began = now()
    assert now() - began < 5
    assert posts(sandbox) == 129  # the one in doubt had given its place away


async def test_stop_after_holds_where_the_service_fails_and_calls_are_tried_again(sandbox: Sandbox) -> None:
    sandbox.faults.add(kind=AnswerStatus(503), times=None)
    to = chats(sandbox, 6)
    began = now()

    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        run = client.send_many([Outgoing(chat, "x") for chat in to], stop_after=5)
        with pytest.raises(SendingGivenUpError):
            await read_into([], run)

    assert now() - began < 12


# --- while finding out


async def test_a_service_that_fails_while_a_chat_is_read_back_is_waited_for(
    hasty: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    await hasty.me.get()  # which tells the time
    strike(sandbox, CutAfter(), times=1)
    sandbox.faults.add(kind=AnswerStatus(503), method="GET", seconds=100)

    (result,) = await hasty.send_many([Outgoing(chat, "x")]).all()

    assert result.outcome is Outcome.DELIVERED
    assert bodies(sandbox, chat) == ["x"]


async def test_what_passed_long_ago_does_not_count_against_what_fails_now(sandbox: Sandbox) -> None:
    chat, other = chats(sandbox, 2)

    def busy() -> None:
        sandbox.faults.add(kind=TooManyRequests(), method="GET", path_contains="/messages")

    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        await client.conversations(other.removeprefix("conversations/")).send("seen")  # proves the search
        strike(sandbox, CutBefore(), times=1)
        busy()
        asyncio.get_running_loop().call_later(60, busy)

        (result,) = await client.send_many([Outgoing(chat, "x")], stop_after=30, settle=90).all()

    assert result.outcome is Outcome.DELIVERED


async def test_what_is_in_doubt_when_the_run_is_given_up_is_unknown(hasty: Client, sandbox: Sandbox) -> None:
    (chat,) = chats(sandbox, 1)
    strike(sandbox, CutAfter(), times=1)
    sandbox.faults.add(kind=AnswerStatus(503), method="GET", times=None)
    seen: list[SendResult] = []

    with pytest.raises(SendingGivenUpError):
        await read_into(seen, hasty.send_many([Outgoing(chat, "x")], stop_after=30))

    assert outcomes(seen) == [Outcome.UNKNOWN]
