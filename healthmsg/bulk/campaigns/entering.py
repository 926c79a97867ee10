"""Entering messages into a campaign, with the intake of any run: nothing is sent."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from attrs import define, field

from healthmsg.bulk.campaigns.models import EntryReport, OthersOfCampaign
from healthmsg.bulk.intake import Checker, Input, batches
from healthmsg.bulk.journal import Entry, InputIndex
from healthmsg.bulk.models import Messages
from healthmsg.bulk.preview import Problem, ProblemKind
from healthmsg.errors import HealthmsgError

if TYPE_CHECKING:
    from healthmsg.bulk.journal.campaigns import CampaignTables
    from healthmsg.bulk.journal.store import SqlJournal

_MOST_PROBLEMS: Final = 1_000
_AT_ONCE: Final = 500


@define
class Entering:
    """Enters the messages of one call into a campaign.

    Their keys are derived as those of a run, but for each campaign by itself: the same messages, given again,
    have the same keys, and are known.
    """

    _journal: "SqlJournal"
    _tables: "CampaignTables"
    _campaign: str
    _entered: int = field(default=0, init=False)
    _known: int = field(default=0, init=False)
    _refused: int = field(default=0, init=False)
    _problems: list[Problem] = field(factory=list, init=False)

    async def take(self, messages: Messages) -> EntryReport:
        """Enter all of them, some at a time, in their order.

        Raises:
            CampaignError: the campaign is cancelled. What was entered before that is cancelled with it.
            JournalError: the journal has failed.
            Exception: what reading the messages has raised. Those before it are entered.
        """
        with InputIndex() as index:
            checker = Checker(None, index, self._journal, campaign=self._campaign)
            async with aclosing(batches(messages, for_journal=True)) as reading:
                async for batch in reading:
                    await checker.check(batch)
                    await self._enter(batch)
        return EntryReport(self._entered, self._known, self._refused, tuple(self._problems))

    async def count_others(self, messages: Messages) -> OthersOfCampaign:
        """Enter nothing; count what would be sent of the campaign beside these.

        Raises:
            JournalError: the journal has failed.
            Exception: what reading the messages has raised.
        """
        entries, others = list[Entry](), set[str]()
        with InputIndex() as index:
            checker = Checker(None, index, self._journal, campaign=self._campaign)
            async with aclosing(batches(messages, for_journal=True)) as reading:
                async for batch in reading:
                    await checker.check(batch)
                    entries += [one.entry for one in batch if one.problem is None and one.entry is not None]
            for some in _parts(entries):
                known = {status.key for status in await self._journal.statuses([one.key for one in some])}
                chats = {one.chat for one in some if one.key not in known}
                found = await self._tables.keys_for(self._campaign, chats)
                given = index.known_among({key for keys in found.values() for key in keys})
                others |= {chat for chat, keys in found.items() if not given.issuperset(keys)}
            left_over = await self._count_left_over(index)
        return OthersOfCampaign(len(others), left_over)

    async def _count_left_over(self, index: InputIndex) -> int:
        row = next((one for one in await self._tables.all() if one.name == self._campaign), None)
        if row is None or row.is_entered:
            return 0
        after, found = -1, 0
        while page := await self._tables.keys_after(self._campaign, after, _AT_ONCE):
            found += len(page) - len(index.known_among(key for key, _ in page))
            after = page[-1][1]
        return found

    async def _enter(self, batch: Sequence[Input]) -> None:
        entries = list[tuple[Input, Entry]]()
        for one in batch:
            if one.known is not None:
                self._known += 1
            elif one.problem is not None:
                self._refuse(one, one.problem)
            elif one.entry is not None:
                entries.append((one, one.entry))
        if not entries:
            return
        statuses = await self._tables.enter(self._campaign, [entry for _, entry in entries])
        for (one, _), status in zip(entries, statuses, strict=True):
            if status.problem is not None:
                self._refuse(one, status.problem)
            elif status.is_new:
                self._entered += 1
            else:
                self._known += 1

    def _refuse(self, one: Input, problem: Exception) -> None:
        if not isinstance(problem, HealthmsgError):
            raise problem
        self._refused += 1
        if len(self._problems) < _MOST_PROBLEMS:
            found = Problem(one.index, one.message.key, one.message.to, ProblemKind.INVALID, problem)
            self._problems.append(found)


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), _AT_ONCE):
        yield entries[start : start + _AT_ONCE]
