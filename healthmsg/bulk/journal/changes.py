"""What is noted about claimed messages, many in one transaction."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Final

from attrs import field, frozen
from sqlalchemy import Connection, Update

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.base import Claim
from healthmsg.errors import ClaimLostError


class Kind(Enum):
    """What is noted."""

    BEGIN = "begin"
    DELIVER = "deliver"
    CLOSE = "close"
    DOUBT = "doubt"
    REQUEUE = "requeue"
    PARK = "park"
    RELEASE = "release"
    """Nobody has it any more; what is known of it stays."""


@frozen
class Change:
    """One thing to note about one claimed message."""

    kind: Kind
    claim: Claim
    values: tuple[str | None, ...] = field(default=(), repr=False)
    """What is noted, in the order in which the statement takes it."""


_ENDING: Final = (Kind.DELIVER, Kind.CLOSE, Kind.PARK)


@frozen
class Changes:
    """Makes changes to messages that this worker holds."""

    _worker: str
    _claiming: statements.Claiming
    _is_shared: bool

    def make_all(self, connection: Connection, changes: Sequence[Change], now: datetime) -> None:
        """Make them, each of another message, in the transaction that has begun; `now` is noted with each.

        Raises:
            ClaimLostError: this worker does not hold one of them any more. The transaction must be undone.
        """
        if self._is_shared and any(change.kind in _ENDING for change in changes):
            connection.execute(statements.FINISH_WHILE_NOBODY_ENTERS)
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

    def make_each(self, connection: Connection, changes: Sequence[Change], now: datetime) -> list[bool]:
        """Make those that can be, and tell of each whether it was."""
        return [self._is_made(connection, change, now) for change in changes]

    def _is_made(self, connection: Connection, change: Change, now: datetime) -> bool:
        try:
            self.make_all(connection, [change], now)
        except ClaimLostError:  # and so nothing was changed
            return False
        return True

    def _make(self, connection: Connection, kind: Kind, alike: Sequence[Change], now: datetime) -> int:
        rows = [(one.claim.key, one.claim.fence, *one.values) for one in alike]
        noted = {"rows": rows, "b_worker": self._worker, "b_now": now}
        return connection.execute(self._statement(kind), noted).rowcount

    def _statement(self, kind: Kind) -> Update:
        claiming = self._claiming
        match kind:
            case Kind.BEGIN:
                return claiming.begin
            case Kind.DELIVER:
                return claiming.deliver
            case Kind.CLOSE | Kind.PARK:
                return statements.CLOSE
            case Kind.DOUBT:
                return claiming.doubt
            case Kind.REQUEUE:
                return statements.REQUEUE
            case Kind.RELEASE:
                return statements.RELEASE
