"""What a journal does, done by the one task that may use the database."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Select

from healthmsg.bulk.journal import deciding, keys, migrations, recipients, run_numbers, statements
from healthmsg.bulk.journal.changes import Change, Changes, Kind
from healthmsg.bulk.journal.database import JournalDatabase
from healthmsg.bulk.journal.entering import Entering, can_be_stored, reopen, standing_of
from healthmsg.bulk.journal.rows import moment
from healthmsg.bulk.journal.schema import utc
from healthmsg.bulk.journal.target import Target
from healthmsg.bulk.journal.values import (
    Claimed,
    Decision,
    Earlier,
    Entry,
    Owner,
    Row,
    Sample,
    Standing,
    State,
)
from healthmsg.bulk.journal.writer import Writer
from healthmsg.errors import InvalidInputError, JournalError, Outcome

T = TypeVar("T")
_MILLISECOND: Final = timedelta(milliseconds=1)
# Later than any.
_NO_RUN: Final = 2**62


class Store:
    """An open journal."""

    def __init__(
        self,
        database: JournalDatabase,
        claiming: statements.Claiming,
        patience: float,
        *,
        is_reading: bool,
    ) -> None:
        self.salt: bytes = database.salt
        self.is_partly_lost: bool = database.is_partly_lost
        self._database = database
        self._claiming = claiming
        self._is_reading = is_reading
        self._run: int = _NO_RUN if is_reading else 0
        self.has_earlier: bool = True
        """Whether there may be messages of earlier runs."""
        # Of this opening, not of the process: a claim of an earlier one is void.
        self._worker = token_hex(16)
        database.changes = Changes(self._worker, claiming, database.is_shared) if not is_reading else None
        self._writer = Writer(database, patience)

    @classmethod
    async def open(cls, target: Target, lease: timedelta, patience: float, *, is_reading: bool) -> "Store":
        """Open it; see `JournalDatabase.open` for what can go wrong."""
        database = await JournalDatabase.open(target, lease, is_reading=is_reading)
        own_lease = lease if database.is_shared else None
        claiming = statements.Claiming.of(own_lease, keep_bodies=target.keep_bodies)
        return cls(database, claiming, patience, is_reading=is_reading)

    async def close(self) -> None:
        """Do what was asked for, let go of what is claimed, and close."""
        self.lose_patience()
        if not (self._is_reading or self._writer.has_failed or self._writer.is_closing):
            letting_go = self._do(self._let_go)
            await asyncio.wait([letting_go])
            # It has failed: then the lease ends, or the next to open the file lets go.
            letting_go.exception()
        await self._writer.close()

    async def keep_owner(self, owner: Owner) -> Owner:
        """Return what the journal belongs to: this, as far as it belonged to nothing yet."""
        return await self._do(partial(self._keep_owner, owner=owner))

    async def owner(self) -> Owner:
        """Return what the journal belongs to, so far."""
        return await self._do(migrations.read_owner)

    async def set_out(self, *, resumes: bool, retry_failed: bool, superseded: bool) -> int:
        """Decide which of the messages that are here already are to be sent; count those left out."""
        states = [State.SET_ASIDE, State.NOT_SENT] if retry_failed else [State.SET_ASIDE]
        work = partial(self._set_out, take_up=states if resumes else (), superseded=superseded)
        return await self._do(work)

    async def earlier(self, chats: Iterable[str], besides: int) -> list[Earlier]:
        """Return what earlier runs, besides one, were given for these chats."""
        return await self._do(partial(_earlier, chats=[*chats], besides=besides, present=self._run))

    async def note_all_read(self) -> None:
        """Note that the run has read all that it was given."""
        await self._do(partial(run_numbers.note_all_read, run=self._run))

    async def superseded(self) -> dict[State, int]:
        """Count what a run that goes on with the journal leaves out."""
        return await self._do(_count_superseded)

    async def take_up(self, keys_wanted: Sequence[str]) -> None:
        """Let those of these wait again that were set aside."""
        await self._do(partial(self._take_up, keys_wanted=keys_wanted))

    async def look_up(self, entries: Sequence[Entry]) -> list[Standing]:
        """Tell how some stand, and enter none."""
        entering = Entering(self.salt, self._database.is_shared, retry_failed=False)
        prepared = [entering.prepare(entry) for entry in entries]
        return await self._do(lambda connection: entering.look_up(connection, prepared))

    async def standings(self, keys_wanted: Sequence[str]) -> list[Standing]:
        """Tell how those of these that are known stand."""
        found = await self._do(
            lambda c: c.execute(statements.KNOWN, {"rows": [[key] for key in keys_wanted]}).all()
        )
        return [standing_of(row) for row in found]

    async def enter(
        self,
        entries: Sequence[Entry],
        same_chats: Sequence[Sequence[str]],
        *,
        retry_failed: bool,
        superseded: Sequence[str],
    ) -> list[Standing]:
        """Enter some in one transaction."""
        entering = Entering(self.salt, self._database.is_shared, retry_failed, self._run)
        prepared = [entering.prepare(entry) for entry in entries]
        # Before the first of them can be sent: should the `-wal` file be lost then, they are still known.
        return await self._do(
            lambda connection: entering.enter(connection, prepared, same_chats, superseded), into_file=True
        )

    async def learn_same(self, groups: Sequence[Sequence[str]]) -> None:
        """Note that the addresses of each group lead to the same chat."""
        self._refuse_reader()
        learn = partial(self._learn_same, groups=groups)
        # Where others share it, a lock is needed that cannot be had after that of a message that has ended.
        await (self._do(learn) if self._database.is_shared else self._writer.go_along(learn))

    async def same_chats(self, chats: Sequence[str]) -> list[tuple[str, ...]]:
        """Return what is known of these addresses: each time all that lead to one chat."""
        return await self._do(lambda connection: recipients.same_chats(connection, chats))

    async def decide(self, key: str, decision: Decision, message_id: str | None) -> None:
        """Note what a person says became of a message."""
        self._refuse_reader()
        deciding.check_decision(decision, message_id)
        await self._do(partial(self._decide, key=key, decision=decision, message_id=message_id))

    def take_next(self, most: int) -> "asyncio.Future[list[Claimed]]":
        """Claim what is next."""
        self._refuse_reader()
        take = partial(self._take, found=self._claiming.take_next, limits={"most": most})
        return self._writer.go_along(take)

    def take_in_doubt(self) -> "asyncio.Future[list[Claimed]]":
        """Claim what may have been sent by somebody who is no more."""
        self._refuse_reader()
        return self._do(partial(self._take, found=self._claiming.take_in_doubt, limits={}))

    def give_back_what_comes(self, taking: "asyncio.Future[list[Claimed]]") -> None:
        """Let go of claims that nobody waits for any more."""

        def give_back(taken: "asyncio.Future[list[Claimed]]") -> None:
            if taken.cancelled() or taken.exception() is not None or self._writer.is_closing:
                return
            for claim in taken.result():
                self._note(Kind.LET_GO, claim)

        taking.add_done_callback(give_back)

    def begin(
        self, claim: Claimed, started_at: datetime, sent_to: str, date_ahead: timedelta | None
    ) -> "asyncio.Future[None]":
        """Note that the call is about to be made."""
        if not can_be_stored(sent_to, 1000):
            raise InvalidInputError("the address of the chat cannot be stored")
        milliseconds = None if date_ahead is None else str(date_ahead // _MILLISECOND)
        return self._note(Kind.BEGIN, claim, sent_to, moment(started_at), milliseconds)

    def finish(
        self, claim: Claimed, outcome: Outcome, message_id: str | None, error: str | None, *, is_final: bool
    ) -> "asyncio.Future[None]":
        """Note what became of it."""
        if outcome is Outcome.DELIVERED:
            if message_id is not None and not can_be_stored(message_id, 1000):
                raise InvalidInputError("the id of a delivered message cannot be stored")
            return self._note(Kind.DELIVER, claim, message_id)
        told = error and error.encode(errors="replace").decode().replace("\0", "?")
        if outcome is Outcome.UNKNOWN and not is_final:
            return self._note(Kind.DOUBT, claim, told)
        state = State.UNKNOWN if outcome is Outcome.UNKNOWN else State.NOT_SENT
        return self._note(Kind.CLOSE, claim, state.value, told)

    def put_back(self, claim: Claimed) -> "asyncio.Future[None]":
        """Let it wait again."""
        return self._note(Kind.PUT_BACK, claim)

    def set_aside(self, claim: Claimed) -> "asyncio.Future[None]":
        """Leave it to whoever is given it."""
        return self._note(Kind.SET_ASIDE, claim, State.SET_ASIDE.value, None)

    @property
    def paused_by(self) -> JournalError | None:
        """What keeps it from writing just now, and may pass."""
        return self._writer.paused_by

    def lose_patience(self) -> None:
        """Fail at the first error."""
        self._writer.patience = 0.0

    async def has_open(self) -> bool:
        """Tell whether something may still happen to a message."""
        return bool(await self._do(lambda c: c.execute(statements.OPEN).first()))

    async def count_in_doubt(self) -> int:
        """Count what may have been delivered."""
        return int(await self._do(lambda c: c.execute(statements.COUNT_IN_DOUBT).scalar_one()))

    async def renew(self) -> dict[str, int]:
        """Keep all claims for another lease."""
        return await self._do(self._renew) if self._database.is_shared else {}

    async def conversation_with(self, chat: str) -> str | None:
        """Give where the last message to this user went."""
        return await self._do(lambda c: c.execute(statements.CONVERSATION_WITH, {"chat": chat}).scalar())

    async def is_claimed_id(self, message_id: str, besides: str) -> bool:
        """Tell whether another entry has this message."""
        wanted = {"message_id": message_id, "besides": besides}
        return bool(await self._do(lambda c: c.execute(statements.IS_CLAIMED_ID, wanted).first()))

    async def delivered_sample(self, chat: str | None, before: datetime | None) -> Sample | None:
        """Return a delivered message."""
        return await self._do(partial(_sample, chat=chat, before=before))

    def now(self) -> datetime:
        """Return the time by the journal's clock."""
        return self._database.now()

    async def counts(self) -> dict[State, int]:
        """Count the messages in each state."""
        found = await self._do(lambda connection: connection.execute(statements.COUNTS).all())
        counted = {State(state): number for state, number in found}
        return {state: counted.get(state, 0) for state in State}

    async def page(self, state: State | None, after: int, most: int) -> list[Row]:
        """Give some rows in order of position."""
        wanted = {"state": state and state.value, "after": after, "most": most}
        found = await self._do(lambda connection: connection.execute(statements.PAGE, wanted).all())
        return [_row(row) for row in found]

    async def purge(self, before: datetime) -> int:
        """Delete what was settled before, and its traces."""
        return await self._writer.do(partial(self._purge, before))

    async def _purge(self, before: datetime) -> int:
        self._refuse_reader()
        deleted = await self._database.run(partial(_delete, before=before))
        if not await self._database.compact():
            raise JournalError(
                f"{deleted} messages are deleted, but somebody reads the journal, so traces stay in the file"
                " beside it. Purge again when nobody does."
            )
        return deleted

    def _do(self, work: Callable[[Connection], T], *, into_file: bool = False) -> "asyncio.Future[T]":
        run: Callable[[], Awaitable[T]] = partial(self._database.run, work, into_file=into_file)
        return self._writer.do(run)

    def _note(self, kind: Kind, claim: Claimed, *values: str | None) -> "asyncio.Future[None]":
        return self._writer.note(Change(kind, claim, values))

    def _refuse_reader(self) -> None:
        if self._is_reading:
            raise JournalError("The journal is open for reading only.")

    def _keep_owner(self, connection: Connection, owner: Owner) -> Owner:
        self._refuse_reader()
        if self._database.is_shared:
            connection.execute(statements.ENTER_ALONE)
        return migrations.keep_owner(connection, owner)

    def _take(self, connection: Connection, found: Select[Any], limits: dict[str, int]) -> list[Claimed]:
        # By position, which comes first.
        taken = [_claimed(row) for row in sorted(connection.execute(found, limits).scalar_one())]
        if taken:
            keys_taken = [[claim.key] for claim in taken]
            connection.execute(self._claiming.take, {"rows": keys_taken, "b_worker": self._worker})
        return taken

    def _set_out(self, connection: Connection, take_up: Sequence[State], *, superseded: bool) -> int:
        self._refuse_reader()
        if self._database.is_shared:
            # Of a try before this one, which was rolled back: these locks are not.
            connection.execute(statements.HOLD_NO_LOCK)
        is_alone = not self._database.is_shared or connection.execute(statements.IS_ONLY_SENDER).scalar_one()
        if self._database.is_shared:
            self._database.is_sender = True
            connection.execute(statements.BE_SENDER)
            connection.execute(statements.ENTER_ALONE)
        left_out = 0
        if take_up or is_alone:
            connection.execute(statements.JOIN_AGAIN)
        if take_up:
            states = [state.value for state in take_up]
            left_out = _leave_out_superseded(connection, take_up, are_wanted=superseded)
            connection.execute(statements.TAKE_UP_ALL, {"states": states, "b_now": datetime.now(UTC)})
            connection.execute(statements.NOTHING_FREE_IS_NEXT)
            connection.execute(statements.PROMOTE_ALL)
        else:
            if is_alone:
                connection.execute(statements.SET_ASIDE)
            self._run, self.has_earlier = run_numbers.begin_run(connection, is_new=is_alone)
        if self._database.is_shared and is_alone:
            connection.execute(statements.LET_OTHERS_SEND)
        return left_out

    def _take_up(self, connection: Connection, keys_wanted: Sequence[str]) -> None:
        self._refuse_reader()
        if self._database.is_shared:
            connection.execute(statements.ENTER_ALONE)
        found = connection.execute(statements.KNOWN, {"rows": [[key] for key in keys_wanted]}).all()
        aside = [row.key for row in found if row.state == State.SET_ASIDE.value]
        if aside:
            reopen(connection, aside)

    def _decide(self, connection: Connection, key: str, decision: Decision, message_id: str | None) -> None:
        if self._database.is_shared:
            # What a worker is entering just now may be the next to this recipient.
            connection.execute(statements.FINISH_WHILE_NOBODY_ENTERS)
        deciding.decide(connection, self._claiming, key, decision, message_id)

    def _learn_same(self, connection: Connection, groups: Sequence[Sequence[str]]) -> None:
        if self._database.is_shared:
            connection.execute(statements.ENTER_ALONE)
        recipients.learn(connection, recipients.concerned(connection, groups))

    def _renew(self, connection: Connection) -> dict[str, int]:
        kept = connection.execute(self._claiming.renew, {"b_worker": self._worker})
        return {row.key: row.claims for row in kept}

    def _let_go(self, connection: Connection) -> None:
        connection.execute(self._claiming.let_go, {"b_worker": self._worker})


def _delete(connection: Connection, before: datetime) -> int:
    deleted = connection.execute(statements.PURGE, {"before": before}).rowcount
    connection.execute(statements.FORGET_UNUSED_ADDRESSES)
    return deleted


def _earlier(connection: Connection, chats: Sequence[str], besides: int, present: int) -> list[Earlier]:
    recipient_of = recipients.recipients_of(connection, chats)
    wanted = {"rows": [[one] for one in set(recipient_of.values())], "own": besides, "present": present}
    found: dict[str, list[Any]] = {}
    for row in connection.execute(statements.EARLIER, wanted).all():
        found.setdefault(row.recipient, []).append(row)
    return [
        Earlier(row.key, chat, State(row.state), row.run)
        for chat, recipient in recipient_of.items()
        for row in found.get(recipient, ())
    ]


def _leave_out_superseded(connection: Connection, take_up: Sequence[State], *, are_wanted: bool) -> int:
    """Decide what becomes of texts that were replaced, and count those that are left out."""
    if are_wanted:
        connection.execute(statements.NOTHING_IS_SUPERSEDED)
        return 0
    if before := run_numbers.unread_run(connection):
        connection.execute(statements.SUPERSEDE_EARLIER, {"b_before": before})
    counted = _count_superseded(connection)
    return sum(counted[state] for state in take_up)


def _count_superseded(connection: Connection) -> dict[State, int]:
    wanted = {"before": run_numbers.unread_run(connection)}
    counted = dict([*connection.execute(statements.COUNT_SUPERSEDED, wanted)])
    return {state: counted.get(state.value, 0) for state in (State.SET_ASIDE, State.NOT_SENT)}


def _sample(connection: Connection, chat: str | None, before: datetime | None) -> Sample | None:
    found = None
    if before is not None:
        found = connection.execute(statements.NEWEST_BEFORE, {"before": before}).first()
        return None if found is None else Sample(*found)
    if chat is not None:
        found = connection.execute(statements.NEWEST_OF_CHAT, {"chat": chat}).first()
    found = found or connection.execute(statements.NEWEST).first()
    return None if found is None else Sample(*found)


def _claimed(row: Sequence[Any]) -> Claimed:
    (_, key, chat, body, files, question, state, attempts, *last) = row
    started_at, date_ahead, sent_to, claims, is_superseded, label = last
    return Claimed(
        key,
        chat,
        body,
        keys.files_of_json(files),
        keys.question_of_json(question),
        State(state),
        attempts,
        None if started_at is None else utc(datetime.fromisoformat(started_at)),
        sent_to,
        claims + 1,
        None if date_ahead is None else date_ahead * _MILLISECOND,
        bool(is_superseded),
        label,
    )


def _row(row: Any) -> Row:
    return Row(
        row.key,
        row.position,
        row.chat,
        row.body,
        keys.files_of_json(row.files),
        keys.question_of_json(row.question),
        State(row.state),
        row.is_final,
        row.message_id,
        row.error,
        row.attempts,
        row.started_at,
        row.sent_to,
        row.updated_at,
        row.run,
        row.is_superseded,
        None if row.decided is None else Decision(Outcome(row.decided), row.decided_by, row.decided_at),
        row.label,
    )
