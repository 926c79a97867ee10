"""What every resource is built on: sending a request, decoding its answer, assigning auxiliary ids."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar

from attrs import field, frozen

from healthmsg.aio import together
from healthmsg.codec import decode, encode
from healthmsg.delivery.aliases import Aliases
from healthmsg.delivery.ledger import Deliveries, files_of
from healthmsg.errors import (
    AuxIdTakenError,
    CallError,
    CallTimeoutError,
    DeliveryUnknownError,
    InvalidIdError,
    InvalidInputError,
    InvalidResponseError,
    NotFoundError,
)
from healthmsg.errors.base import without_locals
from healthmsg.ids import ChatAddress, ChatKind, encode_segment
from healthmsg.json_text import JSONObject
from healthmsg.live import Live
from healthmsg.models import GroupChatInfo, SentMessage, User
from healthmsg.paging import HasId, Pager, Spawn
from healthmsg.pipeline.request import Content, Hidden, Multipart, Request, Response, Send, Step
from healthmsg.ratelimit.queue import Priority
from healthmsg.routes import GET_AUX_USER, GET_CHAT, Route
from healthmsg.task_pool import RegisterRun

T = TypeVar("T")
ItemT = TypeVar("ItemT", bound=HasId)

# Bytes. Below that a thread costs more than it spares; above it the event loop would stand still too long.
_DECODED_AT_ONCE: Final = 128 * 1024


@frozen
class Api:
    """The service as resources see it: no client, no session, no token."""

    send: Send
    """Carries out a call to the API, as the user."""
    fetch: Send
    """Fetches a link that leads elsewhere: without token and without counting against the limit."""
    deliveries: Deliveries
    aliases: Aliases
    """Which addresses this user has seen to lead to the same chat."""
    retry: Step
    """Does something again while that may help, as often as the client's `Retries` say."""
    spawn: Spawn
    register_run: RegisterRun
    url: str
    owner: object
    """Equal for one user of one client: what one user's handle can do, another's may not."""
    assigning: set[tuple[str, str]]
    """Auxiliary ids that are being assigned, by any user of the client, each with what gets it."""
    live: Live
    """The user's connection to the gateway, while a stream of events is open."""
    may_be_reauthorized: bool
    """Whether another token may appear once the present one is not accepted and cannot be renewed."""
    priority: Priority = Priority.INTERACTIVE
    total: float = 60.0
    """Seconds that one try of a call may take, reading its answer included."""

    async def read(
        self,
        shape: type[T],
        route: Route,
        chat: ChatAddress | None = None,
        query: Mapping[str, str] | None = None,
        **ids: object,
    ) -> T:
        """Read something."""
        request = self.request(route, chat, **ids)
        request.query = query
        response = await self.send(request)
        try:
            if len(response.body) <= _DECODED_AT_ONCE:
                return decode(response.body, shape, request.call)
            return await self._decode_large(response.body, shape, request)
        except CallError as error:
            error.attempts = request.current.number
            raise without_locals(error)  # noqa: B904 - it is the same error

    async def _decode_large(self, body: bytes, shape: type[T], request: Request) -> T:
        """Decode in a thread, in what is left of the time for the try."""
        left = self.total - (request.current.answered_at - request.current.departed_at)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(left, 0.0)):
                return await asyncio.to_thread(decode, body, shape, request.call)
        problem = "the answer is so large that it could not be decoded in time"
        raise CallTimeoutError(request.call, problem, outcome=request.outcome_unheard)

    def pages(  # noqa: PLR0913 - what to read, and how much of it, by keyword
        self,
        item: type[ItemT],
        route: Route,
        chat: ChatAddress | None = None,
        *,
        page_size: int,
        limit: int | None = None,
        look_at: Callable[[ItemT], object] | None = None,
    ) -> Pager[ItemT]:
        """Read a list, page by page; nothing is sent yet. `look_at` is called with each item that came."""
        shape: type[tuple[ItemT, ...]] = tuple[item, ...]  # type: ignore[valid-type] # known at run time only

        async def fetch(page: int, amount: int) -> tuple[ItemT, ...]:
            items = await self.read(shape, route, chat, {"page": str(page), "amount": str(amount)})
            if look_at is not None:
                for one in items:
                    look_at(one)
            return items

        return Pager(fetch, self.spawn, page_size=page_size, limit=limit)

    async def create(
        self,
        shape: type[T],
        route: Route,
        body: Content | Multipart,
        chat: ChatAddress | None = None,
        *,
        if_empty: T | None = None,
    ) -> T:
        """Create something; `if_empty` is what an answer without a body stands for.

        Raises:
            DeliveryUnknownError: also when it was accepted but the answer cannot be understood.
        """
        request = self.request(route, chat, body)
        response = await self.send(request)
        if if_empty is not None and not response.body:
            return if_empty
        return await _decoded(shape, request, response)

    async def say(
        self, route: Route, body: Content | Multipart, chat: ChatAddress, *, said: Hidden
    ) -> SentMessage:
        """Send a message, and remember it; `said` is its text.

        Raises:
            DeliveryUnknownError: it may have been delivered; what is needed to find out is in it.
        """
        deliveries = self.deliveries
        request = self.request(route, chat, body)
        its_hash = deliveries.track(chat, said.text)
        try:
            response = await self.send(request)
            sent = await _decoded(SentMessage, request, response)
            self._check_sent(sent, request, response)
        except DeliveryUnknownError as error:
            deliveries.note(error, chat, said.text, request)
            raise
        finally:
            deliveries.untrack(chat, its_hash)
        deliveries.delivered(chat, sent.id, said.text, files_of(request), request)
        return sent

    def _check_sent(self, sent: SentMessage, request: Request, response: Response) -> None:
        """Refuse the answer to a message that was sent if its id cannot be its own: that proves nothing."""
        message_id, extra = sent.id, sent.extra
        if self.deliveries.is_claimed(message_id):
            problem = "the answer has the id of another message"
        elif extra and extra.get("error"):
            problem = "the answer has an id and an error"
        elif message_id in response.headers.values() or (extra and message_id == extra.get("transactionId")):
            problem = "the answer has the id of a call, not of a message"
        else:
            return
        raise request.delivery_unknown(problem, status=response.status)

    async def change(self, route: Route, chat: ChatAddress, body: Content | Multipart) -> None:
        """Change something; what the answer says beside its status is not documented.

        Raises:
            DeliveryUnknownError: it may have been changed; it was tried again only if that does no harm.
        """
        request = self.request(route, chat, body)
        request.reads_answer = False
        await self.send(request)

    def request(
        self,
        route: Route,
        chat: ChatAddress | None = None,
        body: Content | Multipart | None = None,
        /,
        **ids: object,
    ) -> Request:
        """Return the request for a call; nothing is sent."""
        return Request(
            route.call(chat),
            route.method,
            route.path(chat, **ids),
            body=body,
            priority=self.priority,
            idempotency=route.idempotency,
        )


class Resource:
    """A part of the API that a client gives access to."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


async def _decoded(shape: type[T], request: Request, response: Response) -> T:
    """Decode the answer to a call that took effect: however long that takes, it says what came of it."""
    try:
        if len(response.body) <= _DECODED_AT_ONCE:
            created = decode(response.body, shape, request.call)
        else:
            created = await asyncio.to_thread(decode, response.body, shape, request.call)
        problem = "the answer has no id" if getattr(created, "id", None) == "" else ""
    except InvalidResponseError as error:
        problem = error.problem
    else:
        if not problem:
            return created
    raise request.delivery_unknown(problem, status=response.status)


def _usable_id(_: object, __: object, value: str) -> None:
    encode_segment(value, "the id of what was created")


@frozen
class Created:
    """The answer to a call that created something, under an id that its handle can use."""

    id: str = field(validator=_usable_id)
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)


def json_body(document: Mapping[str, object]) -> Content:
    """Return a JSON body of a document, which may hold models; a key that is None is left out.

    Raises:
        InvalidInputError: something in it cannot be written as JSON.
    """
    return Content(
        "application/json", encode({key: value for key, value in document.items() if value is not None})
    )


def user_id(user: str | User) -> str:
    """Return the id of a user, whether it came alone or in a model.

    Raises:
        InvalidIdError: it is neither text nor a user, or cannot be an id.
    """
    found = user.id if isinstance(user, User) else user
    if not isinstance(found, str):
        raise InvalidIdError(f"a user's id must be text or a User, not {type(found).__name__}")
    encode_segment(found, "a user's id")
    return found


def user_ids(
    users: Iterable[str | User], name: str, id_of: Callable[[str | User], str] = user_id
) -> list[str]:
    """Return the ids of users, each once; `id_of` says what an id is.

    Raises:
        InvalidInputError: it is a single user, or no collection.
        InvalidIdError: one of them cannot be a user's id.
    """
    if isinstance(users, str | bytes | User) or not isinstance(users, Iterable):
        raise InvalidInputError(f"{name} must be a collection of users' ids")
    return list(dict.fromkeys(map(id_of, users)))


# --- assigning an auxiliary id
#
# The service does not check that it is free [D]. So it is looked up first, and reserved until it is assigned,
# for all users of this client. What another program does at the same moment cannot be seen.


def reserved_for_user(api: Api, aux_ids: Iterable[str]) -> AbstractAsyncContextManager[None]:
    """Return what reserves auxiliary ids that no user has, while it is entered.

    Raises:
        AuxIdTakenError: on entering it; a user has one of them, or is being given it.
    """
    return _reserved(
        api, "a user", {aux_id: partial(api.read, User, GET_AUX_USER, aux_id=aux_id) for aux_id in aux_ids}
    )


def reserved_for_group_chat(api: Api, aux_id: str) -> AbstractAsyncContextManager[None]:
    """Return what reserves an auxiliary id that no group chat has, while it is entered.

    Raises:
        AuxIdTakenError: on entering it; a group chat has it, or is being given it.
    """
    address = ChatAddress(ChatKind.AUX_GROUP_CHAT, aux_id)
    return _reserved(api, "a group chat", {aux_id: partial(api.read, GroupChatInfo, GET_CHAT, address)})


@asynccontextmanager
async def _reserved(
    api: Api, holder: str, reads: Mapping[str, Callable[[], Awaitable[object]]]
) -> AsyncIterator[None]:
    wanted = {(holder, aux_id) for aux_id in reads}
    if not api.assigning.isdisjoint(wanted):
        raise AuxIdTakenError(holder)
    api.assigning.update(wanted)
    try:
        if any(await together(map(_exists, reads.values()))):
            raise AuxIdTakenError(holder)
        yield
    finally:
        api.assigning.difference_update(wanted)


async def _exists(read: Callable[[], Awaitable[object]]) -> bool:
    try:
        await read()
    except NotFoundError:
        return False
    return True
