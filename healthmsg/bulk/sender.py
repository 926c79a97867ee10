"""Sending many messages as fast as the limit allows, each with its own outcome."""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from healthmsg.addresses import ChatAddress
from healthmsg.bulk.messages import Outgoing, Recipient, SendResult
from healthmsg.errors import CallError, HealthmsgError, InvalidInputError
from healthmsg.files import check_files
from healthmsg.models import Outcome, SentMessage
from healthmsg.resources.api import Api
from healthmsg.resources.chats import BaseChat, handle

# More than the limit lets go while an answer takes three seconds.
_MOST_IN_FLIGHT: Final = 128

logger = logging.getLogger("healthmsg")

Messages = Iterable[Outgoing] | AsyncIterable[Outgoing]


class SendMany:
    """Messages that are being sent. Iterate it for the results, in the order in which they come.

    Messages are read as they are needed and sent in parallel; within one chat, one after the other. Results
    that nobody reads hold up the sending. Leaving the `async with` (or closing the client) starts no further
    message and waits for those in flight; results of those can still be read by iterating on.
    """

    def __init__(self, api: Api, messages: Messages) -> None:
        self._api = api
        self._messages = messages
        self._feeding: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._results: asyncio.Queue[SendResult | None] = asyncio.Queue()
        self._last_in_chat: dict[object, asyncio.Task[None]] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._unread = 0

    async def __aiter__(self) -> AsyncIterator[SendResult]:
        self.start()
        while (result := await self._results.get()) is not None:
            self._unread -= 1
            self._places.release()
            yield result
        self._results.put_nowait(None)  # whoever iterates again finds the end as well
        if self._feeding is not None and not self._feeding.cancelled():
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
        if self._feeding is None and not self._stopping:
            self._feeding = self._api.spawn(self._feed())
            # Not in the task itself, which may be cancelled before it has begun.
            self._feeding.add_done_callback(lambda _: self._results.put_nowait(None))

    async def close(self) -> None:
        """Start no further message, and wait for those in flight."""
        if self._feeding is None:
            self._stopping = True
            self._results.put_nowait(None)
            return
        if not self._stopping:
            self._stopping = True
            self._feeding.cancel()
        await asyncio.wait([self._feeding])
        if self._unread:
            logger.warning("%d messages have been handled whose results nobody has read", self._unread)

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
        self._in_flight.add(task)
        task.add_done_callback(lambda done: self._landed(done, message))

    def _landed(self, task: "asyncio.Task[None]", message: Outgoing) -> None:
        self._in_flight.discard(task)
        if self._last_in_chat.get(_chat_key(message.to)) is task:
            del self._last_in_chat[_chat_key(message.to)]

    async def _handle_after(self, before: "asyncio.Task[Any] | None", message: Outgoing) -> None:
        # Cut off by a second Ctrl-C, or by the client's end, it would end as unknown.
        result = SendResult(message.key, message.to, Outcome.UNKNOWN)
        try:
            if before is not None:
                await asyncio.wait([before])
            result = await self._deliver(message)
        finally:
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
        chat = handle(self._api, _address(message.to))
        files = check_files(message.files)
        return await (chat.upload(*files, message=message.body) if files else chat.send(message.body))


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
