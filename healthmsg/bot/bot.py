"""A bot: what its author sets up, and what runs and watches it."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, time
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self

from healthmsg.aio import AsyncOnly
from healthmsg.bot.arguments import Provided
from healthmsg.bot.campaigns import Campaigns
from healthmsg.bot.clock import SystemClock
from healthmsg.bot.dialogs.check import Problem
from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dialogs.handlers import Dialogs
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.bot.dialogs.registration import RegisteredDialog, Resolve
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.filters import Filter
from healthmsg.bot.helping import Help
from healthmsg.bot.router import Router
from healthmsg.bot.running import Running, ended_by_signals
from healthmsg.bot.schedule import AMSTERDAM, EVERY_DAY, At, Days, Every, at, every
from healthmsg.bot.store.records import DialogRecord, ParkedEvent
from healthmsg.bot.store.store import BotStore
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
from healthmsg.bot.timetable import Job, Timetable, calls
from healthmsg.bulk.journal import JournalMessage
from healthmsg.bulk.models import JournalTarget
from healthmsg.client import Client
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject

Subscribe = Literal["active", "all", "none"]
Handler = Callable[..., Coroutine[object, object, None]]
_BEGINS_WITHIN: Final = 10.0
_RUNS: Final = "a bot that runs cannot be changed: set it up before it starts"


class Bot(AsyncOnly):
    """Answers what users say, each message once, and goes on where it was after a restart.

    Use it as `async with Bot(client, store="bot.db") as bot:` and `await bot.run()`. Without a client it
    opens one by environment variables, as `Client.from_env` does, and closes it. `store` is a file, or a
    `postgresql+asyncpg://` URL (extra `bulk` or `postgresql`). It keeps events until they are handled,
    replies, dialogs and timers. Of several bots with one database, one works and the others stand by.

    `texts` are the sentences that the bot says by itself, in Dutch unless given. `help` is the automatic help
    out of the commands; `None`: there is none. `subscribe` is as for `Client.events`.

    Raises:
        ConfigurationError: an option cannot be right; on entering it: what a handler asks for is not there,
            with file and line.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        client: Client | None = None,
        *,
        store: str | os.PathLike[str],
        texts: Texts | None = None,
        help: Help | None = Help(),  # noqa: A002, B008 - the plainest name; and it is frozen
        subscribe: Subscribe = "active",
        time_zone: str = AMSTERDAM,
        seams: Seams = Seams(),  # noqa: B008 - it is frozen
    ) -> None:
        self._given_client, self._store, self._texts = client, store, texts
        self._help, self._subscribe, self._time_zone, self._seams = help, subscribe, time_zone, seams
        self._clock = seams.clock or SystemClock()
        self._router = Router("bot")
        self._timers = Router("timers")
        self._scheduled_handlers: dict[str, Handler] = {}
        self._provided = Provided()
        self._campaigns = Campaigns()
        self._timetable = Timetable()
        self._stack = AsyncExitStack()
        self._running: Running | None = None
        self._has_started = asyncio.Event()
        self._watchers: list[Callable[[Handled], object]] = []
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"<Bot {self._running.state if self._running is not None else 'not started'}>"

    # --- setting it up

    def include(self, *routers: Router) -> None:
        """Add the handlers and dialogs of routers, after those that are there.

        Raises:
            ConfigurationError: one is there already, or is no router; or the bot runs.
        """
        self._require_not_running()
        self._router.include(*routers)

    def provide(self, *values: object, as_type: type | None = None) -> None:
        """Let handlers and dialogs ask for these by type; `as_type` is the type for a single value.

        For one that is made for each event, provide a function that `asynccontextmanager` has made.

        Raises:
            ConfigurationError: there is one of this type already; or the bot runs.
        """
        self._require_not_running()
        if as_type is not None and len(values) != 1:
            raise ConfigurationError("as_type is for one value")
        for value in values:
            self._provided.add(value, as_type)

    def campaign(self, name: str, *, journal: JournalTarget) -> None:
        """Have answers to what `send_many` sent with this journal come to `@router.answered(name)`.

        The answer has the message's key. The journal is only read; another process may send with it, and it
        need not exist yet. An answer that may be one to the campaign, and is not known, waits: for half a
        minute while the journal is not there, for two and a half while it has a question to that chat without
        a message id, for ten while it cannot be read. Then its event is parked.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        self._require_not_running()
        self._campaigns.add(name, journal)

    def at(  # noqa: PLR0913 - by keyword
        self,
        moment: datetime,
        do: Handler | RegisteredDialog[Any],
        *,
        chat: ChatAddress | str | None = None,
        user: str | None = None,
        name: str | None = None,
        answers: JSONObject | None = None,
    ) -> None:
        """Have a dialog started, or a handler called, once, at a moment.

        It is known after a restart by its name, which is made of the function's unless given. If only that
        is changed, it stays the same, and is not due again. One that was due while the bot was down is done
        at the start; the handler's `TimerDue` says when it was due. A dialog that meets an open one of its
        chat and user is parked: `healthmsg bot retry` begins it later.

        Raises:
            InvalidInputError: the moment has no time zone, or a dialog has neither chat nor user.
        """
        self._add_job(at(moment), do, chat, user, name, answers)

    def every(  # noqa: PLR0913 - by keyword
        self,
        times: str | time | Iterable[str | time],
        weekdays: Iterable[int] = EVERY_DAY,
        *,
        do: Handler | RegisteredDialog[Any],
        exclude: Iterable[Days] = (),
        tz: str = AMSTERDAM,
        chat: ChatAddress | str | None = None,
        user: str | None = None,
        name: str | None = None,
        answers: JSONObject | None = None,
    ) -> None:
        """Have a dialog started, or a handler called, again and again: `bot.every("08:30", WORKDAYS, do=…)`.

        `times`, `weekdays`, `exclude` and `tz` are as `healthmsg.bot.schedule.every` has them. However often
        it was due while the bot was down, it is done once at the start. So it is after its last run, if it
        was due again while that went on: it never runs beside itself. All else is as for `at`.

        Raises:
            InvalidInputError: one of them cannot be right, or a dialog has neither chat nor user.
        """
        self._add_job(every(times, weekdays, exclude=exclude, tz=tz), do, chat, user, name, answers)

    def _add_job(  # noqa: PLR0913, PLR0917 - what a job has
        self,
        schedule: At | Every,
        do: Handler | RegisteredDialog[Any],
        chat: ChatAddress | str | None,
        user: str | None,
        name: str | None,
        answers: JSONObject | None,
    ) -> None:
        self._require_not_running()
        address = None if chat is None else _address(chat)
        if isinstance(do, RegisteredDialog):
            job = Job(name or do.name, schedule, "dialog", do.name, address, user, answers or {})
        else:
            target = f"{do.__module__}.{getattr(do, '__qualname__', type(do).__name__)}"
            if self._scheduled_handlers.setdefault(target, do) != do:
                raise ConfigurationError(f"two scheduled functions are called {target}: rename one of them")
            self._timers.timer(None, Filter(calls(target)))(do)
            job = Job(name or target, schedule, "handler", target, address, user)
        self._timetable.add(job, is_named=name is not None)

    def watch(self, on_handled: Callable[[Handled], object]) -> None:
        """Have this called after each try of an event."""
        self._watchers.append(on_handled)

    def _require_not_running(self) -> None:
        if self._running is not None:
            raise ConfigurationError(_RUNS)

    # --- running it

    async def __aenter__(self) -> Self:
        self._require_not_running()
        try:
            client = self._given_client
            if client is None:
                client = await self._stack.enter_async_context(Client.from_env())
            store = await self._stack.enter_async_context(BotStore.open(self._store))
            self._running = await self._assembled(client, store)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what was opened; `run` has ended by then."""
        await self._stack.aclose()

    async def _assembled(self, client: Client, store: BotStore) -> Running:
        running = Running(
            client,
            store,
            self._clock,
            bot=self,
            campaigns=self._campaigns,
            subscribe=self._subscribe,
            seams=self._seams,
            on_handled=self._handled,
        )
        self._provided.add(client, Client)
        self._provided.add(self, Bot)
        self._provided.add_maker(Dialogs, lambda scope: Dialogs(running.engine, scope))
        dispatcher = Dispatcher([self._timers, self._router], self._provided, help=self._help)
        self._check_dialogs()
        running.set_up(dispatcher, partial(self._engine, store, running), self._timetable)
        return running

    def _check_dialogs(self) -> None:
        """Refuse dialogs that could never begin."""
        resolve = self._resolve(self._provided)
        bare = {job.target for job in self._timetable.jobs() if job.do == "dialog"}
        problems = [
            problem
            for dialog in self._router.all_dialogs()
            for code in dialog.codes().values()
            for problem in code.cannot_be_filled(resolve, is_bare=code.is_newest and dialog.name in bare)
        ]
        if problems:
            raise ConfigurationError("\n".join(["This bot cannot start:", *(f"- {one}" for one in problems)]))

    @staticmethod
    def _resolve(provided: Provided) -> Resolve:
        return lambda _dialog, _name, annotation: provided.value_for(annotation)

    def _engine(self, store: StoredDialogs, running: "Running | None", me: str = "") -> DialogEngine:
        # To try dialogs, the client is in no process of its own: it is asked for, and calls nothing.
        own = {} if running is not None else {Client: self._given_client or _idle_client(), Bot: self}
        provided = self._provided.beside(own)
        return DialogEngine(
            store,  # type: ignore[arg-type] # to try dialogs, no more than reading is needed
            running.replies if running is not None else None,  # type: ignore[arg-type] # as above
            self._clock,
            dialogs=self._router.all_dialogs(),
            texts=self._texts,
            resolve=self._resolve(provided),
            identities=running.identities if running is not None else None,
            places=running.places if running is not None else None,
            time_zone=self._time_zone,
            me=me,
        )

    async def run(self, *, signals: bool = True) -> None:
        """Handle events until `stop`, SIGTERM or Ctrl-C; what was begun then is finished, the rest is kept.

        A second signal ends the process at once: what was in hand is handled again at the next start. With
        `signals=False` none is waited for.

        Raises:
            ReauthorizationRequiredError: the user has to sign in again.
            JournalError: the store has failed, or another process has taken it over.
        """
        running = self._require_running()
        if self._is_stopping:
            return
        self._has_started.set()
        with ended_by_signals(self.stop if signals else None):
            await running.run()

    def stop(self) -> None:
        """Begin nothing more, and let `run` end when what was begun is finished."""
        self._is_stopping = True
        if self._running is not None:
            self._running.drain()

    async def stop_when_idle(self) -> None:
        """Wait until nothing is in hand and nothing is due, and stop then."""
        await self.idle()
        self.stop()

    async def idle(self) -> None:
        """Wait until what has been received is written, nothing is in hand, and nothing that waits is due."""
        await self._has_started.wait()
        await self._require_running().idle()

    @property
    def store_id(self) -> str:
        """The identity of the store. Two stores have two; a copy of one has the same as that."""
        return self._require_running().store.identity

    async def begun(self) -> None:
        """Wait until this process has the store: of several with one database, all others stand by."""
        await self._require_running().begun()

    def _require_running(self) -> Running:
        if self._running is None:
            raise InvalidInputError("a bot is entered with `async with` before it is used")
        return self._running

    def _handled(self, handled: Handled) -> None:
        for on_handled in self._watchers:
            on_handled(handled)

    # --- what it says of itself

    @property
    def stands_by(self) -> bool:
        """Whether another process has the store. This one takes over within 15 seconds of that one's end."""
        return self._running is not None and self._running.stands_by

    @property
    def is_alive(self) -> bool:
        """Whether it does its work: its tasks run, and its store has not failed."""
        return self._running is not None and self._running.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether it is connected or catches up, its store can be written, and it is not stopping."""
        return self._running is not None and not self._is_stopping and self._running.is_ready

    async def stats(self) -> BotStats:
        """Return its figures, as of now."""
        return await self._require_running().stats()

    async def parked(self) -> Sequence[ParkedEvent]:
        """Return all events that are left to a person."""
        return await self._require_running().store.parked()

    async def retry(self, sequence: int | None = None) -> int:
        """Take a parked event up again, or without a number all of them; return how many."""
        return await self._require_running().store.unpark(sequence)

    async def open_dialogs(self) -> Sequence[DialogRecord]:
        """Return all dialogs that have not ended."""
        return await self._require_running().store.dialogs()

    async def unknown_replies(self) -> Sequence[JournalMessage]:
        """Return the replies of which it is not known whether they arrived: they are never sent again."""
        return await self._require_running().outbox.unknown()

    async def check(self, store: StoredDialogs) -> Sequence[DialogProblem]:
        """Try the dialogs of a store against this code, without running it; return those that do not fit."""
        return [_shown(problem) for problem in await self._engine(store, None).check()]

    # --- what others have it do

    async def start_dialog(self, request: DialogRequest) -> StartedDialog:
        """Start a dialog with a user: it begins when its chat has handled what came before.

        That is waited for, for ten seconds. What is not certain by then is in `has_begun`; `dialog` says
        later what became of it.

        Raises:
            DialogOpenError: one is open for this chat and user. Nothing was begun.
            ConfigurationError: the bot has no such dialog.
            InvalidInputError: it names neither a chat nor a user, or a user who is not in that chat.
            CallError: the chat or the user could not be found out.
        """
        running = self._require_running()
        engine = running.engine
        engine.registry.require(request.dialog)
        chat, user = await running.places.of(request.chat, request.user)
        started = await engine.start_outside(request.dialog, chat, user, request.answers, _BEGINS_WITHIN)
        return StartedDialog(*started)

    async def dialog(self, dialog_id: str) -> DialogRecord | None:
        """Return a dialog by its id; `None`: it has ended, has not begun yet, or could not begin."""
        return await self._require_running().store.dialog_of(dialog_id)

    async def end_dialog(self, dialog_id: str) -> bool:
        """End a dialog, open or held, without a word; what was parked for it stays so.

        It ends when its chat has handled what came before. Return whether there is one with this id.
        """
        return await self._require_running().engine.stop_by_id(dialog_id)

    async def take_back_dialog(self, dialog_id: str) -> bool:
        """Let a dialog go on that is held or was handed over, and take up what was parked for it meanwhile.

        It goes on when its chat has handled what came before; one that still does not fit the code stays
        held. Return whether there is one with this id that is held.
        """
        return await self._require_running().engine.take_back_by_id(dialog_id)

    async def schedule(
        self,
        request: DialogRequest,
        schedule: Mapping[str, object],
        *,
        schedule_id: str | None = None,
        replace: bool = False,
    ) -> Scheduled:
        """Have a dialog started later; `schedule` is as `schedule_from_dict` reads it.

        A moment that has passed is due at once. Whether the user is in the chat is proven when it is due, and
        now if the service says so.

        In a handler it is set together with the end of the event: once, however often the event is handled,
        and not if that fails for good. Elsewhere it is set at once, and a call that is repeated needs a
        *schedule_id* of its own: if the same is set under it, or has happened, nothing is set again, and
        another one is refused, unless it is to *replace* that one. An id has letters, digits and `. _ : ~ -`,
        and says nothing of a patient. What comes back has no `due` where one with this id has happened at
        this moment already: then nothing is set, and what is to be replaced is cancelled.

        Raises:
            InvalidInputError: it will never be due, is not of that form, names neither a chat nor a user, or
                a user who is not in that chat; or its id is that of another one. Nothing was changed.
        """
        running = self._require_running()
        running.engine.registry.require(request.dialog)
        return await running.schedules.set(request, schedule, schedule_id, replace=replace)

    async def scheduled(self, schedule_id: str) -> Scheduled | None:
        """Return what `schedule` has set and has not happened; `None`: there is none with this id."""
        return await self._require_running().schedules.find(schedule_id)

    async def unschedule(self, schedule_id: str) -> bool:
        """Cancel it at once; return whether it was there, and now does not begin.

        False: there is none with this id, or it is begun already. Of a repeated one, what was due before
        this begins all the same.
        """
        return await self._require_running().schedules.cancel(schedule_id)


def _idle_client() -> Client:
    """Return a client for code that is tried: as long as it is not entered, it does nothing."""
    return Client("unused", environment=Environment("unused", "https://unused.invalid/v1"))


def _address(chat: ChatAddress | str) -> ChatAddress:
    return chat if isinstance(chat, ChatAddress) else ChatAddress.parse(chat)


def _shown(problem: Problem) -> DialogProblem:
    return DialogProblem(problem.dialog, problem.name, problem.version, problem.what, problem.result)
