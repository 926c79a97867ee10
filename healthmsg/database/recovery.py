"""What has to be put right in the tables when a file is opened, or when part of its state was lost."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Update, func, or_, select, update

from healthmsg.database.states import State
from healthmsg.database.tables import IS_NEXT, MESSAGES, UNCLAIMED

M: Final = MESSAGES.c
_OTHER: Final = MESSAGES.alias("other")
_OPEN: Final = MESSAGES.alias("open")
_MAY_HAVE_BEEN_SENT: Final = (
    "This message may have been sent by a run whose `-wal` file is missing; it is unknown whether it was."
)
RELEASE_EVERY_CLAIM: Final[Update] = (
    update(MESSAGES).where(IS_NEXT, M.claimed_by.is_not(None)).values(UNCLAIMED)
)
PROMOTE_ALL: Final[Update] = (
    update(MESSAGES)
    .where(
        M.position.in_(
            select(func.min(_OPEN.c.position))
            .where(~_OPEN.c.is_final, _OPEN.c.recipient.is_not(None))
            .group_by(_OPEN.c.recipient)
        ),
        ~select(_OTHER.c.key).where(_OTHER.c.is_next, _OTHER.c.recipient == M.recipient).exists(),
    )
    .values(is_next=True)
)


def release_all(connection: Connection) -> None:
    """Release every claim, in the current transaction: those who had them have exited."""
    connection.execute(RELEASE_EVERY_CLAIM)


def mark_all_in_doubt(connection: Connection, since: datetime) -> None:
    """Mark every message that was to be sent as in doubt, in the current transaction.

    It is looked for before it is sent, as after any kill. What an earlier run did not send may have been
    tried again, and where a user's conversation is may be lost: of these it stays unknown.
    """
    m = MESSAGES.c
    to_send = m.state.in_([State.WAITING.value, State.PARKED.value])
    is_known_where = or_(m.sent_to.is_not(None), m.chat.not_like("users/%"))
    in_doubt = {"state": State.SENDING.value, "is_final": False, "started_at": since}
    connection.execute(
        update(MESSAGES)
        .where(to_send, is_known_where)
        .values(**UNCLAIMED, **in_doubt, sent_to=func.coalesce(m.sent_to, m.chat))
    )
    unknown = {"state": State.UNKNOWN.value, "is_final": True, "error": _MAY_HAVE_BEEN_SENT}
    connection.execute(
        update(MESSAGES).where(or_(to_send, m.state == State.NOT_SENT.value)).values(**UNCLAIMED, **unknown)
    )
    connection.execute(update(MESSAGES).where(IS_NEXT).values(is_next=False))
    connection.execute(PROMOTE_ALL)
