"""Finding messages in a journal by the ids that the service gave them, beside one who sends with it."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from attrs import astuple, field, frozen
from sqlalchemy import Connection, Select, bindparam, literal, select

from healthmsg.bulk.journal.transactions import can_be_stored, rows_of
from healthmsg.database.base import describe
from healthmsg.database.opening import open_database
from healthmsg.database.rows import FIRST_TEXTS
from healthmsg.database.states import State
from healthmsg.database.tables import IS_NEXT, MESSAGES, Owner, Utc, read_owner
from healthmsg.database.target import Target
from healthmsg.environment import comparable_url
from healthmsg.errors import HealthmsgError, JournalError, JournalNotFoundError

# As long as a call can take; what is older, a run left behind.
_ON_ITS_WAY: Final = timedelta(seconds=60)
# Of PostgreSQL: one who only reads claims nothing.
_LEASE: Final = timedelta(seconds=60)

_M: Final = MESSAGES.c
_SENT: Final[Select[tuple[str, str, str | None]]] = select(_M.message_id, _M.key, _M.label).where(
    _M.message_id.in_(FIRST_TEXTS)
)
_IS_SENDING: Final = (
    select(literal(1))
    .where(IS_NEXT, _M.state == State.SENDING.value, _M.updated_at > bindparam("since", type_=Utc))
    .limit(1)
)


@frozen
class Sent:
    """What a journal knows of a message that was delivered."""

    key: str = field(repr=False)
    label: str | None = field(repr=False)


@frozen
class LookedUp:
    """What a journal said at one moment."""

    sent: dict[str, Sent] = field(repr=False)
    """By the messages' ids; those that are not known are left out."""
    is_sending: bool
    """Whether a message is on its way of which the id is not known yet."""
    owner: Owner
    """Whose messages these are."""

    def may_be_of(self, api_url: str, account: str) -> bool:
        """Return whether these can be messages of this account there, as far as that is known."""
        own = (comparable_url(api_url), account)
        return all(known in {None, mine} for known, mine in zip(astuple(self.owner), own, strict=True))


async def look_up(target: Target, message_ids: Collection[str]) -> LookedUp | None:
    """Return what a journal knows of these ids; `None`: there is no journal, or not yet.

    It is opened for this only: a reader that stays would keep the one who sends from tidying up, and would
    not see that the file was replaced.

    Raises:
        JournalError: it cannot be read; says why.
    """
    if target.path is not None and not target.path.exists():
        return None
    try:
        database = await open_database(target, _LEASE, is_reading=True)
    except JournalNotFoundError:
        return None
    problem: JournalError | None = None
    wanted = [one for one in message_ids if can_be_stored(one)]
    try:
        since = database.now() - _ON_ITS_WAY
        return await database.run(lambda connection: _read(connection, wanted, since))
    except HealthmsgError:
        raise
    except Exception as error:  # noqa: BLE001 - drivers raise what they like; it may have private things in it
        problem = JournalError(f"The journal could not be read: {describe(error)}.")
    finally:
        await database.close()
    raise problem


def _read(connection: Connection, message_ids: Collection[str], since: datetime) -> LookedUp:
    rows = connection.execute(_SENT, rows_of(message_ids)).all()
    is_sending = connection.execute(_IS_SENDING, {"since": since}).first() is not None
    return LookedUp(
        {row.message_id: Sent(row.key, row.label) for row in rows}, is_sending, read_owner(connection)
    )
