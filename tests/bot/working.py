"""A work loop over fakes, and what its handler is called with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from attrs import define, field

from healthmsg.bot.signals import LONGEST
from healthmsg.bot.store.effects import (
    Effect,
)
from healthmsg.bot.work import WorkLoop
from healthmsg.events import Event, TypingStarted
from healthmsg.ids import ChatAddress
from tests.bot.fakes import FakeClock, FakeEvents, FakeStore
from tests.gateway.inbox.inboxes import NOW

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
    longest: timedelta = LONGEST
    handled: list[str] = field(factory=list)
    attempts: dict[str, int] = field(factory=dict)
    running: set[str] = field(factory=set)
    most: int = 0
    gates: dict[str, asyncio.Event] = field(factory=dict)
    """An event waits in its handler until its gate is opened."""
    loop: WorkLoop = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.loop = WorkLoop(
            *(self.store, self.events, self.handle, self.clock),
            chats_at_once=self.chats_at_once,
            longest=lambda: self.longest,
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
        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def ids(*events: Event) -> list[str]:
    return [event.id for event in events]
