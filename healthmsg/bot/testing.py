"""A bot in a test: the real one, on the real sandbox, in virtual time. See the fixture `healthmsg_bot`."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing, suppress
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from shutil import copyfile
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

from attrs import define, evolve, field

from healthmsg.aio import AsyncOnly, start
from healthmsg.bot.people import Button, Group, Patient, Seen, SeenFile, Talk
from healthmsg.bot.surface import BotSurface, Handled, Seams
from healthmsg.bot.virtual_clock import START, VirtualClock
from healthmsg.client import Client
from healthmsg.errors import HealthmsgError
from healthmsg.ratelimit.limiter import RateLimit

if TYPE_CHECKING:
    from healthmsg.sandbox import Sandbox

__all__ = [
    "BotTest",
    "Button",
    "Group",
    "MakeBot",
    "Patient",
    "Seen",
    "SeenFile",
    "StartBot",
    "VirtualClock",
    "bot_maker",
]

# Seconds of real time. A bot that is not idle by then never will be,
_PATIENCE: Final = 10.0
# nor is one closed by then that was to be.
_CLOSE_WITHIN: Final = 5.0
# How often the event loop goes round before nothing is on its way any more, through sockets of this machine.
_ROUNDS: Final = 12
_FAST: Final = RateLimit(calls=100_000, per=1.0, burst=100_000)
_LONG: Final = timedelta(days=36_500)
_MOST_RESTARTS: Final = 1_000
_FILES: Final = ("", "-wal")


class StartBot(Protocol):
    """What the fixture `healthmsg_bot` is."""

    async def __call__(
        self,
        *parts: object,
        provide: Sequence[object] = (),
        restart_after_every_step: bool | None = None,
        allow_parked: bool = False,
        now: datetime = START,
        **options: Any,
    ) -> "BotTest":
        """Start a bot of these routers, or of functions that are called with each new bot, and return it.

        `provide` and `options` are those of `Bot`. `now` is the time of day at the start.
        """


class MakeBot(Protocol):
    """Makes the bot that is tested, for each start again."""

    def __call__(self, client: Client, store: Path, seams: Seams) -> BotSurface:
        """Return a bot that is not started."""


def bot_maker(*parts: object, provide: Sequence[object] = (), **options: Any) -> MakeBot:
    """Return what makes a `Bot` out of routers, and of functions that set a bot up.

    `provide` and `options` are those of `Bot`: the same objects each time it is started again.
    """

    def make(client: Client, store: Path, seams: Seams) -> BotSurface:
        bot = import_module("healthmsg.bot.bot").Bot(client, store=store, seams=seams, **options)
        if provide:
            bot.provide(*provide)
        for part in parts:
            if hasattr(part, "include") or not callable(part):
                bot.include(part)
            else:
                part(bot)
        return cast("BotSurface", bot)

    return make


@define(eq=False)
class _Life:
    """A bot from its start to its end, or its death."""

    client: Client
    bot: BotSurface
    store: Path
    task: "asyncio.Task[None] | None" = None
    is_dead: bool = False
    aborting: "asyncio.Task[None] | None" = None

    async def live(self) -> None:
        async with self.client, self.bot:
            await self.bot.run(signals=False)

    def die(self, heir: Path) -> None:
        """Stop having any effect, as a process that is killed: its store is left as it is, for the heir."""
        self.is_dead = True
        self.aborting = self.client._parts.wire.abort()  # noqa: SLF001 - no program cuts its own connections
        _copy_as_it_is(self.store, heir)
        if self.task is not None:
            self.task.cancel()

    async def end(self) -> BaseException | None:
        """Wait until nothing of it runs any more; return what it failed with, unless it is dead."""
        tasks = [task for task in (self.task, self.aborting) if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_WITHIN)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CLOSE_WITHIN)
        failed = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        return None if self.is_dead else next((error for error in failed if error is not None), None)


@define(eq=False)
class BotTest(AsyncOnly):
    """A bot and those who talk with it. Use it as `async with BotTest(bot_maker(router)) as bot_test:`.

    Time stands still, but for `advance`. With `restart_after_every_step`, the bot is killed and started again
    after each commit of its store, each reply and each event. If an event is parked, the test fails at its
    end, unless it has `allow_parked`.
    """

    _make: MakeBot = field(repr=False)
    restart_after_every_step: bool = False
    allow_parked: bool = False
    clock: VirtualClock = field(factory=VirtualClock)
    restarts: int = field(default=0, init=False)
    """How often the bot was killed and started again."""
    handled: list[Handled] = field(factory=list, init=False, repr=False)
    """The tries of events so far, of all lives of the bot."""
    _sandbox: "Sandbox | None" = field(default=None, init=False, repr=False)
    _folder: Path = field(factory=Path, init=False, repr=False)
    _life: _Life | None = field(default=None, init=False, repr=False)
    _dead: list[_Life] = field(factory=list, init=False, repr=False)
    _heir: Path | None = field(default=None, init=False, repr=False)
    _steps: set[str] = field(factory=set, init=False, repr=False)
    _stack: AsyncExitStack = field(factory=AsyncExitStack, init=False, repr=False)

    async def __aenter__(self) -> Self:
        from healthmsg.sandbox import Habits, Sandbox  # noqa: PLC0415 - aiohttp's server, only when used

        try:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            self._folder = Path(folder)
            sandbox = Sandbox(
                rate_limit=None,
                now=self.clock.now,
                sample_data=False,
                habits=Habits(textless_lag=timedelta()),
            )
            self._sandbox = await self._stack.enter_async_context(sandbox)
            self._start(self._folder / "bot-0.db")
            await self.idle()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_asked = error is None and not self.allow_parked
        left = await self._left_in_the_store() if is_asked else ()
        await self.close()
        if is_asked and (parked := [*map(_why, self.parked)] or left):
            raise AssertionError(f"{len(parked)} parked: {'; '.join(parked)}")

    async def _left_in_the_store(self) -> Sequence[str]:
        """Return why events are parked there: also one whose handler was done before the store refused it."""
        life = self._life
        if life is None or life.is_dead:
            return ()
        with suppress(HealthmsgError):  # it has ended, and its failure is raised
            return [f"{one.event.kind} ({one.reason})" for one in await life.bot.parked()]
        return ()

    async def close(self) -> None:
        """Stop the bot and the sandbox."""
        life, self._life = self._life, None
        failure = None
        try:
            if life is not None and life not in self._dead:
                life.bot.stop()
                failure = await life.end()
            for one in self._dead:
                await one.end()
        finally:
            await self._stack.aclose()
        if failure is not None:
            raise failure

    # --- what a test uses

    @property
    def sandbox(self) -> "Sandbox":
        """The service that the bot talks to, for faults, and for what no patient does."""
        assert self._sandbox is not None, "use it as `async with`"  # noqa: S101 - a test's own mistake
        return self._sandbox

    @property
    def bot(self) -> BotSurface:
        """The bot as it runs now; after each start again, it is another object."""
        assert self._life is not None, "use it as `async with`"  # noqa: S101 - as above
        return self._life.bot

    @property
    def client(self) -> Client:
        """The bot's client as it runs now."""
        assert self._life is not None, "use it as `async with`"  # noqa: S101 - as above
        return self._life.client

    @property
    def mention(self) -> str:
        """What a text has in it that addresses the bot in a group chat."""
        return f"[mention={self.sandbox.user_id}]"

    @property
    def parked(self) -> list[Handled]:
        """The tries after which an event was left to a person."""
        return [one for one in self.handled if one.ended == "parked"]

    def patient(self, first_name: str, last_name: str = "Visser", *, aux_id: str | None = None) -> Patient:
        """Add a patient, who has a conversation with the bot."""
        return self._person(first_name, self.sandbox.add_user(first_name, last_name, aux_id=aux_id))

    def colleague(self, first_name: str, last_name: str = "de Boer") -> Patient:
        """Add a professional of the bot's company, who has a conversation with it."""
        return self._person(first_name, self.sandbox.add_colleague(first_name, last_name))

    def group(self, subject: str, *members: Patient) -> Group:
        """Add a group chat of the bot and these."""
        chat = self.sandbox.add_group_chat(subject, members=[member.id for member in members])
        return Group(subject, self._talk(f"groupchats/{chat}"))

    async def advance(self, by: timedelta | None = None, **delta: float) -> None:
        """Let time go by, `hours=4` or any `timedelta`, and what is due within it happen at its moment."""
        if by is None:
            by = timedelta(**delta)
        await self.advance_to(self.clock.now() + by)

    async def advance_to(self, moment: datetime) -> None:
        """Let time go by until a moment, and what is due until then happen at its moment."""
        await self.idle()
        while (due := self.clock.next_awaited()) is not None and due <= moment:
            self.clock.move_to(due)
            await self.idle()
        self.clock.move_to(moment)
        await self.idle()

    async def kill_and_restart(self) -> None:
        """End the bot as a process that dies, with nothing released or flushed, and start it again."""
        self.kill()
        await self.idle()

    def kill(self) -> None:
        """End the bot as a process that dies; `idle`, and all that people do, starts it again."""
        life = self._life
        if life is None or life.is_dead:
            return
        self._heir = self._folder / f"bot-{self.restarts + 1}.db"
        life.die(self._heir)
        self.sandbox.gateway.drop(self.sandbox.user_id)
        self._dead.append(life)

    async def idle(self) -> None:
        """Wait until the bot has received all that was sent, and has nothing to do before time goes by.

        Raises:
            AssertionError: that does not happen within ten seconds of real time after the last start of the
                bot; or it does not get on.
            Exception: what the bot has ended with.
        """
        loop, restarts = asyncio.get_running_loop(), self.restarts
        try:
            async with asyncio.timeout(_PATIENCE) as patience:
                while not await self._is_idle():
                    if restarts != self.restarts:
                        restarts = self.restarts
                        patience.reschedule(loop.time() + _PATIENCE)
                    if self.restarts > _MOST_RESTARTS:
                        raise AssertionError("the bot does not get on: it was started again 1,000 times")
        except TimeoutError:
            pass
        else:
            return
        raise AssertionError(f"the bot was not idle within {_PATIENCE:.0f} s: {await self._state()}")

    # --- what it is made of

    async def _is_idle(self) -> bool:
        """Look once; where the bot has died, start it again."""
        life = self._life
        if life is None or life.is_dead:
            assert self._heir is not None  # noqa: S101 - it died, and left one
            self.restarts += 1
            self._start(self._heir)
            return False
        await self._first(life, life.bot.idle())
        before = self._marks(life)
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        await self._first(life, life.bot.idle())
        if life.is_dead or before != self._marks(life) or not before[0]:
            await asyncio.sleep(0 if before[0] else 0.001)
            return False
        return True

    def _marks(self, life: _Life) -> tuple[bool, object]:
        """Return whether nothing is on its way to the bot, and figures that change when something was."""
        gateway, me = self.sandbox.gateway, self.sandbox.user_id
        events = life.client.stats().events
        is_quiet = (
            life.bot.is_ready
            and gateway.connected(me) > 0
            and not gateway.waiting(me)
            and events is not None
            and not events.behind
        )
        return is_quiet, (None if events is None else events.frames, len(self.handled))

    async def _first(self, life: _Life, wait: Any) -> None:
        """Wait for this, unless the bot ends before."""
        assert life.task is not None  # noqa: S101 - it was started
        waiting = asyncio.ensure_future(wait)
        try:
            await asyncio.wait([waiting, life.task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])
        if life.is_dead:
            return
        if life.task.done():
            life.task.result()
            raise AssertionError("the bot has ended by itself")
        if not waiting.cancelled():
            waiting.result()

    def _start(self, store: Path) -> None:
        token = self.sandbox.issue_token(lifetime=_LONG)
        client = Client(token, environment=self.sandbox.environment, rate_limit=_FAST)
        seams = Seams(clock=self.clock, settle=0.0, reconnect=0.0)
        if self.restart_after_every_step:
            # An event with more steps than that is no reason to leave it to a person.
            seams = evolve(seams, most_crashes=None, on_step=partial(self._on_step, self.restarts))
        life = _Life(client, self._make(client, store, seams), store)
        life.bot.watch(self.handled.append)
        self._life = life
        life.task = start(life.live(), name="healthmsg bot under test")

    def _on_step(self, life: int, step: str) -> None:
        # Each step once: what is done again by the next life is allowed to get on. What a dead one still
        # does, until its tasks notice, was never done.
        is_alive = life == self.restarts and self._life is not None and not self._life.is_dead
        if is_alive and step not in self._steps:
            self._steps.add(step)
            self.kill()

    async def _state(self) -> str:
        life = self._life
        if life is None:
            return "it is not running"
        with suppress(Exception):
            return f"{await life.bot.stats()}; {life.client.stats().events}"
        return "it cannot say what it does"

    async def _act(self, act: Callable[[], object]) -> None:
        await self.idle()
        act()
        await self.idle()

    def _talk(self, address: str) -> Talk:
        return Talk(address, self.sandbox, self._act)

    def _person(self, name: str, user: str) -> Patient:
        chat = self.sandbox.add_conversation(user=user)
        return Patient(name, user, self._talk(f"conversations/{chat}"))


def _why(handled: Handled) -> str:
    return f"{handled.kind} by {handled.handler or 'no handler'} ({handled.reason})"


def _copy_as_it_is(store: Path, to: Path) -> None:
    """Copy an SQLite database with what its `-wal` file has, as a process that dies now leaves them."""
    if not store.exists():
        return
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as reader:
        # While this reads, the `-wal` file is not begun from the start, however much is moved out of it.
        with suppress(sqlite3.Error):
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        for ending in _FILES:
            source = store.with_name(f"{store.name}{ending}")
            if source.exists():
                copied = to.with_name(f"{to.name}{ending}")
                # The store refuses a file that others can read.
                copied.touch(mode=0o600)
                copyfile(source, copied)
