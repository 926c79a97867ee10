"""Handlers that fail, and events that kill the process: they are parked, and their chats go on."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta

import pytest
from attrs import evolve

from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.store.effects import (
    Begin,
    Effect,
    Park,
    Postpone,
    Unpark,
)
from healthmsg.events import Event
from tests.bot.fakes import FakeClock, FakeStore
from tests.bot.working import MINUTE, Work, ids, working
from tests.gateway.inbox.inboxes import message

# --- failures of handlers


async def test_an_event_that_is_to_be_handled_later_keeps_its_chat_waiting_and_no_other_one() -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.id == message(1).id and event.attempt < 3:
            raise RetryLater(MINUTE)
        return ()

    async with working(handler=handle) as work:
        work.add(message(1), message(2), message(3, "c2"))
        await work.idle()
        assert work.handled == ids(message(1), message(3, "c2"))
        assert Postpone(1, work.clock.now() + MINUTE) in work.store.commits[-1] + work.store.commits[-2]
        work.add(message(4))
        work.clock.advance(MINUTE / 2)
        await work.idle()
        assert len(work.handled) == 2
        work.clock.advance(MINUTE / 2)
        await work.idle()
        assert work.handled[2:] == ids(message(1))
        assert work.attempts[message(1).id] == 2
        work.clock.advance(MINUTE)
        await work.idle()
        assert work.handled[3:] == ids(message(1), message(2), message(4))


async def test_chats_that_wait_take_no_room_in_memory() -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.attempt == 1 and not event.id.endswith("x"):
            raise RetryLater(MINUTE)
        return ()

    entered = [message(10 * chat + number, f"c{chat}") for chat in range(1100) for number in range(2)]
    async with working(handler=handle) as work:
        work.add(*entered)
        await work.idle()
        last = evolve(message(7, "new"), id="message/x")
        work.add(last)
        await work.idle()
        assert work.handled[-1] == last.id
        assert work.loop._queues.held == 0
        work.clock.advance(MINUTE)
        await work.idle()
        work.clock.advance(MINUTE)
        await work.idle()
        assert not work.store.events
        assert len(work.handled) == 2 * 2200 + 1


async def test_what_was_postponed_before_a_restart_waits_until_its_moment() -> None:
    clock = FakeClock()
    store = FakeStore()
    first = store.add(message(1))
    store.add(message(2))
    store.events[first] = evolve(store.events[first], not_before=clock.now() + MINUTE)
    async with working(store=store, clock=clock) as work:
        await work.idle()
        assert work.handled == []
        clock.advance(MINUTE)
        await work.idle()
        assert work.handled == ids(message(1), message(2))


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ParkThis("een collega kijkt"), "een collega kijkt"),
        (ZeroDivisionError("Jansen"), "ZeroDivisionError"),
    ],
    ids=["asked for", "a mistake"],
)
async def test_what_fails_is_parked_with_its_reason_and_its_chat_goes_on(
    failure: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.id == message(1).id:
            raise failure
        return ()

    with caplog.at_level(logging.DEBUG):
        async with working(handler=handle) as work:
            work.add(message(1), message(2))
            await work.idle()
            assert work.store.commits[1] == (Park(1, reason), Begin(2))
            assert work.handled == ids(message(1), message(2))
            assert work.loop.counters.parked == 1
    assert "message_created, number 1" in caplog.text
    assert "Jansen" not in caplog.text
    assert "collega" not in caplog.text


async def test_a_cancellation_of_the_handlers_own_is_a_failure_of_that_event_alone() -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if event.id == message(1).id:
            task = asyncio.create_task(asyncio.Event().wait())
            task.cancel()
            await task
        return ()

    async with working(handler=handle) as work:
        work.add(message(1), message(2))
        await work.idle()
        assert [one.reason for one in work.store.parked_events.values()] == ["CancelledError"]
        assert work.handled == ids(message(1), message(2))


async def test_a_parked_event_is_handled_again_when_a_person_wants_it() -> None:
    async def handle(_: Event) -> Sequence[Effect]:
        if len(work.handled) == 1:
            raise ParkThis("x")
        return ()

    async with working() as work:
        work.handler = handle
        work.add(message(1))
        await work.idle()
        await work.store.commit(Unpark(1))
        await work.idle()
        assert work.handled == ids(message(1), message(1))
        assert work.attempts[message(1).id] == 1
        assert not work.store.events


# --- crashes


def crashed(store: FakeStore, *events: Event, crashes: int = 1) -> None:
    for event in events:
        sequence = store.add(event)
        store.events[sequence] = evolve(store.events[sequence], crashes=crashes)


async def test_what_was_in_hand_at_a_crash_is_handled_alone_and_first() -> None:
    store = FakeStore()
    store.add(message(0, "c0"))
    suspects = [message(number, f"c{number}") for number in (1, 2, 3)]
    crashed(store, *suspects)
    store.add(message(4, "c1"))
    work = Work(store=store)
    work.hold(*suspects)
    task = asyncio.create_task(work.loop.run())
    for number, one in enumerate(suspects):
        await work.until(lambda one=one: one.id in work.running)  # type: ignore[misc]
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.running == {one.id}
        assert work.handled == ids(*suspects[: number + 1])
        work.open(one)
    await work.idle()
    assert set(work.handled[3:]) == {message(0, "c0").id, message(4, "c1").id}
    work.loop.drain()
    await task


async def test_after_three_crashes_an_event_is_parked_and_its_chat_goes_on() -> None:
    store = FakeStore()
    crashed(store, message(1), crashes=3)
    store.add(message(2))
    async with working(store=store) as work:
        await work.idle()
        assert work.handled == ids(message(2))
        ((_, parked),) = store.parked_events.items()
        assert parked.reason == "it was being handled each time the process died, three times"


@pytest.mark.looptime
async def test_a_suspect_that_takes_long_does_not_keep_all_others_out() -> None:
    store = FakeStore()
    suspects = [message(number, f"c{number}") for number in range(9)]
    crashed(store, *suspects)
    store.add(message(20, "other"))
    work = Work(store=store)
    work.hold(*suspects)
    task = asyncio.create_task(work.loop.run())
    await asyncio.sleep(9)
    assert len(work.running) == 1
    await asyncio.sleep(2)
    assert len(work.running) == 2
    await asyncio.sleep(50)
    assert work.handled[-1] == message(20, "other").id or len(work.running) == 9
    assert message(20, "other").id in work.handled
    work.open(*suspects)
    work.loop.drain()
    await task
    assert sorted(work.handled) == sorted(ids(*suspects, message(20, "other")))


async def test_what_is_cancelled_is_no_crash_and_comes_again() -> None:
    work = Work()
    work.hold(message(1))
    work.add(message(1), message(2))
    task = asyncio.create_task(work.loop.run())
    await work.until(lambda: work.running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not work.running
    assert not work.store.running
    (postponed,) = work.store.commits[-1]
    # The next process may run on another machine, whose clock is behind.
    assert isinstance(postponed, Postpone)
    assert postponed.not_before < work.clock.now() - timedelta(days=365)
