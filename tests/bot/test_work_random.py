"""Random schedules of events, failures, timers and kills: nothing is lost, done twice or out of order."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from attrs import define, evolve, field

from healthmsg.bot.queues import MOST
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.store.effects import Effect, Finish, Postpone, PutTimer, Unpark
from healthmsg.bot.store.records import TimerRecord
from healthmsg.bot.work import WorkLoop
from healthmsg.errors import JournalError
from healthmsg.events import Event, MessageCreated, TimerDue
from healthmsg.gateway.inbox.event_rows import chat_of
from tests.bot.fakes import FakeClock, FakeEvents, FakeStore
from tests.gateway.inbox.inboxes import message

SECOND = timedelta(seconds=1)


class MortalStore(FakeStore):
    """Fails once the process is dead, as if nothing it asks for ever arrived."""

    is_dead: bool = False

    async def commit(self, *changes: Effect) -> None:
        if self.is_dead:
            raise JournalError("dead")
        await super().commit(*changes)

    def revive(self) -> None:
        """Do what a start does: what was running waits again, and has crashed once more."""
        self.is_dead = False
        for sequence in self.running:
            self.events[sequence] = evolve(self.events[sequence], crashes=self.events[sequence].crashes + 1)
        self.running.clear()


@define(eq=False)
class World:
    draw: Random
    store: MortalStore = field(factory=MortalStore)
    events: FakeEvents = field(factory=FakeEvents)
    clock: FakeClock = field(factory=FakeClock)
    number: int = 0
    entered: list[MessageCreated] = field(factory=list)
    timers: int = 0
    running: dict[str, str] = field(factory=dict)
    """Which event each chat is busy with."""
    most_held: int = 0
    loop: WorkLoop | None = None

    def say(self) -> None:
        for _ in range(self.draw.choice([1, 1, 1, 5, 40])):
            self.number += 1
            event = message(self.number, f"c{self.draw.randrange(self.draw.choice([1, 4, 90]))}")
            self.entered.append(event)
            self.store.add(event)
        self.events.say()

    async def handle(self, event: Event) -> Sequence[Effect]:
        assert self.loop is not None
        assert isinstance(event, MessageCreated | TimerDue)
        assert event.chat is not None
        chat, luck = event.chat.text, self.draw.random()
        assert chat not in self.running, "two events of a chat at once"
        self.running[chat] = event.id
        self.most_held = max(self.most_held, self.loop._queues.held)
        try:
            for _ in range(self.draw.choice([0, 0, 1, 5])):
                await asyncio.sleep(0)
        finally:
            del self.running[chat]
        if luck < 0.1:
            raise RetryLater(self.draw.choice([0, 1, 3]) * SECOND)
        if luck < 0.15:
            raise ParkThis("x")
        if luck < 0.2:
            self.timers += 1
            due = self.clock.now() + self.draw.choice([0, 1, 5]) * SECOND
            return [PutTimer(TimerRecord(f"t{self.timers}", due, chat))]
        return ()

    async def live(self, seconds: int) -> None:
        """Run a process, and let it die, or drain it."""
        self.store.revive()
        self.running.clear()
        self.loop = WorkLoop(self.store, self.events, self.handle, self.clock, chats_at_once=8)
        running = asyncio.create_task(self.loop.run())
        for _ in range(seconds):
            if self.draw.random() < 0.5:
                self.say()
            if self.store.parked_events and self.draw.random() < 0.3:
                await self.store.commit(Unpark(self.draw.choice([*self.store.parked_events])))
            if self.draw.random() < 0.3:
                await self.loop.idle()
            for _ in range(self.draw.randrange(30)):
                await asyncio.sleep(0)
            self.clock.advance(SECOND)
        if self.draw.random() < 0.3:
            self.loop.drain()
            await running
            assert not self.store.running
            return
        self.store.is_dead = True
        running.cancel()
        with suppress(asyncio.CancelledError, JournalError):
            await running

    async def finish(self) -> None:
        """Run a last process until all is done."""
        self.draw = Random(0)  # noqa: S311 - schedules are no secrets
        self.store.revive()
        self.loop = WorkLoop(self.store, self.events, self.handle, self.clock)
        running = asyncio.create_task(self.loop.run())
        while self.store.events or self.store.parked_events or self.store.timers:
            for sequence in [*self.store.parked_events]:
                await self.store.commit(Unpark(sequence))
            await self.loop.idle()
            self.clock.advance(SECOND)
        self.loop.drain()
        await running


@pytest.mark.parametrize("seed", range(40))
async def test_nothing_is_lost_handled_twice_or_out_of_order(seed: int) -> None:
    world = World(Random(seed))  # noqa: S311 - schedules are no secrets
    sequences = dict[int, Event]()
    add = world.store.add

    def noted(event: Event) -> int:
        sequence = add(event)
        sequences[sequence] = event
        return sequence

    world.store.add = noted  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        for _ in range(6):
            await world.live(20)
        await world.finish()
    effects = [one for some in world.store.commits for one in some]
    finished = [one.sequence for one in effects if isinstance(one, Finish)]
    ended = [sequences[one].id for one in finished]
    timers = sum(isinstance(one, PutTimer) for one in effects)
    assert len(ended) == len(set(ended))
    assert {event.id for event in world.entered} <= set(ended)
    assert len(ended) == len(world.entered) + timers
    assert world.most_held <= MOST
    # By sequence, since what was parked waits again behind the others.
    by_chat = dict[str, list[int]]()
    for one in finished:
        by_chat.setdefault(chat_of(sequences[one]), []).append(one)
    for of_chat in by_chat.values():
        assert of_chat == sorted(of_chat)
    assert any(isinstance(one, Postpone) for one in effects)
