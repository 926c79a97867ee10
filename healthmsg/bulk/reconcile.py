"""Reconciling a message that may have been delivered: reading its chat back.

`proof` has the rule by which that is judged.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from attrs import define, evolve, field, frozen

from healthmsg.api import Api
from healthmsg.bulk.journal.base import Journal
from healthmsg.codec import Model
from healthmsg.delivery.ledger import Delivered, Deliveries
from healthmsg.delivery.proof import (
    DRIFT,
    Attempt,
    Findings,
    Offset,
    Reading,
    Rule,
    Sample,
    Seen,
    Stamps,
    attempt_of,
    read_stamps,
)
from healthmsg.errors import CallError, DeliveryUnknownError, InvalidInputError
from healthmsg.ids import ChatAddress
from healthmsg.models import ConversationInfo, GroupChatInfo, Message, Outcome, User
from healthmsg.paging import PAGE_SIZE
from healthmsg.routes import GET_CHAT, GET_ME, LIST_MESSAGES

SETTLE: Final = 90.0
"""Seconds after which a message that was on its way cannot arrive any more."""
# If this many messages of a chat do not reach back to the attempt, the search is given up.
_MOST_MESSAGES: Final = 20_000
# How often `settle` is waited for again if the service's clock is set meanwhile.
_MOST_WAITS: Final = 3

# Seconds to wait for another known message: in a run, the next one comes soon.
_FOR_ANOTHER: Final = 3.0
# How far a clock that is only read from headers, such as `Date`, may be off.
_CLOCKS_DIFFER: Final = timedelta(seconds=2)

# Seconds; moments are kept in microseconds.
_ROUNDED: Final = 0.001

_SIMILAR: Final = "messages of yours that are in the chat from around that time and may be this one: {}"
_OTHER_FORM: Final = "this service keeps some texts in another form ({})"
_NO_WITNESS: Final = "no message is known to be delivered that could prove the search"
_NOT_FOUND: Final = "the search does not find a message that is known to be delivered"
_NOT_LIKE_SENT: Final = "a message that is known to be delivered does not come back as it was sent"
_NO_TEXT_LEFT: Final = "of what is known to be delivered, no text is left to compare with"
_TOO_LONG: Final = f"the chat has more than {_MOST_MESSAGES:,} messages to be read"
_CLOCK_IS_SET: Final = "the service's clock was set again and again"


@frozen
class Reconciled(Model):
    """The outcome of a message. `NOT_SENT` is proven: it can be sent again. `UNKNOWN`: nothing is proven."""

    outcome: Outcome
    message_id: str | None = None
    reason: str = field(default="", eq=False)
    """Why nothing could be proven."""
    similar: tuple[str, ...] = field(default=(), eq=False)
    """Ids of messages in the chat that may be it, if nothing could be proven."""


@define
class Evidence:
    """What is known of other messages than the one in doubt: those that this client delivered."""

    _deliveries: Deliveries

    async def claim(self, attempt: Attempt, message_id: str) -> bool:
        """Claim a message as the one that was attempted; return whether no other sending has it."""
        return self._deliveries.claim(attempt, message_id)

    async def is_claimed(self, message_id: str) -> bool:
        """Return whether a message is known to belong to another sending."""
        return self._deliveries.is_claimed(message_id)

    async def witnesses(self, attempt: Attempt) -> Sequence[Delivered]:
        """Return messages that are known to be delivered, from before the attempt and after it."""
        return self._deliveries.witnesses(attempt)

    async def wait(self) -> bool:
        """Wait for a first witness; return whether there is a new one."""
        return False  # a single call waits for no other


@frozen
class Reconciler:
    """Reads chats back, and judges by the rule of `proof`."""

    _api: Api
    _me: str
    _settle: timedelta
    _evidence: Evidence

    async def find_out(self, attempt: Attempt, ended_at: float | None = None) -> Reconciled:
        """Search for the message, wait until it cannot arrive any more, and search again.

        `ended_at` is when the attempt was over at the latest, by the client's clock; without it, that is
        when it was given up, or now if another process has made it.
        """
        clock = self._api.deliveries.clock
        settling = _Settling(self._api.deliveries, self._settle, self._ended(attempt, ended_at))
        witnesses = dict[str, Delivered]()
        while True:
            began = clock.now()
            inquiry = _Inquiry(self._api, self._me, self._settle, attempt)
            # The earlier ones too: where much is sent, the newest is always too new for a list that lags.
            for one in await self._evidence.witnesses(attempt):
                witnesses[one.message_id] = one
            is_last = settling.left(began) <= 0
            is_proven = await inquiry.prove_search(tuple(witnesses.values()), is_last=is_last)
            findings = await inquiry.look(is_last=is_last)
            if findings.ours and not self._api.deliveries.samples.all and await self._evidence.wait():
                continue  # now there is a known message to compare its stamp with
            message_id = await self._claim_first(attempt, findings.ours)
            if message_id is not None:
                return Reconciled(Outcome.DELIVERED, message_id)
            left = settling.left(began)
            if left > 0:
                if settling.is_hopeless:
                    return Reconciled(Outcome.UNKNOWN, reason=_CLOCK_IS_SET)
                await asyncio.sleep(left)
            elif not is_proven and inquiry.too_new_for and settling.may_wait_for_age():
                await asyncio.sleep(inquiry.too_new_for)
            elif is_proven or not await self._evidence.wait():
                similar = await self._unclaimed([*findings.ours, *findings.similar])
                is_clear = inquiry.is_enclosed and not self._api.deliveries.has_equal_under_way(attempt)
                if not similar or is_clear or not settling.may_wait_for_another():
                    return inquiry.verdict(similar, is_proven=is_proven)
                await asyncio.sleep(_FOR_ANOTHER)

    async def _claim_first(self, attempt: Attempt, found: Sequence[str]) -> str | None:
        """Claim the oldest message that is the attempt's and no other sending's."""
        for _ in range(2 if found else 0):  # an equal one may have left while the first claim was made
            if self._api.deliveries.has_equal_under_way(attempt):
                await self._learn_addresses(attempt.chat)
            for message_id in found:
                if await self._evidence.claim(attempt, message_id):
                    return message_id
        return None

    async def _learn_addresses(self, chat: ChatAddress) -> None:
        """Read which other addresses lead to this chat: an equal text may be on its way to one of them."""
        info: ConversationInfo | GroupChatInfo
        try:
            if chat.kind.is_group:
                info = await self._api.read(GroupChatInfo, GET_CHAT, chat)
            else:
                info = await self._api.read(ConversationInfo, GET_CHAT, chat)
        except CallError:
            return  # then it is not known whether the other address is the same
        self._api.aliases.learn_info(info, chat.text, self._me)

    def _ended(self, attempt: Attempt, ended_at: float | None) -> float:
        deliveries = self._api.deliveries
        now = deliveries.clock.now()
        if ended_at is not None:
            return min(ended_at, now)
        if not deliveries.is_of_this_process(attempt):
            return now
        return now - max(0.0, (deliveries.clock.moment() - attempt.ended_at).total_seconds())

    async def _unclaimed(self, message_ids: Sequence[str]) -> tuple[str, ...]:
        return tuple([one for one in message_ids if not await self._evidence.is_claimed(one)])


@define
class _Settling:
    """Whether `settle` has passed since an attempt ended, by our clock and the service's."""

    _deliveries: Deliveries
    _settle: timedelta
    _ended_at: float
    _has_waited: bool = False
    _has_waited_for_age: bool = False

    def left(self, as_of: float) -> float:
        """Return the seconds that were left at a moment, by what is known of the clocks now."""
        clock = self._deliveries.clock
        offset = clock.offset()
        uncertain = 0.0 if offset is None else (offset[1] - offset[0]).total_seconds()
        since = max(self._ended_at, clock.last_set_at())
        return since + self._settle.total_seconds() + uncertain - as_of

    def may_wait_for_another(self) -> bool:
        """Return whether to wait, once, for a known message that shows whether the clock was steady."""
        may_wait, self._has_waited = not self._has_waited, True
        return may_wait

    def may_wait_for_age(self) -> bool:
        """Return whether to wait, once, until a known message is old enough to be listed."""
        may_wait, self._has_waited_for_age = not self._has_waited_for_age, True
        return may_wait

    @property
    def is_hopeless(self) -> bool:
        """Whether the service's clock was set so often that waiting on makes no sense."""
        most = self._settle.total_seconds() * _MOST_WAITS + 60
        return self._deliveries.clock.now() - self._ended_at > most


class _Inquiry:
    """One search of an attempt's chat, and the proof that the search works."""

    def __init__(self, api: Api, me: str, settle: timedelta, attempt: Attempt) -> None:
        self._api = api
        self._me = me
        self._settle = settle
        self._attempt = attempt
        self.is_too_long = False
        """Whether the chat has more messages than are read."""
        self.is_enclosed = False
        """Whether known messages show that the clock of the stamps was steady."""
        self.reason = ""
        """Why the search is not proven."""
        self.too_new_for = 0.0
        """Seconds until a known message that a list that lags may not show yet must be shown."""

    # --- the chat

    async def look(self, *, is_last: bool) -> Findings:
        """Read the attempt's chat.

        A message that is deleted while pages are read moves another one across the border of two pages, where
        it is missed. So the last search reads the chat twice. The service decides how long a page is.
        """
        seen, stamps = dict[str, Seen](), set[datetime]()
        for _ in range(2 if is_last else 1):
            await self._read_chat(seen, stamps)
        read = self._stamps(self._attempt, stamps)
        self.is_enclosed = read.is_enclosed
        rule = Rule(self._attempt, self._settle, read, self._api.deliveries.rewritings)
        return rule.look_at(seen.values())

    async def _read_chat(self, seen: dict[str, Seen], stamps: set[datetime]) -> None:
        """Read the chat as far as it matters."""
        rule = self._rule(self._attempt)
        reading = Reading(rule)

        def is_enough(message: Message) -> bool:
            one = _seen(message, self._me)
            if one.stamp is not None:
                stamps.add(one.stamp)
            if one.is_mine is not False and (one.stamp is None or not rule.is_long_before(one.stamp)):
                seen[one.id] = one
            return reading.is_enough(one.stamp)

        self.is_too_long |= not await self._read(self._attempt.chat, is_enough)

    def verdict(self, similar: tuple[str, ...], *, is_proven: bool) -> Reconciled:
        """Decide on absence after `settle` has passed; `similar` belong to no other sending."""
        if similar:
            reason = _SIMILAR.format(len(similar))
            if known := sorted(kind.value for kind in self._api.deliveries.rewritings.known):
                reason += f"; {_OTHER_FORM.format(', '.join(known))}"
            return Reconciled(Outcome.UNKNOWN, reason=reason, similar=similar)
        if self.is_too_long:
            return Reconciled(Outcome.UNKNOWN, reason=_TOO_LONG)
        if not is_proven:
            return Reconciled(Outcome.UNKNOWN, reason=self.reason or _NO_WITNESS)
        return Reconciled(Outcome.NOT_SENT)

    # --- the proof of the search

    async def prove_search(self, witnesses: Sequence[Delivered], *, is_last: bool) -> bool:
        """Search for known messages and learn from them; return whether the search finds them.

        A message on which stamps were calibrated before is searched for again in the last search only.
        """
        is_found = False
        for witness in witnesses:
            if witness.message_id in self._api.deliveries.samples and (is_found or not is_last):
                continue
            try:
                is_found |= await self._is_found(witness)
            except _DisprovedError as error:
                self.reason = str(error)
                return False
        return is_found

    async def _is_found(self, witness: Delivered) -> bool:
        """Return whether a known message was found; if not, it may be too new for a list that lags.

        Raises:
            _DisprovedError: the search cannot be trusted.
        """
        read = list[Message]()

        def is_it(message: Message) -> bool:
            read.append(message)
            return message.id == witness.message_id

        began = self._api.deliveries.clock.moment()  # to read takes long where much goes on
        await self._read(witness.chat, is_it)
        if not read or read[-1].id != witness.message_id:
            if witness.answered_at > began - self._settle:
                self._note_too_new(witness)
                return False
            raise _DisprovedError(_NOT_FOUND)
        found = _seen(read[-1], self._me)
        if not found.is_mine or found.stamp is None:
            raise _DisprovedError(_NOT_LIKE_SENT)
        if not self._is_recognised(witness, found):
            return False
        self._api.deliveries.samples.add(
            witness.message_id, Sample(witness.departed_at, witness.answered_at, found.stamp)
        )
        known = Attempt(witness.chat, "", witness.departed_at, witness.answered_at)
        reading = Reading(self._rule(known))
        if any(reading.is_enough(message.created_at) for message in read[:-1]):
            raise _DisprovedError(_NOT_FOUND)
        return True

    def _note_too_new(self, witness: Delivered) -> None:
        left = witness.answered_at + self._settle - self._api.deliveries.clock.moment()
        seconds = max(left.total_seconds(), _ROUNDED)
        self.too_new_for = min(self.too_new_for or seconds, seconds)

    def _is_recognised(self, witness: Delivered, found: Seen) -> bool:
        rewritings = self._api.deliveries.rewritings
        if witness.body is not None:
            if rewritings.learn(witness.body, found.body, witness.files, found.files):
                return True
            raise _DisprovedError(_NOT_LIKE_SENT)
        if is_same := witness.is_body(found.body):
            rewritings.learn_nothing_but(is_same=True)
        else:
            self.reason = _NO_TEXT_LEFT
        return is_same

    # --- what both need

    async def _read(self, chat: ChatAddress, is_enough: Callable[[Message], bool]) -> bool:
        """Read a chat from the start of its list until it is enough; return False if it is too long."""
        read = 0
        pager = self._api.pages(Message, LIST_MESSAGES, chat, page_size=PAGE_SIZE)
        async with pager:
            async for message in pager:
                if is_enough(message):
                    return True
                read += 1
                if read >= _MOST_MESSAGES:
                    return False
        return True

    def _rule(self, attempt: Attempt) -> Rule:
        return Rule(attempt, self._settle, self._stamps(attempt, ()), self._api.deliveries.rewritings)

    def _stamps(self, attempt: Attempt, seen: Collection[datetime]) -> Stamps:
        clock, samples = self._api.deliveries.clock, self._api.deliveries.samples.all
        offset = clock.offset()
        by_date = None if offset is None else Offset(*offset)
        if by_date is not None and seen and max(seen) - by_date.most > clock.moment() + _CLOCKS_DIFFER:
            by_date = None  # stamps in the future come from another clock
        return read_stamps(
            samples,
            seen,
            departed_at=attempt.departed_at,
            over_at=attempt.ended_at + self._settle,
            by_date=by_date,
            is_date_steady=self._is_date_steady(attempt, samples),
        )

    def _is_date_steady(self, attempt: Attempt, samples: Sequence[Sample]) -> bool:
        """Return whether `Date` shows a steady clock from the attempt, or a sample before it, until now."""
        clock = self._api.deliveries.clock
        newest = max((sample.answered_at for sample in samples), default=attempt.departed_at)
        since = (min(newest, attempt.departed_at) - clock.moment(0.0)).total_seconds() + _ROUNDED
        if not clock.was_set_since(since):
            return True
        # An attempt of an earlier run: what `Date` showed then, it has to show now.
        now, then = clock.date_ahead(), attempt.date_ahead
        if now is None or then is None or newest < attempt.departed_at:
            return False
        drift = (clock.moment() - attempt.departed_at) * DRIFT
        return abs(now - then) <= _CLOCKS_DIFFER + drift


class _DisprovedError(Exception):
    """A known message shows that the search cannot be trusted."""


def _seen(message: Message, me: str) -> Seen:
    sender = message.user.id if message.user is not None else message.user_id
    files = tuple((file.name, file.size) for file in message.attachments)
    is_mine = None if sender is None else sender == me
    return Seen(message.id, is_mine, message.created_at, message.body or "", files)


async def reconcile(api: Api, error: DeliveryUnknownError, settle: float) -> Reconciled:
    """Reconcile the message that an error is about."""
    attempt = attempt_of(error)
    if attempt is None:
        raise InvalidInputError("this error is not about a message: look yourself what became of the call")
    if not api.deliveries.may_reconcile(attempt):
        raise InvalidInputError("this error is another user's or client's: reconcile it with that one")
    if (found := api.deliveries.found_for(attempt)) is not None:
        return Reconciled(Outcome.DELIVERED, found)
    return await (await reconciler_of(api, settle)).find_out(attempt)


async def reconciler_of(api: Api, settle: float, evidence: Evidence | None = None) -> Reconciler:
    """Return a reconciler with the evidence of this client, or with `evidence`."""
    known = evidence or Evidence(api.deliveries)
    return Reconciler(api, await my_id(api), timedelta(seconds=settle), known)


async def my_id(api: Api) -> str:
    """Return the id of the user, read once."""
    deliveries = api.deliveries
    if deliveries.me is None:
        deliveries.me = (await api.read(User, GET_ME)).id
    return deliveries.me


class DeliveryProofs:
    """Delivered messages of this run and of its journal. While there are none, `wait` waits for one.

    `when_waiting` is called when a reconciliation starts to wait for the first one.
    """

    def __init__(self, journal: Journal, deliveries: Deliveries, when_waiting: Callable[[], object]) -> None:
        self._journal = journal
        self._deliveries = deliveries
        self._when_waiting = when_waiting
        self._waiters = deque[asyncio.Future[bool]]()
        self.has_first: bool = False
        """Whether a message of this run was delivered."""

    async def witnesses(self, attempt: Attempt) -> Sequence[Delivered]:
        """Return messages that are known to be delivered, from before the attempt and after it."""
        found = {one.message_id: one for one in self._deliveries.witnesses(attempt)}
        for sample in (
            await self._journal.newest_delivery(attempt.chat.text),
            await self._journal.newest_delivery(before=attempt.departed_at - self.journal_ahead),
        ):
            if sample is not None and sample.message_id not in found:
                found[sample.message_id] = self._delivered(sample)
        return tuple(found.values())

    async def wait(self) -> bool:
        """Wait until the first message of this run is delivered; return False if there will be none."""
        if self.has_first:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._when_waiting()
        try:
            return await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    @property
    def waiting(self) -> int:
        """How many reconciliations wait for the first one."""
        return len(self._waiters)

    def note_first(self) -> None:
        """Note that a message of this run was delivered, and wake all that wait."""
        self.has_first = True
        while self._waiters:
            _resolve(self._waiters.popleft(), outcome=True)

    def release_one(self) -> None:
        """Wake the first that waits, when nothing else is under way that could deliver a message."""
        if self._waiters:
            _resolve(self._waiters.popleft(), outcome=False)

    @property
    def journal_ahead(self) -> timedelta:
        """How far the client's clock is ahead of the journal's."""
        return self._deliveries.clock.moment() - self._journal.now()

    def date_ahead(self) -> timedelta | None:
        """Return about how much the service's `Date` is ahead of the journal's clock, if that is known."""
        ahead = self._deliveries.clock.date_ahead()
        return None if ahead is None else ahead + self.journal_ahead

    def _delivered(self, found: Delivered) -> Delivered:
        """Convert the journal's times to the client's clock, and add what this run knows of the message."""
        body, files = self._deliveries.text_of(found.message_id) or (found.body, found.files)
        ahead = self.journal_ahead
        departed_at, answered_at = found.departed_at + ahead, found.answered_at + ahead
        return evolve(found, departed_at=departed_at, answered_at=answered_at, body=body, files=files)


def _resolve(waiter: "asyncio.Future[bool]", *, outcome: bool) -> None:
    if not waiter.done():
        waiter.set_result(outcome)


@define
class JournalEvidence(Evidence):
    """The evidence for one message of a run: also its journal, and messages that are still to come."""

    _journal: Journal
    _proofs: DeliveryProofs
    _key: str
    _had_first: bool = False
    """Whether a message of this run was delivered when the witnesses were asked for."""

    async def claim(self, attempt: Attempt, message_id: str) -> bool:
        """See `Evidence`."""
        is_anothers = await self._journal.is_claimed_id(message_id, self._key)
        return not is_anothers and await super().claim(attempt, message_id)

    async def is_claimed(self, message_id: str) -> bool:
        """See `Evidence`."""
        is_known = await super().is_claimed(message_id)
        return is_known or await self._journal.is_claimed_id(message_id, self._key)

    async def witnesses(self, attempt: Attempt) -> Sequence[Delivered]:
        """See `Evidence`."""
        self._had_first = self._proofs.has_first
        return await self._proofs.witnesses(attempt)

    async def wait(self) -> bool:
        """See `Evidence`. Without a durable journal, the next message may take long to come."""
        if self._had_first or not self._journal.is_durable:
            return False
        return await self._proofs.wait()
