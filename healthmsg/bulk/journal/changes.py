"""What is noted about claimed messages, many in one transaction."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from attrs import field, frozen
from sqlalchemy import Connection, Update

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.values import State


class Kind(Enum):
    """What is noted."""

    BEGIN = "begin"
    DELIVER = "deliver"
    CLOSE = "close"
    DOUBT = "doubt"
    PUT_BACK = "put back"
    SET_ASIDE = "set aside"
    LET_GO = "let go"
    """Nobody has it any more; what is known of it stays."""


@frozen
class Change:
    """One thing to note about one claimed message."""

    kind: Kind
    key: str = field(repr=False)
    fence: int
    values: Mapping[str, object] = field(repr=False)


_BEGUN: Final = frozenset({State.SENDING.value, State.UNKNOWN.value})
_OPEN: Final = _BEGUN | {State.WAITING.value}
# Where it must come from. What was never begun can only have failed, or not been tried.
_FROM: Final = {
    Kind.BEGIN: frozenset({State.WAITING.value, State.UNKNOWN.value}),
    Kind.DELIVER: _BEGUN,
    Kind.CLOSE: _OPEN,
    Kind.DOUBT: _BEGUN,
    Kind.PUT_BACK: _OPEN,
    Kind.SET_ASIDE: _OPEN,
    Kind.LET_GO: _OPEN,
}
_ENDING: Final = (Kind.DELIVER, Kind.CLOSE, Kind.SET_ASIDE)


@frozen
class Changes:
    """Makes changes to messages that this worker holds."""

    _worker: str
    _claiming: statements.Claiming
    _is_shared: bool

    def make(self, connection: Connection, changes: Sequence[Change]) -> list[bool]:
        """Make them in one transaction, and tell of each whether it was made: not, if the claim is lost.

        Each is of another message.
        """
        if self._is_shared and any(change.kind in _ENDING for change in changes):
            connection.execute(statements.FINISH_WHILE_NOBODY_ENTERS)
        keys = [change.key for change in changes]
        held = {
            key: (chat, claims, state)
            for key, chat, claims, state in connection.execute(
                self._claiming.held, {"keys": keys, "b_worker": self._worker}
            ).all()
        }
        nothing = ("", -1, "")
        made = [
            claims == change.fence and state in _FROM[change.kind]
            for change in changes
            for _, claims, state in (held.get(change.key, nothing),)
        ]
        by_kind: dict[Kind, list[Change]] = {}
        for change, is_made in zip(changes, made, strict=True):
            if is_made:
                by_kind.setdefault(change.kind, []).append(change)
        for kind, alike in by_kind.items():
            connection.execute(self._statement(kind), [{"b_key": c.key, **c.values} for c in alike])
        ended_in = [held[change.key][0] for kind in _ENDING for change in by_kind.get(kind, ())]
        if ended_in:
            # The message after each is the next of its chat.
            connection.execute(statements.PROMOTE, {"chats": ended_in})
        return made

    def _statement(self, kind: Kind) -> Update:
        claiming = self._claiming
        match kind:
            case Kind.BEGIN:
                return claiming.begin
            case Kind.DELIVER:
                return claiming.deliver
            case Kind.CLOSE | Kind.SET_ASIDE:
                return statements.CLOSE
            case Kind.DOUBT:
                return claiming.doubt
            case Kind.PUT_BACK:
                return statements.PUT_BACK
            case Kind.LET_GO:
                return statements.LET_GO
