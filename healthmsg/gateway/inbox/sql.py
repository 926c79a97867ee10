"""The inbox in the journal's database: events are written before they are handed out, erased when done."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from secrets import token_hex
from typing import Final, TypeVar

import orjson
from sqlalchemy import Connection

from healthmsg.aio import start as start_task
from healthmsg.bulk.journal import statements as journal_statements
from healthmsg.bulk.journal.database import (
    Database,
    Owner,
    describe,
    read_meta,
    set_owner,
    write_meta,
)
from healthmsg.bulk.journal.store import database_of, require_same
from healthmsg.bulk.journal.target import Target
from healthmsg.bulk.journal.writer import Changes, Writer
from healthmsg.environment import comparable_url
from healthmsg.errors import HealthmsgError, InboxLostError, JournalError
from healthmsg.events import Event
from healthmsg.gateway.inbox import statements
from healthmsg.gateway.inbox.base import Change, ChatRecord, OpenQuestion, Start

T = TypeVar("T")
_LEASE: Final = timedelta(seconds=10)
"""For how long a process has the inbox of a PostgreSQL database unless it renews that."""
_RENEW_EVERY: Final = 3.0
_POLL_EVERY: Final = 2.0
_ROOM: Final = 1_000_000
_STARTED_AT: Final = "inbox_started_at"
_BASELINE: Final = "inbox_baseline"
_LOST: Final = (
    "Another process has taken the inbox over, since this one did not say for 10 seconds that it is there."
    " Nothing was written or handed out after that."
)


class SqlInbox:
    """Keeps events and what is known of each chat in an SQLite file, or in a PostgreSQL database.

    In a file, one process has it; in a database, one at a time, and others wait in `hold`.

    Raises:
        InboxLostError: from any method: another process has taken it over.
        JournalError: from any method: it has failed.
    """

    is_durable: bool = True

    def __init__(self, database: Database, lease: timedelta = _LEASE) -> None:
        self._database = database
        self._holder = token_hex(16)
        self._lease = lease
        claiming = journal_statements.Claiming.of(None, keep_bodies=False)
        self._writer = Writer(database, Changes(self._holder, claiming, is_shared=False))
        self._renewing: asyncio.Task[None] | None = None
        self._is_lost = False
        self._running: dict[str, int] = {}
        """The numbers of the events that were handed out, by their ids."""

    @classmethod
    async def open(cls, target: Target) -> "SqlInbox":
        """Connect, and make the tables if there are none.

        Raises:
            JournalInUseError: another process has this SQLite file.
            JournalError: it cannot be used; says why.
        """
        database = database_of(target, _LEASE, is_reading=False)
        problem: HealthmsgError
        try:
            await database.start()
        except HealthmsgError as error:
            problem = error
        except Exception as error:  # noqa: BLE001 - drivers raise what they like, with private things in it
            problem = JournalError(f"The store of events could not be opened: {describe(error)}.")
        except BaseException:
            await database.close()
            raise
        else:
            return cls(database)
        await database.close()
        raise type(problem)(*problem.args)

    async def close(self) -> None:
        """Finish what was asked for, let others have the inbox, and close."""
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait([renewing])
            if not self._is_lost:
                with suppress(JournalError):  # the lease ends
                    await self._do(self._let_go)
        await self._writer.close()

    # --- one process at a time

    async def hold(self) -> None:
        """Wait until this process alone has the inbox: at most 15 seconds after the other one has ended."""
        if not self._database.is_shared:
            return
        while not await self._run(self._take_hold):  # noqa: ASYNC110 - the database is polled
            await asyncio.sleep(_POLL_EVERY)
        self._renewing = start_task(self._keep_renewing(), name="healthmsg inbox")

    def _take_hold(self, connection: Connection) -> bool:
        connection.execute(statements.ADD_HOLDER)
        values = {"b_holder": self._holder, "lease": self._lease}
        return connection.execute(statements.TAKE_HOLD, values).rowcount == 1

    async def _keep_renewing(self) -> None:
        while not self._is_lost:
            await asyncio.sleep(_RENEW_EVERY)
            with suppress(JournalError):  # what is asked for next says so
                self._is_lost = not await self._run(self._renew)

    def _renew(self, connection: Connection) -> bool:
        values = {"b_holder": self._holder, "lease": self._lease}
        return connection.execute(statements.RENEW_HOLD, values).rowcount == 1

    def _let_go(self, connection: Connection) -> None:
        connection.execute(statements.LET_GO, {"b_holder": self._holder})

    def _check_hold(self, connection: Connection) -> None:
        """Keep others from taking the inbox over before this transaction has ended."""
        if not self._database.is_shared:
            return
        if (
            self._is_lost
            or connection.execute(statements.LOCK_HOLD, {"holder": self._holder}).first() is None
        ):
            self._is_lost = True
            raise InboxLostError(_LOST)

    # --- starting

    async def start(self, account: str, api_url: str, now: datetime | None) -> Start:
        """Begin; see `Inbox`."""
        owner = Owner(comparable_url(api_url), account)

        def begin(connection: Connection) -> tuple[Owner, Start]:
            known = set_owner(connection, owner)
            connection.execute(statements.RELEASE_ALL)
            started_at = read_meta(connection, _STARTED_AT)
            if started_at is None:
                started_at = now.astimezone(UTC).isoformat() if now is not None else ""
                write_meta(connection, _STARTED_AT, started_at)
            moment = datetime.fromisoformat(started_at) if started_at else None
            return known, Start(moment, read_meta(connection, _BASELINE) is not None)

        known, begun = await self._do(begin)
        require_same(known, owner)
        return begun

    async def set_baseline(self) -> None:
        """Note that the list of the first chats has been read."""
        await self._do(lambda connection: write_meta(connection, _BASELINE, "1"))

    # --- chats

    async def keys(self) -> list[tuple[str, str | None]]:
        """Return the key and the hint of every chat."""
        return await self._do(
            lambda connection: [(row[0], row[1]) for row in connection.execute(statements.KEYS)]
        )

    async def load(self, keys: Sequence[str]) -> dict[str, ChatRecord]:
        """Return the records of chats, of those that it knows."""

        def read(connection: Connection) -> dict[str, ChatRecord]:
            found = connection.execute(statements.LOAD, {"keys": list(keys)})
            return {row.key: statements.record_of(row) for row in found}

        return await self._do(read)

    async def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that are remembered."""

        def read(connection: Connection) -> list[OpenQuestion]:
            found = connection.execute(statements.OPEN_QUESTIONS)
            return [OpenQuestion(row[0], row[1], tuple(orjson.loads(row[2]))) for row in found]

        return await self._do(read)

    # --- events

    async def apply(self, changes: Sequence[Change]) -> int:
        """Write all of it, or nothing; return how many events are new."""
        rows = [
            (self._hash(event.id), statements.body_of(event)) for change in changes for event in change.events
        ]
        chats = {change.chat.key: change for change in changes if change.chat is not None}
        questions = [statements.row_of_question(one) for change in changes for one in change.questions]
        closed = [message_id for change in changes for message_id in change.closed_questions]

        def write(connection: Connection) -> int:
            new = statements.insert_events(connection, rows) if rows else 0
            for change in chats.values():
                if change.chat is not None:
                    statements.write_record(connection, change.chat, removed=change.removed)
            if questions:
                connection.execute(statements.REMEMBER, questions)
            if closed:
                connection.execute(statements.FORGET, {"ids": closed})
            return new

        return await self._do(write)

    async def next(self, most: int, done: Sequence[str] = ()) -> list[Event]:
        """Note that events are done, and return the next ones; see `Inbox`."""
        if not most and not done:
            return []

        numbers = [self._running.pop(event_id) for event_id in done]

        def take(connection: Connection) -> list[tuple[int, str, int]]:
            if numbers:
                statements.finish(connection, numbers)
            return statements.take(connection, most) if most else []

        events = list[Event]()
        for number, body, attempts in await self._do(take):
            event = statements.event_of(body, attempts)
            self._running[event.id] = number
            events.append(event)
        return events

    async def release(self, ids: Sequence[str]) -> None:
        """Have events handed out again that were not handled to their end."""
        numbers = [self._running.pop(event_id) for event_id in ids if event_id in self._running]
        await self._do(lambda connection: statements.release(connection, numbers))

    def room(self) -> int:
        """Return how many more events it takes: the disk has them."""
        return _ROOM

    # --- inside

    def _hash(self, event_id: str) -> str:
        return blake2b(event_id.encode(), digest_size=16, key=self._database.salt).hexdigest()

    async def _do(self, work: Callable[[Connection], T]) -> T:
        """Do something in a transaction, as the process that has the inbox."""

        def as_holder(connection: Connection) -> T:
            self._check_hold(connection)
            return work(connection)

        return await self._run(as_holder)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        return await self._writer.run_in_batch(work)
