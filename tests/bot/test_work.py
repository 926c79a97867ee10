"""The work loop: in the order of each chat, 64 at once, and never lost."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from healthmsg.bot.queues import CHATS_AT_ONCE, MOST, MOST_OF_A_CHAT
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.store.effects import (
    Begin,
    Effect,
    Finish,
    PutDialog,
    PutTimer,
)
from healthmsg.errors import ClientClosedError, InvalidInputError, JournalError
from healthmsg.events import Event, PresenceChanged, UnknownEvent
from tests.bot.fakes import FakeStore
from tests.bot.store.stores import dialog, timer
from tests.bot.working import MINUTE, Work, ids, typing, working
from tests.gateway.inbox.inboxes import NOW, message

# --- order


async def test_a_chat_is_handled_in_order_and_one_at_a_time() -> None:
    entered = [message(number) for number in range(50)]
    async with working() as work:
        work.add(*entered)
        await work.idle()
        assert work.handled == ids(*entered)
        assert work.most == 1
        assert not work.store.events


async def test_chats_go_on_beside_each_other_up_to_64() -> None:
    first = [message(number, f"c{number}") for number in range(100)]
    async with working() as work:
        work.hold(*first)
        work.add(*first)
        await work.until(lambda: len(work.running) == 64)
        assert work.loop.running == 64
        work.open(*first)
        await work.idle()
        assert work.most == 64
        assert sorted(work.handled) == sorted(ids(*first))


async def test_a_slow_chat_keeps_only_itself_waiting() -> None:
    slow, behind = message(1), message(2)
    async with working() as work:
        work.hold(slow)
        work.add(slow, behind, *(message(number, "c2") for number in range(3, 9)))
        await work.until(lambda: len(work.handled) == 7)
        assert behind.id not in work.handled
        work.open(slow)
        await work.idle()
        assert work.handled[-1] == behind.id


async def test_a_long_queue_of_a_chat_keeps_no_other_one_out() -> None:
    entered = [message(number) for number in range(3 * MOST)]
    async with working(chats_at_once=1) as work:
        other = message(99_999, "c2")
        work.add(*entered, other)
        await work.idle()
        assert work.handled.index(other.id) < 3 * MOST_OF_A_CHAT
        assert [one for one in work.handled if one != other.id] == ids(*entered)


@pytest.mark.parametrize("busy", [1, CHATS_AT_ONCE - 1])
async def test_long_queues_of_all_that_are_busy_keep_no_other_chat_out(busy: int) -> None:
    first = [message(1000 * number, f"c{number}") for number in range(busy)]
    async with working() as work:
        work.hold(*first)
        work.add(*first)
        await work.until(lambda: len(work.running) == busy)
        for count in range(1, 2 * MOST_OF_A_CHAT):
            work.add(*(message(1000 * number + count, f"c{number}") for number in range(busy)))
            await asyncio.sleep(0)
        other = message(999_999, "other")
        work.add(other)
        await work.until(lambda: other.id in work.handled)
        work.open(*first)
        await work.idle()


@pytest.mark.parametrize("others", [1, 2, 3, 7, 63])
async def test_a_chat_that_waits_goes_on_at_its_moment_though_its_worker_is_busy(others: int) -> None:
    failing = message(1, "waits")
    elsewhere = [message(10 + number, f"c{number}") for number in range(others)]
    async with working() as work:

        async def handle(event: Event) -> Sequence[Effect]:
            if event.id == failing.id and work.handled.count(event.id) == 1:
                raise RetryLater(MINUTE)
            return ()

        work.handler = handle
        work.hold(failing)
        work.add(failing)
        await work.until(lambda: work.running)
        work.hold(*elsewhere)
        work.add(*elsewhere)
        work.open(failing)
        await work.until(lambda: work.running == {*ids(*elsewhere)})
        work.clock.advance(MINUTE)
        await work.until(lambda: work.handled.count(failing.id) == 2)
        work.open(*elsewhere)
        await work.idle()


async def test_memory_holds_1000_events_at_most() -> None:
    entered = [message(number, f"c{number % 500}") for number in range(4000)]
    async with working() as work:
        held = list[int]()

        async def handle(_: Event) -> Sequence[Effect]:
            held.append(work.loop._queues.held)
            return ()

        work.handler = handle
        work.add(*entered)
        await work.idle()
        assert len(held) == 4000
        assert max(held) <= MOST
        for number in range(500):
            of_chat = ids(*entered[number::500])
            assert [one for one in work.handled if one in set(of_chat)] == of_chat


async def test_events_without_a_chat_do_not_wait_for_each_other() -> None:
    one, two = (UnknownEvent(id=f"unknown/{number}", received_at=NOW, name="x") for number in range(2))
    async with working() as work:
        work.hold(one, two)
        work.add(one, two)
        await work.until(lambda: len(work.running) == 2)
        work.open(one, two)
        await work.idle()


# --- transactions


async def test_an_event_has_begun_before_its_handler_starts_and_ends_with_the_effects() -> None:
    effect = PutDialog(dialog())
    async with working() as work:

        async def handle(_: Event) -> Sequence[Effect]:
            assert work.store.commits == [(Begin(1),)]
            return [effect]

        work.handler = handle
        work.add(message(1))
        await work.idle()
        assert work.store.commits == [(Begin(1),), (effect, Finish(1))]
        assert work.loop.counters.finished == 1
        assert work.events.handed_out == 1


async def test_the_end_of_an_event_and_the_beginning_of_the_next_are_one_transaction() -> None:
    async with working() as work:
        work.add(message(1), message(2))
        await work.idle()
        assert work.store.commits == [(Begin(1),), (Finish(1), Begin(2)), (Finish(2),)]


async def test_the_chat_that_has_waited_longest_is_next() -> None:
    async with working(chats_at_once=1) as work:
        work.add(message(1), message(2), message(3, "c2"))
        await work.idle()
        assert work.handled == ids(message(1), message(3, "c2"), message(2))
        assert work.store.commits == [
            (Begin(1),),
            (Finish(1), Begin(3)),
            (Finish(3), Begin(2)),
            (Finish(2),),
        ]


async def test_what_the_store_refuses_is_parked_and_its_chat_goes_on() -> None:
    class Refusing(FakeStore):
        async def commit(self, *changes: Effect) -> None:
            if any(isinstance(one, PutDialog) for one in changes):
                raise InvalidInputError("another dialog")
            await super().commit(*changes)

    async def handle(event: Event) -> Sequence[Effect]:
        return [PutDialog(dialog())] if event.id == message(1).id else ()

    async with working(store=Refusing(), handler=handle) as work:
        work.add(message(1), message(2))
        await work.idle()
        assert [one.event.id for one in work.store.parked_events.values()] == [message(1).id]
        assert work.handled == ids(message(1), message(2))


async def test_a_store_that_fails_ends_the_loop_with_its_error() -> None:
    class Failing(FakeStore):
        async def commit(self, *changes: Effect) -> None:
            if any(isinstance(one, Finish) for one in changes):
                raise JournalError("the disk is full")
            await super().commit(*changes)

    work = Work(store=Failing())
    work.hold(other := message(2, "c2"))
    work.add(message(1), other)
    with pytest.raises(JournalError, match="the disk is full"):
        await work.loop.run()
    assert not work.running


async def test_a_stream_that_ends_ends_the_loop_with_its_error() -> None:
    work = Work()
    task = asyncio.create_task(work.loop.run())
    await work.idle()
    work.events.ended = ClientClosedError()
    work.events.say()
    with pytest.raises(ClientClosedError):
        await task


# --- draining


async def test_draining_finishes_what_runs_and_begins_nothing() -> None:
    work = Work()
    work.hold(message(1))
    work.add(message(1), message(2), message(3, "c2"))
    task = asyncio.create_task(work.loop.run())
    await work.until(lambda: work.running and len(work.handled) == 2)
    work.loop.drain()
    work.add(message(4, "c4"))
    work.events.passing.append(typing("c5"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    work.open(message(1))
    async with asyncio.timeout(5):
        await task
    assert work.handled == ids(message(1), message(3, "c2"))
    assert [one.event.id for one in work.store.events.values()] == ids(message(2), message(4, "c4"))
    assert not work.store.running


async def test_a_loop_that_stands_by_can_be_drained() -> None:
    work = Work()
    work.events.is_prepared = False
    work.store.add(message(1))
    task = asyncio.create_task(work.loop.run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert work.store.commits == []
    work.loop.drain()
    async with asyncio.timeout(5):
        await task
    assert work.handled == []


async def test_nothing_is_handled_before_this_process_has_the_store() -> None:
    async with working() as work:
        work.events.is_prepared = False
        work.add(message(1))
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.handled == []
        work.events.is_prepared = True
        work.events.say()
        await work.idle()
        assert work.handled == ids(message(1))


# --- what comes at most once


async def test_what_comes_at_most_once_is_handled_in_its_chats_order_and_never_stored() -> None:
    async with working() as work:
        work.hold(message(1))
        work.add(message(1))
        await work.until(lambda: work.running)
        presence = PresenceChanged(id="presence_changed/1", received_at=NOW, user_id="u1", status="online")
        work.events.passing += [typing(), typing("c2"), presence]
        work.events.say()
        await work.until(lambda: len(work.handled) == 3)
        assert set(work.handled[1:]) == {typing("c2").id, presence.id}
        work.open(message(1))
        await work.idle()
        assert work.handled[-1] == typing().id
        assert work.store.commits == [(Begin(1),), (Finish(1),)]


async def test_a_chat_that_has_more_than_a_few_to_do_drops_it() -> None:
    async with working() as work:
        work.hold(message(1))
        work.add(*(message(number) for number in range(1, 5)))
        await work.until(lambda: work.running)
        work.events.passing.append(typing())
        work.events.say()
        await work.until(lambda: work.loop.dropped == 1)
        work.open(message(1))
        await work.idle()
        assert work.handled == ids(*(message(number) for number in range(1, 5)))


async def test_what_comes_at_most_once_and_fails_is_neither_parked_nor_handled_again() -> None:
    failures: list[Exception] = [RetryLater(MINUTE), ParkThis("x"), ZeroDivisionError()]

    async def handle(_: Event) -> Sequence[Effect]:
        raise failures.pop()

    async with working(handler=handle) as work:
        work.events.passing += [typing(number=number) for number in range(3)]
        work.events.say()
        await work.idle()
        assert not failures
        assert work.store.commits == []


# --- being idle


async def test_idle_waits_for_what_has_arrived_and_is_not_written_yet() -> None:
    async with working() as work:
        await work.idle()
        work.events.is_written = False
        waiting = asyncio.create_task(work.loop.idle())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        work.events.is_written = True
        work.add(message(1))
        await waiting
        assert work.handled == ids(message(1))


async def test_idle_does_not_wait_for_what_is_not_due() -> None:
    async with working() as work:
        await work.store.commit(PutTimer(timer("t", datetime(2030, 1, 1, tzinfo=UTC))))
        await work.idle()
        assert work.handled == []


async def test_idle_ends_with_the_loop() -> None:
    work = Work()
    work.hold(message(1))
    work.add(message(1))
    task = asyncio.create_task(work.loop.run())
    await work.until(lambda: work.running)
    waiting = asyncio.create_task(work.loop.idle())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    async with asyncio.timeout(5):
        await waiting
