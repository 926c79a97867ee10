"""What a bot's parts stand on, without a database, a service or the time of day."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import define, evolve, field

from healthmsg.bot.content import Content
from healthmsg.bot.store import effects
from healthmsg.bot.store.effects import Effect, Watchers
from healthmsg.bot.store.records import (
    TIMERS_OF_STEPS,
    DialogRecord,
    ParkedEvent,
    StepRecord,
    TimerRecord,
    Waiting,
)
from healthmsg.errors import CallError, DeliveryUnknownError, ReplyNotSentError
from healthmsg.events import Event
from healthmsg.gateway.inbox.event_rows import chat_of
from healthmsg.ids import ChatAddress
from healthmsg.models import SentMessage


@define(eq=False)
class FakeClock:
    """A time of day that goes on when a test says so."""

    moment: datetime = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    _moved: asyncio.Event = field(factory=asyncio.Event, init=False)

    def now(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait(self, until: datetime | None, changed: asyncio.Event) -> None:
        before = self.moment
        while not changed.is_set() and (until is None or before <= self.moment < until):
            before = self.moment
            waits = [asyncio.ensure_future(one.wait()) for one in (changed, self._moved)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()


@define(eq=False)
class FakeStore:
    """A bot's store in memory. Each commit is all or nothing, and is noted in `commits`."""

    events: dict[int, Waiting] = field(factory=dict)
    running: set[int] = field(factory=set)
    parked_events: dict[int, ParkedEvent] = field(factory=dict)
    dialog_records: dict[str, DialogRecord] = field(factory=dict)
    step_records: dict[tuple[str, int], StepRecord] = field(factory=dict)
    timers: dict[str, TimerRecord] = field(factory=dict)
    ended_dialogs: set[str] = field(factory=set)
    commits: list[tuple[Effect, ...]] = field(factory=list)
    watchers: Watchers = field(factory=Watchers)
    _last: int = 0

    @property
    def newest(self) -> int:
        return self._last

    def add(self, event: Event) -> int:
        """Have an event wait."""
        self._last += 1
        self.events[self._last] = Waiting(self._last, event)
        return self._last

    def event_key(self, event_id: str) -> str:
        return f"key-of-{event_id}"

    async def commit(self, *changes: Effect) -> None:
        await asyncio.sleep(0)
        self.commits.append(changes)
        for one in changes:
            self._apply(one)
        self.watchers.note(changes)

    async def waiting(
        self, after: int, most: int, *, chat: str | None = None, until: int = 2**62
    ) -> list[Waiting]:
        await asyncio.sleep(0)
        found = [one for number, one in self.events.items() if after < number <= until]
        return [
            one for one in found if one.sequence not in self.running and chat in {None, chat_of(one.event)}
        ][:most]

    async def crashed(self) -> list[Waiting]:
        return [one for one in await self.waiting(0, 1000) if one.crashes]

    async def parked(self) -> list[ParkedEvent]:
        return list(self.parked_events.values())

    async def unpark(self, sequence: int | None = None) -> int:
        wanted = [one for one in self.parked_events if sequence in {None, one}]
        await self.commit(*map(effects.Unpark, wanted))
        return len(wanted)

    async def parked_reasons(self) -> list[tuple[int, str]]:
        return [(one.sequence, one.reason) for one in self.parked_events.values()]

    async def dialogs(self) -> list[DialogRecord]:
        return list(self.dialog_records.values())

    async def dialog(self, chat: str, user: str) -> DialogRecord | None:
        found = (one for one in self.dialog_records.values() if (one.chat, one.user) == (chat, user))
        return next(found, None)

    async def dialog_of(self, dialog: str) -> DialogRecord | None:
        return self.dialog_records.get(dialog)

    async def has_ended(self, dialog: str) -> bool:
        return dialog in self.ended_dialogs

    async def steps(self, dialog: str) -> list[StepRecord]:
        return [step for (owner, _), step in sorted(self.step_records.items()) if owner == dialog]

    async def due(self, now: datetime, most: int) -> list[TimerRecord]:
        return sorted((one for one in self.timers.values() if one.due <= now), key=lambda one: one.due)[:most]

    async def next_due(self) -> datetime | None:
        return min((one.due for one in self.timers.values()), default=None)

    def _apply(self, one: Effect) -> None:  # noqa: C901, PLR0912 - one case for each effect
        match one:
            case effects.Begin(sequence):
                waiting = self.events[sequence]
                self.events[sequence] = evolve(
                    waiting, event=evolve(waiting.event, attempt=waiting.event.attempt + 1)
                )
                self.running.add(sequence)
            case effects.Finish(sequence):
                self.events.pop(sequence, None)
                self.running.discard(sequence)
            case effects.Postpone(sequence, not_before):
                self.events[sequence] = evolve(self.events[sequence], not_before=not_before)
                self.running.discard(sequence)
            case effects.Park(sequence, reason):
                event = self.events.pop(sequence).event
                self.running.discard(sequence)
                self.parked_events[sequence] = ParkedEvent(sequence, event, reason, datetime.now(UTC))
            case effects.Unpark(sequence):
                self.add(evolve(self.parked_events.pop(sequence).event, attempt=1))
            case effects.PutDialog(dialog):
                self.dialog_records[dialog.id] = dialog
            case effects.CloseDialog(dialog_id):
                self.ended_dialogs.add(dialog_id)
                self.dialog_records.pop(dialog_id, None)
                self._forget(dialog_id, 0)
                self._cancel(dialog_id)
            case effects.PutStep(step):
                self.step_records[step.dialog, step.number] = step
            case effects.ForgetSteps(dialog_id, number):
                self._forget(dialog_id, number)
            case effects.PutTimer(timer):
                self.timers[timer.id] = timer
            case effects.MoveTimer(timer_id, due, to):
                if timer_id in self.timers and self.timers[timer_id].due == due:
                    self.timers[timer_id] = evolve(self.timers[timer_id], due=to)
            case effects.CancelTimer(timer_id):
                self.timers.pop(timer_id, None)
            case effects.CancelTimers(dialog_id):
                self._cancel(dialog_id, TIMERS_OF_STEPS)
            case effects.Fire(timer_id, event, again):
                if self.timers.pop(timer_id, None) is not None:
                    self.add(event)
                if again is not None:
                    self.timers[again.id] = again

    def _forget(self, dialog: str, number: int) -> None:
        for owner, step in [*self.step_records]:
            if owner == dialog and step >= number:
                del self.step_records[owner, step]

    def _cancel(self, dialog: str, kinds: Sequence[str] | None = None) -> None:
        for one in [timer for timer in self.timers.values() if timer.dialog == dialog]:
            if kinds is None or one.kind in kinds:
                del self.timers[one.id]


@define(eq=False)
class FakeEvents:
    """A stream that goes on until `ended` is set. What is durable is in the store."""

    arrived: asyncio.Event = field(factory=asyncio.Event)
    is_prepared: bool = True
    is_written: bool = True
    passing: list[Event] = field(factory=list)
    handed_out: int = 0
    ended: Exception | None = None

    def say(self) -> None:
        """Have something arrived."""
        self.arrived.set()

    def require_going_on(self) -> None:
        if self.ended is not None:
            raise self.ended

    def take_passing(self) -> list[Event]:
        taken, self.passing = self.passing, []
        return taken

    def note_handed_out(self, count: int) -> None:
        self.handed_out += count


@define(eq=False)
class FakeOutbox:
    """Sends nothing, and knows what was sent: each key once."""

    sent: dict[str, tuple[ChatAddress, Content]] = field(factory=dict)
    requests: dict[str, tuple[ChatAddress, str, str]] = field(factory=dict)
    asked: list[str] = field(factory=list)
    """Every key that was asked for, in order, also again."""
    failures: list[Exception] = field(factory=list)
    """What the next new ones fail with."""
    unknown: dict[str, Exception] = field(factory=dict)
    """Of which it is not known whether they arrived."""
    refused: set[str] = field(factory=set)
    """Those that were certainly not sent."""

    async def is_unknown(self, key: str) -> bool:
        return key in self.unknown

    async def send(
        self, key: str, chat: ChatAddress, content: Content, *, retry_refused: bool = False
    ) -> SentMessage:
        await asyncio.sleep(0)
        self.asked.append(key)
        if key not in self.sent:
            if key in self.unknown:
                raise self.unknown[key]
            if key in self.refused and not retry_refused:
                raise ReplyNotSentError("This reply was not sent.")
            if self.failures:
                failure = self.failures.pop(0)
                if isinstance(failure, DeliveryUnknownError):
                    self.unknown[key] = failure
                elif isinstance(failure, CallError):
                    self.refused.add(key)
                raise failure
            self.sent[key] = chat, content
        return SentMessage(self.id_of(key))

    def id_of(self, key: str) -> str:
        return f"message-of-{key}"

    def bodies(self, chat: ChatAddress | None = None) -> Sequence[str]:
        return [content.body for to, content in self.sent.values() if chat in {None, to}]
