"""Sending one message of a journal: noted before its call is made, and what became of it after."""

import asyncio
from datetime import timedelta
from functools import partial
from typing import Final

from healthmsg.addresses import ChatAddress
from healthmsg.attempts import Attempt
from healthmsg.bulk.departures import Departures
from healthmsg.bulk.entries import files_in, question_in
from healthmsg.bulk.journal import Claimed, Given, Journal, State
from healthmsg.bulk.messages import Recipient, SendResult
from healthmsg.bulk.reconcile import Reconciled, Reconciler, my_id
from healthmsg.bulk.samples import Samples
from healthmsg.bulk.sender import MOST_SENDINGS, SendMany, SendOptions
from healthmsg.bulk.sending import outcome_of
from healthmsg.errors import (
    ClaimLostError,
    ClientUsageError,
    DeliveryUnknownError,
    EarlierRunError,
    JournalError,
    SendingStoppedError,
)
from healthmsg.models import Outcome, SentMessage
from healthmsg.pipeline.exchange import Request
from healthmsg.pipeline.limit import RateLimit
from healthmsg.resources.api import Api
from healthmsg.resources.chats import Chat
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.groups import GroupChat, handle
from healthmsg.tasks import start

ADVICE: Final = "Start again with the same journal and messages to go on: nothing is sent twice."
_LEFT_OPEN: Final = (
    "The run was ended before it was known whether this message was delivered; it is unknown. The next run"
    " with the same journal finds out."
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
        self._samples = Samples(journal, api.deliveries, self._changed.set)
        self._failure: Exception | None = None
        self._giving_back: set[asyncio.Task[None]] = set()
        self._departures = Departures(rate)

    async def _work(self, item: Claimed) -> SendResult | None:
        try:
            return await self._carry_out(item)
        except ClaimLostError:
            self._hold.nothing_learnt()
            return None  # whoever has it now tells what became of it
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
        attempts, doubt = claim.attempts, _earlier_attempt(claim, self._api)
        for _ in range(MOST_SENDINGS):
            if doubt is None:
                sent = await self._try(claim)
                attempts += self._calls_of(asyncio.current_task())
                if isinstance(sent, SentMessage):
                    return await self._delivered(claim, sent.id, attempts)
                error = sent
                doubt = error.attempt if isinstance(error, DeliveryUnknownError) else None
                if doubt is None:
                    return await self._not_accepted(claim, error, attempts)
                self._note_answer(error)
                await self._journal.finish(claim, Outcome.UNKNOWN, error=_said_by(error))
            found = await self._became_of(claim, doubt, error)
            if found.message_id is not None:
                self._hold.well()
                return await self._delivered(claim, found.message_id, attempts)
            if found.outcome is Outcome.UNKNOWN:
                return await self._closed(claim, Outcome.UNKNOWN, error, attempts)
            if claim.state is not State.WAITING:
                await self._release(claim)
                return None
            doubt = None
        return await self._closed(claim, Outcome.NOT_SENT, error, attempts)

    async def _try(self, claim: Claimed) -> SentMessage | Exception:
        await self._let_through()
        try:
            chat = await self._reached(claim.chat)
            sent = await self._begin_and_say(claim, chat)
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001 - reported, with what can be said of the message
            return error
        self._hold.well()
        return sent

    async def _begin_and_say(self, claim: Claimed, chat: Chat | GroupChat) -> SentMessage:
        await self._departures.enter()
        try:
            began_at = self._api.deliveries.clock.earliest()
            await self._journal.begin(claim, began_at, chat.address.text)
            return await self._say(chat, claim.body, files_in(claim.files), question_in(claim.question))
        finally:
            self._departures.leave(asyncio.current_task())

    def _note_request(self, request: Request, task: "asyncio.Task[None]") -> None:
        super()._note_request(request, task)
        request.on_departure = partial(self._departures.leave, task)

    async def _delivered(self, claim: Claimed, message_id: str, attempts: int) -> SendResult:
        result = self._result(claim, Reconciled(Outcome.DELIVERED, message_id), None, attempts)
        try:
            await self._journal.finish(claim, Outcome.DELIVERED, message_id=message_id)
        except BaseException as error:
            # The next run looks for it, and must not take it for another one's.
            self._api.deliveries.forget(message_id)
            if not isinstance(error, JournalError):
                raise
            if not isinstance(error, ClaimLostError):
                self._failure = self._failure or error
        else:
            self._samples.come_no_more()
        return result

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
        if self._options.on_unknown == "report":
            return Reconciled(Outcome.UNKNOWN)
        unclear = error if isinstance(error, DeliveryUnknownError) else None
        return await self._find_out(doubt, unclear, partial(self._reconciler, claim.key))

    async def _reconciler(self, key: str) -> Reconciler:
        journal, deliveries = self._journal, self._api.deliveries

        async def is_claimed(message_id: str) -> bool:
            return deliveries.is_claimed(message_id) or await journal.is_claimed_id(message_id, key)

        async def claim(attempt: Attempt, message_id: str) -> bool:
            return not await journal.is_claimed_id(message_id, key) and deliveries.claim(attempt, message_id)

        settle = timedelta(seconds=self._options.settle)
        return Reconciler(
            self._api,
            deliveries.clock,
            await my_id(self._api),
            settle,
            claim,
            is_claimed,
            self._samples.known,
        )

    async def _known_conversation(self, to: str) -> Chat | None:
        known = await self._journal.conversation_with(to)
        return None if known is None else Conversations(self._api)(ChatAddress.of_text(known).id)

    def _chat(self, to: Recipient) -> Chat | GroupChat:
        return handle(self._api, ChatAddress.of_text(str(to)))

    def _result(
        self, claim: Claimed, found: Reconciled, error: Exception | None, attempts: int
    ) -> SendResult:
        index = self._given.take(claim.key)
        return SendResult(claim.key, claim.chat, found.outcome, found.message_id, error, attempts, index)


def _earlier_attempt(claim: Claimed, api: Api) -> Attempt | None:
    """Give what an earlier run may have sent. Whoever made that call is no more, so it ended by now."""
    if claim.state is State.WAITING or claim.started_at is None:
        return None
    files = tuple((file.name, file.size) for file in claim.files)
    chat = ChatAddress.of_text(claim.sent_to or claim.chat)
    ended_at = api.deliveries.clock.latest()
    return Attempt(chat, claim.body, claim.started_at, ended_at, files)


def _said_by(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
