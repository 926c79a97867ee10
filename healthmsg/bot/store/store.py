"""The store of a bot: its inbox, dialogs and timers, in one database with one writer."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Executable

from healthmsg.aio import start
from healthmsg.bot.store import statements
from healthmsg.bot.store.effects import Effect, Unpark, Watchers
from healthmsg.bot.store.records import DialogRecord, ParkedEvent, StepRecord, TimerRecord, Waiting
from healthmsg.bot.store.rows import dialog_of, moment_of, read_moment, storable, timer_of
from healthmsg.bot.store.writing import EffectWriter
from healthmsg.bulk.journal import LEASE as OUTBOX_LEASE
from healthmsg.bulk.journal.changes import Change, Changes
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.database.base import Database
from healthmsg.database.opening import open_database
from healthmsg.database.quick import answer, change
from healthmsg.database.target import Target
from healthmsg.database.writer import Writer
from healthmsg.errors import InvalidInputError, JournalError, JournalInUseError, JournalNotFoundError
from healthmsg.gateway.inbox.holding import LEASE
from healthmsg.gateway.inbox.sql import PATIENCE, SqlInbox

T = TypeVar("T")
_LATEST: Final = 2**62
_IDENTITY_SIZE: Final = 8
_MOST: Final = 1000
"""Parked events that are read, or taken up, in one transaction."""


class BotStore:
    """Keeps what a bot must not forget, in an SQLite file or a PostgreSQL database.

    What `commit` has acknowledged survives a power cut. Cancelling a call does not undo it. In a file, one
    process has it; in a database, one at a time: `inbox.hold` waits for it, and `inbox.start` comes before
    anything is written. After a failed write everything fails.

    Raises:
        InboxLostError: from `commit`: another process has taken it over. Nothing was written.
        JournalError: from any method: it has failed.
    """

    def __init__(self, database: Database, target: Target, *, is_reading: bool = False) -> None:
        self.database: Database = database
        changes = Changes.of(OUTBOX_LEASE if database.is_shared else None, keep_bodies=target.keep_bodies)
        self.writer: Writer[Change] = Writer(database, changes, 0.0 if is_reading else PATIENCE)
        self.inbox: SqlInbox = SqlInbox(database, self.writer)
        self.journal: SqlJournal = SqlJournal(database, self.writer, changes, is_reading=is_reading)
        """The outbox's."""
        self.watchers: Watchers = Watchers()
        self._is_reading = is_reading
        dialect = "postgresql" if database.is_shared else "sqlite"
        self._effects = EffectWriter(self.inbox, statements.Puts.of(dialect))

    @classmethod
    def open(
        cls, target: str | os.PathLike[str], *, is_reading: bool = False, at_once: bool = False
    ) -> AbstractAsyncContextManager["BotStore"]:
        """Return a context manager that opens it, and makes the tables if there are none.

        `is_reading`: beside a process that has it; only what reads works, and nothing is changed. `at_once`:
        also a database is taken on entering, where `inbox.hold` would wait for another process.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
            JournalInUseError: on entering: another process has it.
            JournalError: on entering: see `SqlInbox.open`; for one who reads, there is none.
        """
        return _opened(Target.parse(target), is_reading=is_reading, at_once=at_once)

    async def close(self) -> None:
        """Finish what was asked for, let others have it, and close."""
        await self.inbox.close()

    @property
    def identity(self) -> str:
        """What tells this store from any other, wherever it is; only a copy of it has the same."""
        return blake2b(digest_size=_IDENTITY_SIZE, key=self.database.salt).hexdigest()

    def event_key(self, event_id: str) -> str:
        """Return what stands for the id of an event in keys: that may hold what a patient answered."""
        return self.inbox.hash_of(event_id)

    async def commit(self, *effects: Effect) -> None:
        """Write all of it in one transaction, or nothing. The commits of one moment share one.

        Raises:
            InvalidInputError: a chat and user would have two dialogs, or an id two schedules; or something
                cannot be stored.
            InboxLostError: another process has taken it over.
        """
        if self._is_reading:
            raise JournalError("The bot's store is open for reading only.")
        writing = self._effects.prepare(effects, self.database.now())
        asked = self.inbox.ask(writing.make)
        # It is written even if the caller is cancelled meanwhile, and the watchers have to know that.
        asked.add_done_callback(partial(self._note, effects))
        if problem := await asyncio.shield(asked):
            raise InvalidInputError(problem)

    def _note(self, effects: Sequence[Effect], asked: "asyncio.Future[str]") -> None:
        if not asked.cancelled() and asked.exception() is None and not asked.result():
            self.watchers.note(effects)

    # --- events

    @property
    def newest(self) -> int:
        """The sequence of the last event. What is read from now on sees all up to it."""
        return self.inbox.newest

    async def waiting(
        self, after: int, most: int, *, chat: str | None = None, until: int = _LATEST
    ) -> list[Waiting]:
        """Return what waits, postponed or not, by sequence: of all chats, or of one."""
        if chat is None:
            return await self._waiting(statements.WAITING, {"after": after, "most": most})
        wanted = {"after": after, "most": most, "chat": storable(chat), "until": until}
        return await self._waiting(statements.WAITING_IN, wanted)

    async def crashed(self) -> list[Waiting]:
        """Return what waits and was being handled when a process died, by sequence."""
        return await self._waiting(statements.CRASHED, {})

    async def parked(self) -> list[ParkedEvent]:
        """Return all that is left to a person, by sequence. It is read in parts, between other work."""
        found = page = await self._parked_after(0)
        while len(page) == _MOST:
            page = await self._parked_after(page[-1].sequence)
            found += page
        return found

    async def count_parked(self) -> int:
        """Return how many events are left to a person."""
        ((count,),) = await self._all(statements.COUNT_PARKED)
        return int(count)

    async def parked_reasons(self) -> list[tuple[int, str]]:
        """Return the sequences of what is left to a person, in order, each with why that is."""
        found = await self._all(statements.PARKED_REASONS)
        return sorted((sequence, problem or "") for sequence, problem in found)

    async def unpark(self, sequence: int | None = None) -> int:
        """Have a parked event wait again, or with `None` all that are parked now; return how many."""
        wanted = [one for one, _ in await self.parked_reasons() if sequence in {None, one}]
        for start_at in range(0, len(wanted), _MOST):
            await self.commit(*map(Unpark, wanted[start_at : start_at + _MOST]))
        return len(wanted)

    async def _parked_after(self, sequence: int) -> list[ParkedEvent]:
        def read(connection: Connection) -> list[ParkedEvent]:
            found = sorted(answer(connection, statements.PARKED, {"most": _MOST, "after": sequence}))
            events = self.inbox.read_events(connection, {row[0]: max(row[1] - 1, 0) for row in found})
            return [
                ParkedEvent(sequence, events[sequence], problem, read_moment(parked_at))
                for sequence, _, problem, parked_at in found
            ]

        return await self._do(read)

    # --- dialogs

    async def dialogs(self) -> list[DialogRecord]:
        """Return all dialogs that have not ended, the oldest first."""
        found = [dialog_of(row) for row in await self._all(statements.DIALOGS_OF_ALL)]
        return sorted(found, key=lambda one: (one.started_at, one.id))

    async def dialog(self, chat: str, user: str) -> DialogRecord | None:
        """Return the dialog of a chat and user, if there is one."""
        place = {"chat": storable(chat), "user": storable(user)}
        found = await self._all(statements.DIALOG_WITH, place)
        return dialog_of(found[0]) if found else None

    async def dialog_of(self, dialog: str) -> DialogRecord | None:
        """Return the dialog with this id, if it has not ended."""
        found = await self._all(statements.DIALOG, {"id": storable(dialog)})
        return dialog_of(found[0]) if found else None

    async def has_ended(self, dialog: str) -> bool:
        """Return whether a dialog with this id has begun and ended before."""
        return bool(await self._all(statements.HAS_ENDED, {"id": storable(dialog)}))

    async def steps(self, dialog: str) -> list[StepRecord]:
        """Return the steps of a dialog, by number."""
        found = await self._all(statements.STEPS, {"dialog": storable(dialog)})
        return sorted((StepRecord(*row) for row in found), key=lambda step: step.number)

    # --- timers

    async def due(self, now: datetime, most: int) -> list[TimerRecord]:
        """Return timers whose moment has come, the earliest first."""
        found = await self._all(statements.DUE, {"rows": [[moment_of(now)]], "most": most})
        return sorted((timer_of(row) for row in found), key=lambda timer: (timer.due, timer.id))

    async def timers(self, kind: str) -> list[TimerRecord]:
        """Return all timers of a kind, the earliest first."""
        found = await self._all(statements.TIMERS_OF_KIND, {"kind": storable(kind)})
        return sorted((timer_of(row) for row in found), key=lambda timer: (timer.due, timer.id))

    async def timer(self, timer_id: str) -> TimerRecord | None:
        """Return the timer with this id, if there is one."""
        found = await self._all(statements.TIMER, {"id": storable(timer_id)})
        return timer_of(found[0]) if found else None

    async def has_fired(self, timer: TimerRecord) -> bool:
        """Return whether a timer has become an event, also if that is done, at its present moment."""
        known = {"id": self.event_key(timer.event_id)}
        ((count,),) = await self._all(statements.IS_KNOWN, known)
        return bool(count)

    async def cancel_timer(self, timer_id: str) -> bool:
        """Delete a timer. Return whether it was there, and now never fires."""
        values = {"rows": [[storable(timer_id)]]}
        asked = self.inbox.ask(partial(change, statement=statements.CANCEL, values=values))
        return await asyncio.shield(asked) > 0

    async def next_due(self) -> datetime | None:
        """Return when the next timer is due, if there is one."""
        ((earliest,),) = await self._all(statements.NEXT_DUE)
        return None if earliest is None else read_moment(earliest)

    # --- helpers

    async def _waiting(self, statement: Executable, values: Mapping[str, Any]) -> list[Waiting]:
        def read(connection: Connection) -> list[Waiting]:
            found = sorted(answer(connection, statement, values))
            events = self.inbox.read_events(connection, {row[0]: row[1] for row in found})
            return [
                Waiting(sequence, events[sequence], crashes, not_before and read_moment(not_before))
                for sequence, _, crashes, not_before in found
            ]

        waiting = await self._do(read)
        self.inbox.forget(one.sequence for one in waiting)
        return waiting

    async def _all(self, statement: Executable, values: Mapping[str, Any] | None = None) -> list[list[Any]]:
        found: list[list[Any]] = await self._do(partial(answer, statement=statement, values=values or {}))
        return found

    def _do(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        return self.writer.run_in_batch(work)


@asynccontextmanager
async def _opened(target: Target, *, is_reading: bool, at_once: bool) -> AsyncIterator[BotStore]:
    if is_reading and target.path is not None and not target.path.exists():
        raise JournalNotFoundError("There is no bot's store there.")
    store = BotStore(await open_database(target, LEASE, is_reading=is_reading), target, is_reading=is_reading)
    try:
        if at_once and not await store.inbox.hold_at_once():
            raise JournalInUseError("A bot has this store, or has died within the last 10 seconds.")
        yield store
    finally:
        # Cancelling does not cut it short: what has been asked for is about to be on the disk.
        closing = start(store.close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise
