"""Changes to claimed messages, which are batched, since each transaction costs a sync of the disk."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final, Self

from attrs import field, frozen
from sqlalchemy import Connection

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.base import Claim
from healthmsg.bulk.journal.statements import Kind
from healthmsg.database.base import FINISH_WHILE_NONE_ENTERS
from healthmsg.errors import ClaimLostError


@frozen
class Change:
    """One change to one claimed message."""

    kind: Kind
    claim: Claim
    values: tuple[str | None, ...] = field(default=(), repr=False)
    """What is noted, in the order in which the statement takes it."""

    @property
    def subject(self) -> str:
        """What it changes: the key of the message."""
        return self.claim.key


_ENDING: Final = (Kind.DELIVER, Kind.CLOSE, Kind.PARK)


@frozen
class Changes:
    """Makes changes to messages that this worker holds."""

    worker: str
    """Of one opening of a journal, not of the process: a claim of an earlier one is void."""
    claiming: statements.Claiming
    lease: timedelta | None
    """For how long a claim is held; `None`: no other worker has the database."""

    @classmethod
    def of(cls, lease: timedelta | None, *, keep_bodies: bool = False) -> Self:
        """Make it for a new worker; without a lease, for SQLite."""
        return cls(token_hex(16), statements.Claiming.of(lease, keep_bodies=keep_bodies), lease)

    def make_all(self, connection: Connection, changes: Sequence[Change], now: datetime) -> list[None]:
        """Make them, each of another message, in the transaction that has begun; `now` is noted with each.

        Raises:
            ClaimLostError: this worker does not hold one of them any more. The transaction must be undone.
        """
        self._keep_order(connection, changes)
        by_kind: dict[Kind, list[Change]] = {}
        for change in changes:
            by_kind.setdefault(change.kind, []).append(change)
        for kind, alike in by_kind.items():
            if self._make(connection, kind, alike, now) != len(alike):
                raise ClaimLostError
        ended = [[change.claim.key] for kind in _ENDING for change in by_kind.get(kind, ())]
        if ended:
            # The message after each is the next to its recipient.
            connection.execute(statements.PROMOTE_AFTER, {"rows": ended})
        return [None] * len(changes)

    def make_each(
        self, connection: Connection, changes: Sequence[Change], now: datetime
    ) -> list[ClaimLostError | None]:
        """Make those that can be, and return for each of the others an error."""
        results = list[ClaimLostError | None]()
        # Not after the first of them: one who enters alone would wait for that, and this for the lock.
        self._keep_order(connection, changes)
        for change in changes:
            try:
                results += self.make_all(connection, [change], now)
            except ClaimLostError:  # and so nothing was changed
                results.append(ClaimLostError("This message is no longer this worker's: not noted."))
        return results

    def _keep_order(self, connection: Connection, changes: Sequence[Change]) -> None:
        """Let others enter nothing while messages end: that decides which is next."""
        if self.lease is not None and any(change.kind in _ENDING for change in changes):
            connection.execute(FINISH_WHILE_NONE_ENTERS)

    def _make(self, connection: Connection, kind: Kind, alike: Sequence[Change], now: datetime) -> int:
        rows = [(one.claim.key, one.claim.fence, *one.values) for one in alike]
        noted = {"rows": rows, "b_worker": self.worker, "b_now": now}
        return connection.execute(self.claiming.changes[kind], noted).rowcount
