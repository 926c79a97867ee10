"""Timers, which become events of their chats at their moments."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import evolve

from healthmsg.bot.store.effects import (
    Effect,
    Fire,
    PutTimer,
)
from healthmsg.bot.store.records import TimerRecord
from healthmsg.bot.work import WorkLoop
from healthmsg.events import Event, TimerDue
from tests.bot.fakes import FakeClock, FakeStore
from tests.bot.store.stores import timer
from tests.bot.working import MINUTE, Work, ids, working
from tests.gateway.inbox.inboxes import message


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
    assert (first.user_id, first.dialog, first.timer_kind) == ("u1", "d1", "remind")
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
