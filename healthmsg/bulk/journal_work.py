"""Sending one message of a journal: noted before its call is made, and what became of it after."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from attrs import evolve

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.bulk.delivery_proofs import DeliveryProofs, JournalEvidence
from healthmsg.bulk.departures import Departures
from healthmsg.bulk.entries import files_in, question_in
from healthmsg.bulk.journal import Claimed, Given, Journal, State
from healthmsg.bulk.lease import Lease
from healthmsg.bulk.messages import Recipient, SendResult
from healthmsg.bulk.reconcile import Reconciled, Reconciler, reconciler_of
from healthmsg.bulk.sender import MOST_SENDINGS, SendMany, SendOptions
from healthmsg.bulk.sending import outcome_of
from healthmsg.delivery.proof import Attempt, attempt_of
from healthmsg.errors import (
    ClaimLostError,
    ClientUsageError,
    DeliveryUnknownError,
    EarlierRunError,
    JournalError,
    SendingGivenUpError,
    SendingStoppedError,
)
from healthmsg.ids import ChatAddress
from healthmsg.models import Outcome, SentMessage
from healthmsg.pipeline.request import Request
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.resources.chat import Chat
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.group_chat import GroupChat, handle

ADVICE: Final = "Start again with the same journal and messages to go on: nothing is sent twice."
_LEASE_LOST: Final = f"The journal could not be reached in time, so others may send its messages. {ADVICE}"
_LEFT_OPEN: Final = (
    "The run was ended before it was known whether this message was delivered; it is unknown. The next run"
    " with the same journal finds out."
)
_NOT_FOUND_OUT: Final = "An earlier run may have sent this message. It could not be found out: {}."

_NOT_NOTED: Final = (
    "This message was delivered, but that could not be noted in the journal: the next run looks for it, if it"
    " has the same journal."
)


class JournalWork(SendMany):
    """What is done for each message that was claimed."""

    def __init__(
        self, api: Api, messages: object, options: SendOptions, journal: Journal, rate: RateLimit
    ) -> None:
        super().__init__(api, messages, options, advice=ADVICE)
        self._journal = journal
        self._resumes = False
        self._given = Given()
        self._changed = asyncio.Event()
        self._proofs = DeliveryProofs(journal, api.deliveries, self._changed.set)
        self._failure: Exception | None = None
        self._giving_back: set[asyncio.Task[None]] = set()
        self._departures = Departures(rate)
        self._lease = Lease(journal, self._lose_all)
        self._may_leave: dict[asyncio.Task[Any] | None, Callable[[], None] | None] = {}
        """What the calls of messages that are begun have to ask before they leave."""
        self._numbers = count()
        self._learnt: list[Sequence[str]] = []
        """Addresses that lead to one chat, which the journal does not know yet."""

    async def _work(self, item: Claimed) -> SendResult | None:
        try:
            return await self._carry_out(item)
        except ClaimLostError:
            self._hold.nothing_learnt()
            # The worker that has it now finds out what becomes of it. If there is none, it was not sent yet.
            self._given.await_again(item.key)
            await self._give_back(item)
            return None
        except SendingStoppedError:
            return None  # it waits in the journal
        except Exception as error:  # noqa: BLE001 - a message without a result must not pass in silence
            self._failure = self._failure or error
            return None

    def _cut_off(self, item: Claimed, task: "asyncio.Task[None]") -> SendResult | None:
        is_in_doubt = task in self._in_doubt or item.state is not State.WAITING
        if is_in_doubt or self._has_begun(task):
            unclear = self._in_doubt.pop(task, None) or SendingStoppedError(_LEFT_OPEN)
            return self._result(item, Reconciled(Outcome.UNKNOWN), unclear, item.attempts)
        giving_back = start(self._give_back(item))
        self._giving_back.add(giving_back)
        giving_back.add_done_callback(self._giving_back.discard)
        return None

    async def _give_back(self, claim: Claimed) -> None:
        try:
            await self._journal.put_back(claim)
        except ClaimLostError:
            pass  # what became of it is noted already, or somebody else has it
        except JournalError as error:  # then the next run finds out that it was not sent
            self._failure = self._failure or error

    async def _carry_out(self, claim: Claimed) -> SendResult | None:
        error: Exception = EarlierRunError(_LEFT_OPEN)
        attempts, doubt = claim.attempts, self._earlier_attempt(claim)
        for _ in range(MOST_SENDINGS):
            if doubt is None:
                sent = await self._try(claim)
                attempts += self._calls_of(asyncio.current_task())
                if isinstance(sent, SentMessage):
                    if result := await self._delivered(claim, sent.id, attempts):
                        return result
                    sent = await self._answer_of_another(claim)
                error = sent
                doubt = attempt_of(error)
                if doubt is None:
                    return await self._not_accepted(claim, error, attempts)
                self._note_answer(error)
                await self._journal.finish(claim, Outcome.UNKNOWN, error=_said_by(error))
            is_done, result = await self._resolve(claim, doubt, error, attempts)
            if is_done:
                return result
            doubt = None
        return await self._closed(claim, Outcome.NOT_SENT, error, attempts)

    async def _resolve(
        self, claim: Claimed, doubt: Attempt, error: Exception, attempts: int
    ) -> tuple[bool, SendResult | None]:
        """Find out what became of it; return whether that is the end of it, and with which result."""
        found = await self._became_of(claim, doubt, error)
        if found.message_id is not None:
            self._hold.well()
            if result := await self._delivered(claim, found.message_id, attempts):
                return True, result
            found = Reconciled(Outcome.UNKNOWN)
        if found.outcome is Outcome.UNKNOWN:
            if isinstance(error, EarlierRunError) and found.reason:
                error = EarlierRunError(_NOT_FOUND_OUT.format(found.reason))
            return True, await self._closed(claim, Outcome.UNKNOWN, error, attempts)
        if claim.state is not State.WAITING:
            await self._release(claim)
            return True, None
        return False, None

    def _earlier_attempt(self, claim: Claimed) -> Attempt | None:
        """Return what an earlier run may have sent. The process that made the call has exited, or lost it."""
        if claim.state is State.WAITING or claim.started_at is None:
            return None
        files = tuple((file.name, file.size) for file in claim.files)
        chat = ChatAddress.of_text(claim.sent_to or claim.chat)
        departed_at = claim.started_at + self._proofs.journal_ahead
        ended_at, date_ahead = self._api.deliveries.clock.moment(), claim.date_ahead
        if date_ahead is not None:
            date_ahead -= self._proofs.journal_ahead
        return Attempt(chat, claim.body, departed_at, ended_at, files, date_ahead=date_ahead)

    async def _try(self, claim: Claimed) -> SentMessage | Exception:
        number = next(self._numbers)
        await self._order.starts_before(claim.chat, number)
        self._order.starts(claim.chat, number)
        try:
            await self._let_through()
            chat = await self._reached(claim.chat)
            await self._note_what_was_learnt()
            self._order.has_started(number)
            sent = await self._begin_and_say(claim, chat)
        except (JournalError, SendingGivenUpError):
            raise
        except Exception as error:  # noqa: BLE001 - reported, with what can be said of the message
            return error
        finally:
            self._order.has_started(number)
        self._hold.well()
        return sent

    def _note_as_learnt(self, addresses: Sequence[str]) -> None:
        self._learnt.append(addresses)

    async def _note_what_was_learnt(self) -> None:
        """Keep in the journal which addresses lead to one chat; then it decides which message is the next."""
        if self._learnt:
            learnt, self._learnt = self._learnt, []
            await self._journal.learn_same(learnt)

    async def _begin_and_say(self, claim: Claimed, chat: Chat | GroupChat) -> SentMessage:
        await self._departures.enter()
        task = asyncio.current_task()
        self._may_leave[task] = self._lease.of(claim)
        try:
            ahead = self._api.deliveries.clock.date_ahead()
            date_ahead = None if ahead is None else ahead + self._proofs.journal_ahead
            await self._journal.begin(claim, self._journal.now(), chat.address.text, date_ahead)
            return await self._say(chat, claim.body, files_in(claim.files), question_in(claim.question))
        finally:
            del self._may_leave[task]
            self._departures.leave(task)

    def _note_request(self, request: Request, task: "asyncio.Task[None]") -> None:
        super()._note_request(request, task)
        request.on_departure = partial(self._departures.leave, task)
        request.may_leave = self._may_leave.get(task)

    def _lose_all(self) -> None:
        """End the run, since others may take its messages over."""
        self._failure = JournalError(_LEASE_LOST)
        for task in self._in_flight:
            task.cancel()
        self._changed.set()

    async def _delivered(self, claim: Claimed, message_id: str, attempts: int) -> SendResult | None:
        """Note that it was delivered; `None`: another message is known under this id."""
        result = self._result(claim, Reconciled(Outcome.DELIVERED, message_id), None, attempts)
        try:
            await self._journal.finish(claim, Outcome.DELIVERED, message_id=message_id)
        except BaseException as error:
            # The next run looks for it, and must not take it for another one's.
            self._api.deliveries.forget(message_id)
            if isinstance(error, ClaimLostError) and await self._journal.is_claimed_id(message_id, claim.key):
                return None
            # Two workers that both say "delivered" could mean two messages: the one that has it now reports.
            if not isinstance(error, JournalError) or isinstance(error, ClaimLostError):
                raise
            self._failure = self._failure or error
            result = evolve(result, error=JournalError(_NOT_NOTED))
        else:
            self._proofs.note_first()
        return result

    async def _answer_of_another(self, claim: Claimed) -> DeliveryUnknownError:
        """Return the error for an answer that has the id of a message which an earlier run has delivered."""
        chat, task = await self._reached(claim.chat), asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: this is a coroutine
        call = self._requests[task]
        error = call.delivery_unknown("the answer has the id of another message")
        self._api.deliveries.note(error, chat.address, claim.body, call)
        return error

    async def _not_accepted(self, claim: Claimed, error: Exception, attempts: int) -> SendResult | None:
        """Note what is known of a message that got an error which leaves nothing open, but for bugs."""
        outcome = Outcome.NOT_SENT if isinstance(error, DeliveryUnknownError) else outcome_of(error)
        if outcome is Outcome.NOT_SENT and (
            isinstance(error, ClientUsageError) or await self._hold.is_held_up_by(error)
        ):
            await self._journal.put_back(claim)
            return None
        self._note_answer(error)
        return await self._closed(claim, outcome, error, attempts)

    async def _closed(self, claim: Claimed, outcome: Outcome, error: Exception, attempts: int) -> SendResult:
        result = self._result(claim, Reconciled(outcome), error, attempts)
        await self._journal.finish(claim, outcome, error=_said_by(error), is_final=True)
        return result

    async def _release(self, claim: Claimed) -> None:
        """Let a message that an earlier run did not send wait again, if this run was given it."""
        is_resumed = self._resumes and (self._options.superseded or not claim.is_superseded)
        if is_resumed or self._given.is_awaited(claim.key):
            await self._journal.put_back(claim)
        else:
            await self._journal.set_aside(claim)

    async def _became_of(self, claim: Claimed, doubt: Attempt, error: Exception) -> Reconciled:
        self._api.deliveries.is_for(doubt, self._journal.salt, claim.key)
        if self._options.on_unknown == "report":
            return Reconciled(Outcome.UNKNOWN)
        for group in await self._journal.same_chats([claim.chat]):
            self._api.aliases.learn_same(group)
        unclear = error if isinstance(error, DeliveryUnknownError) else None
        return await self._find_out(doubt, unclear, partial(self._reconciler, claim.key))

    async def _reconciler(self, key: str) -> Reconciler:
        evidence = JournalEvidence(self._journal, self._api.deliveries, self._proofs, key)
        return await reconciler_of(self._api, self._options.settle, evidence)

    async def _known_conversation(self, to: str) -> Chat | None:
        known = await self._journal.conversation_with(to)
        return None if known is None else Conversations(self._api)(ChatAddress.of_text(known).id)

    def _chat(self, to: Recipient) -> Chat | GroupChat:
        return handle(self._api, ChatAddress.of_text(str(to)))

    def _result(
        self, claim: Claimed, found: Reconciled, error: Exception | None, attempts: int
    ) -> SendResult:
        index = self._given.take(claim.key)
        return SendResult(
            claim.key, claim.chat, found.outcome, found.message_id, error, attempts, index, claim.label
        )


def _said_by(error: Exception) -> str:
    if isinstance(error, EarlierRunError):
        return str(error)
    return f"{type(error).__name__}: {error}"
