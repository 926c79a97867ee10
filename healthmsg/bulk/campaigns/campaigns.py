"""Putting campaigns into a journal, and steering them from anywhere. Nothing is sent by this."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final

from healthmsg.bulk.campaigns.entering import Entering
from healthmsg.bulk.campaigns.models import (
    CampaignCounts,
    CampaignInfo,
    EntryReport,
    OthersOfCampaign,
    Workforce,
    check_name,
    check_weight,
)
from healthmsg.bulk.journal import JournalMessage, State
from healthmsg.bulk.journal import open_journal as open_sql_journal
from healthmsg.bulk.models import JournalTarget, Messages
from healthmsg.database.states import CampaignState
from healthmsg.errors.base import hides_arguments
from healthmsg.validation import check_flag

if TYPE_CHECKING:
    from healthmsg.bulk.journal.campaigns import CampaignRow, CampaignTables, Counted
    from healthmsg.bulk.journal.store import SqlJournal

# Seconds for which a database that is restarted is waited for.
_PATIENCE: Final = 30.0
_AT_ONCE: Final = 500
_NOTHING: Final = dict.fromkeys(State, 0)
_NOT_ENTERED: Final = (
    "not all of it is entered, so nothing is sent: add it again with the same messages, which enters only"
    " what is missing"
)
_NO_WORKER: Final = "no worker is running"


class CampaignJournal:
    """A journal into which messages are entered, for workers to send."""

    def __init__(self, journal: "SqlJournal", tables: "CampaignTables") -> None:
        self._journal = journal
        self._tables = tables

    async def enter(self, messages: Messages, *, campaign: str) -> EntryReport:
        """Enter messages into a campaign, for workers to send; it is made if there is none of that name.

        Safe to do twice, and to be killed in the middle of: a message is known by its key, or else by its
        recipient, text, names of files, and how many alike were given before it in the same call. So one that
        is given again is not sent again, and one whose text is meant twice needs a key. Keys are a campaign's
        own: the same one in two campaigns is two messages.

        Messages are sent as they come, unless the campaign is paused, or `Campaigns.add` is still adding to
        it. Recipients are addresses as text, for no client is there that a handle could belong to. When this
        returns, what was entered survives a power cut.

        Raises:
            CampaignError: the campaign is cancelled: nothing was entered.
            InvalidInputError: the name can be none.
            JournalError: the journal has failed: enter the same again, which enters only what is missing.
        """
        return await Entering(self._journal, self._tables, check_name(campaign)).take(messages)


class Campaigns:
    """The campaigns in a journal: to add them, to look at them, and to steer them, also beside workers.

    What is changed is changed for all workers at once: what one of them has not begun by then, it does not
    begin. Within a recipient, messages keep the order in which they were entered, whichever campaign or run
    they are of. One that is held, since its campaign is paused or not entered completely, holds nothing up:
    it goes to its old place among those that still wait when its campaign goes on.
    """

    def __init__(self, journal: "SqlJournal", tables: "CampaignTables") -> None:
        self._journal = journal
        self._tables = tables

    async def add(
        self, name: str, messages: Messages, *, weight: int | None = None, is_paused: bool = False
    ) -> EntryReport:
        """Add a campaign, and have it sent once all of it is entered; with `is_paused`, once it is resumed.

        If this ends early, nothing is sent: adding the same again enters what is missing, and nothing twice;
        see `CampaignJournal.enter` for what makes two messages the same. Messages that cannot be sent are
        refused, each by itself, and the report says why. A campaign that is there already keeps its state.
        What is added to one that was entered completely is sent as it comes, and so is what `enter` enters
        into it.

        `weight`, from 1 to 100, is its share beside the other campaigns that are sent: with 3 it gets three
        times as many calls as one with 1. Left out, it is 1, or stays what it is.

        Raises:
            CampaignError: the campaign is cancelled: nothing was entered.
            InvalidInputError: the name or the weight can be none.
            JournalError: the journal has failed.
            Exception: what reading the messages has raised.
        """
        check_name(name)
        state = CampaignState.PAUSED if check_flag(is_paused, "is_paused") else CampaignState.RUNNING
        share = None if weight is None else check_weight(weight)
        await self._tables.make(name, weight=share, state=state)
        report = await Entering(self._journal, self._tables, name).take(messages)
        await self._tables.change(name, is_entered=True)
        await self._tables.settle(name)
        return report

    async def count_others(self, name: str, messages: Messages) -> OthersOfCampaign:
        """Count what would be sent of a campaign beside these, were they added to it.

        Such as one with the text that it had before it was put right, which to `add` is another message; and
        what an `add` with the wrong list has left that was cut off. What was not sent does not count. Nothing
        is entered, and there need be no campaign of that name.

        Raises:
            InvalidInputError: the name can be none.
            JournalError: the journal has failed.
            Exception: what reading the messages has raised.
        """
        return await Entering(self._journal, self._tables, check_name(name)).count_others(messages)

    async def list(self) -> tuple[CampaignInfo, ...]:
        """Return all campaigns, in the order in which they were made.

        Raises:
            JournalError: the journal has failed.
        """
        rows, counts = await self._tables.all(), await self._tables.counts()
        workforce = await self.workforce()
        return tuple(_info(row, counts.get(row.name), workforce) for row in rows)

    async def get(self, name: str) -> CampaignInfo:
        """Return what there is to know of a campaign.

        Raises:
            CampaignError: there is none of that name.
            JournalError: the journal has failed.
        """
        row = await self._tables.find(check_name(name))
        counts = (await self._tables.counts(name)).get(name)
        return _info(row, counts, await self.workforce())

    async def pause(self, name: str) -> CampaignInfo:
        """Begin nothing more of a campaign. What is under way goes on to its end.

        Raises:
            CampaignError: there is none of that name, or it is cancelled.
            JournalError: the journal has failed.
        """
        return await self._steer(name, CampaignState.PAUSED)

    async def resume(self, name: str) -> CampaignInfo:
        """Go on with a campaign that was paused.

        Raises:
            CampaignError: there is none of that name, or it is cancelled.
            JournalError: the journal has failed.
        """
        return await self._steer(name, CampaignState.RUNNING)

    async def cancel(self, name: str) -> CampaignInfo:
        """Send nothing more of a campaign, for good: what has not begun is not sent, and the journal says so.

        What is under way ends with its true outcome, which the counts have then. One of which it turns out
        that it was not delivered is not sent again.

        Raises:
            CampaignError: there is none of that name.
            JournalError: the journal has failed.
        """
        return await self._steer(name, CampaignState.CANCELLED)

    async def reweight(self, name: str, weight: int) -> CampaignInfo:
        """Change the share of a campaign: see `add`.

        Raises:
            CampaignError: there is none of that name, or it is cancelled.
            InvalidInputError: the weight can be none.
            JournalError: the journal has failed.
        """
        await self._tables.change(check_name(name), weight=check_weight(weight))
        return await self.get(name)

    async def failures(self, name: str) -> AsyncGenerator[JournalMessage, None]:
        """Go through the messages of a campaign that were not sent, and will not be, in order.

        Raises:
            CampaignError: there is none of that name.
            JournalError: the journal has failed.
        """
        async for message in self._messages(name, State.NOT_SENT):
            yield message

    async def unknown(self, name: str) -> AsyncGenerator[JournalMessage, None]:
        """Go through those of which it could not be found out whether they were delivered, in order.

        `JournalReview.decide` records what a person says became of one. If it was not sent, it is sent again
        then, unless the campaign is cancelled.

        Raises:
            CampaignError: there is none of that name.
            JournalError: the journal has failed.
        """
        async for message in self._messages(name, State.UNKNOWN):
            yield message

    async def workforce(self) -> Workforce:
        """Return which workers there are.

        Raises:
            JournalError: the journal has failed.
        """
        found = await self._tables.workers()
        return Workforce(len(found), tuple(dict.fromkeys(one for one in found if one is not None)))

    async def _steer(self, name: str, state: CampaignState) -> CampaignInfo:
        await self._tables.change(check_name(name), state=state.value)
        # In force already. Its messages follow, also if this is cancelled: then a worker sees to the rest.
        await self._tables.settle(name)
        return await self.get(name)

    async def _messages(self, name: str, state: State) -> AsyncIterator[JournalMessage]:
        await self._tables.find(check_name(name))
        after = -1
        while page := await self._tables.page(name, state, after, _AT_ONCE):
            for message in page:
                yield message
            after = page[-1].position


@hides_arguments  # the URL may have a password in it
def open_campaigns(
    journal: JournalTarget, *, is_reading: bool = False
) -> AbstractAsyncContextManager[Campaigns]:
    """Return a context manager that opens the campaigns of a journal, which is made if there is none.

    `journal` is as in `Client.send_many`: for campaigns that are steered while workers send, PostgreSQL,
    since an SQLite file is one process's at a time. With `is_reading`, only what reads works, also beside a
    worker that has such a file.

    Raises:
        ConfigurationError: it is neither a file nor a PostgreSQL database.
        JournalError: on entering: it cannot be used; says why.
    """
    return _opened(journal, is_reading=check_flag(is_reading, "is_reading"))


@hides_arguments
def open_journal(journal: JournalTarget) -> AbstractAsyncContextManager[CampaignJournal]:
    """Return a context manager that opens a journal for a program that enters messages, for workers to send.

    `journal` is as in `Client.send_many`; it is made if there is none.

    Raises:
        ConfigurationError: it is neither a file nor a PostgreSQL database.
        JournalError: on entering: it cannot be used; says why.
    """
    return _opened_to_enter(journal)


@asynccontextmanager
async def _opened(journal: JournalTarget, *, is_reading: bool) -> AsyncIterator[Campaigns]:
    async with open_sql_journal(journal, patience=_PATIENCE, is_reading=is_reading) as opened:
        yield Campaigns(opened, await _tables_of(opened))


@asynccontextmanager
async def _opened_to_enter(journal: JournalTarget) -> AsyncIterator[CampaignJournal]:
    async with open_sql_journal(journal, patience=_PATIENCE) as opened:
        yield CampaignJournal(opened, await _tables_of(opened))


async def _tables_of(journal: "SqlJournal") -> "CampaignTables":
    # Not before a journal is open: until then SQLAlchemy need not be there.
    from healthmsg.bulk.journal.campaigns import CampaignTables  # noqa: PLC0415

    return CampaignTables(journal)


def _info(row: "CampaignRow", counted: "Counted | None", workforce: Workforce) -> CampaignInfo:
    states = _NOTHING | ({} if counted is None else dict(counted.states))
    unknown = 0 if counted is None else counted.unknown
    waiting, parked = states[State.WAITING], states[State.PARKED]
    counts = CampaignCounts(
        waiting=waiting if row.is_sent else 0,
        held=parked if row.is_sent else waiting + parked,
        under_way=states[State.SENDING] + states[State.UNKNOWN] - unknown,
        delivered=states[State.DELIVERED],
        not_sent=states[State.NOT_SENT],
        unknown=unknown,
    )
    return CampaignInfo(
        *(row.name, row.state, row.weight, row.is_entered, row.created_at, row.updated_at, counts),
        rate=0.0 if counted is None else counted.rate,
        problem=_problem(row, counts, workforce),
    )


def _problem(row: "CampaignRow", counts: CampaignCounts, workforce: Workforce) -> str | None:
    """Return why what is open of a campaign does not go on, as far as that is known."""
    if not row.is_entered and row.state is not CampaignState.CANCELLED:
        return _NOT_ENTERED
    if not counts.waiting and not counts.under_way:
        return None
    if not workforce.workers:
        return _NO_WORKER
    return workforce.problems[0] if workforce.problems else None
