"""Finding messages in a journal by the ids that the service gave them, beside one who sends with it."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attrs import astuple, field, frozen
from sqlalchemy import Connection, Select, or_, select, union_all

from healthmsg.bulk.journal.input_index import question_of_json
from healthmsg.bulk.journal.transactions import can_be_stored, recipients_of, rows_of
from healthmsg.database.base import describe
from healthmsg.database.opening import open_database
from healthmsg.database.rows import FIRST_TEXTS
from healthmsg.database.states import State
from healthmsg.database.tables import IS_FINAL, IS_NEXT, MESSAGES, Owner, read_owner
from healthmsg.database.target import Target
from healthmsg.environment import comparable_url
from healthmsg.errors import HealthmsgError, JournalError, JournalNotFoundError
from healthmsg.ids import USERS, ChatKind, plain_address
from healthmsg.models import Message, QuestionPayload

# As long as a call can take; what is older, a run left behind.
_ON_ITS_WAY: Final = timedelta(seconds=60)
# Of PostgreSQL: one who only reads claims nothing.
_LEASE: Final = timedelta(seconds=60)
# By how much a message's stamp may be off from when its call was begun: its call takes time, and a journal's
# clock may be wrong.
_STAMP_WITHIN: Final = timedelta(hours=1)
_CONVERSATIONS: Final = f"{ChatKind.CONVERSATION.path}/"
_AUX: Final = "aux/"

_Wanted = Mapping[str, Collection[str]]

_M: Final = MESSAGES.c
_SENT: Final[Select[tuple[str, str, str | None]]] = select(_M.message_id, _M.key, _M.label).where(
    _M.message_id.in_(FIRST_TEXTS)
)
# It was sent, or may have been, and its id is not known. A person may have said so without the id, and then
# its question is no longer kept.
_IN_DOUBT: Final = select(
    *(_M.chat, _M.recipient, _M.state, _M.question, _M.started_at, _M.date_ahead, _M.updated_at)
).where(
    _M.message_id.is_(None),
    _M.state.in_((State.SENDING.value, State.UNKNOWN.value, State.DELIVERED.value)),
    or_(_M.question.is_not(None), _M.state == State.DELIVERED.value),
)
# Of an auxiliary id, it may not be known yet where it leads, or never be.
_ANYWHERE: Final = _IN_DOUBT.where(
    or_(_M.recipient.is_(None), _M.recipient.startswith(_AUX)), _M.chat.startswith(_AUX)
)
# By an index each: this is asked for each answer.
_IN_DOUBT_THERE: Final = union_all(
    _IN_DOUBT.where(_M.recipient.in_(FIRST_TEXTS)),
    _IN_DOUBT.where(_M.recipient.is_(None), _M.chat.in_(FIRST_TEXTS)),
    _ANYWHERE.where(IS_NEXT, _M.state.in_((State.SENDING.value, State.UNKNOWN.value))),
    _ANYWHERE.where(IS_FINAL, _M.state.in_((State.UNKNOWN.value, State.DELIVERED.value))),
)


@frozen
class Sent:
    """What a journal knows of a message that was delivered."""

    key: str = field(repr=False)
    label: str | None = field(repr=False)


@frozen
class InDoubt:
    """A question that was sent, or may have been, and of which the id is not known (yet)."""

    is_on_its_way: bool
    """Whether its call may still be under way."""
    departed_at: datetime | None
    """When its call was begun, by the service's clock as far as that is known."""
    question: str | None = field(default=None, repr=False)
    """JSON, with its buttons; `None`: they are no longer known."""

    def may_be(self, message: Message) -> bool:
        """Return whether it may be this message of the service's."""
        return self._may_be_sent_at(message.created_at) and self._may_have_buttons_of(message)

    def _may_be_sent_at(self, moment: datetime | None) -> bool:
        if moment is None or self.departed_at is None:
            return True
        return abs(moment - self.departed_at) <= _STAMP_WITHIN

    def _may_have_buttons_of(self, message: Message) -> bool:
        """Compare their names: these come back with each answer, so no service keeps them in another form."""
        asked, payload = (question_of_json(self.question) or {}).get("options"), message.payload
        if not asked or not isinstance(asked, list) or not isinstance(payload, QuestionPayload):
            return True
        wanted, found = {one["name"] for one in asked}, {one.name for one in payload.options}
        return not found or None in found or wanted == found


@frozen
class LookedUp:
    """What a journal said at one moment."""

    sent: dict[str, Sent] = field(repr=False)
    """By the messages' ids; those that are not known are left out."""
    in_doubt: dict[str, tuple[InDoubt, ...]] = field(repr=False)
    """By the ids that are not known: the questions that these may be, as they are or may be of that chat."""
    owner: Owner
    """Whose messages these are."""

    def may_be_of(self, api_url: str, account: str) -> bool:
        """Return whether these can be messages of this account there, as far as that is known."""
        own = (comparable_url(api_url), account)
        return all(known in {None, mine} for known, mine in zip(astuple(self.owner), own, strict=True))


async def look_up(target: Target, wanted: Mapping[str, Collection[str]]) -> LookedUp | None:
    """Return what a journal knows of the messages with these ids; `None`: there is no journal, or not yet.

    With each id come the addresses of its chat, in their one form: `conversations/…` of a user. Without any,
    no question in doubt is looked for.

    The journal is opened for this only: a reader that stays would keep the one who sends from tidying up, and
    would not see that the file was replaced.

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
    storable = {
        one: {*filter(can_be_stored, addresses)} for one, addresses in wanted.items() if can_be_stored(one)
    }
    try:
        since = database.now() - _ON_ITS_WAY
        return await database.run(lambda connection: _read(connection, storable, since))
    except HealthmsgError:
        raise
    except Exception as error:  # noqa: BLE001 - drivers raise what they like; it may have private things in it
        problem = JournalError(f"The journal could not be read: {describe(error)}.")
    finally:
        await database.close()
    raise problem


def _read(connection: Connection, wanted: _Wanted, since: datetime) -> LookedUp:
    # In this order: in PostgreSQL, what gets its id between the two statements is found by it.
    in_doubt = _read_in_doubt(connection, wanted, since)
    rows = connection.execute(_SENT, rows_of(wanted)).all()
    sent = {row.message_id: Sent(row.key, row.label) for row in rows}
    unknown = {one: found for one, found in in_doubt.items() if one not in sent}
    return LookedUp(sent, unknown, read_owner(connection))


def _read_in_doubt(
    connection: Connection, wanted: _Wanted, since: datetime
) -> dict[str, tuple[InDoubt, ...]]:
    addresses = set[str]().union(*wanted.values())
    if not addresses:
        return {}
    recipient_of = recipients_of(connection, addresses)
    as_users = (one.replace(_CONVERSATIONS, USERS, 1) for one in addresses)
    asked = rows_of({*addresses, *recipient_of.values(), *as_users})
    known: dict[str, set[InDoubt]] = {}
    for row in connection.execute(_IN_DOUBT_THERE, asked).all():
        for address in _addresses_of(row):
            known.setdefault(address, set()).add(_in_doubt(row, since))
    found = dict[str, tuple[InDoubt, ...]]()
    for one, its_addresses in wanted.items():
        may_stand_for_it = {
            *its_addresses,
            *(recipient_of[address] for address in its_addresses),
            *map(_kind_of, its_addresses),
        }
        if doubts := set[InDoubt]().union(*(known.get(address, ()) for address in may_stand_for_it)):
            found[one] = tuple(doubts)
    return found


def _in_doubt(row: Any, since: datetime) -> InDoubt:
    departed_at = row.started_at
    if departed_at is not None:
        departed_at += timedelta(milliseconds=row.date_ahead or 0)
    is_on_its_way = row.state == State.SENDING.value and row.updated_at > since
    return InDoubt(is_on_its_way, departed_at, row.question)


def _addresses_of(row: Any) -> Iterator[str]:
    """Return what may stand for the chat of a message; of an auxiliary id that leads anywhere, its kind."""
    recipient = row.recipient or plain_address(row.chat)
    yield recipient
    if recipient.startswith(_AUX):
        yield _kind_of(recipient.removeprefix(_AUX))


def _kind_of(address: str) -> str:
    return address.partition("/")[0]
