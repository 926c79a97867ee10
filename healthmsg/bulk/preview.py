"""What a run would do: the intake on a journal that is only read. Nothing is sent."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from healthmsg.aio import AsyncIterationOnly, start
from healthmsg.api import Api
from healthmsg.bulk.intake import Checker, Input, batches, compare, other_text_error
from healthmsg.bulk.journal import (
    Entry,
    EntryStatus,
    InputIndex,
    JournalMessage,
    State,
    fingerprint_of,
    open_journal,
)
from healthmsg.bulk.models import (
    RECIPIENT,
    JournalTarget,
    Messages,
    Recipient,
    SendOptions,
    is_user,
    shown_recipient,
)
from healthmsg.bulk.reconcile import my_id
from healthmsg.codec import Model
from healthmsg.database.target import Target
from healthmsg.errors import (
    BadRequestError,
    ForbiddenError,
    HealthmsgError,
    InvalidInputError,
    JournalNotFoundError,
    NotFoundError,
    PreconditionFailedError,
)
from healthmsg.errors.base import hides_arguments
from healthmsg.ids import USERS, ChatAddress
from healthmsg.models import ConversationInfo, GroupChatInfo, Outcome, User
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.routes import GET_CHAT, GET_USER
from healthmsg.validation import check_flag

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal


_MOST_PROBLEMS: Final = 1_000
_DUPLICATE: Final = "an earlier message says the same to the same recipient; both would be sent"
_OF_ONE_CHAT: Final = (BadRequestError, ForbiddenError, NotFoundError, PreconditionFailedError)
_CLOSED: Final = "the chat is closed"


class ProblemKind(Enum):
    """What can be wrong with a message before it is sent."""

    INVALID = "invalid"
    """It would be refused."""
    DUPLICATE = "duplicate"
    """It would be sent, and so would an earlier one that says the same to the same recipient."""
    UNKNOWN_CHAT = "unknown chat"
    """There is no such chat or user for this user, or the chat is closed."""
    OTHER_TEXT = "other text"
    """The recipient already got, or may have got, another text from the journal, which this run is not given;
    `other_text` says whether the message is sent all the same."""


@frozen
class Problem(Model):
    """Something that is wrong with one message; `index` is its number, from 0."""

    index: int
    key: str | None = field(repr=False)
    to: Recipient = field(repr=shown_recipient, metadata=RECIPIENT)
    kind: ProblemKind
    error: HealthmsgError


@frozen
class PreviewReport(Model):
    """What a run would do.

    `calls` are those that it would make if nothing goes wrong, `seconds` how long that takes within the
    limit. `delivered_before`, `failed_before` and `in_doubt` are what the journal knows already: of these,
    only those in doubt would be looked for, and those that failed sent with `retry_failed`.
    """

    messages: int
    to_send: int
    invalid: int
    duplicates: int
    unknown_chats: int
    delivered_before: int
    failed_before: int
    in_doubt: int
    calls: int
    seconds: float
    problems: tuple[Problem, ...]
    """The first 1,000; iterate the preview for all of them."""
    other_text: int = 0
    """How many messages are for recipients who already got, or may have got, another text from the journal.
    Those that `other_text` leaves out are not in `to_send`."""
    superseded: int = 0
    """Without messages: how many are left out, since a later run had something else for their recipients."""


@define
class _Tally:
    messages: int = 0
    to_send: int = 0
    users: int = 0
    delivered_before: int = 0
    failed_before: int = 0
    in_doubt: int = 0
    superseded: int = 0


class Preview(AsyncIterationOnly):
    """Checks messages as a run would. Iterate it for the problems, or await its `report()`; either once.

    With a journal, what that knows is taken into account; it is only read. Without messages, it counts what
    the journal holds.
    """

    _instead_of_await = "await its report()"

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        api: Api,
        messages: Messages | None,
        journal: JournalTarget | None,
        options: SendOptions,
        *,
        rate: RateLimit,
        check_chats: bool,
    ) -> None:
        self._api = api
        self._messages = messages
        self._target = journal
        self._rate = rate
        self._check_chats = check_chats
        self._options = options
        self._retry_failed = options.retry_failed
        self._tally = _Tally()
        self._counts = dict.fromkeys(ProblemKind, 0)
        self._index = InputIndex()
        # The recipients; and it counts equal messages, which `_index` counts for their keys.
        self._recipients = InputIndex()
        self._has_begun = False

    async def __aiter__(self) -> AsyncIterator[Problem]:
        if self._has_begun:
            raise InvalidInputError("a preview can be gone through once")
        self._has_begun = True
        async with AsyncExitStack() as stack:
            journal = await self._open_journal(stack)
            if self._messages is None:
                await self._count_all(journal)
                return
            stack.enter_context(self._index)
            stack.enter_context(self._recipients)
            for_journal = self._target is not None
            checker = Checker(self._api, self._index, journal, for_journal)
            reading = batches(self._messages, for_journal=for_journal)
            async for batch in await stack.enter_async_context(aclosing(reading)):
                self._tally.messages += len(batch)
                await checker.check(batch)
                problems = list[Problem]()
                rows = await self._not_done_yet(batch, journal, problems)
                await self._count(rows, problems)
                problems += await self._find_duplicates(batch, journal)
                for problem in sorted(problems, key=lambda problem: problem.index):
                    self._counts[problem.kind] += 1
                    yield problem

    async def report(self) -> PreviewReport:
        """Check everything, and sum it up.

        Raises:
            JournalError: there is a journal, but it cannot be read.
            JournalMismatchError: the journal is of another environment, or of another account, as far as
                that is known: without `check_chats`, the service is not asked whose token it is.
        """
        problems = list[Problem]()
        if not self._has_begun:
            async for problem in self:
                if len(problems) < _MOST_PROBLEMS:
                    problems.append(problem)
        tally, counts = self._tally, self._counts
        calls = tally.to_send + tally.users
        return PreviewReport(
            messages=tally.messages,
            to_send=tally.to_send,
            invalid=counts[ProblemKind.INVALID],
            duplicates=counts[ProblemKind.DUPLICATE],
            unknown_chats=counts[ProblemKind.UNKNOWN_CHAT],
            delivered_before=tally.delivered_before,
            failed_before=tally.failed_before,
            in_doubt=tally.in_doubt,
            calls=calls,
            seconds=calls * self._rate.per / self._rate.calls,
            problems=tuple(problems),
            other_text=counts[ProblemKind.OTHER_TEXT],
            superseded=tally.superseded,
        )

    async def _open_journal(self, stack: AsyncExitStack) -> "SqlJournal | None":
        if self._target is None:
            return None
        try:
            journal = await stack.enter_async_context(open_journal(self._target, is_reading=True))
        except JournalNotFoundError:
            return None  # the run would create it
        # Without `check_chats` no call is made: whose token it is may not be known.
        account = await my_id(self._api) if self._check_chats else self._api.deliveries.me
        await journal.check_owner(self._api.url, account)
        return journal

    async def _count_all(self, journal: "SqlJournal | None") -> None:
        """Count what a run would resume."""
        if journal is None:
            return
        counts, tally = await journal.counts(of_runs=True), self._tally
        tally.messages = sum(counts.values())
        tally.delivered_before = counts[State.DELIVERED]
        tally.in_doubt = await journal.count_in_doubt()
        tally.to_send = counts[State.WAITING] + counts[State.PARKED]
        tally.failed_before = counts[State.UNKNOWN] + counts[State.SENDING] - tally.in_doubt
        if self._retry_failed:
            tally.to_send += counts[State.NOT_SENT]
        else:
            tally.failed_before += counts[State.NOT_SENT]
        if not self._options.superseded:
            left_out = await journal.count_superseded()
            wanted = left_out if self._retry_failed else {State.PARKED: left_out[State.PARKED]}
            tally.superseded = sum(wanted.values())
            tally.to_send -= tally.superseded

    async def _find_duplicates(self, batch: Sequence[Input], journal: "SqlJournal | None") -> list[Problem]:
        """Find equal messages to the same recipient, also under another address."""
        aliases, salt, problems = self._api.aliases, b"" if journal is None else journal.salt, list[Problem]()
        entries = [(one, one.entry) for one in batch if one.entry is not None]
        for group in await journal.same_chats(entry.chat for _, entry in entries) if journal else ():
            aliases.learn_same(group)
        for one, entry in entries:
            # One with a key of its own is as much of a duplicate as any. More addresses may be known later.
            counted = [
                self._recipients.count(
                    entry.fingerprint
                    if to == entry.chat and entry.fingerprint is not None
                    else fingerprint_of(to, entry.body, entry.files, entry.question, salt=salt)
                )
                for to in aliases.addresses_of(entry.chat)
            ]
            if any(counted) and one.problem is None:
                problems.append(_problem(one, ProblemKind.DUPLICATE, InvalidInputError(_DUPLICATE)))
        return problems

    async def _not_done_yet(
        self, batch: Sequence[Input], journal: "SqlJournal | None", problems: list[Problem]
    ) -> list[tuple[Input, Entry]]:
        """Return what would be sent, and add the problems of the others."""
        problems += [
            _problem(one, ProblemKind.INVALID, one.problem)
            for one in batch
            if one.problem is not None and one.known is None
        ]
        rows = [(one, one.entry) for one in batch if one.entry is not None and one.problem is None]
        for one in batch:
            if one.known is not None:
                self._is_to_be_sent(one.known)
        if journal is None:
            return rows
        left = list[tuple[Input, Entry]]()
        statuses = await journal.look_up([entry for _, entry in rows])
        for (one, entry), status in zip(rows, statuses, strict=True):
            if status.problem is not None:
                one.problem = status.problem
                problems.append(_problem(one, ProblemKind.INVALID, status.problem))
            elif self._is_to_be_sent(status):
                left.append((one, entry))
        by_key = {status.key: status for status in statuses}
        found = await compare([entry for _, entry in left], by_key, journal, self._index)
        problems += [
            _problem(one, ProblemKind.OTHER_TEXT, other_text_error())
            for one, entry in left
            if entry.key in found.with_other_text
        ]
        if self._options.other_text == "send":
            return left
        return [(one, entry) for one, entry in left if entry.key not in found.with_other_text]

    def _is_to_be_sent(self, status: EntryStatus) -> bool:
        tally = self._tally
        match status.state:
            case State.DELIVERED:
                tally.delivered_before += 1
            case State.NOT_SENT if not self._retry_failed:
                tally.failed_before += 1
            case State.UNKNOWN if status.is_final:
                tally.failed_before += 1
            case State.SENDING | State.UNKNOWN:
                tally.in_doubt += 1
            case _:
                return True
        return False

    async def _count(self, rows: Sequence[tuple[Input, Entry]], problems: list[Problem]) -> None:
        chats = self._recipients.add([(one.index, entry.chat, b"") for one, entry in rows])
        first_to_each = [row for row, chat in zip(rows, chats, strict=True) if chat is not None]
        self._tally.to_send += len(rows)
        self._tally.users += sum(is_user(entry.chat) for _, entry in first_to_each)
        if not self._check_chats:
            return
        asking = [start(self._check_chat(entry.chat)) for _, entry in first_to_each]
        try:
            errors = await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
        problems += [
            _problem(one, ProblemKind.UNKNOWN_CHAT, error)
            for (one, _), error in zip(first_to_each, errors, strict=True)
            if error is not None
        ]

    async def _check_chat(self, chat: str) -> HealthmsgError | None:
        try:
            if is_user(chat):
                await self._api.read(User, GET_USER, user_id=chat.removeprefix(USERS))
                return None
            address = ChatAddress.of_text(chat)
            info: ConversationInfo | GroupChatInfo = await self._api.read(
                GroupChatInfo if address.kind.is_group else ConversationInfo, GET_CHAT, address
            )
            self._api.aliases.learn_info(info, chat, self._api.deliveries.me)
        except _OF_ONE_CHAT as error:
            return error
        return InvalidInputError(_CLOSED) if info.closed else None


def _problem(one: Input, kind: ProblemKind, error: Exception) -> Problem:
    if not isinstance(error, HealthmsgError):
        raise error
    return Problem(one.index, one.message.key, one.message.to, kind, error)


def preview_many(  # noqa: PLR0913 - as the client calls it
    api: Api,
    messages: Messages | None,
    journal: JournalTarget | None,
    options: SendOptions,
    rate: RateLimit,
    *,
    check_chats: bool,
) -> Preview:
    """Make a preview.

    Raises:
        InvalidInputError: there are neither messages nor a journal, or an option cannot be right.
    """
    options.check_fit(messages, journal)
    return Preview(
        api, messages, journal, options, rate=rate, check_chats=check_flag(check_chats, "check_chats")
    )


class JournalReview:
    """The unknown messages of a journal, for a person to look at and decide. Making one opens nothing.

    `journal` is as in `send_many`. Reading works while a run is active. Deciding does not work with an SQLite
    file that a run has open, nor for a message that a worker holds.

    Raises:
        ConfigurationError: it is neither a file nor a PostgreSQL database.
    """

    @hides_arguments  # the URL may have a password in it
    def __init__(self, journal: str | os.PathLike[str]) -> None:
        self._path = Target.parse(journal).path
        self._journal = journal

    async def unknown(self) -> AsyncGenerator[JournalMessage, None]:
        """Go through the messages of which it is not known whether they were delivered, in order.

        Raises:
            JournalError: there is none, or it cannot be read.
        """
        async with open_journal(self._journal, is_reading=True) as journal:
            for state in (State.UNKNOWN, State.SENDING):
                async for row in journal.rows(state):
                    yield row

    async def decide(self, key: str, outcome: Outcome, *, by: str, message_id: str | None = None) -> None:
        """Record a person's decision about an unknown message; the journal keeps who decided, and when.

        `Outcome.DELIVERED` is final: it is not sent again. With `Outcome.NOT_SENT` it is sent again by the
        next run that is given it, or that goes on with the journal, unless a later run had something else
        for its recipient. Either way the later messages of its chat wait no longer. `message_id` is that of
        the message in the chat, where it was found: a bot knows answers to it by that. It can be added later
        to one that was `DELIVERED` without it.

        Raises:
            InvalidInputError: there is no such message, it is not unknown, or the id is another message's.
            JournalInUseError: a run has the journal, or a worker the message.
            JournalError: there is no journal, or it cannot be used.
        """
        if self._path is not None and not self._path.exists():
            raise JournalNotFoundError("There is no journal there.")
        async with open_journal(self._journal) as journal:
            await journal.decide(key, outcome, by=by, at=datetime.now(UTC), message_id=message_id)
