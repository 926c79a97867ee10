"""A run with a journal that is left, cancelled or cut off, and what the next one makes of that."""

import asyncio
import sqlite3
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from healthmsg import Client, JournalError, Outcome, Outgoing, SendMany, SendResult
from healthmsg.bulk.journal import State
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.sandbox import CutAfter, Delay, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, outcomes, sent, states
from tests.bulk.sources import Source, bodies, chats, posts, read_into
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")
MOST_IN_FLIGHT = 128


def journal_of(run: SendMany) -> SqlJournal:
    assert run._runner is not None
    assert isinstance(run._runner.journal, SqlJournal)
    return run._runner.journal


class FullDisk:
    """A journal that cannot be written until there is room."""

    def __init__(self, journal: SqlJournal) -> None:
        database = journal._database
        self._run, self.is_full = database.run, True
        database.run = self._run_if_there_is_room  # type: ignore[method-assign] # a disk of one's own is none

    async def _run_if_there_is_room(self, work: Callable[[Connection], Any], **options: Any) -> Any:
        if self.is_full:
            reason = sqlite3.OperationalError("database or disk is full")
            reason.sqlite_errorname = "SQLITE_FULL"
            raise OperationalError("", None, reason)
        return await self._run(work, **options)


# --- leaving


@pytest.mark.slow
@pytest.mark.parametrize("leaves", ["the run", "the client", "by a cancellation"])
async def test_who_leaves_in_the_middle_loses_nothing_and_repeats_nothing(
    sandbox: Sandbox, file: Path, leaves: str
) -> None:
    addresses = chats(sandbox, 10)
    source = Source(addresses, count=50)
    seen: list[SendResult] = []
    async with fresh_client(sandbox) as client:
        run = client.send_many(source, journal=file)

        async def consume() -> None:
            async with run:
                await read_into(seen, run)

        consumer = asyncio.create_task(consume())
        await until(lambda: len(seen) >= 5)
        if leaves == "by a cancellation":
            consumer.cancel()
        else:
            await (run if leaves == "the run" else client).close()
        await asyncio.wait([consumer])
        seen += [result async for result in run] if leaves == "by a cancellation" else []

    assert posts(sandbox) < 50
    assert outcomes(seen) == [Outcome.DELIVERED] * posts(sandbox)
    assert set((await states(file)).values()) == {State.DELIVERED, State.WAITING}

    async with fresh_client(sandbox) as client:
        results = await sent(client, Source(addresses, count=50), journal=file)
    assert outcomes(results) == [Outcome.DELIVERED] * 50
    assert [bodies(sandbox, address) for address in addresses] == [
        [f"bericht {number}" for number in range(chat, 50, 10)] for chat in range(10)
    ]


async def test_a_call_under_way_when_the_run_is_left_gets_its_answer(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    lose(sandbox, Delay(0.3, after=True))
    async with client.send_many([Outgoing(chat, "1"), Outgoing(chat, "2")], journal=file) as run:
        await until(lambda: sandbox.messages(chat))

    (result,) = [result async for result in run]
    assert result.outcome is Outcome.DELIVERED
    assert sorted((await states(file)).values(), key=str) == [State.DELIVERED, State.WAITING]


async def test_a_call_that_is_cut_after_the_run_was_left_is_not_waited_for(
    sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    arrived = asyncio.Event()
    sandbox.on_message = lambda _: arrived.set()

    async with fresh_client(sandbox) as client:
        lose(sandbox, _CutWhen(left := asyncio.Event()))
        run = client.send_many([Outgoing(chat, "1", key="k")], journal=file)
        async with run:
            await arrived.wait()
            asyncio.get_running_loop().call_later(0.1, left.set)
        (result,) = [result async for result in run]
        assert (result.key, result.outcome) == ("k", Outcome.UNKNOWN)
    assert await states(file) == {"k": State.UNKNOWN}

    async with fresh_client(sandbox) as client:
        (found,) = await sent(client, [Outgoing(chat, "1", key="k")], journal=file)
    assert (found.outcome, found.index) == (Outcome.DELIVERED, 0)
    assert bodies(sandbox, chat) == ["1"]


class _CutWhen:
    def __init__(self, moment: asyncio.Event) -> None:
        self._moment = moment

    async def answer(self, request: Any, execute: Any) -> None:
        await execute()
        await self._moment.wait()
        request.transport.close()


@pytest.mark.slow
async def test_who_leaves_with_all_places_taken_and_one_in_doubt_is_not_kept(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, MOST_IN_FLIGHT + 60)
    await client.me.get()
    lose(sandbox, CutAfter(), addresses[0])
    async with client.send_many([Outgoing(to, "x") for to in addresses], journal=file, settle=0.1) as run:
        await until(lambda: len(run._pool.in_flight) == 0 and run._pool.places.locked())

    # With the one in doubt, which had given its place away.
    assert len([result async for result in run]) == posts(sandbox) == MOST_IN_FLIGHT + 1


@pytest.mark.slow
async def test_who_leaves_at_once_leaves_what_is_in_doubt_in_doubt(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    await _left_in_doubt(sandbox, file, Outgoing(chat, "1", key="k"))
    launched: list[object] = []

    for ticks in range(8):
        # As in another process: what this one has sent is not known.
        fresh = client.with_token(sandbox.issue_token())
        run = fresh.send_many(None, journal=file, settle=60)
        run._pool.launch = _noting(run._pool.launch, launched)  # type: ignore[method-assign, assignment] # to know when
        run.start()
        await until(lambda: len(launched) > ticks)  # noqa: B023 - waited for at once
        for _ in range(ticks):
            await asyncio.sleep(0)
        await run.close()
        assert (await states(file))["k"] in {State.SENDING, State.UNKNOWN, State.DELIVERED}

    await sent(client, [Outgoing(chat, "1", key="k")], journal=file)
    assert bodies(sandbox, chat) == ["1"]


def _noting(do: Callable[[Any], None], done: list[object]) -> Callable[[Any], None]:
    def noted(item: Any) -> None:
        do(item)
        done.append(item)

    return noted


async def _left_in_doubt(sandbox: Sandbox, file: Path, message: Outgoing) -> None:
    """Leave a message in the journal that was delivered, and of which that is not known."""
    async with fresh_client(sandbox) as client:
        lose(sandbox, CutAfter())
        sandbox.faults.add(kind=Delay(60), method="GET", path_contains="/messages")
        async with client.send_many([message], journal=file):
            await until(lambda: sandbox.messages(str(message.to)))
            await until(lambda: len(sandbox.calls) > 2)
    sandbox.faults.clear()


async def test_a_second_cancellation_does_not_wait_for_what_hangs(sandbox: Sandbox, file: Path) -> None:
    addresses = chats(sandbox, 3)
    lose(sandbox, Delay(30, after=True), times=None)
    client = Client(sandbox.issue_token(), environment=sandbox.environment)
    run = client.send_many(Source(addresses, count=3), journal=file)

    async def consume() -> None:
        async with client, run:
            await asyncio.Event().wait()

    consumer = asyncio.create_task(consume())
    await until(lambda: all(sandbox.messages(chat) for chat in addresses))
    for _ in range(3):
        consumer.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await consumer

    assert outcomes([result async for result in run]) == [Outcome.UNKNOWN] * 3
    assert set((await states(file)).values()) == {State.SENDING}
    sandbox.faults.clear()
    async with fresh_client(sandbox) as client:
        results = await sent(client, Source(addresses, count=3), journal=file)
    assert outcomes(results) == [Outcome.DELIVERED] * 3
    assert [len(sandbox.messages(chat)) for chat in addresses] == [1, 1, 1]


# --- results that are not read


@pytest.mark.slow
async def test_results_that_are_not_read_hold_up_the_sending(sandbox: Sandbox, file: Path) -> None:
    source = Source(chats(sandbox, MOST_IN_FLIGHT * 2), count=20_000)
    async with fresh_client(sandbox) as client, client.send_many(source, journal=file) as run:
        await until(lambda: run._pool.places.locked() and not run._pool.in_flight)
        await until(lambda: source.read == 20_000)  # into the journal, not into memory
        assert posts(sandbox) == MOST_IN_FLIGHT
        assert run._pool._results.qsize() == MOST_IN_FLIGHT


# --- a journal that fails


@pytest.mark.slow
async def test_a_full_disk_holds_the_run_up_until_there_is_room(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    entered = asyncio.Event()

    async def then_more() -> AsyncIterator[Outgoing]:
        yield Outgoing(chat, "1")
        await entered.wait()
        for number in range(20):
            yield Outgoing(chat, "x" * 3000 + str(number))

    async with client.send_many(then_more(), journal=file, stop_after=30) as run:
        reading = aiter(run)
        await anext(reading)
        disk = FullDisk(journal_of(run))
        entered.set()
        await until(lambda: run.paused_by)
        assert isinstance(run.paused_by, JournalError)
        assert "disk is full" in str(run.paused_by)
        disk.is_full = False
        assert outcomes([result async for result in reading]) == [Outcome.DELIVERED] * 20
        assert run.paused_by is None


async def test_a_disk_that_stays_full_ends_the_run_and_says_how_to_go_on(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (chat,) = chats(sandbox, 1)
    full = asyncio.Event()

    async def messages() -> AsyncIterator[Outgoing]:
        yield Outgoing(chat, "1", key="1")
        await full.wait()
        for number in range(2, 40):
            yield Outgoing(chat, "c4nary" * 1000 + str(number), key=str(number))

    run = client.send_many(messages(), journal=file, stop_after=0)
    reading = aiter(run)
    await anext(reading)
    await journal_of(run).do(lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1").scalar())
    full.set()
    with pytest.raises(JournalError, match=r"disk is full.*start again") as caught:
        await anext(reading)

    assert "c4nary" not in "".join(traceback.format_exception(caught.value))
    assert await states(file) == {"1": State.DELIVERED}


@pytest.mark.slow
async def test_who_leaves_while_the_disk_is_full_is_not_kept(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, 3)
    run = client.send_many([Outgoing(to, "x") for to in addresses], journal=file)
    lose(sandbox, Delay(0.3, after=True), times=None)
    async with run:
        await until(lambda: all(sandbox.messages(to) for to in addresses))
        FullDisk(journal_of(run))
        await until(lambda: run.paused_by)

    results = [result async for result in run]
    assert outcomes(results) == [Outcome.DELIVERED] * 3  # reported, although that could not be noted


@pytest.mark.slow
async def test_what_could_not_be_noted_is_found_by_the_next_run_of_the_same_client(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, 3)
    messages = [Outgoing(to, "x") for to in addresses]
    run = client.send_many(messages, journal=file, stop_after=0)
    lose(sandbox, Delay(0.3, after=True), times=None)
    seen: list[SendResult] = []
    async with run:
        await until(lambda: all(sandbox.messages(to) for to in addresses))
        FullDisk(journal_of(run))
        with pytest.raises(JournalError, match="disk is full"):
            await read_into(seen, run)
    assert outcomes(seen) == [Outcome.DELIVERED] * 3
    assert set((await states(file)).values()) == {State.SENDING}

    results = await sent(client, messages, journal=file)

    assert {result.message_id for result in results} == {result.message_id for result in seen}
    assert [bodies(sandbox, to) for to in addresses] == [["x"]] * 3


@pytest.mark.slow
async def test_a_second_run_after_a_journal_failed_goes_on_where_it_ended(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    addresses = chats(sandbox, 4)
    messages = [Outgoing(addresses[n % 4], str(n)) for n in range(12)]
    seen: list[SendResult] = []
    run = client.send_many(messages, journal=file, stop_after=0)
    async with run:
        async for result in run:
            seen.append(result)
            if len(seen) == 3:
                break
        FullDisk(journal_of(run))
        with pytest.raises(JournalError):
            await read_into(seen, run)

    results = await sent(client, messages, journal=file)

    assert outcomes(results) == [Outcome.DELIVERED] * 12
    assert [bodies(sandbox, to) for to in addresses] == [[str(n) for n in range(c, 12, 4)] for c in range(4)]
