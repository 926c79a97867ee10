"""Answers to what bulk sending has sent: the journals of campaigns, by the ids of their messages.

A journal is only read, and opened for as long as that takes. Another process may be sending with it; it may
not exist yet; and next week's may lie in its place.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from healthmsg.aio import start, together
from healthmsg.bulk.labels import name_in
from healthmsg.bulk.models import JournalTarget
from healthmsg.database.target import Target
from healthmsg.errors import ConfigurationError, JournalError, JournalMismatchError, JournalNotFoundError
from healthmsg.errors.base import hides_arguments
from healthmsg.ids import ChatAddress
from healthmsg.log import log
from healthmsg.validation import check_name, check_text

if TYPE_CHECKING:
    from healthmsg.bulk.journal.lookup import LookedUp, Sent

_MOST_KEPT: Final = 1_000
_NOT_THERE: Final = "the journal of the campaign {!r} is not there."
# An answer can come before the one who sends has noted the message's id. Seconds between the looks.
_PAUSES: Final = (0.1, 0.4, 1.5, 3.0)


@frozen
class CampaignMessage:
    """A message that a campaign has sent."""

    campaign: str
    """The name that the bot has for it."""
    key: str = field(repr=False)
    """The message's in the campaign: `Outgoing.key`, or made of what it says."""
    label: str | None = field(default=None, repr=False)
    """The question's name: `Outgoing.label`, or what `healthmsg send-many --label` was given."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which a handler may ask for its answers: its label, and the campaign's."""
        return (self.campaign,) if self.label is None else (self.label, self.campaign)


@define(eq=False)
class _Journal:
    """A journal of a campaign. What is asked at the same time is looked up at one go."""

    campaign: str
    target: Target
    tasks: set["asyncio.Task[LookedUp | None]"]
    _next: "tuple[set[str], asyncio.Task[LookedUp | None]] | None" = None
    _reading: asyncio.Lock = field(factory=asyncio.Lock)

    async def look_up(self, message_id: str) -> "LookedUp | JournalError | None":
        if self._next is None:
            wanted = set[str]()
            task = start(self._look_up(wanted), name="healthmsg campaign")
            self.tasks.add(task)
            task.add_done_callback(self._done)
            self._next = wanted, task
        wanted, task = self._next
        wanted.add(message_id)
        try:
            return await asyncio.shield(task)
        except JournalError as error:
            return error

    async def _look_up(self, wanted: set[str]) -> "LookedUp | None":
        async with self._reading:
            # From here on, another one is begun for those who come.
            self._next = None
            missing = await asyncio.to_thread(self.target.import_for, "healthmsg.bulk.journal.lookup")
            if missing is not None:
                extra = self.target.extra_for(missing)
                raise ConfigurationError(f'a journal needs {missing}: pip install "healthmsg[{extra}]"')
            from healthmsg.bulk.journal.lookup import look_up  # noqa: PLC0415

            return await look_up(self.target, [*wanted])

    def _done(self, task: "asyncio.Task[LookedUp | None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # those who wait for it have it; they may have been cancelled


@define(eq=False)
class Campaigns:
    """The campaigns of a bot. The last 1,000 messages that were found are kept."""

    _pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    _journals: list[_Journal] = field(factory=list, init=False)
    _tasks: set["asyncio.Task[LookedUp | None]"] = field(factory=set, init=False)
    _found: OrderedDict[str, CampaignMessage] = field(factory=OrderedDict, init=False, repr=False)

    @hides_arguments  # the URL may have a password in it
    def add(self, name: str, journal: JournalTarget) -> None:
        """Add the journal of a campaign, as `send_many` takes it. One name may have several journals.

        Raises:
            InvalidInputError: the name is empty, or has a line break in it.
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        check_name(check_text(name, "the name of a campaign"), "the name of a campaign")
        self._journals.append(_Journal(name, Target.parse(journal), self._tasks))

    async def check(self, api_url: str, account: str) -> None:
        """Look into all journals once. `account` is the id of the client's user.

        Raises:
            JournalMismatchError: one belongs to another account, or to another environment.
            JournalError: one cannot be read. One that is not there yet is named in the log.
            ConfigurationError: the extra for journals is not installed.
        """
        looked_up, errors = await self._look_up("")
        for error in errors:
            if not isinstance(error, JournalNotFoundError):
                raise error
            log(
                logging.WARNING,
                "%(error)s Answers that may be to its messages wait, and are parked",
                error=str(error),
            )
        for campaign, found in looked_up:
            if not found.may_be_of(api_url, account):
                raise JournalMismatchError(
                    f"The journal of the campaign {campaign!r} belongs to another account or environment than"
                    " the bot's: answers to its messages would not come here."
                )

    async def message_of(self, message_id: str, chat: ChatAddress | None = None) -> CampaignMessage | None:  # noqa: ARG002 - as the outbox has it
        """Return the message with this id; `None`: it is of no campaign.

        While a campaign is sending, it looks again for up to five seconds.

        Raises:
            JournalNotFoundError: none of the journals that are there has it, and one is not there.
            JournalError: the same, and one could not be read.
            ConfigurationError: the extra for journals is not installed.
        """
        if message_id in self._found:
            self._found.move_to_end(message_id)
            return self._found[message_id]
        errors: list[JournalError] = []
        for pause in (*_PAUSES, None):
            looked_up, errors = await self._look_up(message_id)
            for campaign, found in looked_up:
                if message_id in found.sent:
                    return self._keep(message_id, campaign, found.sent[message_id])
            if pause is None or not any(found.is_sending for _, found in looked_up):
                break
            await self._pause(pause)
        # One that cannot be read may be read soon; one that is not there may never be.
        for error in sorted(errors, key=lambda one: isinstance(one, JournalNotFoundError)):
            raise error
        return None

    async def close(self) -> None:
        """End what is being looked up."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look_up(self, message_id: str) -> "tuple[list[tuple[str, LookedUp]], list[JournalError]]":
        """Return what the journals of campaigns say that can be read, and why the others cannot be."""
        found, errors = list[tuple[str, "LookedUp"]](), list[JournalError]()
        answers = await together(journal.look_up(message_id) for journal in self._journals)
        for journal, answer in zip(self._journals, answers, strict=True):
            if isinstance(answer, JournalError):
                errors.append(type(answer)(f"The campaign {journal.campaign!r}: {answer}"))
            elif answer is None:
                errors.append(JournalNotFoundError(_NOT_THERE.format(journal.campaign)))
            else:
                found.append((journal.campaign, answer))
        return found, errors

    def _keep(self, message_id: str, campaign: str, sent: "Sent") -> CampaignMessage:
        message = CampaignMessage(campaign, sent.key, name_in(sent.label))
        self._found[message_id] = message
        if len(self._found) > _MOST_KEPT:
            self._found.popitem(last=False)
        return message
