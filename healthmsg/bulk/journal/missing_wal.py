"""Going on with a journal of which the newest state is lost, and that was accepted."""

import sqlite3
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Update, func, or_, update

from healthmsg.bulk.journal import statements
from healthmsg.bulk.journal.base import State
from healthmsg.bulk.journal.schema import MESSAGES
from healthmsg.errors import JournalError

_M: Final = MESSAGES.c
_MAY_HAVE_BEEN_SENT: Final = (
    "This message may have been sent by a run whose `-wal` file is missing; it is unknown whether it was."
)
_USERS: Final = "users/%"
_NOBODY: Final = {"claimed_by": None, "lease_until": None}


def require_sound(connection: sqlite3.Connection) -> None:
    """Refuse a file of which the parts are not of one moment, as a kill within a checkpoint leaves it.

    Raises:
        JournalError: it is damaged.
    """
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise JournalError(
            "The journal cannot be used without its `-wal` file: the file itself was being written when its"
            " run was ended, and is damaged. Nothing was sent."
        )


def doubt_all(connection: Connection, since: datetime) -> None:
    """Note that whatever was to be sent may have been, in the transaction that has begun.

    It is looked for before it is sent, as after any kill. What an earlier run did not send may have been
    tried again, and where a user's conversation is may be lost: of these it stays unknown.
    """
    to_send = _M.state.in_([State.WAITING.value, State.PARKED.value])
    is_known_where = or_(_M.sent_to.is_not(None), _M.chat.not_like(_USERS))
    connection.execute(
        _all(to_send, is_known_where).values(
            state=State.SENDING.value,
            is_final=False,
            started_at=since,
            sent_to=func.coalesce(_M.sent_to, _M.chat),
        )
    )
    unknown = {"state": State.UNKNOWN.value, "is_final": True, "error": _MAY_HAVE_BEEN_SENT}
    connection.execute(_all(or_(to_send, _M.state == State.NOT_SENT.value)).values(unknown))
    connection.execute(update(MESSAGES).where(statements.IS_NEXT).values(is_next=False))
    connection.execute(statements.PROMOTE_ALL)


def _all(*which: object) -> Update:
    return update(MESSAGES).where(*which).values(_NOBODY)  # type: ignore[arg-type]
