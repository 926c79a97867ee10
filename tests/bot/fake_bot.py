"""A bot without dialogs, on a real stream of events; those that run, watch and test it see a bot."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from attrs import define, evolve, field

from healthmsg.bot.store.records import DialogRecord, ParkedEvent
from healthmsg.bot.surface import (
    BotStats,
    DialogProblem,
    DialogRequest,
    Handled,
    Scheduled,
    Seams,
    StartedDialog,
    StoredDialogs,
)
from healthmsg.bulk.journal import JournalMessage
from healthmsg.client import Client
from healthmsg.events import Event, MessageCreated
from healthmsg.gateway.stream import Events, EventsState
from healthmsg.json_text import JSONObject


def set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@define(eq=False, slots=False)
class SilentBot:
    """A bot without a service: it notes what it is asked for."""

    alive: bool = True
    ready: bool = True
    started_at: datetime = datetime(2026, 3, 2, 9, tzinfo=UTC)
    failure: Exception | None = None
    """What is raised by what is asked for."""
    asked: list[object] = field(factory=list)
    parked_events: list[ParkedEvent] = field(factory=list)
    problems: list[DialogProblem] = field(factory=list)
    opened: bool = False
    watchers: list[Callable[[Handled], object]] = field(factory=list)
    ended: asyncio.Event = field(factory=asyncio.Event)
    is_idle: asyncio.Event = field(factory=asyncio.Event)
    schedules: dict[str, Scheduled] = field(factory=dict)
    begins_at_once: bool = True
    records: list[DialogRecord] = field(factory=list)
    has_store: asyncio.Event = field(factory=set_event)
    store_id: str = "5107e"

    async def __aenter__(self) -> Self:
        self.opened = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.opened = False

    async def run(self, *, signals: bool = True) -> None:
        self.asked.append(("run", signals))
        await self.ended.wait()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        self.asked.append("stop")
        self.ended.set()

    async def stop_when_idle(self) -> None:
        self.asked.append("stop when idle")
        await self.is_idle.wait()
        self.stop()

    async def idle(self) -> None:
        await self.is_idle.wait()

    @property
    def is_alive(self) -> bool:
        return self.alive

    @property
    def is_ready(self) -> bool:
        return self.ready

    async def stats(self) -> BotStats:
        self._note("stats")
        return BotStats(store=self.store_id, state="live", started_at=self.started_at, handled=3)

    def watch(self, on_handled: Callable[[Handled], object]) -> None:
        self.watchers.append(on_handled)

    @property
    def stands_by(self) -> bool:
        return not self.has_store.is_set()

    async def begun(self) -> None:
        await self.has_store.wait()

    async def start_dialog(self, request: DialogRequest) -> StartedDialog:
        self._note(request)
        return StartedDialog("d1", self.begins_at_once)

    async def dialog(self, dialog_id: str) -> DialogRecord | None:
        return next((one for one in self.records if one.id == dialog_id), None)

    async def end_dialog(self, dialog_id: str) -> bool:
        self._note(("end", dialog_id))
        return dialog_id == "d1"

    async def take_back_dialog(self, dialog_id: str) -> bool:
        self._note(("take back", dialog_id))
        return dialog_id == "d1"

    async def schedule(
        self,
        request: DialogRequest,
        schedule: JSONObject,
        *,
        schedule_id: str | None = None,
        replace: bool = False,
    ) -> Scheduled:
        self._note((request, schedule) if schedule_id is None else (request, schedule, schedule_id, replace))
        made = Scheduled(schedule_id or "s1", request, schedule, datetime(2026, 3, 3, 7, tzinfo=UTC))
        self.schedules[made.id] = made
        return made

    async def scheduled(self, schedule_id: str) -> Scheduled | None:
        return self.schedules.get(schedule_id)

    async def unschedule(self, schedule_id: str) -> bool:
        return self.schedules.pop(schedule_id, None) is not None

    async def parked(self) -> Sequence[ParkedEvent]:
        return self.parked_events

    async def retry(self, sequence: int | None) -> int:
        self._note(("retry", sequence))
        wanted = [one for one in self.parked_events if sequence in {None, one.sequence}]
        self.parked_events = [one for one in self.parked_events if one not in wanted]
        return len(wanted)

    async def open_dialogs(self) -> Sequence[DialogRecord]:
        return []

    async def unknown_replies(self) -> Sequence[JournalMessage]:
        return []

    async def check(self, store: StoredDialogs) -> Sequence[DialogProblem]:
        self.asked.append(("check", len(await store.dialogs())))
        return self.problems

    def _note(self, asked: object) -> None:
        self.asked.append(asked)
        if self.failure is not None:
            raise self.failure


Replies = Callable[["FakeBot", Event], Awaitable[object]]


@define(eq=False)
class FakeBot(SilentBot):
    """A bot that handles one event after another, each of them at least once."""

    client: Client = field(kw_only=True)
    store: Path = field(kw_only=True)
    seams: Seams = field(kw_only=True)
    handle: Replies = field(kw_only=True)
    memory: dict[str, object] = field(kw_only=True)
    """Of the test, and of all lives of the bot."""
    _events: Events = field(init=False)
    _waits: bool = field(default=False, init=False)
    """For an event to come."""
    _reading: "asyncio.Task[None] | None" = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        self._events = self.client.events(store=self.store, settle=self.seams.settle or 0.0)
        await self._events.__aenter__()
        wait = self._events._wait

        async def note_waiting() -> None:
            self._waits = not self._events._arrived.is_set()
            try:
                await wait()
            finally:
                self._waits = False

        self._events._wait = note_waiting  # type: ignore[method-assign]
        self.opened = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._events.__aexit__(None, None, None)
        self.opened = False

    async def run(self, *, signals: bool = True) -> None:
        self.asked.append(("run", signals))
        self._reading = asyncio.ensure_future(self._read())
        stopping = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait([self._reading, stopping], return_when=asyncio.FIRST_COMPLETED)
            if self._reading.done():
                self._reading.result()
        finally:
            for task in (self._reading, stopping):
                task.cancel()
            await asyncio.gather(self._reading, stopping, return_exceptions=True)

    async def _read(self) -> None:
        async for event in self._events:
            ended = evolve(
                Handled(self.now(), event.id, event.kind, getattr(event, "chat", None), "", 0.0, "ignored"),
                attempt=event.attempt,
            )
            if not event.is_own:
                await self.handle(self, event)
                ended = evolve(ended, handler="handle", ended="done")
            for watcher in self.watchers:
                watcher(ended)
            if not event.is_own:
                self.step(f"handled {event.id}")

    def now(self) -> datetime:
        assert self.seams.clock is not None
        return self.seams.clock.now()

    def step(self, step: str) -> None:
        if self.seams.on_step is not None:
            self.seams.on_step(step)

    async def reply(self, event: Event, body: str) -> None:
        """Send once, whatever happens after that."""
        assert isinstance(event, MessageCreated)
        key = f"{event.id} {body}"
        if key not in self.memory:
            self.memory[key] = (await self.client.conversations(event.chat.id).send(body)).id
            self.step(f"sent {key}")

    async def wait_until(self, moment: datetime) -> None:
        assert self.seams.clock is not None
        await self.seams.clock.wait(moment, asyncio.Event())

    @property
    def is_ready(self) -> bool:
        return self.opened and self._events.state in {EventsState.LIVE, EventsState.CATCHING_UP}

    async def idle(self) -> None:
        while not self._is_idle():  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.001)

    def _is_idle(self) -> bool:
        if not self.opened or not self._waits:
            return False
        return self._events._written.is_set() and not self._events._arrived.is_set()


def maker(handle: Replies, memory: Mapping[str, object] | None = None) -> Callable[..., FakeBot]:
    """Return what makes such bots, each with the memory of the ones before."""
    shared = dict(memory or {})

    def make(client: Client, store: Path, seams: Seams) -> FakeBot:
        return FakeBot(client=client, store=store, seams=seams, handle=handle, memory=shared)

    return make
