"""Answers to what bulk sending has sent: the journals of campaigns, by the ids of their messages.

A journal is only read, and opened for as long as that takes. Another process may be sending with it; it may
not exist yet; and next week's may lie in its place.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from healthmsg.aio import start, together
from healthmsg.bot.retrying import Retry
from healthmsg.bot.sending import NotKnownYet
from healthmsg.bulk.labels import name_in
from healthmsg.bulk.models import JournalTarget
from healthmsg.database.target import Target
from healthmsg.errors import ConfigurationError, JournalError, JournalMismatchError, JournalNotFoundError
from healthmsg.errors.base import hides_arguments
from healthmsg.ids import USERS, ChatAddress, plain_address
from healthmsg.log import log
from healthmsg.models import Message
from healthmsg.validation import check_name, check_text

if TYPE_CHECKING:
    from healthmsg.bulk.journal.lookup import InDoubt, LookedUp, Sent

_Addresses = frozenset[str]
_NO_CHAT: Final[_Addresses] = frozenset()

_MOST_KEPT: Final = 1_000
_NOT_THERE: Final = "the journal of the campaign {!r} is not there."
# An answer can come before the one who sends has noted the message's id. Seconds between the looks.
_PAUSES: Final = (0.1, 0.4, 1.5, 3.0)
_ANSWERS_WITHIN: Final = 10.0
"""Seconds. Of a database that does not answer, 64 chats that wait would keep all others waiting."""
_NO_ANSWER: Final = "The journal did not answer within {:g} seconds."

# How long an answer's event waits, and its chat with it, before it is left to a person.
_UNTIL_IT_IS_THERE: Final = Retry(3, first=timedelta(seconds=5))
"""Half a minute: it may be away for good."""
_UNTIL_ITS_ID_IS_NOTED: Final = Retry(5, first=timedelta(seconds=5))
"""Two and a half minutes: a call takes one at most, and then it is looked for whether it arrived."""
_UNTIL_IT_CAN_BE_READ: Final = Retry(7, first=timedelta(seconds=5))
"""Ten minutes: databases come back."""
_ABSENT: Final = (
    "it may be an answer to a campaign: {} Put it back, and take this up again with `healthmsg bot retry`"
)
_UNREADABLE: Final = (
    "it may be an answer to a campaign: {} When it can be read, take this up again with `healthmsg bot retry`"
)
_IN_DOUBT: Final = (
    "it may be an answer to the campaign {!r}: its journal has a question to this chat without a message id."
    " Go on with that journal (a run looks for it), or settle it with `healthmsg journal decide"
    " JOURNAL KEY delivered --message-id ID`, and take this up again with `healthmsg bot retry`"
)


@frozen
class CampaignMessage:
    """A message that a campaign has sent."""

    campaign: str
    """The name that the bot has for it."""
    key: str = field(repr=False)
    """The message's in the campaign: `Outgoing.key`, or made of what it says."""
    label: str | None = field(default=None, repr=False)
    """The question's name: `Outgoing.label`, or what `healthmsg send-many --label` was given."""
    is_ambiguous: bool = False
    """Whether the label is the name of another campaign, for which that name stands then."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which a handler may ask for its answers: its label, and the campaign's."""
        is_alone = self.label is None or self.is_ambiguous
        return (self.campaign,) if is_alone else (self.label or "", self.campaign)


@define(eq=False)
class _Journal:
    """A journal of a campaign. What is asked at the same time is looked up at one go."""

    campaign: str
    target: Target
    tasks: set["asyncio.Task[LookedUp | None]"]
    is_unreadable: bool = False
    """Whether it was there and could not be read the last time."""
    _next: "tuple[dict[str, _Addresses], asyncio.Task[LookedUp | None]] | None" = None
    _reading: asyncio.Lock = field(factory=asyncio.Lock)

    async def look_up(self, message_id: str, addresses: _Addresses) -> "LookedUp | JournalError":
        """Return what it says of a message in a chat with these addresses, or why it says nothing."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN):
                found = await self._looked_up(message_id, addresses)
        except TimeoutError:
            error = JournalError(_NO_ANSWER.format(_ANSWERS_WITHIN))
        except JournalError as problem:
            error = problem
        else:
            self.is_unreadable = False
            return found or JournalNotFoundError(_NOT_THERE.format(self.campaign))
        self.is_unreadable = True
        return type(error)(f"The campaign {self.campaign!r}: {error}")

    async def _looked_up(self, message_id: str, addresses: _Addresses) -> "LookedUp | None":
        if self._next is None:
            wanted = dict[str, _Addresses]()
            task = start(self._look_up(wanted), name="healthmsg campaign")
            self.tasks.add(task)
            task.add_done_callback(self._done)
            self._next = wanted, task
        wanted, task = self._next
        wanted[message_id] = addresses
        return await asyncio.shield(task)

    async def _look_up(self, wanted: dict[str, _Addresses]) -> "LookedUp | None":
        async with self._reading:
            # From here on, another one is begun for those who come.
            self._next = None
            missing = await asyncio.to_thread(self.target.import_for, "healthmsg.bulk.journal.lookup")
            if missing is not None:
                extra = self.target.extra_for(missing)
                raise ConfigurationError(f'a journal needs {missing}: pip install "healthmsg[{extra}]"')
            from healthmsg.bulk.journal.lookup import look_up  # noqa: PLC0415

            return await look_up(self.target, wanted)

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
        looked_up, errors = await self._look_up("", _NO_CHAT)
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

    @property
    def unreadable(self) -> int:
        """How many journals were there and could not be read when they were looked into last."""
        return sum(journal.is_unreadable for journal in self._journals)

    async def message_of(
        self, message_id: str, chat: ChatAddress | None = None, user_id: str | None = None
    ) -> CampaignMessage | None:
        """Return the message with this id; `None`: it is of no campaign.

        While a campaign is sending a question to this chat, it looks again for up to five seconds.

        Raises:
            NotKnownYet: none of the journals that can be read has it; and one cannot be, or is not there, or
                has a question to this chat, of which `user_id` is the other side, without a message's id.
            ConfigurationError: the extra for journals is not installed.
        """
        if message_id in self._found:
            self._found.move_to_end(message_id)
            return self._found[message_id]
        addresses = _addresses_of(chat, user_id)
        for pause in (*_PAUSES, None):
            looked_up, errors = await self._look_up(message_id, addresses)
            for campaign, found in looked_up:
                if message_id in found.sent:
                    return self._keep(message_id, campaign, found.sent[message_id])
            doubts = [
                (one, found.in_doubt[message_id]) for one, found in looked_up if message_id in found.in_doubt
            ]
            if pause is None or not any(one.is_on_its_way for _, each in doubts for one in each):
                break
            await self._pause(pause)
        if (problem := _why_not_known(errors, doubts)) is not None:
            raise problem
        return None

    async def close(self) -> None:
        """End what is being looked up."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look_up(
        self, message_id: str, addresses: _Addresses
    ) -> "tuple[list[tuple[str, LookedUp]], list[JournalError]]":
        """Return what the journals of campaigns say that can be read, and why the others cannot be."""
        found, errors = list[tuple[str, "LookedUp"]](), list[JournalError]()
        answers = await together(journal.look_up(message_id, addresses) for journal in self._journals)
        for journal, answer in zip(self._journals, answers, strict=True):
            if isinstance(answer, JournalError):
                errors.append(answer)
            else:
                found.append((journal.campaign, answer))
        return found, errors

    def _keep(self, message_id: str, campaign: str, sent: "Sent") -> CampaignMessage:
        label = name_in(sent.label)
        is_ambiguous = label != campaign and any(label == journal.campaign for journal in self._journals)
        message = CampaignMessage(campaign, sent.key, label, is_ambiguous)
        self._found[message_id] = message
        if len(self._found) > _MOST_KEPT:
            self._found.popitem(last=False)
        return message


def _addresses_of(chat: ChatAddress | None, user_id: str | None) -> _Addresses:
    """Return the addresses of a chat; of a conversation, one is by the user on its other side."""
    if chat is None:
        return _NO_CHAT
    if chat.kind.is_group or user_id is None:
        return frozenset((chat.text,))
    return frozenset((chat.text, plain_address(f"{USERS}{user_id}")))


def _why_not_known(
    errors: Sequence[JournalError], doubts: "Sequence[tuple[str, Sequence[InDoubt]]]"
) -> NotKnownYet | None:
    """Return why it may be known later, with the longest of the waits for what that may be."""
    found = [(_IN_DOUBT.format(campaign), _UNTIL_ITS_ID_IS_NOTED) for campaign, _ in doubts]
    for error in errors:
        if isinstance(error, JournalNotFoundError):
            found.append((_ABSENT.format(error), _UNTIL_IT_IS_THERE))
        else:
            found.append((_UNREADABLE.format(error), _UNTIL_IT_CAN_BE_READ))
    if not found:
        return None

    def may_be(message: Message) -> bool:
        return bool(errors) or any(one.may_be(message) for _, each in doubts for one in each)

    reason = "; or ".join(dict.fromkeys(text for text, _ in found))
    return NotKnownYet(reason, max((retry for _, retry in found), key=lambda one: one.times), may_be)
