"""Doing what catching up asks for: reading lists, chats and messages over REST, in a lane of its own."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from healthmsg.api import Api
from healthmsg.errors import (
    CallError,
    ClientClosedError,
    ForbiddenError,
    NotFoundError,
    ProxyAuthenticationError,
    RateLimitedError,
    ReauthorizationRequiredError,
    ServerError,
    StatusError,
    TokenRenewalError,
    TokenRequestError,
    UnauthorizedError,
)
from healthmsg.events import Event
from healthmsg.events.questions import request_in, verification_of
from healthmsg.gateway.catch_up import CatchUp
from healthmsg.gateway.hints import Listed, listed
from healthmsg.gateway.inbox.base import Change, Inbox
from healthmsg.gateway.reading import Ask
from healthmsg.gateway.schedule import IdentifyChat, Job, ListChats, ReadChat, ReadQuestion
from healthmsg.ids import ChatAddress
from healthmsg.log import log
from healthmsg.models import (
    ConversationInfo,
    GroupChatInfo,
    IdentityProvider,
    Message,
    UserVerifications,
)
from healthmsg.paging import PAGE_SIZE
from healthmsg.routes import (
    GET_CHAT,
    GET_MESSAGE,
    LIST_CONVERSATIONS,
    LIST_GROUP_CHATS,
    LIST_MESSAGES,
    LIST_PROVIDERS,
    LIST_VERIFICATIONS,
    Route,
)

AT_ONCE: Final = 10
"""Readings side by side: as many as 30 calls a second need where an answer takes a third of a second."""
_FATAL: Final = (ReauthorizationRequiredError, UnauthorizedError, ClientClosedError)


class Jobs:
    """Works on the jobs of a `CatchUp`, and hands what comes of them to `write`.

    `written` waits until all that was handed over is in the inbox; `listed` is called when the chats were
    listed.
    """

    def __init__(  # noqa: PLR0913 - what it works with, by keyword
        self,
        api: Api,
        core: CatchUp,
        inbox: Inbox,
        *,
        now: Callable[[], float],
        moment: Callable[[], datetime],
        write: Callable[[Sequence[Change]], None],
        written: Callable[[], Awaitable[None]],
        room: Callable[[], int],
        listed: Callable[[], None],
    ) -> None:
        self._api = api
        self._core = core
        self._inbox = inbox
        self._now = now
        self._moment = moment
        self._write = write
        self._written = written
        self._room = room
        self._listed = listed
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look again for something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Work until it is cancelled."""
        running: set[asyncio.Task[None]] = set()

        def ended(task: asyncio.Task[None]) -> None:
            # Woken before its place is free, the loop would wait for the end of one that has ended.
            running.discard(task)
            self.wake()

        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                now = self._now()
                while len(running) < AT_ONCE and (job := self._core.next_job(now)) is not None:
                    task = group.create_task(self._do(job))
                    running.add(task)
                    task.add_done_callback(ended)
                is_full = len(running) >= AT_ONCE
                due = None if is_full else self._core.due()
                try:
                    async with asyncio.timeout(None if due is None else max(due - self._now(), 0.01)):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _do(self, job: Job) -> None:
        try:
            await self._done(job)
        except _FATAL:
            raise
        except CallError as error:
            if isinstance(job, ReadChat) and isinstance(error, NotFoundError | ForbiddenError):
                self._core.look_for(job.key)
            else:
                name = type(error).__name__
                log(logging.INFO, "catching up: a call failed (%(error)s) and is tried again", error=name)
            self._core.failed(job, self._now())

    async def _done(self, job: Job) -> None:
        if isinstance(job, ListChats):
            await self._list_chats()
        elif isinstance(job, IdentifyChat):
            self._write(self._core.identified(job.key, await self._identified(job.key), self._now()))
        elif isinstance(job, ReadQuestion):
            message = await self._message(job)
            verified = None if message is None else await self._verification(job, message)
            self._write(self._core.question_read(job, message, verified))
        else:
            await self._read_chat(job)

    async def _list_chats(self) -> None:
        await self._list(ConversationInfo, LIST_CONVERSATIONS)
        await self._list(GroupChatInfo, LIST_GROUP_CHATS)
        was_first = self._core.is_baseline_pending
        self._core.listing_ended()
        self._listed()
        if was_first:
            await self._written()
            await self._inbox.set_baseline()

    async def _list(self, info: type[ConversationInfo] | type[GroupChatInfo], route: Route) -> None:
        pager = self._api.pages(info, route, page_size=PAGE_SIZE)
        try:
            async with pager:
                async for page in pager.pages():
                    self._write(self._core.listed(map(listed, page)))
        except (ForbiddenError, NotFoundError) as error:
            # A user who may not have group chats, say: what the gateway pushes of them comes all the same.
            name = type(error).__name__
            log(
                logging.WARNING,
                "%(call)s: %(error)s; chats of that kind are not caught up on",
                call=error.call,
                error=name,
            )

    async def _identified(self, key: str) -> Listed | None:
        address = ChatAddress.of_text(key)
        try:
            if address.kind.is_group:
                return listed(await self._api.read(GroupChatInfo, GET_CHAT, address))
            return listed(await self._api.read(ConversationInfo, GET_CHAT, address))
        except (NotFoundError, ForbiddenError):
            return None

    async def _message(self, job: ReadQuestion) -> Message | None:
        address = ChatAddress.of_text(job.key)
        try:
            return await self._api.read(Message, GET_MESSAGE, address, message_id=job.message_id)
        except (NotFoundError, ForbiddenError):
            return None

    async def _verification(self, job: ReadQuestion, message: Message) -> Event | None:
        request = request_in(message)
        if request is None:
            return None
        try:
            found = await self._api.read(UserVerifications, LIST_VERIFICATIONS, user_id=request.user_id)
            left = await self._api.read(tuple[IdentityProvider, ...], LIST_PROVIDERS, user_id=request.user_id)
        except (NotFoundError, ForbiddenError):
            return None
        return verification_of(
            ChatAddress.of_text(job.key),
            request,
            found.user,
            left,
            me=self._core.me,
            received_at=self._moment(),
        )

    async def _read_chat(self, job: ReadChat) -> None:
        core, key = self._core, job.key
        if job.needs_record:
            # What is still to be written may be about this chat.
            await self._written()
            found = await self._inbox.load([key])
            self._write(core.loaded(key, found.get(key), self._now()))
        reading = core.begin(key, self._now())
        if reading is None:
            return
        ask = next(reading)
        while True:
            page = await self._page(key, ask)
            try:
                ask = reading.send(page)
            except StopIteration as end:
                self._write(core.finish(key, end.value, self._now(), room=self._room()))
                return

    async def _page(self, key: str, ask: Ask) -> tuple[Message, ...]:
        query = {"page": str(ask.page), "amount": str(ask.amount)}
        return await self._api.read(tuple[Message, ...], LIST_MESSAGES, ChatAddress.of_text(key), query)


def is_passing(error: CallError) -> bool:
    """Return whether a call that failed may succeed later, with nothing changed here."""
    if isinstance(error, StatusError):
        return isinstance(error, ServerError | RateLimitedError)
    if isinstance(error, TokenRenewalError):
        cause = error.__cause__
        return not (isinstance(cause, TokenRequestError) and cause.is_final)
    return not isinstance(error, ProxyAuthenticationError)
