"""What a run would do: everything is checked, and nothing is sent."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from enum import Enum
from typing import Final

from attrs import define, evolve, field, frozen

from healthmsg.aio import AsyncIterationOnly, start
from healthmsg.api import Api
from healthmsg.bulk.entries import Content, checked, take_files, taker
from healthmsg.bulk.journal import Entry, Given, Journal, Standing, State
from healthmsg.bulk.messages import Messages, Outgoing, Recipient, shown_recipient
from healthmsg.bulk.other_texts import compare, error_of_looked_at
from healthmsg.bulk.reconcile import my_id
from healthmsg.bulk.sender import SendOptions, check_outgoing
from healthmsg.bulk.sending import USERS, is_user
from healthmsg.errors import (
    BadRequestError,
    ForbiddenError,
    HealthmsgError,
    InvalidInputError,
    JournalNotFoundError,
    NotFoundError,
    PreconditionFailedError,
)
from healthmsg.files import FileTaker, UploadFile
from healthmsg.ids import ChatAddress
from healthmsg.models import ConversationInfo, GroupChatInfo, User
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.routes import GET_CHAT, GET_USER
from healthmsg.task_pool import each

_AT_ONCE: Final = 200
_MOST_PROBLEMS: Final = 1_000
_KEY_TAKEN: Final = "its key was given to an earlier message"
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
class Problem:
    """Something that is wrong with one message; `index` is its number, from 0."""

    index: int
    key: str | None = field(repr=False)
    to: Recipient = field(repr=shown_recipient)
    kind: ProblemKind
    error: HealthmsgError


@frozen
class DryRunReport:
    """What a run would do.

    `calls` are those that it would make if nothing goes wrong, `seconds` how long that takes within the
    limit. `delivered_before`, `failed_before` and `in_doubt` are what the journal knows already: of these,
    only those in doubt would be looked after, and those that failed with `retry_failed`.
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
    """The first 1,000; iterate the dry run for all of them."""
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


@frozen
class _Row:
    index: int
    message: Outgoing
    entry: Entry


_Numbered = tuple[int, Outgoing, Sequence[UploadFile]]
_Content = tuple[int, Outgoing, Content, bytes]


class DryRun(AsyncIterationOnly):
    """Checks messages as a run would. Iterate it for the problems, or await its `report()`; either once.

    With a journal, what that knows is taken into account; it is only read. Without messages, it counts what
    the journal holds.
    """

    _instead_of_await = "await its report()"

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        api: Api,
        messages: Messages | None,
        journal: str | os.PathLike[str] | None,
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
        self._given = Given()
        # Whom to send to; and it counts equal messages, which `_given` counts for their keys.
        self._recipients = Given()
        self._salt = b""
        self._has_begun = False

    async def __aiter__(self) -> AsyncIterator[Problem]:
        if self._has_begun:
            raise InvalidInputError("a dry run can be gone through once")
        self._has_begun = True
        async with AsyncExitStack() as stack:
            journal = await self._opened(stack)
            if self._messages is None:
                await self._count_all(journal)
                return
            self._salt = b"" if journal is None else journal.salt
            self._given = stack.enter_context(Given())
            self._recipients = stack.enter_context(Given())
            batches = await stack.enter_async_context(
                aclosing(_batches(self._messages, taker(for_journal=self._target is not None)))
            )
            async for batch in batches:
                problems, contents, rows = await self._checked(batch)
                rows = await self._without_those_done(rows, journal, problems)
                await self._count(rows, problems)
                await self._find_duplicates(contents, journal, problems)
                for problem in sorted(problems, key=lambda problem: problem.index):
                    self._counts[problem.kind] += 1
                    yield problem

    async def report(self) -> DryRunReport:
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
        return DryRunReport(
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

    async def _opened(self, stack: AsyncExitStack) -> Journal | None:
        if self._target is None:
            return None
        try:
            journal = await stack.enter_async_context(Journal.open(self._target, is_reading=True))
        except JournalNotFoundError:
            return None  # the run would make it
        # Without `check_chats` no call is made: whose token it is may not be known.
        account = await my_id(self._api) if self._check_chats else self._api.deliveries.me
        await journal.check_owner(self._api.url, account)
        return journal

    async def _count_all(self, journal: Journal | None) -> None:
        """Count what a run would resume."""
        if journal is None:
            return
        counts, tally = await journal.counts(), self._tally
        tally.messages = sum(counts.values())
        tally.delivered_before = counts[State.DELIVERED]
        tally.in_doubt = await journal.count_in_doubt()
        tally.to_send = counts[State.WAITING] + counts[State.SET_ASIDE]
        tally.failed_before = counts[State.UNKNOWN] + counts[State.SENDING] - tally.in_doubt
        if self._retry_failed:
            tally.to_send += counts[State.NOT_SENT]
        else:
            tally.failed_before += counts[State.NOT_SENT]
        if not self._options.superseded:
            left_out = await journal.superseded()
            wanted = left_out if self._retry_failed else {State.SET_ASIDE: left_out[State.SET_ASIDE]}
            tally.superseded = sum(wanted.values())
            tally.to_send -= tally.superseded

    async def _checked(self, batch: Sequence[_Numbered]) -> tuple[list[Problem], list[_Content], list[_Row]]:
        problems, found = list[Problem](), list[_Content]()
        for index, message, files in batch:
            self._tally.messages += 1
            try:
                content = await checked(message, self._api, files, for_journal=self._target is not None)
            except HealthmsgError as refusal:
                problems.append(_problem(index, message, ProblemKind.INVALID, refusal))
            else:
                found.append((index, message, content, content.fingerprint(self._salt)))
        alike = [(index, message.key, content.likeness(self._salt)) for index, message, content, _ in found]
        keys = self._given.accept(alike)
        rows = list[_Row]()
        for (index, message, content, said), key in zip(found, keys, strict=True):
            if key is None:
                taken = InvalidInputError(_KEY_TAKEN)
                problems.append(_problem(index, message, ProblemKind.INVALID, taken))
                continue
            rows.append(_Row(index, message, content.entry(key, said)))
        return problems, found, rows

    async def _find_duplicates(
        self, contents: Sequence[_Content], journal: Journal | None, problems: list[Problem]
    ) -> None:
        """Find what says the same to the same recipient, whatever the address. It may just have been read."""
        aliases = self._api.aliases
        for group in await journal.same_chats(content.to for _, _, content, _ in contents) if journal else ():
            aliases.learn_same(group)
        refused = {problem.index for problem in problems if problem.kind is ProblemKind.INVALID}
        for index, message, content, said in contents:
            # One with a key of its own is as much of a duplicate as any. More addresses may be known later.
            counted = [
                self._recipients.count(
                    said if to == content.to else evolve(content, to=to).fingerprint(self._salt)
                )
                for to in aliases.addresses_of(content.to)
            ]
            if any(counted) and index not in refused:
                error = InvalidInputError(_DUPLICATE)
                problems.append(_problem(index, message, ProblemKind.DUPLICATE, error))

    async def _without_those_done(
        self, rows: Sequence[_Row], journal: Journal | None, problems: list[Problem]
    ) -> list[_Row]:
        if journal is None:
            return list(rows)
        standings = await journal.look_up([row.entry for row in rows])
        left = list[_Row]()
        for row, standing in zip(rows, standings, strict=True):
            if standing.problem is not None:
                problems.append(_problem(row.index, row.message, ProblemKind.INVALID, standing.problem))
            elif self._is_to_be_sent(standing):
                left.append(row)
        by_key = {standing.key: standing for standing in standings}
        found = await compare([row.entry for row in left], by_key, journal, self._given)
        written = [row for row in left if row.entry.key in found.to_written]
        problems += [
            _problem(row.index, row.message, ProblemKind.OTHER_TEXT, error_of_looked_at()) for row in written
        ]
        return (
            left
            if self._options.other_text == "send"
            else [row for row in left if row.entry.key not in found.to_written]
        )

    def _is_to_be_sent(self, standing: Standing) -> bool:
        tally = self._tally
        match standing.state:
            case State.DELIVERED:
                tally.delivered_before += 1
            case State.NOT_SENT if not self._retry_failed:
                tally.failed_before += 1
            case State.UNKNOWN if standing.is_final:
                tally.failed_before += 1
            case State.SENDING | State.UNKNOWN:
                tally.in_doubt += 1
            case _:
                return True
        return False

    async def _count(self, rows: Sequence[_Row], problems: list[Problem]) -> None:
        chats = self._recipients.accept([(row.index, row.entry.chat, b"") for row in rows])
        first_to_each = [row for row, chat in zip(rows, chats, strict=True) if chat is not None]
        self._tally.to_send += len(rows)
        self._tally.users += sum(is_user(row.entry.chat) for row in first_to_each)
        if not self._check_chats:
            return
        asking = [start(self._what_is_wrong_with(row.entry.chat)) for row in first_to_each]
        try:
            errors = await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
        problems += [
            _problem(row.index, row.message, ProblemKind.UNKNOWN_CHAT, error)
            for row, error in zip(first_to_each, errors, strict=True)
            if error is not None
        ]

    async def _what_is_wrong_with(self, chat: str) -> HealthmsgError | None:
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


def _problem(index: int, message: Outgoing, kind: ProblemKind, error: HealthmsgError) -> Problem:
    return Problem(index, message.key, message.to, kind, error)


async def _batches(messages: Messages, take: FileTaker) -> AsyncGenerator[list[_Numbered], None]:
    index, batch = 0, list[_Numbered]()
    async with aclosing(each(messages)) as items:
        async for item in items:
            message = check_outgoing(item)
            batch.append((index, message, await take_files(message, take)))
            index += 1
            if len(batch) == _AT_ONCE:
                yield batch
                batch = []
                await asyncio.sleep(0)  # others have their turn
    if batch:
        yield batch
