"""Finding out what became of a message of which nobody knows whether it was delivered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, ParamSpec, Protocol, TypeVar
from unicodedata import normalize

from attrs import frozen

from healthmsg.addresses import ChatAddress
from healthmsg.attempts import Attempt
from healthmsg.errors import DeliveryUnknownError, InvalidInputError
from healthmsg.models import Message, Outcome, User
from healthmsg.paging import PAGE_SIZE
from healthmsg.resources.api import Api
from healthmsg.resources.deliveries import Delivered
from healthmsg.routes import GET_ME, LIST_MESSAGES

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

SETTLE: Final = 90.0
"""Seconds after which a message that was on its way cannot arrive any more."""
# Whoever stamps messages may have a clock of its own, and leave the fraction of a second out.
_CLOCKS_DIFFER: Final = timedelta(seconds=5)
# A search that has read so many messages and not come to the attempt's time says nothing.
_MOST_MESSAGES: Final = 20_000


@frozen
class Reconciled:
    """What became of a message. `NOT_SENT` is proven: it can be sent again. `UNKNOWN`: nothing is."""

    outcome: Outcome
    message_id: str | None = None


class Clock(Protocol):
    """The service's clock."""

    def earliest(self) -> datetime:
        """Give a moment that it has certainly passed."""


@frozen
class Reconciler:
    """Reads chats back.

    A message that is found was delivered. That it is not there counts only when `settle` has passed since
    the attempt could last have run, and when the same search finds a message on this account of which
    that is known. `claim` takes a message's id for an attempt, unless it belongs to another one, which
    `is_claimed` tells; `known_delivered` gives a message to prove the search with, of that chat if there
    is one.
    """

    _api: Api
    _clock: Clock
    _me: str
    _settle: timedelta
    _claim: Callable[[Attempt, str], Awaitable[bool]]
    _is_claimed: Callable[[str], Awaitable[bool]]
    _known_delivered: Callable[[ChatAddress], Awaitable[Delivered | None]]

    async def find_out(self, attempt: Attempt) -> Reconciled:
        """Look for the message, wait until it cannot come any more, and look again."""
        over_at = attempt.ended_at + self._settle
        while True:
            search = _Search(attempt, over_at, self._me)
            looked_at = await self._carry_out(search, attempt.chat)
            for message_id in search.found:
                if await self._claim(attempt, message_id):
                    return Reconciled(Outcome.DELIVERED, message_id)
            if search.is_endless or await self._are_some_unclaimed([*search.found, *search.unclear]):
                return Reconciled(Outcome.UNKNOWN)
            left = (over_at - looked_at).total_seconds()
            if left <= 0:
                break
            await asyncio.sleep(left)
        is_proven = await self._search_finds_what_is_there(attempt.chat)
        return Reconciled(Outcome.NOT_SENT if is_proven else Outcome.UNKNOWN)

    async def _are_some_unclaimed(self, message_ids: Iterable[str]) -> bool:
        for message_id in message_ids:
            if not await self._is_claimed(message_id):
                return True
        return False

    async def _carry_out(self, search: "_Search", chat: ChatAddress) -> datetime:
        """Search, and give a moment that the service's clock had passed when it began."""
        looked_at: datetime | None = None
        pager = self._api.pages(Message, LIST_MESSAGES, chat, page_size=PAGE_SIZE)
        async with pager:
            async for page in pager.pages():
                looked_at = looked_at or self._clock.earliest()
                if not all(search.goes_on_after(message) for message in page):
                    break
        return looked_at or self._clock.earliest()

    async def _search_finds_what_is_there(self, chat: ChatAddress) -> bool:
        known = await self._known_delivered(chat)
        if known is None:
            return False
        pager = self._api.pages(Message, LIST_MESSAGES, known.chat, page_size=PAGE_SIZE)
        async with pager:
            read = 0
            async for message in pager:
                if message.id == known.message_id:
                    return _is_by(message, self._me) is True and known.is_body(message.body or "")
                read += 1
                if read > _MOST_MESSAGES:
                    break
        return False


class _Search:
    """One look through a chat, from its newest message on."""

    def __init__(self, attempt: Attempt, over_at: datetime, me: str) -> None:
        self._attempt = attempt
        self._over_at = over_at
        self._me = me
        self._read = 0
        self._before: datetime | None = None
        # That lists are in this order is assumed [A]: two messages have to show it.
        self._is_newest_first: bool | None = None
        self.found: list[str] = []
        """Ids of those that can be it, the oldest first."""
        self.unclear: list[str] = []
        """Ids of those of which that cannot be told."""
        self.is_endless = False
        """Whether there was more than can be read."""

    def goes_on_after(self, message: Message) -> bool:
        """Look at a message, and tell whether older ones are of interest."""
        self._read += 1
        self._look_at(message)
        if self._is_past_the_attempt(message.created_at):
            return False
        if self._read >= _MOST_MESSAGES:
            self.is_endless = True
            return False
        return True

    def _is_past_the_attempt(self, written: datetime | None) -> bool:
        before = self._before
        if written is None:
            return False
        self._before = written
        if before is not None and written != before:
            self._is_newest_first = self._is_newest_first is not False and written < before
        return bool(self._is_newest_first) and written < self._attempt.began_at - _CLOCKS_DIFFER

    def _look_at(self, message: Message) -> None:
        is_mine = _is_by(message, self._me)
        if is_mine is False or not self._has_what_was_sent(message):
            return
        written, attempt = message.created_at, self._attempt
        if is_mine is None or written is None:
            self.unclear.append(message.id)
        elif attempt.began_at <= written <= self._over_at:
            self.found.insert(0, message.id)
        elif attempt.began_at - _CLOCKS_DIFFER <= written <= self._over_at + _CLOCKS_DIFFER:
            self.unclear.append(message.id)

    def _has_what_was_sent(self, message: Message) -> bool:
        if _folded(message.body or "") != _folded(self._attempt.body):
            return False
        wanted, there = list(self._attempt.files), list(message.attachments)
        if len(wanted) != len(there):
            return False
        for name, size in wanted:
            for attachment in there:
                if _can_be(attachment.name, name) and _can_be(attachment.size, size):
                    there.remove(attachment)
                    break
            else:
                return False
        return True


def _can_be(there: object, sent: object) -> bool:
    return there is None or sent is None or there == sent


def _is_by(message: Message, me: str) -> bool | None:
    """Tell whether I wrote it; `None` when the service does not say who did."""
    sender = message.user.id if message.user is not None else message.user_id
    return None if sender is None else sender == me


def _folded(text: str) -> str:
    """Make texts equal that a service may have made of one another."""
    return " ".join(normalize("NFC", text).split())


async def reconcile(api: Api, error: DeliveryUnknownError, settle: float) -> Reconciled:
    """Find out what became of the message that an error is about."""
    attempt = error.attempt
    if attempt is None:
        raise InvalidInputError("this error is not about a message: look yourself what became of the call")
    if not api.deliveries.can_find_out(attempt):
        raise InvalidInputError("this error is another user's or client's: reconcile it with that one")
    return await (await reconciler_of(api, settle)).find_out(attempt)


async def reconciler_of(api: Api, settle: float) -> Reconciler:
    """Make one that knows what this client has sent."""
    deliveries = api.deliveries
    return Reconciler(
        api,
        deliveries.clock,
        await my_id(api),
        timedelta(seconds=settle),
        _in_turn(deliveries.claim),
        _in_turn(deliveries.is_claimed),
        _in_turn(deliveries.known),
    )


async def my_id(api: Api) -> str:
    """Give the id of the user; asked for once."""
    deliveries = api.deliveries
    if deliveries.me is None:
        deliveries.me = (await api.read(User, GET_ME)).id
    return deliveries.me


def _in_turn(ask: Callable[P, ResultT]) -> Callable[P, Awaitable[ResultT]]:
    async def asked(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        return ask(*args, **kwargs)

    return asked
