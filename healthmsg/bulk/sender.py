"""Sending many messages as fast as the limit allows, each with its own outcome."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Literal

from healthmsg.bulk.messages import Outgoing, Recipient, SendResult
from healthmsg.bulk.reconcile import Reconciled, check_settle, reconcile
from healthmsg.bulk.sending import Sending, address_of, outcome_of
from healthmsg.checks import check_choice
from healthmsg.errors import DeliveryUnknownError, InvalidInputError, SendingStoppedError
from healthmsg.files import check_files
from healthmsg.many import Words
from healthmsg.models import Outcome, SentMessage
from healthmsg.resources.api import Api
from healthmsg.resources.chats import Chat
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.groups import GroupChat

# More than the limit lets go while an answer takes three seconds.
_MOST_IN_FLIGHT: Final = 128
# What does not arrive twice, though each time it is proven not to have, will not the third time.
_MOST_SENDINGS: Final = 3
_USERS: Final = "users/"

Messages = Iterable[Outgoing] | AsyncIterable[Outgoing]
OnUnknown = Literal["reconcile", "report"]


class SendMany(Sending[Outgoing, SendResult]):
    """Messages that are being sent. Iterate it for the results, in the order in which they come.

    Messages are read as they are needed and sent in parallel; within one chat, one after the other. Results
    that nobody reads hold up the sending. Leaving the `async with` (or closing the client) sends no further
    message and waits for those under way; the results that are left can still be read by iterating on.
    """

    _words: ClassVar[Words] = Words("a send_many", "messages", "send", "sent")

    def __init__(self, api: Api, messages: Messages, *, on_unknown: OnUnknown, settle: float) -> None:
        super().__init__(api, messages, places=_MOST_IN_FLIGHT)
        check_choice(on_unknown, "on_unknown", ("reconcile", "report"))
        self._reconciles = on_unknown == "reconcile"
        self._settle = check_settle(settle)
        self._last_in_chat: dict[object, asyncio.Task[Any] | None] = {}
        self._conversations: dict[str, Chat] = {}
        self._in_doubt: dict[asyncio.Task[Any] | None, DeliveryUnknownError] = {}

    def _accept(self, item: Any) -> Outgoing:
        if not isinstance(item, Outgoing):
            raise InvalidInputError(f"send_many takes Outgoing messages, not {type(item).__name__}")
        return item

    def _is_waited_for(self, task: "asyncio.Task[None]") -> bool:
        return self._has_begun(task) and task not in self._in_doubt

    def _cut_off(self, item: Outgoing, task: "asyncio.Task[None]") -> SendResult:
        unclear = self._in_doubt.pop(task, None)
        outcome = Outcome.UNKNOWN if unclear or self._has_begun(task) else Outcome.NOT_SENT
        error = unclear or SendingStoppedError(
            f"The run was ended before this message was done; it is {outcome.value}."
        )
        return SendResult(item.key, item.to, outcome, error=error, attempts=self._calls_of(task))

    async def _work(self, item: Outgoing) -> SendResult:
        task = asyncio.current_task()
        async with self._turn(_chat_key(item.to)):
            attempts = 0
            for _ in range(_MOST_SENDINGS):
                try:
                    sent = await self._send(item)
                except Exception as failure:  # noqa: BLE001 - reported, with what can be said of the message
                    error = failure
                else:
                    attempts += self._calls_of(task)
                    return SendResult(
                        item.key, item.to, Outcome.DELIVERED, message_id=sent.id, attempts=attempts
                    )
                attempts += self._calls_of(task)
                found = await self._find_out(error)
                if found.outcome is not Outcome.NOT_SENT or not _is_of_a_message(error):
                    break
        is_delivered = found.outcome is Outcome.DELIVERED
        return SendResult(
            item.key,
            item.to,
            found.outcome,
            message_id=found.message_id,
            error=None if is_delivered else error,
            attempts=attempts,
        )

    async def _find_out(self, error: Exception) -> Reconciled:
        """Say what became of a message that was not answered as it should have been."""
        if not isinstance(error, DeliveryUnknownError):
            return Reconciled(outcome_of(error))
        if error.attempt is None:  # only the conversation may have been started, and nothing said in it
            return Reconciled(Outcome.NOT_SENT)
        if not self._reconciles:
            return Reconciled(Outcome.UNKNOWN)
        task = asyncio.current_task()
        self._in_doubt[task] = error
        # Who waits for certainty does not keep others from being sent.
        self._places.release()
        try:
            found = await reconcile(self._api, error, self._settle)
        except Exception:  # noqa: BLE001 - whatever kept us from finding out, nothing is known then
            found = Reconciled(Outcome.UNKNOWN)
        await self._places.acquire()
        del self._in_doubt[task]
        return found

    @asynccontextmanager
    async def _turn(self, chat: object) -> AsyncIterator[None]:
        """Wait for the message before this one in the same chat: tasks begin in the order of the messages."""
        before, task = self._last_in_chat.get(chat), asyncio.current_task()
        self._last_in_chat[chat] = task
        try:
            if before is not None:
                await asyncio.wait([before])  # to its end, so that the results are in order too
            yield
        finally:
            if self._last_in_chat[chat] is task:
                del self._last_in_chat[chat]

    async def _send(self, message: Outgoing) -> SentMessage:
        files, question = check_files(message.files), message.question
        if files and question:
            raise InvalidInputError("a question cannot have files: send them in a message of their own")
        chat = await self._reached(message.to)
        if question:
            return await chat.ask(
                message.body,
                options=question.options,
                users=question.users,
                multi_answer=question.multi_answer,
                style=question.style,
            )
        return await (chat.upload(*files, message=message.body) if files else chat.send(message.body))

    async def _reached(self, to: Recipient) -> Chat | GroupChat:
        """Give the handle of the chat, starting the conversation with a user if need be."""
        if not (isinstance(to, str) and to.startswith(_USERS)):
            return self._chat(to)
        user = to.removeprefix(_USERS)
        if user not in self._conversations:
            self._conversations[user] = await Conversations(self._api).start(user)
        return self._conversations[user]


def _is_of_a_message(error: Exception) -> bool:
    return isinstance(error, DeliveryUnknownError) and error.attempt is not None


def _chat_key(to: Recipient) -> object:
    if isinstance(to, str) and to.startswith(_USERS):
        return to
    try:
        return address_of(to)
    except InvalidInputError:
        return None  # it will not be sent; what was given may not even be hashable
