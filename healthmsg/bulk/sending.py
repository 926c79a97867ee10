"""What sending many messages and uploading many files have in common: the outcome of each."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any, Final, TypeGuard, TypeVar

from attrs import evolve

from healthmsg import ids as addresses
from healthmsg.api import Api
from healthmsg.bulk.messages import Recipient
from healthmsg.errors import CallError, HealthmsgError, InvalidInputError
from healthmsg.ids import ChatAddress
from healthmsg.models import Outcome
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.resources.chat import BaseChat, Chat, belongs_to
from healthmsg.resources.group_chat import GroupChat, handle
from healthmsg.task_pool import Many

ItemT = TypeVar("ItemT")
USERS: Final = addresses.USERS
ResultT = TypeVar("ResultT")


class Sending(Many[ItemT, ResultT]):
    """Items that each make one call, of which is noted how far it has come."""

    def __init__(self, api: Api, items: Iterable[Any] | AsyncIterable[Any], *, places: int) -> None:
        super().__init__(items, api.spawn, places=places)
        self._api = evolve(api, send=self._noting(api.send))
        self._requests: dict[asyncio.Task[None], Request] = {}

    def _noting(self, send: Send) -> Send:
        """Note which task makes which request, to know on closing what may have left."""

        def noted(request: Request) -> Awaitable[Response]:
            self._prepare(request)
            task = asyncio.current_task()
            if task in self._in_flight:
                self._note_request(request, task)
            return send(request)

        return noted

    def _prepare(self, request: Request) -> None:
        """Say how a request of this run is to be made, before it is."""

    def _note_request(self, request: Request, task: "asyncio.Task[None]") -> None:
        self._requests[task] = request

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._requests.pop(task, None)

    def _calls_of(self, task: "asyncio.Task[Any] | None") -> int:
        """Count the calls that the last request of an item has led to so far."""
        request = self._requests.get(task) if task is not None else None
        return 0 if request is None or request.current.slot is None else request.current.number

    def _has_begun(self, task: "asyncio.Task[None]") -> bool:
        """Tell whether anything of an item can have left: if not, it still waits for its first turn."""
        request = self._requests.get(task)
        return request is not None and (request.current.slot is not None or request.current.number > 1)

    def _chat(self, to: Recipient) -> Chat | GroupChat:
        """Give the handle that works for this run.

        Raises:
            InvalidInputError: it is no address, or the handle is another user's or client's.
        """
        check_own(to, self._api)
        return handle(self._api, address_of(to))


def address_of(to: Recipient) -> ChatAddress:
    """Give the address that a recipient stands for.

    Raises:
        InvalidIdError: it is none.
    """
    return to.address if isinstance(to, BaseChat) else ChatAddress.parse(to)


def check_own(to: Recipient, api: Api) -> None:
    """Refuse a handle with which somebody else would send.

    Raises:
        InvalidInputError: it is another user's or client's.
    """
    if isinstance(to, BaseChat) and not belongs_to(to, api):
        raise InvalidInputError("this chat is another user's or client's: send to it with a run of that one")


def is_user(to: Recipient) -> TypeGuard[str]:
    """Tell whether it is a user, with whom there may not be a conversation yet."""
    return isinstance(to, str) and to.startswith(USERS)


def outcome_of(error: Exception) -> Outcome:
    """Tell what is known of an item that ended in an error."""
    if isinstance(error, CallError):
        return error.outcome
    if isinstance(error, HealthmsgError):  # refused, or not authorized: before anything was sent
        return Outcome.NOT_SENT
    return Outcome.UNKNOWN
