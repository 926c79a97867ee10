"""Sending many messages as fast as the limit allows, each with its own outcome."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from attrs import evolve

from healthmsg.addresses import ChatAddress
from healthmsg.bulk.messages import Outgoing, Recipient, SendResult
from healthmsg.errors import CallError, HealthmsgError, InvalidInputError, SendingStoppedError
from healthmsg.files import check_files
from healthmsg.models import Outcome, SentMessage
from healthmsg.pipeline.exchange import Request, Response, Send
from healthmsg.pipeline.log import logger
from healthmsg.resources.api import Api
from healthmsg.resources.chats import BaseChat, belongs_to
from healthmsg.resources.groups import handle

# More than the limit lets go while an answer takes three seconds.
_MOST_IN_FLIGHT: Final = 128

Messages = Iterable[Outgoing] | AsyncIterable[Outgoing]


class SendMany:
    """Messages that are being sent. Iterate it for the results, in the order in which they come.

    Messages are read as they are needed and sent in parallel; within one chat, one after the other. Results
    that nobody reads hold up the sending. Leaving the `async with` (or closing the client) sends no further
    message and waits for those under way; the results that are left can still be read by iterating on.
    """

    def __init__(self, api: Api, messages: Messages) -> None:
        self._api = evolve(api, send=self._noting(api.send))
        self._messages = messages
        self._feeding: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._results: asyncio.Queue[SendResult | None] = asyncio.Queue()
        self._last_in_chat: dict[object, asyncio.Task[None]] = {}
        self._in_flight: dict[asyncio.Task[Any], Request | None] = {}
        self._is_stopping = False
        self._unread = 0
        self._on_end: Callable[[SendMany], None] | None = None

    async def __aiter__(self) -> AsyncIterator[SendResult]:
        self.start()
        while (result := await self._results.get()) is not None:
            self._unread -= 1
            self._places.release()
            yield result
        self._results.put_nowait(None)  # whoever iterates again finds the end as well
        if self._feeding is None:
            return
        self._end(told=True)
        if not self._feeding.cancelled():
            self._feeding.result()  # raises what reading the messages raised

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to send; iterating begins it too."""
        if self._feeding is None and not self._is_stopping:
            self._feeding = self._api.spawn(self._feed())
            # Not in the task itself, which may be cancelled before it has begun.
            self._feeding.add_done_callback(lambda _: self._results.put_nowait(None))

    def when_ended(self, tell: "Callable[[SendMany], None]") -> None:
        """Have somebody told when all results have been read, or the run was closed."""
        self._on_end = tell

    async def close(self) -> None:
        """Send no further message, and wait for those under way."""
        is_first = not self._is_stopping
        self._is_stopping = True
        if self._feeding is None:
            if is_first:
                logger.warning("a send_many was closed without being iterated: it has sent nothing")
            self._results.put_nowait(None)
        else:
            if is_first:
                self._stop(self._feeding)
            await asyncio.wait([self._feeding])
        self._end(told=False)

    def _stop(self, feeding: "asyncio.Task[None]") -> None:
        feeding.cancel()
        for task, request in self._in_flight.items():
            if _has_not_begun(request):
                task.cancel()

    def _end(self, *, told: bool) -> None:
        tell, self._on_end = self._on_end, None
        if tell is None:
            return
        tell(self)
        if self._unread:
            logger.warning("%d messages have been handled whose results nobody has read", self._unread)
        if told or self._feeding is None or self._feeding.cancelled():
            return
        if error := self._feeding.exception():  # iterating on would raise it, but nobody may
            logger.error("reading the messages to send failed with %s", type(error).__name__)

    async def _feed(self) -> None:
        try:
            async for message in _each(self._messages):
                await self._places.acquire()
                self._launch(message)
        finally:
            while self._in_flight:
                # Closing cancels this, and the client's end also those in flight: their results come first.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(self._in_flight)

    def _launch(self, message: Outgoing) -> None:
        if not isinstance(message, Outgoing):
            raise InvalidInputError(f"send_many takes Outgoing messages, not {type(message).__name__}")
        before = self._last_in_chat.get(_chat_key(message.to))
        task = self._api.spawn(self._handle_after(before, message))
        self._last_in_chat[_chat_key(message.to)] = task
        self._in_flight[task] = None
        task.add_done_callback(lambda done: self._landed(done, message))

    def _landed(self, task: "asyncio.Task[None]", message: Outgoing) -> None:
        request = self._in_flight.pop(task)
        if self._last_in_chat.get(_chat_key(message.to)) is task:
            del self._last_in_chat[_chat_key(message.to)]
        if task.cancelled():
            outcome = Outcome.NOT_SENT if _has_not_begun(request) else Outcome.UNKNOWN
            error = SendingStoppedError(
                f"The run was ended before this message was done; it is {outcome.value}."
            )
            self._report(SendResult(message.key, message.to, outcome, error=error))

    def _noting(self, send: Send) -> Send:
        """Note which task makes which request, to know on closing what may have left."""

        def noted(request: Request) -> Awaitable[Response]:
            task = asyncio.current_task()
            if task in self._in_flight:
                self._in_flight[task] = request
            return send(request)

        return noted

    async def _handle_after(self, before: "asyncio.Task[Any] | None", message: Outgoing) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._report(await self._deliver(message))

    def _report(self, result: SendResult) -> None:
        self._unread += 1
        self._results.put_nowait(result)

    async def _deliver(self, message: Outgoing) -> SendResult:
        try:
            sent = await self._send(message)
        except CallError as error:
            return SendResult(message.key, message.to, error.outcome, error=error)
        except HealthmsgError as error:  # refused, or not authorized: before anything was sent
            return SendResult(message.key, message.to, Outcome.NOT_SENT, error=error)
        except Exception as error:  # noqa: BLE001 - reported, and nothing can be said of the message
            return SendResult(message.key, message.to, Outcome.UNKNOWN, error=error)
        return SendResult(message.key, message.to, Outcome.DELIVERED, message_id=sent.id)

    async def _send(self, message: Outgoing) -> SentMessage:
        if isinstance(message.to, BaseChat) and not belongs_to(message.to, self._api):
            raise InvalidInputError(
                "this chat is another user's or client's: send to it with the send_many of that one"
            )
        chat = handle(self._api, _address(message.to))
        files = check_files(message.files)
        return await (chat.upload(*files, message=message.body) if files else chat.send(message.body))


def _has_not_begun(request: Request | None) -> bool:
    """Tell whether nothing of a message can have left: it still waits for its first turn."""
    return request is None or (request.slot is None and request.attempt == 1)


def _address(to: Recipient) -> ChatAddress:
    return to.address if isinstance(to, BaseChat) else ChatAddress.parse(to)


def _chat_key(to: Recipient) -> object:
    try:
        return _address(to)
    except HealthmsgError:
        return None  # it will not be sent; what was given may not even be hashable


async def _each(messages: Messages) -> AsyncIterator[Outgoing]:
    if isinstance(messages, AsyncIterable):
        async for message in messages:
            yield message
    else:
        for message in messages:
            yield message
