"""Bulk sending that is paused, left early, cancelled, or overtaken."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from healthmsg import Client, Outcome, Outgoing, SendResult
from healthmsg.bulk.sender import Sender
from healthmsg.errors import SendingStoppedError
from healthmsg.pipeline.request import Request
from healthmsg.ratelimit.window import Slot
from healthmsg.sandbox import AnswerStatus, Delay, Sandbox
from tests.bulk.sources import AsyncSource, Source, chats, posts

# What waits for ever fails, after three real seconds.
pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=3),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]
MOST_IN_FLIGHT = 128
# Read, but waiting for a place.
ONE_MORE = 1


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "healthmsg"]


def by_outcome(results: list[SendResult]) -> dict[Outcome, int]:
    return dict(Counter(result.outcome for result in results))


async def first_of(sending: Any) -> SendResult:
    """Break out of the loop, as people do, after one result."""
    async for result in sending:
        assert isinstance(result, SendResult)
        return result
    raise AssertionError("there was no result")


# --- reading as needed


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_messages_are_read_only_as_far_as_they_are_needed(
    client: Client, sandbox: Sandbox, kind: type[Source]
) -> None:
    source = kind(chats(sandbox, 200), count=10_000)

    async with client.send_many(source) as sending:
        await first_of(sending)

    assert source.read <= MOST_IN_FLIGHT + 1 + ONE_MORE
    assert source.is_closed
    assert posts(sandbox) <= source.read


async def test_results_that_are_not_read_hold_up_the_sending(client: Client, sandbox: Sandbox) -> None:
    source = Source(chats(sandbox, 200), count=1000)

    async with client.send_many(source) as sending:
        await asyncio.sleep(1000)
        assert posts(sandbox) == MOST_IN_FLIGHT
        assert source.read == MOST_IN_FLIGHT + ONE_MORE

        for _ in range(10):
            await first_of(sending)
        await asyncio.sleep(1000)
        assert posts(sandbox) == MOST_IN_FLIGHT + 10


# --- leaving


@pytest.mark.parametrize("closes", ["the run", "the client"])
async def test_leaving_early_sends_nothing_more_and_finishes_what_is_under_way(
    client: Client, sandbox: Sandbox, closes: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(chats(sandbox, 200), count=10_000)
    sending = client.send_many(source)
    await first_of(sending)
    await asyncio.sleep(2)
    read, sent_before = source.read, posts(sandbox)

    await (sending if closes == "the run" else client).close()

    assert source.read == read
    assert source.is_closed
    sent = posts(sandbox)
    assert sent_before <= sent <= sent_before + 3
    unread = MOST_IN_FLIGHT  # all that had a place but the one that was read, and the one that took its place
    assert logged(caplog) == [f"{unread} messages have been handled whose results have not been read"]
    await asyncio.sleep(1000)
    assert posts(sandbox) == sent
    rest = [result async for result in sending]
    assert by_outcome(rest) == {Outcome.DELIVERED: sent - 1, Outcome.NOT_SENT: unread - (sent - 1)}
    assert {type(result.error) for result in rest} == {type(None), SendingStoppedError}


async def test_a_call_under_way_when_the_run_is_left_gets_its_answer(
    client: Client, sandbox: Sandbox
) -> None:
    (chat,) = chats(sandbox, 1)
    sandbox.faults.add(kind=Delay(30))
    async with client.send_many([Outgoing(chat, "x")]) as sending:
        await asyncio.sleep(1)

    (result,) = [result async for result in sending]

    assert result.outcome is Outcome.DELIVERED
    assert len(sandbox.messages(chat)) == 1


async def test_a_loop_that_was_broken_out_of_ends_with_the_client(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(chats(sandbox, 200), count=10_000)
    await first_of(client.send_many(source))

    await client.close()

    sent = posts(sandbox)
    await asyncio.sleep(100)
    assert posts(sandbox) == sent <= 3
    assert source.read <= MOST_IN_FLIGHT + 1 + ONE_MORE
    (warning,) = logged(caplog)
    assert "messages have been handled whose results have not been read" in warning


async def test_a_run_that_was_read_to_its_end_warns_of_nothing(
    client: Client, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.send_many(Source(chats(sandbox, 5), count=5)) as sending:
        assert len([result async for result in sending]) == 5
        assert [result async for result in sending] == []

    assert [result async for result in sending] == []
    await sending.close()
    await client.close()
    assert logged(caplog) == []


async def test_a_run_that_was_never_begun_sends_nothing(client: Client, sandbox: Sandbox) -> None:
    source = Source(chats(sandbox, 1), count=5)
    sending = client.send_many(source)
    await asyncio.sleep(10)
    await client.close()

    assert [result async for result in sending] == []
    assert source.read == 0
    assert not sandbox.calls


@pytest.mark.parametrize("ends", ["before it began", "while its journal is being opened"])
@pytest.mark.parametrize("has_journal", [False, True])
async def test_a_run_that_was_stopped_at_once_has_a_report(
    client: Client, sandbox: Sandbox, tmp_path: Path, ends: str, has_journal: bool
) -> None:
    journal = tmp_path / "journal.db" if has_journal else None
    run = client.send_many([Outgoing(address, "x") for address in chats(sandbox, 1)], journal=journal)
    if ends != "before it began":
        run.start()
        await asyncio.sleep(0)
    run.stop()

    report = await run.report()

    assert (report.delivered, report.unknown, report.other_text) == (0, 0, 0)
    assert not posts(sandbox)


async def test_a_run_that_is_left_at_once_has_an_end(client: Client, sandbox: Sandbox) -> None:
    async with client.send_many(Source(chats(sandbox, 1), count=5)) as sending:
        pass

    async with asyncio.timeout(10):
        assert [result async for result in sending] == []
    assert not sandbox.calls


# --- cancelling


async def test_a_cancelled_consumer_finishes_what_is_under_way(client: Client, sandbox: Sandbox) -> None:
    source = Source(chats(sandbox, 200), count=10_000)
    sending = client.send_many(source)
    seen: list[SendResult] = []

    async def consume() -> None:
        async with sending:
            async for result in sending:
                seen.append(result)  # noqa: PERF401 - it is cancelled on the way

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(10)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer

    sent = posts(sandbox)
    rest = [result async for result in sending]
    outcomes = by_outcome([*seen, *rest])
    assert outcomes[Outcome.DELIVERED] == sent
    assert set(outcomes) == {Outcome.DELIVERED, Outcome.NOT_SENT}


async def test_a_second_cancellation_does_not_wait_for_what_hangs(client: Client, sandbox: Sandbox) -> None:
    addresses = chats(sandbox, 3)
    sandbox.faults.add(kind=Delay(50, after=True), times=None)
    sending = client.send_many(Source(addresses, count=3))

    async def consume() -> None:
        async with client, sending:
            await asyncio.sleep(1000)

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(1)
    started = asyncio.get_running_loop().time()
    for _ in range(3):
        consumer.cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert asyncio.get_running_loop().time() - started < 10
    results = [result async for result in sending]
    assert [result.outcome for result in results] == [Outcome.UNKNOWN] * 3
    assert [len(sandbox.messages(chat)) for chat in addresses] == [1, 1, 1]


async def test_a_try_that_waits_for_its_turn_does_not_hide_those_before_it(client: Client) -> None:
    calls, task = client.send_many([])._runner._calls, asyncio.current_task()
    request = Request("POST conversations", "POST", "conversations")
    assert task is not None
    calls.requests[task] = request
    assert calls.calls_of(task) == 0

    request.current.slot = cast("Slot", object())
    assert calls.calls_of(task) == 1
    request.begin_another_try()
    assert calls.calls_of(task) == 1


# --- side by side


async def test_two_runs_at_once_share_the_limit_and_both_arrive(client: Client, sandbox: Sandbox) -> None:
    one, other = Source(chats(sandbox, 60), count=60), Source(chats(sandbox, 60), count=60)

    async def count(source: Source) -> int:
        return len([result async for result in client.send_many(source) if result.message_id])

    assert list(await asyncio.gather(count(one), count(other))) == [60, 60]
    assert sandbox.rejected == 0
    assert posts(sandbox) == 120


async def test_a_call_overtakes_a_bulk_run(client: Client, sandbox: Sandbox) -> None:
    clock = asyncio.get_running_loop().time
    waits = []
    async with client.send_many(Source(chats(sandbox, 200), count=10_000)):
        await asyncio.sleep(1.5)
        for _ in range(10):
            started = clock()
            await client.me.get()
            waits.append(clock() - started)
            await asyncio.sleep(0.11)

    assert max(waits) < 5 / 30
    assert sandbox.rejected == 0


async def test_a_run_that_was_never_iterated_is_not_passed_over_in_silence(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        client.send_many([Outgoing(address, "x") for address in chats(sandbox, 1)])

    assert logged(caplog) == ["a send_many was closed without being iterated: it has sent nothing"]
    assert not sandbox.calls


# --- what was not foreseen


async def test_a_mistake_of_ours_leaves_no_message_without_a_result(
    client: Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("c4nary")

    chat, other = chats(sandbox, 2)
    sandbox.faults.add(kind=AnswerStatus(404), method="POST")
    monkeypatch.setattr(Sender, "_note_answer", fail)

    results = await client.send_many([Outgoing(chat, "c4nary"), Outgoing(other, "c4nary")]).all()

    assert by_outcome(results) == {Outcome.UNKNOWN: 1, Outcome.DELIVERED: 1}
    assert logged(caplog).count("one of the messages failed with RuntimeError") == 1
    assert not any("c4nary" in line for line in logged(caplog))


async def test_who_cancels_the_task_at_hand_in_on_call_gets_one_result_for_each(sandbox: Sandbox) -> None:
    def cancel(_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with Client(sandbox.issue_token(), environment=sandbox.environment, on_call=cancel) as client:
        results = [result async for result in client.send_many(Source(chats(sandbox, 3), count=3))]

    assert sorted((result.index, result.outcome) for result in results) == [
        (index, Outcome.DELIVERED) for index in range(3)
    ]
