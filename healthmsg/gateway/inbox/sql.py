"""The inbox in the journal's database: events are written before they are handed out, erased when done."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Any, Final, TypeVar

import orjson
from attrs import evolve
from sqlalchemy import Connection, Executable

from healthmsg.codec import encode
from healthmsg.database.base import ENTER_ALONE, Database
from healthmsg.database.opening import open_database
from healthmsg.database.quick import answer, change
from healthmsg.database.tables import Owner, read_meta, require_same, set_owner, write_meta
from healthmsg.database.target import Target
from healthmsg.database.writer import Change as WriterChange
from healthmsg.database.writer import Writer
from healthmsg.environment import comparable_url
from healthmsg.errors import HealthmsgError, InboxLostError, InvalidInputError, JournalError
from healthmsg.events import ChatEvent, Event, MessageCreated, TimerDue, UnknownEvent, event_from_dict
from healthmsg.gateway.inbox import statements
from healthmsg.gateway.inbox.base import Change, ChatRecord, OpenQuestion, Start
from healthmsg.gateway.inbox.holding import LEASE, Hold

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
# Seconds for which writing is retried while the disk is full, or PostgreSQL is restarted.
_PATIENCE: Final = 60.0
# More events at once would make one transaction long.
_ROOM: Final = 1000
_MOST_IN_MEMORY: Final = 1000
_STARTED_AT: Final = "inbox_started_at"
_BASELINE: Final = "inbox_baseline"


class SqlInbox:
    """Keeps events and what is known of each chat in an SQLite file, or in a PostgreSQL database.

    In a file, one process has it; in a database, one at a time, and others wait in `hold`. What a method has
    acknowledged survives a power cut. Cancelling a call does not undo it, but what `next` would have returned
    then comes again, and that does not count as an attempt. After a failed write everything fails.

    Raises:
        InboxLostError: from any method: another process has taken it over. Nothing was written.
        JournalGoneError: from any method: the file was deleted, moved or replaced meanwhile.
        JournalError: from any method: it has failed.
    """

    is_durable: bool = True

    def __init__(self, database: Database) -> None:
        self.on_taken_back: Callable[[], object] = lambda: None
        self._database = database
        self._writer = Writer[WriterChange](database, patience=_PATIENCE)
        self._hold = Hold(self._writer) if database.is_shared else None
        self._inserts = statements.Inserts.of("postgresql" if database.is_shared else "sqlite")
        self._last: int | None = None
        """The sequence of the last event; `None`: it was not started."""
        self._running: dict[str, int] = {}
        """The sequences of the events that were handed out, by their ids."""
        self._given_up: asyncio.Future[list[tuple[int, Event]]] | None = None
        """What brings events whose caller was cancelled."""
        self._recent: OrderedDict[int, Event] = OrderedDict()
        """The newest events that wait, by their sequences: they need not be read again."""

    @classmethod
    async def open(cls, target: Target) -> "SqlInbox":
        """Connect, and make the tables if there are none.

        Raises:
            JournalInUseError: another process has this SQLite file.
            JournalIncompleteError: its `-wal` file is missing.
            JournalVersionError: another version of this package made it.
            JournalError: it cannot be used; says why.
        """
        return cls(await open_database(target, LEASE, is_reading=False))

    async def close(self) -> None:
        """Finish what was asked for, let others have the inbox, and close."""
        self._writer.patience = 0.0
        if self._hold is not None:
            await self._hold.close()
        await self._writer.close()

    async def hold(self) -> None:
        """Wait until this process alone has the inbox; another one's death is seen within 15 seconds."""
        if self._hold is not None:
            await self._hold.take()

    # --- starting

    async def start(self, account: str, api_url: str, now: datetime | None) -> Start:
        """Begin; see `Inbox`."""
        owner = Owner(comparable_url(api_url), account)

        def begin(connection: Connection) -> tuple[Owner, Start, int]:
            if self._database.is_shared:
                connection.execute(ENTER_ALONE)
            known = set_owner(connection, owner)
            connection.execute(statements.RELEASE_ALL)
            started_at = read_meta(connection, _STARTED_AT)
            if started_at is None:
                started_at = _moment_as_text(now) or ""
                write_meta(connection, _STARTED_AT, started_at)
            begun = Start(_moment_of_text(started_at), read_meta(connection, _BASELINE) is not None)
            return known, begun, connection.execute(statements.LAST_SEQUENCE).scalar_one()

        known, begun, last = await self._do(begin)
        require_same(known, owner)
        self._last = last
        self._running.clear()
        return begun

    async def set_baseline(self) -> None:
        """Note that the list of the first chats has been read."""
        await self._do(lambda connection: write_meta(connection, _BASELINE, "1"))

    # --- chats

    async def keys(self) -> list[tuple[str, str | None]]:
        """Return the key and the hint of every chat."""
        return [(key, hint) for key, hint in await self._all(statements.KEYS)]

    async def load(self, keys: Sequence[str]) -> dict[str, ChatRecord]:
        """Return the records of chats, of those that it knows."""
        found = await self._all(statements.LOAD, _rows((key,) for key in keys))
        return {row[0]: _record(row) for row in found}

    async def open_questions(self) -> list[OpenQuestion]:
        """Return the questions that are remembered."""
        found = await self._all(statements.OPEN_QUESTIONS)
        return [OpenQuestion(row[0], row[1], tuple(orjson.loads(row[2]))) for row in sorted(found)]

    # --- events

    async def apply(self, changes: Sequence[Change]) -> int:
        """Write all of it, or nothing; return how many events are new."""
        if self._last is None:
            raise InvalidInputError("an inbox is started before anything is written to it")
        events = {}
        for one in changes:
            for event in one.events:
                self._last += 1
                events[self._last] = event
        added = [
            (sequence, self._hash(event.id), _chat_of(event), _body(event))
            for sequence, event in events.items()
        ]
        return await self._do(partial(self._write, changes, events, added))

    async def next(self, most: int, done: Sequence[str] = ()) -> list[Event]:
        """Note that events are done, and return the next ones; see `Inbox`."""
        finished = [(self._running.pop(one),) for one in done if one in self._running]
        if most <= 0 and not finished:
            return []
        if self._given_up is not None:
            # What its caller did not get is to wait again before anything is taken. What is done is noted
            # now: this caller may be cancelled, too.
            noting = self._ask(partial(self._take, 0, finished))
            await asyncio.wait([self._given_up])
            await asyncio.shield(noting)
            self._given_up, finished = None, []
        taking = self._ask(partial(self._take, most, finished))
        try:
            events = await asyncio.shield(taking)
            if self._hold is not None and events:
                await self._hold.require_now()
        except asyncio.CancelledError:
            taking.add_done_callback(self._take_back)
            self._given_up = taking
            raise
        for sequence, event in events:
            self._running[event.id] = sequence
            self._recent.pop(sequence, None)
        return [event for _, event in events]

    async def release(self, ids: Sequence[str]) -> None:
        """Have events handed out again that were not handled to their end."""
        released = [(self._running.pop(one),) for one in ids if one in self._running]
        if released:
            await self._do(partial(_change, statements.RELEASE, released))

    async def waiting(self) -> int:
        """Return how many events wait to be handed out."""
        return await self._do(lambda connection: connection.execute(statements.COUNT_WAITING).scalar_one())

    def room(self) -> int:
        """Return how many events it takes at once: the disk has them."""
        return _ROOM

    # --- what is done in transactions

    def _write(
        self, changes: Sequence[Change], events: Mapping[int, Event], added: Rows, connection: Connection
    ) -> int:
        new = 0
        if added:
            new = change(connection, self._inserts.add_events, _rows(added))
            if new == len(added):  # else it is not known which of them are there from before
                self._remember(events)
        records = {one.chat.key: one for one in changes if one.chat is not None}
        # Each with the columns of its statement, in order.
        for statement, rows in (
            (statements.DELETE_CHATS, [(key,) for key, one in records.items() if one.removed]),
            (
                self._inserts.write_chats,
                [_row(one.chat) for one in records.values() if one.chat and not one.removed],
            ),
            (
                self._inserts.add_questions,
                [_row_of_question(one) for some in changes for one in some.questions],
            ),
            (statements.FORGET_QUESTIONS, [(one,) for some in changes for one in some.closed_questions]),
        ):
            _change(statement, rows, connection)
        return new

    def _take(self, most: int, finished: Rows, connection: Connection) -> list[tuple[int, Event]]:
        if finished:
            change(connection, statements.FINISH, _rows(finished))
        if most <= 0:
            return []
        found: Rows = answer(connection, statements.NEXT, {"most": most})
        if not found:
            return []
        found.sort()
        change(connection, statements.BEGIN, _rows(found))
        # Taken out only when they are handed out: a transaction that failed is done again.
        known = {sequence: self._recent[sequence] for sequence, _ in found if sequence in self._recent}
        if unread := [(sequence,) for sequence, _ in found if sequence not in known]:
            bodies = answer(connection, statements.BODIES, _rows(unread))
            known |= {sequence: _event(body) for sequence, body in bodies}
        return [(sequence, _of_attempt(known[sequence], attempts + 1)) for sequence, attempts in found]

    def _remember(self, events: Mapping[int, Event]) -> None:
        self._recent.update(events)
        while len(self._recent) > _MOST_IN_MEMORY:
            self._recent.popitem(last=False)

    def _take_back(self, taking: "asyncio.Future[list[tuple[int, Event]]]") -> None:
        """Let events wait again whose caller was cancelled."""
        if taking.cancelled() or taking.exception() is not None or self._writer.is_closing:
            return
        if rows := [(sequence,) for sequence, _ in taking.result()]:
            asked = self._ask(partial(_change, statements.TAKE_BACK, rows))
            asked.add_done_callback(lambda _: self.on_taken_back())

    # --- helpers

    def _hash(self, event_id: str) -> str:
        return blake2b(event_id.encode(), digest_size=16, key=self._database.salt).hexdigest()

    async def _all(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Rows:
        """Return the rows of a statement that answers them all in one."""
        rows: Rows = await self._do(lambda connection: answer(connection, statement, values or {}))
        return rows

    async def _do(self, work: Callable[[Connection], T]) -> T:
        return await self._ask(work)

    def _ask(self, work: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Ask for something in a transaction, as the process that has the inbox."""
        if self._hold is None:
            return self._writer.run_in_batch(work)
        hold = self._hold
        hold.require_taken()

        def as_holder(connection: Connection) -> T:
            hold.require(connection)
            return work(connection)

        asked = self._writer.run_in_batch(as_holder)
        asked.add_done_callback(self._note_loss)
        return asked

    def _note_loss(self, asked: "asyncio.Future[Any]") -> None:
        if self._hold is not None and not asked.cancelled() and isinstance(asked.exception(), InboxLostError):
            self._hold.lost.set()


def _change(statement: Executable, rows: Rows, connection: Connection) -> None:
    if rows:
        change(connection, statement, _rows(rows))


def _rows(rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    return {"rows": list(rows)}


# --- rows


def _row(record: ChatRecord) -> tuple[Any, ...]:
    """Write a record as the statement takes it."""
    return (
        record.key,
        _list_as_text(record.anchor),
        _moment_as_text(record.anchor_at),
        record.hint,
        _list_as_text(record.members),
        record.closed,
        record.counter,
    )


def _record(row: Sequence[Any]) -> ChatRecord:
    key, anchor, anchor_at, hint, members, closed, counter = row
    return ChatRecord(
        key,
        _list_of_text(anchor),
        _moment_of_text(anchor_at),
        hint,
        _list_of_text(members),
        bool(closed),
        counter,
    )


def _row_of_question(question: OpenQuestion) -> tuple[Any, ...]:
    return question.message_id, question.chat, _list_as_text(question.answered)


def _list_as_text(value: Sequence[str] | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _list_of_text(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(orjson.loads(text))


def _moment_as_text(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat()


def _moment_of_text(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# --- events


_WITH_CHAT: Final = (ChatEvent, UnknownEvent, TimerDue)


def _chat_of(event: Event) -> str:
    chat = event.chat if isinstance(event, _WITH_CHAT) else None
    # PostgreSQL has no such letter.
    return "" if chat is None else chat.text.replace("\0", "�")


def _body(event: Event) -> str:
    """Write an event as text."""
    try:
        return encode(event).decode()
    except InvalidInputError:
        pass
    # JSON that is nested so deeply can be read, but not written: it goes without what is not known of it.
    if isinstance(event, MessageCreated):
        event = evolve(event, extra={}, message=evolve(event.message, extra={}, payload=None))
    return encode(evolve(event, extra={})).decode()


def _event(body: str) -> Event:
    """Read an event. One that another version of this package wrote may be of a kind that is not known here.

    Raises:
        JournalError: it is no event at all; its text is not in the error.
    """
    try:
        document = orjson.loads(body)
        try:
            return event_from_dict(document)
        except InvalidInputError:
            return UnknownEvent(
                id=document["id"],
                received_at=datetime.fromisoformat(document["received_at"]),
                name=document["kind"],
                chat=document.get("chat"),
                frame=document,
            )
    except (HealthmsgError, ValueError, KeyError, TypeError):
        pass
    raise JournalError("An event in the store cannot be read: the store was changed by another program.")


def _of_attempt(event: Event, attempt: int) -> Event:
    return event if event.attempt == attempt else evolve(event, attempt=attempt)
