"""A bot that runs: its parts, put together, and what becomes of each event."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal

from healthmsg.aio import on_signals, start
from healthmsg.bot.campaigns import Campaigns
from healthmsg.bot.clock import BotClock
from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.asking import word_of
from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dialogs.journal import open_question
from healthmsg.bot.dialogs.orders import not_begun
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.outbox import Outbox
from healthmsg.bot.places import Places
from healthmsg.bot.scheduling import Schedules
from healthmsg.bot.scope import Scope, Services
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.bot.store.effects import Effect
from healthmsg.bot.store.records import DialogRecord
from healthmsg.bot.store.store import BotStore
from healthmsg.bot.surface import BotStats, Handled, HowItEnded, Seams, step_of
from healthmsg.bot.targets import Target
from healthmsg.bot.timetable import ASKED_FOR, IN_CODE, Job, Timetable, brought_forward, following, job_of
from healthmsg.bot.watchdog import Watchdog
from healthmsg.bot.within import CURRENT
from healthmsg.bot.work import WorkLoop
from healthmsg.bulk.reconcile import SETTLE as REPLY_SETTLE
from healthmsg.bulk.reconcile import my_id
from healthmsg.client import Client
from healthmsg.errors import (
    BadRequestError,
    CallError,
    DialogOpenError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)
from healthmsg.events import Event, MessageCreated, TimerDue
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.catch_up import SETTLE
from healthmsg.gateway.inbox.event_rows import of_attempt
from healthmsg.gateway.opening import events_over
from healthmsg.gateway.source import EventSource
from healthmsg.gateway.stream import EventsState
from healthmsg.ids import ChatAddress
from healthmsg.log import class_name, log
from healthmsg.models import IdentityProvider, SentMessage, Verification

_AGAIN: Final = timedelta(seconds=30)
_NOT_BEGUN: Final = "the scheduled dialog %(name)s has not begun: another one is open for its chat and user"
_AWAY_FOR: Final = 5.0
"""Seconds for which a bot that is to end waits for a service that is away."""


class Running:
    """The parts of a bot that was entered. `run` runs once."""

    def __init__(  # noqa: PLR0913 - its parts, by keyword
        self,
        client: Client,
        store: BotStore,
        clock: BotClock,
        *,
        bot: object,
        campaigns: Campaigns,
        subscribe: Literal["active", "all", "none"],
        seams: Seams,
        on_handled: Callable[[Handled], object],
    ) -> None:
        self.client: Client = client
        self.store: BotStore = store
        self.places: Places = Places(client)
        self._clock = clock
        self._bot, self._campaigns, self._seams, self._on_handled = bot, campaigns, seams, on_handled
        self._started_at = clock.now()
        self._events = events_over(
            client._parts,  # noqa: SLF001 - as its other parts see it
            store.inbox,
            subscribe=subscribe,
            settle=SETTLE if seams.settle is None else seams.settle,
            backoff=_backoff(seams.reconnect),
        )
        self._source = EventSource(self._events)
        settle = REPLY_SETTLE if seams.settle is None else seams.settle
        self.outbox: Outbox = Outbox.of(client, store.journal, settle=settle)
        self._events.on_own_message = self.outbox.heard
        self._replies = self._watched(seams.on_step)
        self._loop = self._work_loop()
        self._engine: DialogEngine | None = None
        self._make_engine: Callable[[str], DialogEngine]
        self._dispatcher: Dispatcher
        self._timetable: Timetable
        self._services: Services | None = None
        self._waits: dict[str, int] = {}  # how often these events were begun, and their handlers were not
        self._is_running = False
        self._draining, self._prepared = asyncio.Event(), asyncio.Event()

    def _work_loop(self) -> WorkLoop:
        return WorkLoop(
            *(self.store, self._source, self._handle, self._clock),
            again=following,
            set_back=self._bring_forward,
            longest=lambda: self._dispatcher.longest_wait,
            most_crashes=self._seams.most_crashes,
            origins=lambda: self._dispatcher.origins,
            undo=self._undo,
        )

    def _watched(self, on_step: Callable[[str], object] | None) -> "Outbox | _Stepping":
        if on_step is None:
            return self.outbox
        self.store.watchers.add(lambda effects: on_step(step_of(effects)))
        return _Stepping(self.outbox, on_step)

    @property
    def replies(self) -> "Outbox | _Stepping":
        """What handlers and dialogs reply through."""
        return self._replies

    @property
    def schedules(self) -> Schedules:
        """What is set while it runs."""
        return Schedules(self.store, self.places, self._clock)

    @property
    def engine(self) -> DialogEngine:
        """The bot's dialogs.

        Raises:
            InvalidInputError: the bot has not begun: another process has the store, or it has not connected.
        """
        if self._engine is None:
            raise InvalidInputError("the bot has not begun yet: wait until it is ready. Nothing was done.")
        return self._engine

    def set_up(
        self, dispatcher: Dispatcher, make_engine: Callable[[str], DialogEngine], timetable: Timetable
    ) -> None:
        """Take the parts that were made of the author's code; an engine needs the id of the bot's user."""
        self._dispatcher, self._make_engine, self._timetable = dispatcher, make_engine, timetable

    # --- from the beginning to the end

    async def run(self) -> None:
        """Work until drained; see `Bot.run`."""
        self._is_running = True
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._events)
                stack.push_async_callback(self._campaigns.close)
                if await self._is_prepared():
                    stack.push_async_callback(self.outbox.close)
                    await self._begin(stack)
                    await stack.enter_async_context(Watchdog(self._dispatcher.origins))
                ending = start(self._end_though_away())
                stack.push_async_callback(_cancelled, ending)
                await self._loop.run()
                if self.outbox.failure is not None:
                    raise self.outbox.failure
        finally:
            self._is_running = False

    async def _is_prepared(self) -> bool:
        """Wait until this process has the store; return `False` if it was stopped before."""
        preparing, stopped = start(self._source.prepared()), start(self._stopped())
        try:
            await asyncio.wait([preparing, stopped], return_when=asyncio.FIRST_COMPLETED)
            if preparing.done():
                preparing.result()
                self._prepared.set()
            return preparing.done()
        finally:
            await _cancelled(preparing)
            await _cancelled(stopped)

    async def begun(self) -> None:
        """Wait until this process has the store."""
        await self._prepared.wait()

    async def _stopped(self) -> None:
        await self._draining.wait()

    async def _begin(self, stack: AsyncExitStack) -> None:
        client, store = self.client, self.store
        me = await my_id(client._api)  # noqa: SLF001 - as above
        await self._campaigns.check(client.environment.api_url, me)
        await self.outbox.start(me)
        self.places.me = me
        self._engine = self._make_engine(me)
        stack.callback(self._engine.close)
        await self._engine.open()
        await self._bring_forward(self._clock.now())
        plan = self._timetable.plan(await store.timers(IN_CODE), self._clock.now(), store.event_key)
        if plan.effects:
            await store.commit(*plan.effects)
        for name in plan.too_late:
            log(
                logging.WARNING,
                "the schedule %(name)s was due more than an hour before the bot first had it: it is left out",
                name=name,
            )
        self._services = Services(
            client,
            self._replies,
            store,
            self._clock,
            me,
            self._engine,
            (self.outbox, self._campaigns),
            self._bot,
        )

    async def _bring_forward(self, now: datetime) -> None:
        """See to schedules whose next moment was computed while the clock was wrong."""
        timers = [*await self.store.timers(IN_CODE), *await self.store.timers(ASKED_FOR)]
        if moved := brought_forward(timers, now):
            log(
                logging.WARNING,
                "%(count)d schedules had been put off while the clock was ahead: each is due when it is next",
                count=len(moved),
            )
            await self.store.commit(*moved)

    def drain(self) -> None:
        """Begin nothing more."""
        self._draining.set()
        self._loop.drain()

    async def _end_though_away(self) -> None:
        """When the bot is to end, cancel handlers whose replies wait for a service that is away."""
        await self._draining.wait()
        loop = asyncio.get_running_loop()
        last_there = loop.time()
        while loop.time() < last_there + _AWAY_FOR:
            if self.outbox.paused_by is None:
                last_there = loop.time()
            await asyncio.sleep(_AWAY_FOR / 10)
        log(logging.WARNING, "the bot ends though the service is away: what was in hand waits in the store")
        self._loop.cut_short()

    async def idle(self) -> None:
        """Wait until there is nothing to do."""
        await self._loop.idle()

    # --- one event

    def _undo(self, event: Event) -> None:
        self.engine.undo(event)

    async def _handle(self, event: Event) -> Sequence[Effect]:
        assert self._services is not None  # noqa: S101 - the loop runs after `_begin`
        began = time.perf_counter()
        waits = self._waits.pop(event.id, 0) if self._waits else 0
        if waits:
            event = of_attempt(event, event.attempt - waits)
        scope = Scope(event, self._services, waits)
        scope.task = asyncio.current_task()
        CURRENT.set(scope)
        ended: HowItEnded | None = None
        reason = ""
        try:
            ended = "done" if await self._dispatch(scope, event) else "ignored"
        except RetryLater as later:
            ended = "again"
            if waits := waits + (not later.has_begun):
                self._waits[event.id] = waits
            raise
        except ParkThis as parked:
            ended, reason = "parked", parked.reason
            raise
        except Exception as error:
            ended, reason = "parked", class_name(error)
            raise
        finally:
            if self.outbox.failure is not None:
                self.drain()  # no reply can be sent any more
            if ended is not None:  # else it was cancelled, and comes again
                self._note(scope, ended, reason, time.perf_counter() - began)
        return scope.effects

    async def _dispatch(self, scope: Scope, event: Event) -> bool:
        silenced = None if isinstance(event, TimerDue) else self.engine.silenced(event)
        if silenced is not None and not _is_one_of(event, silenced):
            return False  # a person has this chat
        if isinstance(event, TimerDue) and event.timer_kind in {IN_CODE, ASKED_FOR}:
            try:
                job = job_of(event)
            except InvalidInputError:
                job = None
            if job is None:
                raise ParkThis("its timer was not set by a schedule of this version")
            if job.do == "handler" and not self._timetable.has_handler(job.target):
                raise ParkThis(f"the function of its schedule is no longer in the code: {job.target}")
            if job.do == "dialog":
                return await self._dispatcher.handle(scope, partial(self._start_scheduled, job))
            if job.chat is not None and job.user:
                await self._place_of(job)
        return await self._dispatcher.handle(scope)

    async def _place_of(self, job: Job) -> tuple[ChatAddress, str]:
        """Return where a job is to be done, and with which user."""
        try:
            return await self.places.of(job.chat, job.user)
        except InvalidInputError as error:
            problem = str(error)
        except (BadRequestError, ForbiddenError, NotFoundError):
            raise  # there is no such chat or user: as when a handler fails
        except CallError as error:
            raise _later(job, error) from None
        log(logging.ERROR, "the schedule %(name)s is refused: %(problem)s", name=job.name, problem=problem)
        raise ParkThis(f"the schedule {job.name}: {problem}")

    async def _start_scheduled(self, job: Job, scope: Scope) -> None:
        scope.taken_by = job.target
        chat, user = await self._place_of(job)
        try:
            await self.engine.start(scope, job.target, chat, user, (), job.answers, is_proven=True)
        except DialogOpenError as error:
            log(logging.WARNING, _NOT_BEGUN, name=job.target)
            raise ParkThis(not_begun(f"scheduled dialog {job.target}", str(error))) from None
        except CallError as error:
            raise _later(job, error) from None

    def _note(self, scope: Scope, ended: HowItEnded, reason: str, seconds: float) -> None:
        event, target = scope.event, scope.target
        handler = str(target.origin) if isinstance(target, Target) else scope.taken_by
        chat = getattr(event, "chat", None)
        self._on_handled(
            Handled(
                *(self._clock.now(), event.id, event.kind, chat, handler, seconds, ended, event.attempt),
                reason=reason,
                is_own=event.is_own,
            )
        )

    # --- who

    async def identities(self, user_id: str) -> tuple[Sequence[IdentityProvider], Sequence[Verification]]:
        """Return with what a user can still be verified, and with what they are."""
        users = self.client.users
        return await users.providers(user_id), await users.verifications(user_id)

    # --- what it says of itself

    @property
    def state(self) -> str:
        """What it is doing."""
        return "draining" if self._draining.is_set() and self._is_running else self._events.state.value

    @property
    def stands_by(self) -> bool:
        """Whether another process has the store, and this one waits for it."""
        return self._events.state is EventsState.STANDING_BY and not self._prepared.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether its tasks run, and its store and outbox have not failed."""
        return self._is_running and not self.store.writer.has_failed and self.outbox.failure is None

    @property
    def is_ready(self) -> bool:
        """Whether it is connected or catches up, and can write."""
        is_there = self._events.state in {EventsState.LIVE, EventsState.CATCHING_UP}
        return self.is_alive and is_there and self._services is not None

    async def stats(self) -> BotStats:
        """Return the figures."""
        counters, dialogs = self._loop.counters, await self.store.dialogs()
        unknown = {row.key for row in await self.outbox.unknown()}
        return BotStats(
            store=self.store.identity,
            state=self.state,
            started_at=self._started_at,
            connected_since=self._events.connected_since,
            handled=counters.finished,
            again=counters.postponed,
            in_hand=self._loop.running,
            waiting=await self.store.inbox.waiting(),
            parked=await self.store.count_parked(),
            open_dialogs=sum(one.state == "open" for one in dialogs),
            held_dialogs=sum(one.state == "held" for one in dialogs),
            unasked_dialogs=await self._count_unasked(dialogs, unknown),
            unknown_replies=len(unknown),
            unreadable_journals=self._campaigns.unreadable,
            behind=self._events.behind,
        )

    async def _count_unasked(self, dialogs: Sequence[DialogRecord], unknown: set[str]) -> int:
        """Count the open dialogs that wait at one of these questions."""
        in_doubt = {key.split("/")[1] for key in unknown if key.startswith("dialog/")}
        wait = [one for one in dialogs if one.state == "open" and one.id in in_doubt]
        asked = [open_question(one.id, await self.store.steps(one.id)) for one in wait]
        return sum(one in unknown for one in asked)


class _Stepping:
    """An outbox that says when a reply is sent, for tests that restart after each step."""

    def __init__(self, outbox: Outbox, on_step: Callable[[str], object]) -> None:
        self._outbox, self._on_step = outbox, on_step

    async def send(
        self, key: str, chat: ChatAddress, content: Content, *, retry_refused: bool = False
    ) -> SentMessage:
        sent = await self._outbox.send(key, chat, content, retry_refused=retry_refused)
        self._on_step(f"sent {key}")
        return sent

    async def request_verification(
        self,
        key: str,
        chat: ChatAddress,
        user_id: str,
        provider: IdentityProvider,
        *,
        retry_refused: bool = False,
    ) -> SentMessage:
        sent = await self._outbox.request_verification(
            key, chat, user_id, provider, retry_refused=retry_refused
        )
        self._on_step(f"sent {key}")
        return sent

    def __getattr__(self, name: str) -> object:
        return getattr(self._outbox, name)


def _later(job: Job, error: CallError) -> RetryLater:
    """Log why a scheduled dialog waits, and return what makes it wait."""
    reason = class_name(error)
    log(logging.WARNING, "the scheduled dialog %(name)s waits: %(error)s", name=job.target, error=reason)
    return RetryLater(_AGAIN, has_begun=False)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


def _backoff(longest: float | None) -> Backoff | None:
    return None if longest is None else Backoff(lambda least, most: min(longest, max(least, most)))


def _is_one_of(event: Event, commands: frozenset[str]) -> bool:
    if not isinstance(event, MessageCreated):
        return False
    said = word_of(event).removeprefix("/")
    return any(said == command.strip().casefold().removeprefix("/") for command in commands)


@contextmanager
def ended_by_signals(stop: Callable[[], object] | None) -> Iterator[None]:
    """Within, call `stop` at the first SIGTERM or Ctrl-C; the second one ends the process at once."""
    if stop is None:
        yield
        return
    loop, seen = asyncio.get_running_loop(), list[int]()

    def on_signal(number: int) -> None:
        if seen:
            os._exit(128 + number)  # what was in hand is handled again at the next start
        seen.append(number)
        loop.call_soon_threadsafe(stop)

    with on_signals(on_signal):
        yield
