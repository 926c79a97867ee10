"""The journal in a database: each step of a message is written before it happens."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from attrs import evolve
from sqlalchemy import Connection, Executable, Select

from healthmsg.bulk.journal import statements, transactions
from healthmsg.bulk.journal.base import (
    Begun,
    Claim,
    Decision,
    Entered,
    Entry,
    EntryStatus,
    Journal,
    JournalMessage,
)
from healthmsg.bulk.journal.changes import Change, Changes
from healthmsg.bulk.journal.input_index import body_hash, fingerprint_of
from healthmsg.bulk.journal.records import as_noted, claim_of, message_of
from healthmsg.bulk.journal.statements import Kind
from healthmsg.bulk.journal.transactions import LONGEST, can_be_stored, rows_of
from healthmsg.database.base import (
    BE_SENDER,
    ENTER_ALONE,
    FINISH_WHILE_NONE_ENTERS,
    HOLD_NO_LOCK,
    IS_ONLY_SENDER,
    LET_OTHERS_SEND,
    Database,
)
from healthmsg.database.opening import open_database
from healthmsg.database.states import State
from healthmsg.database.tables import Owner, read_owner, require_same, set_owner
from healthmsg.database.target import Target
from healthmsg.database.writer import Writer
from healthmsg.delivery.ledger import Delivered
from healthmsg.environment import comparable_url
from healthmsg.errors import (
    InvalidInputError,
    JournalError,
    JournalNotFoundError,
    Outcome,
)
from healthmsg.ids import ChatAddress

T = TypeVar("T")
_AT_ONCE: Final = 500
# Later than any.
_NO_RUN: Final = 2**62


class SqlJournal(Journal):
    """Knows the state of each message.

    What a method has acknowledged survives a power cut. Cancelling a call of a method does not undo it: it is
    still written. After a failed write everything fails, since a run cannot continue without its journal.

    With an SQLite file, one process sends at a time. With PostgreSQL, several share the work, and a worker
    that does not `renew` within the lease loses what it has claimed. When a lease ends is decided by the
    clock of the database's machine.

    Raises:
        JournalGoneError: from any method: it was deleted, moved or replaced meanwhile.
        JournalError: from any method: it has failed.
    """

    is_durable: bool = True

    def __init__(
        self,
        database: Database,
        writer: Writer[Change],
        changes: Changes,
        *,
        is_reading: bool = False,
        is_owner: bool = False,
    ) -> None:
        """Use an open database, and a writer with these changes; unless `is_owner`, others close both."""
        self.salt: bytes = database.salt
        self.is_partly_lost: bool = (
            database.is_partly_lost
        )  # and was to be done without: `?accept_missing_wal=1`
        self.lease: timedelta | None = changes.lease
        self.has_earlier: bool = True
        """Whether there may be messages of runs before the present one, if one has begun."""
        self._database = database
        self._writer = writer
        self._changes = changes
        self.claiming: statements.Claiming = changes.claiming
        self._worker = changes.worker
        self._is_reading = is_reading
        self._is_owner = is_owner
        self._run: int = _NO_RUN if is_reading else 0

    @classmethod
    async def open(
        cls, target: Target, lease: timedelta, patience: float, *, is_reading: bool
    ) -> "SqlJournal":
        """Connect, and make the tables if there are none; for one who only reads, nothing is changed.

        Raises:
            JournalInUseError: another process sends with this SQLite file.
            JournalIncompleteError: its `-wal` file is missing.
            JournalVersionError: another version of this package made it.
            JournalNotFoundError: only for one who reads: there is none.
            JournalError: it cannot be used; says why.
        """
        if is_reading and target.path is not None and not target.path.exists():
            raise JournalNotFoundError("There is no journal there.")
        database = await open_database(target, lease, is_reading=is_reading)
        changes = Changes.of(lease if database.is_shared else None, keep_bodies=target.keep_bodies)
        writer = Writer(database, changes, patience)
        return cls(database, writer, changes, is_reading=is_reading, is_owner=True)

    async def close(self) -> None:
        """Finish what was asked for, and release the claims; close what is the journal's own."""
        if self._is_owner:
            self.stop_retrying()
        if not (self._is_reading or self._writer.has_failed or self._writer.is_closing):
            releasing = self.do(self._release_all)
            await asyncio.wait([releasing])
            # It has failed: then the lease ends, or the next to open the file releases them.
            releasing.exception()
        if self._is_owner:
            await self._writer.close()

    # --- the owner

    async def set_owner(self, account: str, api_url: str) -> None:
        """Note whose messages these are and where they go, or compare: a journal is of one account there.

        `account` is the user's id: equal ids at two URLs are two users.

        Raises:
            JournalMismatchError: it belongs to another one.
        """
        owner = Owner(comparable_url(api_url), account)

        def note(connection: Connection) -> Owner:
            self.enter_alone(connection)
            return set_owner(connection, owner)

        self._refuse_reader()
        require_same(await self.do(note), owner)

    async def check_owner(self, api_url: str, account: str | None = None) -> None:
        """Compare only, as far as is known; for one who reads, too.

        Raises:
            JournalMismatchError: it belongs to another account, or to another URL.
        """
        require_same(await self.do(read_owner), Owner(comparable_url(api_url), account))

    # --- runs

    async def start_run(
        self, *, resumes: bool = False, retry_failed: bool = False, superseded: bool = False
    ) -> int:
        """Begin a run: what waits from earlier ones is parked until it is entered again.

        Not what another sender is about to send just now. With `resumes`, all that was parked waits again
        instead, and with `retry_failed`, what was not sent too; but not what a later run replaced by
        something else, unless `superseded` is given. Return how many are left out for that reason.
        """
        self._refuse_reader()
        states = [State.PARKED, State.NOT_SENT] if retry_failed else [State.PARKED]
        return await self.do(
            partial(self._start_run, unparked=states if resumes else (), superseded=superseded)
        )

    async def mark_all_read(self) -> None:
        """Note that the present run has read all that it was given: what it did not replace is still good."""
        await self.do(partial(transactions.mark_all_read, run=self._run))

    async def count_superseded(self) -> dict[State, int]:
        """Count what is parked, or was not sent, and a later run replaced by something else."""
        return await self.do(transactions.count_superseded)

    # --- entering

    async def enter(
        self,
        entries: Iterable[Entry],
        *,
        same_chats: Sequence[Sequence[str]] = (),
        retry_failed: bool = False,
        superseded: Sequence[str] = (),
    ) -> list[EntryStatus]:
        """Enter what is new, and return the status of each, in the same order.

        `same_chats` are groups of addresses of which each leads to one chat, as in `learn_same`. What was
        parked waits again, in its old place, and with `retry_failed`, what was not sent. An entry that is
        refused says so in its status; the others are entered. `superseded` are the keys of messages of
        earlier runs that these replace: they are noted as such with the first of them.
        """

        def enter(
            connection: Connection, some: Sequence[Entry], replaced: Sequence[str]
        ) -> list[EntryStatus]:
            self.enter_alone(connection)
            transactions.learn(connection, same_chats)
            return transactions.enter(
                *(connection, some),
                salt=self.salt,
                run=self._run,
                retry_failed=retry_failed,
                superseded=replaced,
            )

        self._refuse_reader()
        statuses: list[EntryStatus] = []
        remaining = map(self._with_fingerprint, entries)
        while (some := list(islice(remaining, _AT_ONCE))) or superseded:
            # Before the first of them can be sent: should the `-wal` file be lost then, they are still known.
            statuses += await self.do(partial(enter, some=some, replaced=superseded), into_file=True)
            superseded = ()
        return statuses

    async def enter_next(
        self,
        entry: Entry,
        *,
        same_chats: Sequence[Sequence[str]] = (),
        begun: Begun | None = None,
        retry_failed: bool = False,
    ) -> Entered:
        """Enter a message and take it at once, unless an earlier one goes first; all in one transaction.

        With `begun`, one that is taken is noted as begun, too. What was parked waits again, also if its
        content is another: then the one that is known stands, and the status has the problem; unless it has
        files without a path, which are gone. With `retry_failed`, what was not sent waits again too, with
        this content. Cancelling a call of this undoes nothing.
        """

        def enter(connection: Connection) -> Entered:
            if same_chats:
                transactions.learn(connection, same_chats)
            status = transactions.enter_one(
                connection, prepared, salt=self.salt, run=self._run, retry_failed=retry_failed
            )
            if status.state is not State.WAITING:
                return Entered(status)
            taken = self.take(connection, self.claiming.take_these, rows_of([entry.key]))
            if taken and begun is not None:
                change = Change(Kind.BEGIN, taken[0], as_noted(begun))
                self._changes.make_all(connection, [change], now)
            return Entered(status, taken[0] if taken else None)

        def enter_alone(connection: Connection) -> Entered:
            self.enter_alone(connection)
            return enter(connection)

        self._refuse_reader()
        # A database tells the time in the event loop alone.
        prepared, now = self._with_fingerprint(entry), self._database.now()
        # As in `learn_same`.
        return await (self.do(enter_alone) if self._database.is_shared else self._writer.run_in_batch(enter))

    async def look_up(self, entries: Sequence[Entry]) -> list[EntryStatus]:
        """Return the status that each would have once it was entered, and enter none."""
        prepared = [self._with_fingerprint(entry) for entry in entries]
        return await self.do(partial(transactions.look_up, entries=prepared))

    async def statuses(self, keys: Sequence[str]) -> list[EntryStatus]:
        """Return the status of messages by their keys, in no order; those that are not known are left out."""
        return [transactions.status_of(row) for row in await self._all(statements.KNOWN, rows_of(keys))]

    async def unpark(self, keys: Sequence[str]) -> None:
        """Let those of these wait again that were parked."""

        def unpark(connection: Connection) -> None:
            self.enter_alone(connection)
            transactions.unpark(connection, keys)

        self._refuse_reader()
        await self.do(unpark)

    async def earlier(self, chats: Iterable[str], *, besides: int = -1) -> list[EntryStatus]:
        """Return what runs before the present one, if one has begun, were given for these chats.

        But not what the run with the number `besides` was given. Of one run are those that were entered by it
        together. `chat` is the address that was asked for: the message may have gone to another one of the
        same recipient.
        """
        return await self.do(
            partial(transactions.earlier, chats=[*chats], besides=besides, present=self._run)
        )

    async def learn_same(self, groups: Sequence[Sequence[str]]) -> None:
        """Note that the addresses of each group lead to the same chat, as `Journal.learn_same` says.

        Claims that are not begun are revoked, unless the message is the first.
        """

        def learn(connection: Connection) -> None:
            self.enter_alone(connection)
            transactions.learn(connection, transactions.groups_with_messages(connection, groups))

        self._refuse_reader()
        # Where others share it, a lock is needed that cannot be had after that of a message that has ended.
        await (self.do(learn) if self._database.is_shared else self._writer.run_in_batch(learn))

    async def same_chats(self, chats: Iterable[str]) -> list[tuple[str, ...]]:
        """Return what is known of these addresses: each time all that lead to one chat, if there are more."""
        return await self.do(partial(transactions.same_chats, chats=[*chats]))

    # --- sending

    async def claim(self, most: int) -> list[Claim]:
        """Take the next messages to send; see `Journal.claim`."""
        if most <= 0:
            return []
        return await self.claimed(partial(self.take, found=self.claiming.take_next, limits={"most": most}))

    async def claim_in_doubt(self) -> list[Claim]:
        """Take the messages that a run which has ended may have sent."""
        return await self.claimed(partial(self.take, found=self.claiming.take_in_doubt), by_itself=True)

    async def begin(
        self, claim: Claim, started_at: datetime, sent_to: str, date_ahead: timedelta | None = None
    ) -> None:
        """Note that the call is about to be made; see `Journal.begin`."""
        await self._note(Kind.BEGIN, claim, *as_noted(Begun(started_at, sent_to, date_ahead)))

    async def finish(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        message_id: str | None = None,
        error: str | None = None,
        is_final: bool = False,
    ) -> None:
        """Note its outcome; see `Journal.finish`."""
        if outcome is Outcome.DELIVERED:
            if message_id is not None and not can_be_stored(message_id, LONGEST):
                raise InvalidInputError("the id of a delivered message cannot be stored")
            await self._note(Kind.DELIVER, claim, message_id)
            return
        reason = error and error.encode(errors="replace").decode().replace("\0", "?")
        if outcome is Outcome.UNKNOWN and not is_final:
            await self._note(Kind.DOUBT, claim, reason)
            return
        state = State.UNKNOWN if outcome is Outcome.UNKNOWN else State.NOT_SENT
        await self._note(Kind.CLOSE, claim, state.value, reason)

    async def requeue(self, claim: Claim) -> None:
        """Let it wait again: it was certainly not sent."""
        await self._note(Kind.REQUEUE, claim)

    async def park(self, claim: Claim) -> None:
        """Leave it to a run that is given it: it has certainly not been sent."""
        await self._note(Kind.PARK, claim, State.PARKED.value, None)

    def abandon(self, claim: Claim) -> None:
        """Leave a message to the next run, which finds it here."""

    def left_over(self) -> list[Claim]:
        """Return none: what was not sent waits here."""
        return []

    async def renew(self) -> Mapping[str, int]:
        """Renew the lease on all claims; see `Journal.renew`."""
        if not self._database.is_shared:
            return {}
        kept = await self._all(self.claiming.renew, {"b_worker": self._worker})
        return {row.key: row.claims for row in kept}

    @property
    def paused_by(self) -> JournalError | None:
        """Why it cannot write just now: a full disk, or a restart of PostgreSQL; `None` if it can."""
        return self._writer.paused_by

    def stop_retrying(self) -> None:
        """Fail at the first error from now on, since the run is ending."""
        self._writer.patience = 0.0

    # --- decisions of a person

    async def decide(
        self, key: str, outcome: Outcome, *, by: str, at: datetime, message_id: str | None = None
    ) -> None:
        """Note a person's decision about a message that is `UNKNOWN`.

        `DELIVERED` is final. One that was `NOT_SENT` is parked for the next run that is given it, or that
        continues with the journal. Neither blocks its chat any longer.

        Raises:
            InvalidInputError: there is no such message, it is not in question, or the id is another one's.
            JournalInUseError: a worker is reconciling it just now.
        """
        decision = Decision(outcome, by, at)

        def decide(connection: Connection) -> None:
            if self._database.is_shared:
                # What a worker is entering just now may be the next to this recipient.
                connection.execute(FINISH_WHILE_NONE_ENTERS)
            transactions.decide(connection, self.claiming, key, decision, message_id)

        self._refuse_reader()
        transactions.check_decision(decision, message_id)
        await self.do(decide)

    # --- reading

    def now(self) -> datetime:
        """Return the time by the journal's clock, which is PostgreSQL's where several share it."""
        return self._database.now()

    async def has_open(self) -> bool:
        """Return whether there is a message of a run that waits, is being sent, or is in doubt."""
        return bool(await self._all(statements.OPEN)) or await self.is_behind_campaigns()

    async def is_behind_campaigns(self) -> bool:
        """Return whether a message of a run waits for those of a campaign that go first to its recipient."""
        return bool(await self._all(statements.OPEN_BEHIND))

    async def count_in_doubt(self) -> int:
        """Count the messages that a run has to reconcile."""
        ((count,),) = await self._all(statements.COUNT_IN_DOUBT)
        return int(count)

    async def conversation_with(self, chat: str) -> str | None:
        """Return the chat to which the last message to this recipient went, if there was one."""
        found = await self._all(statements.CONVERSATION_WITH, {"chat": chat})
        return found[0].sent_to if found else None

    async def is_claimed_id(self, message_id: str, besides: str) -> bool:
        """Return whether a message is known to be that of another entry than `besides`."""
        wanted = {"message_id": message_id, "besides": besides}
        return bool(await self._all(statements.IS_CLAIMED_ID, wanted))

    async def has_equal_in_doubt(self, key: str) -> bool:
        """Return whether another message with its text, to its recipient, may have been delivered."""
        return bool(await self._all(statements.EQUAL_IN_DOUBT, {"key": key}))

    async def message(self, key: str) -> JournalMessage | None:
        """Return the message with this key."""
        found = await self._all(statements.MESSAGE, {"key": key})
        return message_of(found[0]) if found else None

    async def message_with_id(self, message_id: str) -> JournalMessage | None:
        """Return the message that was delivered under this id."""
        found = await self._all(statements.MESSAGE_WITH_ID, {"message_id": message_id})
        return message_of(found[0]) if found else None

    async def newest_delivery(
        self, chat: str | None = None, *, before: datetime | None = None
    ) -> Delivered | None:
        """Return a delivered message; see `Journal.newest_delivery`. Of its text, only a hash is left."""

        def find(connection: Connection) -> Any:
            if before is not None:
                return connection.execute(statements.NEWEST_BEFORE, {"before": before}).first()
            found = (
                None
                if chat is None
                else connection.execute(statements.NEWEST_OF_CHAT, {"chat": chat}).first()
            )
            return found or connection.execute(statements.NEWEST).first()

        row = await self.do(find)
        if row is None:
            return None
        return Delivered(
            ChatAddress.of_text(row.sent_to),
            row.message_id,
            row.started_at,
            row.updated_at,
            lambda text: body_hash(self.salt, text) == row.body_hash,
        )

    async def counts(self, *, of_runs: bool = False) -> dict[State, int]:
        """Count the messages in each state; with `of_runs`, without those of campaigns."""
        counting = statements.COUNTS_OF_RUNS if of_runs else statements.COUNTS
        counted = {State(state): number for state, number in await self._all(counting)}
        return {state: counted.get(state, 0) for state in State}

    async def rows(self, state: State | None = None) -> AsyncIterator[JournalMessage]:
        """Go through the journal in order. What happens meanwhile may or may not be seen."""
        wanted = {"state": state and state.value, "after": -1, "most": _AT_ONCE}
        while page := await self._all(statements.PAGE, wanted):
            for row in page:
                yield message_of(row)
            wanted = wanted | {"after": page[-1].position}

    async def purge(self, older_than: timedelta) -> int:
        """Delete what was delivered, not sent or parked longer ago than this, and return how many.

        Their keys are forgotten with them: given the same input again, they would be sent again. So those of
        a campaign stay while it is not entered completely, or has messages that are not settled. From an
        SQLite file the texts are gone; PostgreSQL's own logs and backups are its administrator's.
        """
        before = datetime.now(UTC) - older_than

        def delete(connection: Connection) -> int:
            deleted = connection.execute(statements.PURGE, {"before": before}).rowcount
            connection.execute(statements.FORGET_UNUSED_ADDRESSES)
            return deleted

        async def purge() -> int:
            deleted = await self._database.run(delete)
            if not await self._database.compact():
                raise JournalError(
                    f"{deleted} messages are deleted, but another program reads the journal, so traces stay"
                    " in the file beside it. Purge again when none does."
                )
            return deleted

        self._refuse_reader()
        return await self._writer.do(purge)

    # --- helpers

    def do(self, work: Callable[[Connection], T], *, into_file: bool = False) -> "asyncio.Future[T]":
        """Do something in a transaction by itself; see `Database.run`."""
        return self._writer.do(partial(self._database.run, work, into_file=into_file))

    async def _all(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Return all rows that a statement finds."""
        return await self.do(lambda connection: connection.execute(statement, values or {}).all())

    def _note(self, kind: Kind, claim: Claim, *values: str | None) -> "asyncio.Future[None]":
        self._refuse_reader()
        return self._writer.note(Change(kind, claim, values))

    async def claimed(
        self, take: Callable[[Connection], list[Claim]], *, by_itself: bool = False
    ) -> list[Claim]:
        """Wait for claims that are taken in a batch, or in a transaction `by_itself`.

        If this is cancelled, they are released.
        """
        self._refuse_reader()
        taking = self.do(take) if by_itself else self._writer.run_in_batch(take)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._release_claims)
            raise

    def _release_claims(self, taken: "asyncio.Future[list[Claim]]") -> None:
        if taken.cancelled() or taken.exception() is not None or self._writer.is_closing:
            return
        for claim in taken.result():
            self._note(Kind.RELEASE, claim)

    def _refuse_reader(self) -> None:
        if self._is_reading:
            raise JournalError("The journal is open for reading only.")

    def _with_fingerprint(self, entry: Entry) -> Entry:
        if entry.fingerprint is not None:
            return entry
        made = fingerprint_of(entry.chat, entry.body, entry.files, entry.question, salt=self.salt)
        return evolve(entry, fingerprint=made)

    def enter_alone(self, connection: Connection) -> None:
        """Let no other worker enter or finish anything until the end of the transaction that has begun."""
        if self._database.is_shared:
            connection.execute(ENTER_ALONE)

    def take(
        self, connection: Connection, found: Select[Any], limits: Mapping[str, Any] | None = None
    ) -> list[Claim]:
        """Claim what a query of `Claiming` finds, in the transaction that has begun."""
        # By position, which comes first.
        taken = [claim_of(row) for row in sorted(connection.execute(found, limits or {}).scalar_one())]
        if taken:
            claimed = {**rows_of(claim.key for claim in taken), "b_worker": self._worker}
            connection.execute(self.claiming.take, claimed)
        return taken

    def _start_run(self, connection: Connection, unparked: Sequence[State], *, superseded: bool) -> int:
        is_alone = True
        if self._database.is_shared:
            # Of a try before this one, which was rolled back: these locks are not.
            connection.execute(HOLD_NO_LOCK)
            is_alone = connection.execute(IS_ONLY_SENDER).scalar_one()
            self._database.is_sender = True
            connection.execute(BE_SENDER)
            connection.execute(ENTER_ALONE)
        left_out, run = transactions.start_run(connection, unparked, superseded=superseded, is_alone=is_alone)
        if run is not None:
            self._run, self.has_earlier = run
        if self._database.is_shared and is_alone:
            connection.execute(LET_OTHERS_SEND)
        return left_out

    def _release_all(self, connection: Connection) -> None:
        connection.execute(self.claiming.release_all, {"b_worker": self._worker})
