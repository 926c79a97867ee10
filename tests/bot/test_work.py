"""The work loop: in the order of each chat, 64 at once, never lost, and what kills it is parked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from attrs import define, evolve, field

from healthmsg.bot.queues import MOST, MOST_OF_A_CHAT
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.store.effects import (
    Begin,
    Effect,
    Finish,
    Fire,
    Park,
    Postpone,
    PutDialog,
    PutTimer,
    Unpark,
)
from healthmsg.bot.store.records import TimerRecord
from healthmsg.bot.work import WorkLoop
from healthmsg.errors import ClientClosedError, InvalidInputError, JournalError
from healthmsg.events import Event, PresenceChanged, TimerDue, TypingStarted, UnknownEvent
from healthmsg.ids import ChatAddress
from tests.bot.fakes import FakeClock, FakeEvents, FakeStore
from tests.bot.store.stores import dialog, timer
from tests.gateway.inbox.inboxes import NOW, message

MINUTE = timedelta(minutes=1)
Handler = Callable[[Event], Awaitable[Sequence[Effect]]]


def typing(chat: str = "c1", number: int = 0) -> TypingStarted:
    address = ChatAddress.of_text(f"conversations/{chat}")
    return TypingStarted(id=f"typing_started/{chat}/{number}", received_at=NOW, chat=address, user_id="u1")


@define(eq=False)
class Work:
    """A work loop over fakes, and what its handler was called with."""

    store: FakeStore = field(factory=FakeStore)
    events: FakeEvents = field(factory=FakeEvents)
    clock: FakeClock = field(factory=FakeClock)
    handler: Handler | None = None
    chats_at_once: int = 64
    handled: list[str] = field(factory=list)
    attempts: dict[str, int] = field(factory=dict)
    running: set[str] = field(factory=set)
    most: int = 0
    gates: dict[str, asyncio.Event] = field(factory=dict)
    """An event waits in its handler until its gate is opened."""
    loop: WorkLoop = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.loop = WorkLoop(
            self.store, self.events, self.handle, self.clock, chats_at_once=self.chats_at_once
        )

    def add(self, *events: Event) -> None:
        for event in events:
            self.store.add(event)
        self.events.say()

    def hold(self, *events: Event) -> None:
        self.gates |= {event.id: asyncio.Event() for event in events}

    def open(self, *events: Event) -> None:
        for event in events:
            self.gates.pop(event.id).set()

    async def handle(self, event: Event) -> Sequence[Effect]:
        assert event.id not in self.running
        self.handled.append(event.id)
        self.attempts[event.id] = event.attempt
        self.running.add(event.id)
        self.most = max(self.most, len(self.running))
        try:
            if event.id in self.gates:
                await self.gates[event.id].wait()
            return await self.handler(event) if self.handler is not None else ()
        finally:
            self.running.discard(event.id)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - turns of the loop, of which there are few
                await asyncio.sleep(0)

    async def idle(self) -> None:
        async with asyncio.timeout(30):
            await self.loop.idle()


@asynccontextmanager
async def working(**options: object) -> AsyncIterator[Work]:
    work = Work(**options)  # type: ignore[arg-type]
    task = asyncio.create_task(work.loop.run())
    try:
        yield work
        work.loop.drain()
        async with asyncio.timeout(5):
            await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def ids(*events: Event) -> list[str]:
    return [event.id for event in events]


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
    assert work.store.commits[-1] == (Postpone(1, work.clock.now()),)


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


# --- timers


async def test_a_timer_fires_at_its_moment_in_the_order_of_its_chat() -> None:
    async with working() as work:
        due = work.clock.now() + MINUTE
        await work.store.commit(PutTimer(timer("t", due)))
        await work.idle()
        work.hold(message(1))
        work.add(message(1))
        await work.until(lambda: work.running)
        work.clock.advance(MINUTE - timedelta(seconds=1))
        assert work.store.timers
        work.clock.advance(timedelta(seconds=1))
        await work.until(lambda: not work.store.timers)
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.handled == ids(message(1))
        work.open(message(1))
        await work.idle()
        assert work.handled[1:] == [f"timer/t/{due.isoformat()}"]


async def test_what_is_overdue_at_the_start_fires_once_the_earliest_first() -> None:
    seen = list[Event]()

    async def handle(event: Event) -> Sequence[Effect]:
        seen.append(event)
        return ()

    store, clock = FakeStore(), FakeClock()
    ago = [clock.now() - timedelta(days=days) for days in (1, 3, 2)]
    store.timers = {f"t{number}": timer(f"t{number}", due) for number, due in enumerate(ago)}
    async with working(store=store, clock=clock, handler=handle) as work:
        await work.idle()
    assert all(isinstance(event, TimerDue) for event in seen)
    assert [event.timer for event in seen if isinstance(event, TimerDue)] == ["t1", "t2", "t0"]
    first = seen[0]
    assert isinstance(first, TimerDue)
    assert (first.due, first.received_at, first.document) == (ago[1], clock.now(), '{"n":1}')
    assert (first.user_id, first.dialog, first.timer_kind) == ("u1", "d1", "reminder")
    assert first.chat is not None
    assert first.chat.text == "conversations/c1"


async def test_many_timers_fire_at_once() -> None:
    store, clock = FakeStore(), FakeClock()
    store.timers = {f"t{one}": TimerRecord(f"t{one}", clock.now()) for one in range(1000)}
    async with working(store=store, clock=clock) as work:
        await work.idle()
        assert len(work.handled) == len(set(work.handled)) == 1000


async def test_a_timer_that_follows_is_set_in_the_same_transaction() -> None:
    def again(one: TimerRecord, now: datetime) -> TimerRecord | None:
        return evolve(one, due=now + MINUTE)

    work = Work()
    work.loop = WorkLoop(work.store, work.events, work.handle, work.clock, again=again)
    await work.store.commit(PutTimer(timer("t", work.clock.now())))
    task = asyncio.create_task(work.loop.run())
    await work.idle()
    (fired,) = (one for some in work.store.commits for one in some if isinstance(one, Fire))
    assert fired.again == timer("t", work.clock.now() + MINUTE)
    work.clock.advance(MINUTE)
    await work.idle()
    assert len(work.handled) == 2
    work.loop.drain()
    await task


async def test_a_handlers_timer_fires_though_a_later_one_was_waited_for() -> None:
    async def handle(event: Event) -> Sequence[Effect]:
        if isinstance(event, TimerDue):
            return ()
        return [PutTimer(timer("early", work.clock.now() + MINUTE))]

    async with working() as work:
        work.handler = handle
        await work.store.commit(PutTimer(timer("late", work.clock.now() + 9 * MINUTE)))
        await work.idle()
        work.add(message(1))
        await work.idle()
        work.clock.advance(MINUTE)
        await work.idle()
        assert work.handled[-1].startswith("timer/early/")


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
