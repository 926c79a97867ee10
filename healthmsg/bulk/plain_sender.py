"""Sending many messages without a journal: when the process ends, nobody knows what was under way."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from attrs import evolve, field, frozen

from healthmsg.api import Api
from healthmsg.bulk.in_hand import FilesInHand
from healthmsg.bulk.messages import Messages, Outgoing, Recipient, SendResult
from healthmsg.bulk.reconcile import Reconciled, reconciler_of
from healthmsg.bulk.sender import MOST_SENDINGS, SendMany, SendOptions, check_outgoing, is_of_a_message
from healthmsg.bulk.sending import outcome_of
from healthmsg.delivery.proof import attempt_of
from healthmsg.errors import DeliveryUnknownError, InvalidFileError, SendingStoppedError
from healthmsg.files import FileToUpload
from healthmsg.models import Outcome, SentMessage
from healthmsg.resources.chat import BaseChat
from healthmsg.validation import check_files

_ADVICE: Final = "What has no result was not sent. A run with a journal could be continued."


@frozen
class _Numbered:
    index: int
    message: Outgoing
    files: Sequence[FileToUpload] = field(default=(), repr=False)
    """Those of the message as they were when it was taken."""


class PlainSendMany(SendMany):
    """Sends each message as it is read."""

    def __init__(self, api: Api, messages: Messages, options: SendOptions) -> None:
        super().__init__(api, messages, options, advice=_ADVICE)
        self._numbers = count()
        self._reconciler = partial(reconciler_of, self._api, options.settle)
        self._files = FilesInHand()

    async def _feed(self) -> None:
        try:
            await super()._feed()
        except asyncio.CancelledError:
            self._raise_if_given_up()
            raise
        self._raise_if_given_up()

    def _given_up(self) -> None:
        super()._given_up()
        if self._feeding is not None:
            self._feeding.cancel()  # the next message may be long in coming

    def _accept(self, item: Any) -> _Numbered:
        self._raise_if_given_up()
        return _Numbered(next(self._numbers), check_outgoing(item))

    async def _take(self, item: Any) -> _Numbered:
        accepted = self._accept(item)
        try:
            files = check_files(accepted.message.files)
        except InvalidFileError:
            return accepted  # which is refused in its turn
        return evolve(accepted, files=await self._files.take(files))

    def _raise_if_given_up(self) -> None:
        if self._hold.given_up is not None:
            raise self._hold.given_up

    def _cut_off(self, item: _Numbered, task: "asyncio.Task[None]") -> SendResult:
        unclear = self._in_doubt.pop(task, None)
        outcome = Outcome.UNKNOWN if unclear or self._has_begun(task) else Outcome.NOT_SENT
        ended = f"The run was ended before this message was done; it is {outcome.value}."
        error = unclear or self._hold.given_up or SendingStoppedError(ended)
        return _result(item, Reconciled(outcome), error, self._calls_of(task))

    async def _work(self, item: _Numbered) -> SendResult:
        # Tasks begin in the order of the messages.
        address, number, task = _address_in(item.message.to), item.index, asyncio.current_task()
        try:
            if address is None or task is None:
                return await self._carry_out(item)  # it will be refused
            with self._order.place(address, number, task):
                await self._order.starts_before(address, number)
                await self._order.turn(address, number)
                self._order.starts(address, number)
                return await self._carry_out(item)
        finally:
            self._files.release(item.files)

    async def _carry_out(self, item: _Numbered) -> SendResult:
        attempts = 0
        for _ in range(MOST_SENDINGS):
            sent, calls = await self._try(item)
            attempts += calls
            if isinstance(sent, SentMessage):
                return _result(item, Reconciled(Outcome.DELIVERED, sent.id), None, attempts)
            error = sent
            found = await self._became_of(error)
            if found.message_id is not None:
                self._hold.well()
            if found.outcome is not Outcome.NOT_SENT or not is_of_a_message(error):
                break
        return _result(item, found, error, attempts)

    async def _try(self, item: _Numbered) -> tuple[SentMessage | Exception, int]:
        """Send it, if need be again and again while that is certain to do no harm; count the calls."""
        message, calls, task = item.message, 0, asyncio.current_task()
        while True:
            try:
                await self._let_through()
                check_files(message.files)
                chat = await self._reached(message.to)
                await self._wait_for_turn(item)
                sent = await self._say(chat, message.body, item.files, message.question)
            except Exception as error:  # noqa: BLE001 - reported, with what can be said of the message
                calls += self._calls_of(task)
                if outcome_of(error) is not Outcome.NOT_SENT or not await self._hold.is_held_up_by(error):
                    self._note_answer(error)
                    return error, calls
            else:
                self._hold.well()
                return sent, calls + self._calls_of(task)

    async def _wait_for_turn(self, item: _Numbered) -> None:
        """Wait again, since it may be known now that an earlier message goes to the same chat."""
        address, number = _address_in(item.message.to) or "", item.index
        self._order.has_started(number)
        while not self._order.is_turn(address, number):
            self._hold.nothing_learnt()
            await self._order.turn(address, number)
            await self._let_through()

    async def _became_of(self, error: Exception) -> Reconciled:
        """Say what became of a message that was not answered as it should have been."""
        if not isinstance(error, DeliveryUnknownError):
            return Reconciled(outcome_of(error))
        if (
            attempt := attempt_of(error)
        ) is None:  # only the conversation may have been started, and nothing said in it
            return Reconciled(Outcome.NOT_SENT)
        if self._options.on_unknown == "report":
            return Reconciled(Outcome.UNKNOWN)
        return await self._find_out(attempt, error, self._reconciler)


def _result(item: _Numbered, found: Reconciled, error: Exception | None, attempts: int) -> SendResult:
    message, is_delivered = item.message, found.outcome is Outcome.DELIVERED
    return SendResult(
        message.key,
        message.to,
        found.outcome,
        message_id=found.message_id,
        error=None if is_delivered else error,
        attempts=attempts,
        index=item.index,
        label=message.label,
    )


def _address_in(to: Recipient) -> str | None:
    """Return the address that was given, as text, which has one form only."""
    if isinstance(to, BaseChat):
        return to.address.text
    return to if isinstance(to, str) else None  # it will not be sent; it may not even be hashable
