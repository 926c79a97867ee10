"""The journal: what becomes of each message is in it before it happens."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from healthmsg.aio import start
from healthmsg.bulk.journal import keys
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
from healthmsg.environment import comparable_url
from healthmsg.errors import (
    ConfigurationError,
    InvalidInputError,
    JournalError,
    JournalMismatchError,
    JournalNotFoundError,
    Outcome,
)

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import Store

LEASE: Final = timedelta(seconds=60)
_AT_ONCE: Final = 500


class Journal:
    """Knows of each message whether it waits, is being sent, or what became of it.

    An async context manager. What a method has acknowledged survives a power cut. Cancelling a method that
    has been called loses nothing: what it was to note is noted. After a failed write everything fails, since
    a run cannot go on without its journal.

    With an SQLite file, one process sends at a time. With PostgreSQL, several share the work, and a worker
    that does not `renew` within the lease loses what it has claimed. When a lease ends is decided by the
    clock of the database's machine; how a worker judges that is said in `healthmsg.bulk.lease`.

    Raises:
        JournalInUseError: on entering: somebody else sends with this file.
        JournalVersionError: on entering: a newer version of this package made it.
        JournalIncompleteError: on entering: the `-wal` file that belongs to it is missing.
        JournalGoneError: from any method: it was deleted, moved or replaced meanwhile.
        JournalError: on entering: it cannot be used; says why. From any method: it has failed.
    """

    def __init__(self, target: Target, lease: timedelta, patience: float, *, is_reading: bool) -> None:
        self._target = target
        self._lease = lease
        self._patience = patience
        self._is_reading = is_reading
        self._open: Store | None = None

    @classmethod
    def open(
        cls,
        target: str | os.PathLike[str],
        *,
        lease: timedelta = LEASE,
        patience: float = 0.0,
        is_reading: bool = False,
    ) -> "Journal":
        """Open `recall.db`, `recall.db?keep_bodies=1` or `postgresql+asyncpg://…`; a `Path` is taken as is.

        `?accept_missing_wal=1` goes on without the `-wal` file of a run that was killed; else a file that
        lacks it is refused. Then all that was to be sent is in doubt, and is looked for before it is sent;
        what was not sent before, and messages to users without a known conversation, become unknown.

        PgBouncer and what is like it is refused, since it gives a run's locks to others.
        `?pool_mode=session` at the end of the URL says that it keeps one connection for each session.

        `is_reading` opens it beside one who sends; then only what reads works. While the disk is full, or
        PostgreSQL is restarted, it is tried again for `patience` seconds. A sender's lease goes on meanwhile:
        it waits for PostgreSQL for three quarters of that at most.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        if lease <= timedelta():
            raise ConfigurationError("the lease of a journal must be longer than nothing")
        return cls(Target.parse(target), lease, patience, is_reading=is_reading)

    async def __aenter__(self) -> Self:
        if self._open is not None:
            raise JournalError("The journal is open already.")
        path = self._target.path
        if self._is_reading and path is not None and not path.exists():
            raise JournalNotFoundError("There is no journal there.")
        # Importing what the extra brings takes a quarter of a second.
        store = await asyncio.to_thread(_store)
        self._open = await store.open(self._target, self._lease, self._patience, is_reading=self._is_reading)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Cancelling does not cut it short: what has been asked for is about to be on the disk.
        ending = start(self._store.close())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await ending
            raise

    async def belong_to(self, account: str, api_url: str) -> None:
        """Note whose messages these are and where they go, or compare: a journal is of one account there.

        `account` is the user's id: equal ids at two URLs are two users.

        Raises:
            JournalMismatchError: it belongs to another one.
        """
        owner = Owner(comparable_url(api_url), account)
        _require_same(await self._store.keep_owner(owner), owner)

    async def check_owner(self, api_url: str, account: str | None = None) -> None:
        """Compare only, as far as is known; for one who reads, too.

        Raises:
            JournalMismatchError: it belongs to another account, or to another URL.
        """
        _require_same(await self._store.owner(), Owner(comparable_url(api_url), account))

    @property
    def salt(self) -> bytes:
        """What makes this journal's derived keys its own."""
        return self._store.salt

    @property
    def is_partly_lost(self) -> bool:
        """Whether its newest state was missing, and was to be done without: `?accept_missing_wal=1`."""
        return self._store.is_partly_lost

    @property
    def lease(self) -> timedelta | None:
        """For how long claims are held unless they are renewed; `None`: as long as the journal is open."""
        return self._lease if self._target.path is None else None

    async def set_out(
        self, *, resumes: bool = False, retry_failed: bool = False, superseded: bool = False
    ) -> int:
        """Begin a run: what waits from earlier ones is set aside until it is entered again.

        Not what another sender is about to send just now. With `resumes`, all that was set aside waits again
        instead, and with `retry_failed`, what was not sent too; but not what a later run replaced by
        something else, unless `superseded` is given. Return how many are left out for that reason.
        """
        return await self._store.set_out(resumes=resumes, retry_failed=retry_failed, superseded=superseded)

    async def enter(
        self,
        entries: Iterable[Entry],
        *,
        same_chats: Sequence[Sequence[str]] = (),
        retry_failed: bool = False,
        superseded: Sequence[str] = (),
    ) -> list[Standing]:
        """Enter what is new, and tell of each how it stands, in the same order.

        `same_chats` are groups of addresses of which each leads to one chat, as in `learn_same`.
        What was set aside waits again, in its old place, and with `retry_failed`, what was not sent. An entry
        that is refused says so in its standing; the others are entered. `superseded` are the keys of messages
        of earlier runs that these replace: they are noted as such with the first of them.
        """
        standings: list[Standing] = []
        remaining = iter(entries)
        while (some := list(islice(remaining, _AT_ONCE))) or superseded:
            standings += await self._store.enter(
                some, same_chats, retry_failed=retry_failed, superseded=superseded
            )
            superseded = ()
        return standings

    async def learn_same(self, groups: Sequence[Sequence[str]]) -> None:
        """Note that the addresses of each group lead to the same chat: then their messages keep one order.

        What was begun by then is left to its end. What was claimed and not begun is taken back, unless it is
        the first: `begin` raises `ClaimLostError` then.
        """
        await self._store.learn_same(groups)

    async def same_chats(self, chats: Iterable[str]) -> list[tuple[str, ...]]:
        """Return what is known of these addresses: each time all that lead to one chat, if there are more."""
        return await self._store.same_chats([*chats])

    @property
    def has_earlier(self) -> bool:
        """Whether there may be messages of runs before the present one, if one has begun."""
        return self._store.has_earlier

    async def earlier(self, chats: Iterable[str], *, besides: int = -1) -> list[Earlier]:
        """Return what runs before the present one, if one has begun, were given for these chats.

        But not what the run with the number `besides` was given.
        """
        return await self._store.earlier(chats, besides)

    async def note_all_read(self) -> None:
        """Note that the present run has read all that it was given: what it did not replace is still good."""
        await self._store.note_all_read()

    async def superseded(self) -> dict[State, int]:
        """Count what is set aside, or was not sent, and a later run replaced by something else."""
        return await self._store.superseded()

    async def decide(
        self, key: str, outcome: Outcome, *, by: str, at: datetime, message_id: str | None = None
    ) -> None:
        """Note what a person says became of a message that is `UNKNOWN`: it is settled by that.

        `DELIVERED` is final. One that was `NOT_SENT` is set aside for the next run that is given it, or that
        goes on with the journal. Either no longer holds up its chat.

        Raises:
            InvalidInputError: there is no such message, it is not in question, or the id is another one's.
            JournalInUseError: a worker is finding out about it just now.
        """
        await self._store.decide(key, Decision(outcome, by, at), message_id)

    async def look_up(self, entries: Sequence[Entry]) -> list[Standing]:
        """Tell how each would stand once it was entered, and enter none."""
        return await self._store.look_up(entries)

    async def take_up(self, keys_wanted: Sequence[str]) -> None:
        """Let those of these wait again that were set aside."""
        await self._store.take_up(keys_wanted)

    async def standings(self, keys_wanted: Sequence[str]) -> list[Standing]:
        """Tell how messages stand, by their keys, in no order."""
        return await self._store.standings(keys_wanted)

    async def claim(self, most: int) -> list[Claimed]:
        """Take the next messages to send, in order: one to a recipient at most, and none behind an open one.

        A recipient is who is behind a chat's address, and all other addresses that are known to be the same.
        """
        return await self._claimed(self._store.take_next(most)) if most > 0 else []

    async def in_doubt(self) -> list[Claimed]:
        """Take the messages that a run which is no more may have sent."""
        return await self._claimed(self._store.take_in_doubt())

    async def begin(
        self, claim: Claimed, started_at: datetime, sent_to: str, date_ahead: timedelta | None = None
    ) -> None:
        """Note, before the call is made, that it is about to be, and to which chat.

        `started_at` is by the journal's clock (`now`); `date_ahead` says by how much the service's `Date` is
        ahead of that one, if it is known.

        Raises:
            ClaimLostError: another worker has it: do not make the call.
        """
        if started_at.tzinfo is None:
            raise InvalidInputError("started_at must have a time zone")
        await self._store.begin(claim, started_at, sent_to, date_ahead)

    async def finish(
        self,
        claim: Claimed,
        outcome: Outcome,
        *,
        message_id: str | None = None,
        error: str | None = None,
        is_final: bool = False,
    ) -> None:
        """Note what became of it.

        An `UNKNOWN` one stays claimed and holds up its chat, until it is finished again or put back, or until
        `is_final` says that nobody will find out.

        Raises:
            ClaimLostError: another worker has it, which will find out by itself.
        """
        await self._store.finish(claim, outcome, message_id, error, is_final=is_final)

    async def put_back(self, claim: Claimed) -> None:
        """Let it wait again: it has certainly not been sent.

        Raises:
            ClaimLostError: another worker has it.
        """
        await self._store.put_back(claim)

    async def set_aside(self, claim: Claimed) -> None:
        """Leave it to a run that is given it: it has certainly not been sent.

        Raises:
            ClaimLostError: another worker has it.
        """
        await self._store.set_aside(claim)

    async def has_open(self) -> bool:
        """Tell whether there is a message that waits, or that somebody sends or has to find out about."""
        return await self._store.has_open()

    async def count_in_doubt(self) -> int:
        """Count the messages of which is to be found out whether they were delivered."""
        return await self._store.count_in_doubt()

    @property
    def paused_by(self) -> JournalError | None:
        """What keeps it from writing just now, and may pass: a full disk, or a restart of PostgreSQL."""
        return None if self._open is None else self._open.paused_by

    def lose_patience(self) -> None:
        """Try nothing again any more: a run is being left."""
        self._store.lose_patience()

    async def renew(self) -> Mapping[str, int]:
        """Keep all that was claimed for another lease. With SQLite there is none.

        Return what is still this worker's: of each message the key and the `fence`.
        """
        return await self._store.renew()

    async def conversation_with(self, chat: str) -> str | None:
        """Give the chat to which the last message to this recipient went, if there was one."""
        return await self._store.conversation_with(chat)

    async def is_claimed_id(self, message_id: str, besides: str) -> bool:
        """Tell whether a message is known to be that of another entry than `besides`."""
        return await self._store.is_claimed_id(message_id, besides)

    async def delivered_sample(
        self, chat: str | None = None, *, before: datetime | None = None
    ) -> Sample | None:
        """Return the newest delivered message whose id is known: of this chat if there is one, or of any.

        With `before`, the newest one of any chat that was noted by then.
        """
        return await self._store.delivered_sample(chat, before)

    def now(self) -> datetime:
        """Return the time by the journal's clock, which is PostgreSQL's where several share it."""
        return self._store.now()

    def is_body(self, sample: Sample, text: str) -> bool:
        """Tell whether this is what the message said."""
        return keys.body_hash(self._store.salt, text) == sample.body_hash

    async def counts(self) -> dict[State, int]:
        """Count the messages in each state."""
        return await self._store.counts()

    async def rows(self, state: State | None = None) -> AsyncIterator[Row]:
        """Go through the journal in order. What happens meanwhile may or may not be seen."""
        after = -1
        while page := await self._store.page(state, after, _AT_ONCE):
            for row in page:
                yield row
            after = page[-1].position

    async def purge(self, older_than: timedelta) -> int:
        """Delete what was delivered, not sent or set aside longer ago than this, and tell how many.

        Their keys are forgotten with them: given the same input again, they would be sent again. From an
        SQLite file the texts are gone; PostgreSQL's own logs and backups are its administrator's.
        """
        return await self._store.purge(datetime.now(UTC) - older_than)

    async def _claimed(self, taking: "asyncio.Future[list[Claimed]]") -> list[Claimed]:
        """Wait for what is taken; when this is cancelled, nobody has it, so it goes back."""
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._store.give_back_what_comes(taking)
            raise

    @property
    def _store(self) -> "Store":
        if self._open is None:
            raise JournalError("The journal is not open: use `async with`.")
        return self._open


def _require_same(known: Owner, owner: Owner) -> None:
    if known.api_url is not None and known.api_url != owner.api_url:
        raise JournalMismatchError(
            f"The journal belongs to {known.api_url}, and this client is for {owner.api_url}: nothing was"
            " sent. Use each journal with its own environment only."
        )
    if None not in {known.account, owner.account} and known.account != owner.account:
        raise JournalMismatchError("The journal belongs to another account: nothing was sent.")


def _store() -> "type[Store]":
    """Import what the extra brings, once it is needed."""
    try:
        from healthmsg.bulk.journal.store import Store  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = error.name
    else:
        return Store
    raise ConfigurationError(f'a journal needs {missing}: pip install "healthmsg[bulk]"')
