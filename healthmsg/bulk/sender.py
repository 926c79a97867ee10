"""Sending many messages as fast as the limit allows, each with its own outcome."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

from healthmsg.bulk.messages import Outgoing, Recipient, SendResult
from healthmsg.bulk.sending import Sending, address_of, outcome_of
from healthmsg.errors import HealthmsgError, InvalidInputError, SendingStoppedError
from healthmsg.files import check_files
from healthmsg.many import Words
from healthmsg.models import Outcome, SentMessage
from healthmsg.resources.api import Api

# More than the limit lets go while an answer takes three seconds.
_MOST_IN_FLIGHT: Final = 128

Messages = Iterable[Outgoing] | AsyncIterable[Outgoing]


class SendMany(Sending[Outgoing, SendResult]):
    """Messages that are being sent. Iterate it for the results, in the order in which they come.

    Messages are read as they are needed and sent in parallel; within one chat, one after the other. Results
    that nobody reads hold up the sending. Leaving the `async with` (or closing the client) sends no further
    message and waits for those under way; the results that are left can still be read by iterating on.
    """

    _words: ClassVar[Words] = Words("a send_many", "messages", "send", "sent")

    def __init__(self, api: Api, messages: Messages) -> None:
        super().__init__(api, messages, places=_MOST_IN_FLIGHT)
        self._last_in_chat: dict[object, asyncio.Task[Any] | None] = {}

    def _accept(self, item: Any) -> Outgoing:
        if not isinstance(item, Outgoing):
            raise InvalidInputError(f"send_many takes Outgoing messages, not {type(item).__name__}")
        return item

    def _is_waited_for(self, task: "asyncio.Task[None]") -> bool:
        return self._has_begun(task)

    def _cut_off(self, item: Outgoing, task: "asyncio.Task[None]") -> SendResult:
        outcome = Outcome.UNKNOWN if self._has_begun(task) else Outcome.NOT_SENT
        error = SendingStoppedError(f"The run was ended before this message was done; it is {outcome.value}.")
        return SendResult(item.key, item.to, outcome, error=error)

    async def _work(self, item: Outgoing) -> SendResult:
        async with self._turn(_chat_key(item.to)):
            try:
                sent = await self._send(item)
            except Exception as error:  # noqa: BLE001 - reported, with what can be said of the message
                return SendResult(item.key, item.to, outcome_of(error), error=error)
        return SendResult(item.key, item.to, Outcome.DELIVERED, message_id=sent.id)

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
        chat = self._chat(message.to)
        files = check_files(message.files)
        return await (chat.upload(*files, message=message.body) if files else chat.send(message.body))


def _chat_key(to: Recipient) -> object:
    try:
        return address_of(to)
    except HealthmsgError:
        return None  # it will not be sent; what was given may not even be hashable
