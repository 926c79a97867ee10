"""A consumer of events that is killed at random loses nothing, and repeats only what it had in hand."""

import asyncio
import signal
import time
from pathlib import Path

import pytest
from attrs import evolve

from tests.gateway.killed_consumer import HAS_LOST, IS_REFUSED, Line, Way
from tests.gateway.killing import Aftermath, Consumer, Killing, aftermath, killed_again_and_again, prepared
from tests.waiting import until

KILLS = 8
# Of nine connections, 6 % would be none.
DROPPED = 0.4
SENT = {"message/a": ("x", 0), "message/b": ("x", 1), "message/c": ("y", 0)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [Way.ONE_BY_ONE, pytest.param(Way.BATCHES, marks=pytest.mark.thorough)],
    ids=lambda way: way.value,
)
async def test_a_consumer_that_is_killed_handles_everything_and_only_what_it_had_in_hand_twice(
    tmp_path: Path, way: Way
) -> None:
    store = str(tmp_path / "inbox.db")
    found = await killed_again_and_again(store, tmp_path, kills=KILLS, seed=16, way=way, dropped=DROPPED)
    assert found == Aftermath(kills=KILLS)


@pytest.mark.slow
@pytest.mark.thorough
async def test_so_does_one_with_a_store_in_a_database(database: str, tmp_path: Path) -> None:
    found = await killed_again_and_again(database, tmp_path, kills=KILLS, seed=16, dropped=DROPPED)
    assert found == Aftermath(kills=KILLS)


@pytest.mark.slow
@pytest.mark.thorough
async def test_one_that_acknowledges_before_it_handles_is_caught(tmp_path: Path) -> None:
    found = await killed_again_and_again(
        str(tmp_path / "inbox.db"), tmp_path, kills=3, seed=16, way=Way.QUEUE, dropped=0, patience=6
    )
    assert found.lost > 0
    assert evolve(found, lost=0) == Aftermath(kills=3)


# --- one process at a time


async def handles_a_message(killing: Killing, within: float = 20) -> None:
    """See that the last consumer handles what is said now."""
    await killing.wait_for_event(killing.consumers[-1], killing.say(killing.chats[0]), within)


@pytest.mark.slow
async def test_a_second_process_on_one_file_is_refused_until_the_first_one_is_dead(tmp_path: Path) -> None:
    async with prepared(str(tmp_path / "inbox.db"), tmp_path) as killing:
        first = await killing.start()
        await until(killing.sandbox.gateway.connected)
        await handles_a_message(killing)
        second = await killing.start()
        assert await second.process.wait() == IS_REFUSED
        first.kill()
        await killing.start()
        await handles_a_message(killing)


async def first_and_second(killing: Killing) -> tuple[Consumer, Consumer]:
    """Start a consumer that has the store, and one that stands by."""
    first = await killing.start()
    await until(killing.sandbox.gateway.connected)
    await handles_a_message(killing)
    second = await killing.start()
    await killing.wait_until_ready(second)
    assert killing.sandbox.gateway.connected() == 1
    return first, second


def say_several(killing: Killing) -> list[str]:
    return [killing.say(chat) for chat in killing.chats[:5] for _ in range(4)]


async def ends_as_it_has_lost_the_store(consumer: Consumer) -> None:
    consumer.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(15):
        assert await consumer.process.wait() == HAS_LOST, consumer.stderr()
    assert not consumer.stderr()


async def all_is_well_with_the_second(killing: Killing, second: Consumer) -> None:
    """See that it handles what is said, and that all of it was handled once."""
    await handles_a_message(killing)
    assert await second.end() == 0
    assert aftermath(killing.log.read(), killing.sent, set(), Way.ONE_BY_ONE) == Aftermath(kills=0)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_on_postgresql_another_process_takes_over_within_15_seconds(
    database: str, tmp_path: Path, how: signal.Signals
) -> None:
    async with prepared(database, tmp_path) as killing:
        first, second = await first_and_second(killing)
        first.process.send_signal(how)
        ended_at = time.monotonic()
        for event in say_several(killing):
            await killing.wait_for_event(second, event, ended_at + 15 - time.monotonic())
        if how is signal.SIGSTOP:
            # It still finds these messages in its connection, and must not write them.
            await ends_as_it_has_lost_the_store(first)
        await all_is_well_with_the_second(killing, second)


@pytest.mark.slow
@pytest.mark.thorough
async def test_a_process_that_was_stopped_ends_though_nothing_happens(database: str, tmp_path: Path) -> None:
    async with prepared(database, tmp_path) as killing:
        first, second = await first_and_second(killing)
        first.process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(15):
            while killing.sandbox.gateway.connected() == 1:  # noqa: ASYNC110 - it is about another process
                await asyncio.sleep(0.05)
        await ends_as_it_has_lost_the_store(first)
        await all_is_well_with_the_second(killing, second)


# --- that the harness sees what is wrong


def judged(log: str, killed: set[int]) -> Aftermath:
    return aftermath([Line.parse(line) for line in log.split(";")], SENT, killed, Way.ONE_BY_ONE)


HANDLED_A = "0 begin message/a 1;0 end message/a 1"
HANDLED_B = "0 begin message/b 1;0 end message/b 1"
HANDLED_C = "0 begin message/c 1;0 end message/c 1"


def test_what_a_killed_process_had_in_hand_may_come_again() -> None:
    log = f"{HANDLED_A};0 begin message/b 1;1 begin message/b 2;1 end message/b 2;1 begin message/c 1"
    log += ";1 end message/c 1"
    assert judged(log, {0}) == Aftermath(kills=1)
    assert judged(log, set()) == Aftermath(kills=0, twice=1)


def test_in_a_batch_all_of_it_may_come_again_and_nothing_of_the_one_before() -> None:
    log = f"0 batch - 0;{HANDLED_A};0 batch - 0;0 begin message/b 1;0 end message/b 1;{HANDLED_C};1 batch - 0"
    again = ";1 begin message/b 2;1 end message/b 2;1 begin message/c 2;1 end message/c 2"
    assert judged(log + again, {0}) == Aftermath(kills=1)
    assert judged(f"{log};1 begin message/a 2", {0}) == Aftermath(kills=1, twice=1)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (f"{HANDLED_A};{HANDLED_C}", Aftermath(kills=0, lost=1)),
        (f"{HANDLED_A};{HANDLED_C};0 begin message/b 1", Aftermath(kills=0, lost=1)),
        (
            f"0 begin message/b 1;0 end message/b 1;{HANDLED_A};{HANDLED_C}",
            Aftermath(kills=0, out_of_order=1),
        ),
        (
            f"{HANDLED_A};0 begin message/b 1;0 end message/b 1;{HANDLED_C};0 begin message/old 1",
            Aftermath(kills=0, strange=1),
        ),
        (f"{HANDLED_A};0 begin message/b 2;0 end message/b 2;{HANDLED_C}", Aftermath(kills=0, miscounted=1)),
    ],
    ids=["never begun", "never ended", "out of order", "sent before the start", "counted twice"],
)
def test_what_is_wrong_is_seen(log: str, expected: Aftermath) -> None:
    assert judged(log, set()) == expected


def test_an_attempt_that_is_not_counted_is_seen() -> None:
    log = f"{HANDLED_A};{HANDLED_C};0 begin message/b 1;1 begin message/b 1;1 end message/b 1"
    assert judged(log, {0}) == Aftermath(kills=1, miscounted=1)
