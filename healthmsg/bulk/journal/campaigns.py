"""Campaigns in a journal: which there are, and bringing their messages into line with that."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from attrs import asdict, define, field, frozen
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from healthmsg.bulk.journal import statements, transactions
from healthmsg.bulk.journal.base import Claim, Entry, EntryStatus, JournalMessage
from healthmsg.bulk.journal.records import message_of
from healthmsg.bulk.journal.shares import Shares
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.bulk.journal.transactions import rows_of
from healthmsg.database.rows import FIRST_TEXTS
from healthmsg.database.states import CampaignState, State
from healthmsg.database.tables import CAMPAIGNS, IS_NEXT, MESSAGES, UNCLAIMED, WORKERS, Utc, utc
from healthmsg.errors import CampaignError

_M: Final = MESSAGES.c
_C: Final = CAMPAIGNS.c
_W: Final = WORKERS.c
_NAME: Final[BindParameter[str]] = bindparam("name")
# Messages that change with their campaign in one transaction, for which others wait.
_AT_ONCE: Final = 1_000
# Seconds until what a worker held just now is looked at again, and how often before workers see to it.
_WAIT: Final = 0.05
_MOST_WAITS: Final = 40
RATE_OVER: Final = timedelta(seconds=60)
SEEN_WITHIN: Final = timedelta(seconds=30)
_FORGOTTEN_AFTER: Final = timedelta(days=1)
_LONGEST_PROBLEM: Final = 500
_CANCELLED: Final = "CampaignCancelled: the campaign was cancelled before this message had begun."
_UNKNOWN: Final = "There is no campaign of that name in this journal. Nothing was changed."
_IS_CANCELLED: Final = (
    "This campaign is cancelled, which is for good. Nothing was changed, and nothing was entered: for other"
    " messages take another name."
)

# --- statements

_IS_SENT: Final = and_(_C.state == CampaignState.RUNNING.value, _C.is_entered)
_CAMPAIGN: Final = select(CAMPAIGNS).where(_C.name == _NAME)
_ALL: Final = select(CAMPAIGNS).order_by(_C.created_at, _C.name)
# Of those that have something to claim: what has come to its end costs nothing more.
_WEIGHTS: Final = select(_C.name, _C.weight).where(
    _IS_SENT,
    select(_M.key).where(IS_NEXT, _M.state == State.WAITING.value, _M.campaign == _C.name).exists(),
)
_STOPPED: Final = select(_C.name).where(_C.state != CampaignState.RUNNING.value)
_ADD: Final[Insert] = insert(CAMPAIGNS)
_CHANGE: Final[Update] = update(CAMPAIGNS).where(_C.name == bindparam("b_name"))
_COUNTS: Final = (
    select(_M.campaign, _M.state, func.count())
    .where(_M.campaign.is_not(None))
    .group_by(_M.campaign, _M.state)
)
# Of those that are unknown for good.
_COUNT_UNKNOWN: Final = (
    select(_M.campaign, func.count())
    .where(_M.campaign.is_not(None), _M.state == State.UNKNOWN.value, _M.is_final)
    .group_by(_M.campaign)
)
_RATES: Final = (
    select(_M.campaign, func.count(), func.min(_M.updated_at))
    .where(
        *(_M.message_id.is_not(None), _M.updated_at > bindparam("since", type_=Utc)),
        *(_M.state == State.DELIVERED.value, _M.campaign.is_not(None)),
    )
    .group_by(_M.campaign)
)
_PAGE: Final = (
    select(MESSAGES)
    .where(
        *(_M.campaign == _NAME, _M.state == bindparam("state"), _M.position > bindparam("after")), _M.is_final
    )
    .order_by(_M.position)
    .limit(bindparam("most"))
)
# But for what certainly did not reach its recipient, and will not.
_OF_RECIPIENTS: Final = select(_M.recipient, _M.key).where(
    _M.campaign == _NAME, _M.recipient.in_(FIRST_TEXTS), _M.state != State.NOT_SENT.value
)
_KEYS: Final = (
    select(_M.key, _M.position)
    .where(*(_M.campaign == _NAME, _M.state != State.NOT_SENT.value, _M.position > bindparam("after")))
    .order_by(_M.position)
    .limit(bindparam("most"))
)
_WAITS: Final = _M.state == State.WAITING.value
_IS_HELD: Final = _M.state == State.PARKED.value
_HOLD: Final[Update] = (
    update(MESSAGES)
    .where(_M.key.in_(FIRST_TEXTS), _WAITS)
    .values(state=State.PARKED.value, is_final=True, is_next=False, **UNCLAIMED)
)
_CANCEL: Final[Update] = (
    update(MESSAGES)
    .where(_M.key.in_(FIRST_TEXTS), or_(_WAITS, _IS_HELD))
    .values(
        state=State.NOT_SENT.value,
        error=_CANCELLED,
        is_final=True,
        is_next=False,
        **{"updated_at": bindparam("b_now", type_=Utc), **UNCLAIMED},
    )
)
# The campaigns of which messages are not in line with their state.
_BEHIND: Final = select(_C.name).where(
    or_(
        and_(_IS_SENT, _exists_held := select(_M.key).where(_M.campaign == _C.name, _IS_HELD).exists()),
        and_(~_IS_SENT, select(_M.key).where(_M.campaign == _C.name, _WAITS).exists()),
        and_(_C.state == CampaignState.CANCELLED.value, _exists_held),
    )
)
_COUNT_WAITING: Final = select(func.count()).where(_M.campaign.in_(select(_C.name).where(_IS_SENT)), _WAITS)
_SEE: Final[Update] = (
    update(WORKERS)
    .where(_W.id == bindparam("b_id"))
    .values(seen_at=bindparam("b_now", type_=Utc), problem=bindparam("b_problem"))
)
_FORGET: Final = delete(WORKERS).where(_W.id == bindparam("b_id"))
_FORGET_OLD: Final = delete(WORKERS).where(_W.seen_at < bindparam("before", type_=Utc))
_SEEN: Final = select(WORKERS).where(_W.seen_at >= bindparam("since", type_=Utc)).order_by(_W.started_at)


@frozen
class CampaignRow:
    """A campaign, without its messages."""

    name: str
    state: CampaignState
    weight: int
    is_entered: bool
    created_at: datetime
    updated_at: datetime

    @property
    def is_sent(self) -> bool:
        """Whether workers send what it has."""
        return self.is_entered and self.state is CampaignState.RUNNING


@frozen
class Counted:
    """What there is of a campaign."""

    states: Mapping[State, int]
    unknown: int
    """Of those whose state is unknown, those for which that is final."""
    rate: float


@define(eq=False)
class CampaignTables:
    """The campaigns of an open journal, their messages, and the workers that send them.

    A campaign's state is what counts: nothing is claimed or begun against it. Its messages follow, some at a
    time, so that nothing waits for long: those that are not to be sent are parked, and so stand in the way of
    nothing else for their recipients. What was left undone when a process ended, workers complete.
    """

    _journal: SqlJournal
    _shares: Shares = field(factory=Shares, init=False)

    # --- campaigns

    async def make(self, name: str, *, weight: int | None, state: CampaignState) -> CampaignRow:
        """Make a campaign of which not everything is entered yet, if there is none of that name.

        One that is there keeps its state, and its weight unless another is given.

        Raises:
            CampaignError: it is cancelled.
        """
        now = self._journal.now()

        def make(connection: Connection) -> CampaignRow:
            self._journal.enter_alone(connection)
            row = _find(connection, name)
            if row is None:
                row = CampaignRow(name, state, weight or 1, is_entered=False, created_at=now, updated_at=now)
                return _add(connection, row)
            _require_open(row)
            return row if weight is None else _change(connection, row, weight=weight, updated_at=now)

        return await self._journal.do(make, into_file=True)

    async def change(self, name: str, **values: object) -> CampaignRow:
        """Change the state or the weight of a campaign, or that everything is entered.

        Raises:
            CampaignError: there is none of that name, or it is cancelled, and this would change that.
        """
        now = self._journal.now()

        def change(connection: Connection) -> CampaignRow:
            self._journal.enter_alone(connection)
            row = _require(_find(connection, name))
            if row.state is CampaignState.CANCELLED:
                if values == {"state": CampaignState.CANCELLED.value}:
                    return row
                _require_open(row)
            return _change(connection, row, updated_at=now, **values)

        return await self._journal.do(change, into_file=True)

    async def enter(self, name: str, entries: Sequence[Entry]) -> list[EntryStatus]:
        """Enter messages into a campaign, which is made if there is none of that name.

        Raises:
            CampaignError: it is cancelled.
        """
        now = self._journal.now()

        def enter(connection: Connection) -> list[EntryStatus]:
            self._journal.enter_alone(connection)
            row = _find(connection, name)
            if row is None:
                row = _add(
                    connection,
                    CampaignRow(
                        name, CampaignState.RUNNING, 1, is_entered=True, created_at=now, updated_at=now
                    ),
                )
            _require_open(row)
            return transactions.enter_of_campaign(
                *(connection, entries, name), salt=self._journal.salt, is_held=not row.is_sent
            )

        return await self._journal.do(enter, into_file=True)

    async def all(self) -> list[CampaignRow]:
        """Return all campaigns, in the order in which they were made."""
        return await self._journal.do(lambda connection: [*map(_row, connection.execute(_ALL).all())])

    async def find(self, name: str) -> CampaignRow:
        """Return the campaign of this name.

        Raises:
            CampaignError: there is none.
        """
        return await self._journal.do(lambda connection: _require(_find(connection, name)))

    # --- their messages

    async def settle(self, name: str) -> None:
        """Bring all messages of a campaign that have not begun into line with its state."""
        waits = 0
        while waits < _MOST_WAITS:
            changed, is_done = await self._settle_some(name)
            if is_done:
                return
            if not changed:  # a worker is beginning them just now
                waits += 1
                await asyncio.sleep(_WAIT)

    async def settle_behind(self) -> bool:
        """Do some of that for each campaign that needs it; return whether any did."""
        behind = await self._journal.do(lambda connection: connection.execute(_BEHIND).scalars().all())
        for name in behind:
            await self._settle_some(name)
        return bool(behind)

    async def counts(self, name: str | None = None) -> dict[str, Counted]:
        """Count the messages of each campaign, or of one."""
        now = self._journal.now()
        its = () if name is None else (_M.campaign == name,)

        def count(connection: Connection) -> dict[str, Counted]:
            states: dict[str, dict[State, int]] = {}
            for one, state, number in connection.execute(_COUNTS.where(*its)).all():
                states.setdefault(one, {})[State(state)] = number
            unknown = dict([*connection.execute(_COUNT_UNKNOWN.where(*its))])
            found = connection.execute(_RATES.where(*its), {"since": now - RATE_OVER}).all()
            rates = {
                one: number / max(1.0, (now - utc(oldest)).total_seconds()) for one, number, oldest in found
            }
            return {
                one: Counted(counted, unknown.get(one, 0), rates.get(one, 0.0))
                for one, counted in states.items()
            }

        return await self._journal.do(count)

    async def page(self, name: str, state: State, after: int, most: int) -> list[JournalMessage]:
        """Return messages of a campaign whose state is final, behind a position, in order."""
        wanted = {"name": name, "state": state.value, "after": after, "most": most}
        return await self._journal.do(
            lambda connection: [*map(message_of, connection.execute(_PAGE, wanted).all())]
        )

    async def keys_for(self, name: str, chats: Collection[str]) -> dict[str, list[str]]:
        """Return the keys of what a campaign has for each of some chats, but for what was not sent."""

        def find(connection: Connection) -> dict[str, list[str]]:
            recipient_of = transactions.recipients_of(connection, chats)
            wanted = {"name": name, **rows_of(set(recipient_of.values()))}
            found = defaultdict[str, list[str]](list)
            for recipient, key in connection.execute(_OF_RECIPIENTS, wanted).all():
                found[recipient].append(key)
            return {chat: found[one] for chat, one in recipient_of.items() if one in found}

        return await self._journal.do(find)

    async def keys_after(self, name: str, after: int, most: int) -> list[tuple[str, int]]:
        """Return keys and positions of what a campaign has behind a position, but for what was not sent."""
        wanted = {"name": name, "after": after, "most": most}
        return await self._journal.do(
            lambda connection: [(row.key, row.position) for row in connection.execute(_KEYS, wanted).all()]
        )

    # --- for workers

    async def claim(self, most: int) -> list[Claim]:
        """Take the next messages of campaigns that are sent, of each its share; see `Journal.claim`."""
        if most <= 0:
            return []

        def take(connection: Connection) -> list[Claim]:
            weights = dict([*connection.execute(_WEIGHTS)])
            found = self._journal.claiming.take_of_campaign

            def take_of(name: str, quota: int) -> list[Claim]:
                return self._journal.take(connection, found, {"campaign": name, "most": quota})

            return self._shares.fill(most, weights, take_of)

        claims = await self._journal.claimed(take)
        self._shares.charge()
        return claims

    async def claim_in_doubt(self) -> list[Claim]:
        """Take the messages that a worker, or a run, which has ended may have sent."""
        found = self._journal.claiming.take_all_in_doubt
        return await self._journal.claimed(partial(self._journal.take, found=found), by_itself=True)

    async def stopped(self) -> frozenset[str]:
        """Return the campaigns of which nothing may be begun."""
        return await self._journal.do(
            lambda connection: frozenset(connection.execute(_STOPPED).scalars().all())
        )

    async def count_waiting(self) -> int:
        """Count the messages of campaigns that are sent which nothing has begun yet."""
        counted = await self._journal.do(lambda connection: connection.execute(_COUNT_WAITING).scalar_one())
        return int(counted)

    async def note_worker(self, worker: str, started_at: datetime, problem: str | None) -> None:
        """Note that a worker is there."""
        now = self._journal.now()
        cut = None if problem is None else problem.replace("\0", "?")[:_LONGEST_PROBLEM]

        def note(connection: Connection) -> None:
            if not connection.execute(_SEE, {"b_id": worker, "b_now": now, "b_problem": cut}).rowcount:
                row = {"id": worker, "started_at": started_at, "seen_at": now, "problem": cut}
                connection.execute(insert(WORKERS), row)
                connection.execute(_FORGET_OLD, {"before": now - _FORGOTTEN_AFTER})

        await self._journal.do(note)

    async def forget_worker(self, worker: str) -> None:
        """Note that a worker has ended."""
        await self._journal.do(lambda connection: connection.execute(_FORGET, {"b_id": worker}))

    async def workers(self) -> list[str | None]:
        """Return of each worker that was seen lately the problem that it has, if it has one."""
        since = {"since": self._journal.now() - SEEN_WITHIN}
        return await self._journal.do(
            lambda connection: [row.problem for row in connection.execute(_SEEN, since).all()]
        )

    async def _settle_some(self, name: str) -> tuple[int, bool]:
        """Do it for some messages; return for how many, and whether that was all."""
        now = self._journal.now()

        def settle(connection: Connection) -> tuple[int, bool]:
            self._journal.enter_alone(connection)
            row = _require(_find(connection, name))
            found = _some(row)
            if self._journal.lease is not None:
                # What a worker is beginning, or has claimed, in a transaction of its own: the next time.
                found = found.with_for_update(skip_locked=True)
            keys: list[str] = [*connection.execute(found).scalars()]
            _bring_into_line(connection, row, keys, now)
            return len(keys), connection.execute(_some(row).limit(1)).first() is None

        return await self._journal.do(settle)


def _bring_into_line(connection: Connection, row: CampaignRow, keys: Sequence[str], now: datetime) -> None:
    """Do with some messages of a campaign as its state wants it."""
    if not keys:
        return
    if row.is_sent:
        transactions.reopen(connection, keys)
        return
    if row.state is CampaignState.CANCELLED:
        connection.execute(_CANCEL, {**rows_of(keys), "b_now": now})
    else:
        connection.execute(_HOLD, rows_of(keys))
    recipients = connection.execute(statements.RECIPIENTS_OF_KEYS, rows_of(keys)).scalars()
    transactions.promote(connection, list(recipients))


def _not_in_line(row: CampaignRow) -> ColumnElement[bool]:
    """Return which messages of a campaign are not as its state wants them."""
    if row.is_sent:
        return _IS_HELD
    return or_(_WAITS, _IS_HELD) if row.state is CampaignState.CANCELLED else _WAITS


def _some(row: CampaignRow) -> Select[Any]:
    its = select(_M.key).where(_M.campaign == row.name, _not_in_line(row))
    return its.order_by(_M.position).limit(_AT_ONCE)


def _add(connection: Connection, row: CampaignRow) -> CampaignRow:
    connection.execute(_ADD, asdict(row) | {"state": row.state.value})
    return row


def _change(connection: Connection, row: CampaignRow, **values: object) -> CampaignRow:
    connection.execute(_CHANGE.values(**values), {"b_name": row.name})
    return _require(_find(connection, row.name))


def _find(connection: Connection, name: str) -> CampaignRow | None:
    found = connection.execute(_CAMPAIGN, {"name": name}).first()
    return None if found is None else _row(found)


def _row(row: Any) -> CampaignRow:
    return CampaignRow(
        *(row.name, CampaignState(row.state), row.weight, row.is_entered), row.created_at, row.updated_at
    )


def _require(row: CampaignRow | None) -> CampaignRow:
    if row is None:
        raise CampaignError(_UNKNOWN)
    return row


def _require_open(row: CampaignRow) -> None:
    if row.state is CampaignState.CANCELLED:
        raise CampaignError(_IS_CANCELLED)
