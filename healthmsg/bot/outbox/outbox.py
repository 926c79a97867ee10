"""Sending replies exactly once, out of the parts that bulk sending has."""

import asyncio
import logging
import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.api import user_id as id_of
from healthmsg.bot.content import Content
from healthmsg.bot.outbox.replies import Asked, Checker, Reply, another, error_of, resolve_known
from healthmsg.bot.outbox.unproven import UnknownQuestions
from healthmsg.bulk.circuit_breaker import STOP_AFTER, CircuitBreaker
from healthmsg.bulk.dispatch import CallTracker, DispatchWindow, Lease, OrderKeeper
from healthmsg.bulk.echoes import Echoes
from healthmsg.bulk.intake import Intake
from healthmsg.bulk.journal.base import Begun, Claim, JournalMessage
from healthmsg.bulk.models import SendOptions, SendResult
from healthmsg.bulk.reconcile import SETTLE, DeliveryProofs
from healthmsg.bulk.sender import BegunAlready, Doubts, Sender
from healthmsg.database.states import State
from healthmsg.errors import ClaimLostError, JournalError, SendingStoppedError
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.events import MessageCreated
from healthmsg.ids import ChatAddress
from healthmsg.log import log
from healthmsg.models import IdentityProvider, Outcome, SentMessage, User
from healthmsg.pipeline.request import Request
from healthmsg.ratelimit.limiter import RateLimit
from healthmsg.task_pool import Job, TaskPool, Words

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal
    from healthmsg.client import Client

_MOST_IN_FLIGHT: Final = 128
# Replies that are kept in memory until they are done. More callers wait.
_MOST_OPEN: Final = 1_000
# Seconds between two looks at what others do with the database, while a reply waits for them, and otherwise.
_POLL_INTERVAL: Final = 1.0
_LONG_POLL_INTERVAL: Final = 30.0
_WORDS: Final = Words("an outbox", "replies", "send", "sent")
_ADVICE: Final = "Replies that are not sent wait in the store: start again to go on."
_LEASE_LOST: Final = f"The store could not be reached in time, so others may send its replies. {_ADVICE}"
_STOPPED: Final = (
    "The outbox was closed before this reply was done. The handler that asks for it again at the next start"
    " gets what became of it."
)
_OTHER_CONTENT: Final = (
    "a handler that ran again wants something else in a reply than it did before: the first one stands"
    " (key %(key)s)"
)
_Task = asyncio.Task[None]


@frozen
class OutboxMessage:
    """A message that was delivered, by which an answer to it is understood."""

    key: str = field(repr=False)
    label: str | None = field(repr=False)
    """The name of the question."""
    chat: str = field(repr=False)
    message_id: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which its answers are known."""
        return () if self.label is None else (self.label,)


class _AskedFor(Intake):
    """Knows which replies a handler wants: what a dead process did not send is sent again for it alone."""

    def __init__(self, replies: dict[str, Reply]) -> None:
        super().__init__()
        self._replies = replies

    def is_pending(self, claim: Claim) -> bool:
        """See `Intake`."""
        reply = self._replies.get(claim.key)
        return reply is not None and reply.asked is not None


class Outbox:
    """Sends each reply once, under the key that its handler has for it, and keeps the order of each chat.

    A reply is entered, taken and noted as begun in one transaction, sent over REST, and noted as delivered in
    a second one. What was in doubt when a process died is looked for in its chat at the next start, and
    blocks the later replies of that chat meanwhile. While the service is away, everything waits.

    A reply goes on when its caller is cancelled. After `close` the next start goes on: what was certainly not
    sent is sent when it is asked for again.

    Raises:
        JournalError: from any method: the store has failed.
    """

    def __init__(self, api: Api, journal: "SqlJournal", rate: RateLimit, *, settle: float = SETTLE) -> None:
        self.journal: SqlJournal = journal
        self.failure: Exception | None = None
        """What has ended the sending: the store has failed, or the user has to authorize again."""
        self._replies: dict[str, Reply] = {}
        """All that are not done, in the order in which they were asked for."""
        self._changed = asyncio.Event()
        self._has_ended = True
        """Whether one has ended, so that the next of its chat may go."""
        self._room = asyncio.Semaphore(_MOST_OPEN)
        self._requeueing: set[_Task] = set()
        self._is_started = self._is_closing = False
        self._settle = settle
        self._giving_time: asyncio.TimerHandle | None = None
        self._has_given_time = False
        """Whether nothing was delivered in that time: then what is not proven is unknown."""
        job = Job(_WORDS, self._feed, self._work, self._cancelled, self._may_finish, self._forget)
        self._pool: TaskPool[Reply, SendResult] = TaskPool(job, api.spawn, places=_MOST_IN_FLIGHT)
        self._calls = CallTracker(api, self._pool.in_flight, self._prepare)
        self._api = self._calls.api
        self._checker = Checker(api, journal.salt)
        self._breaker = CircuitBreaker(self._api, math.inf, _ADVICE)
        self._breaker.when_given_up = self._give_up
        self._doubts = Doubts(self._pool, self._breaker, api.deliveries.clock, settle)
        self._window = DispatchWindow(rate)
        self._lease = Lease(journal, partial(self._fail, JournalError(_LEASE_LOST)))
        self._proofs = DeliveryProofs(journal, self._api.deliveries, self._changed.set)
        self._echoes = Echoes(journal, self._api.deliveries, self._api.aliases)
        self._unknown_questions = UnknownQuestions(self._api, journal, self._proofs, settle)
        options = SendOptions("reconcile", settle, retry_failed=False, stop_after=STOP_AFTER)
        self._sender = Sender(
            *(journal, _AskedFor(self._replies), options, self._calls, self._breaker, self._doubts),
            *(self._proofs, OrderKeeper(self._api.aliases), self._window, self._lease),
            resumes=False,
            echoes=self._echoes,
        )

    @classmethod
    def of(cls, client: "Client", journal: "SqlJournal", *, settle: float = SETTLE) -> "Outbox":
        """Make the outbox of a client's user."""
        parts = client._parts  # noqa: SLF001 - as its other parts see it
        return cls(client._api, journal, parts.limiter.rate, settle=settle)  # noqa: SLF001 - as above

    # --- from the beginning to the end

    async def start(self, account: str) -> None:
        """Begin: reconcile what a process that has died may have sent. `account` is the bot's user's id.

        Raises:
            JournalMismatchError: the store belongs to another account or environment.
        """
        await self.journal.check_owner(self._api.url, account)
        await self.journal.set_owner(account, self._api.url)
        await self.journal.start_run()
        await self._take_in_doubt()
        self._pool.start()
        self._is_started = True

    async def close(self) -> None:
        """Begin nothing more, wait for the calls under way, and end. The store stays open."""
        self._is_closing = True
        if self._giving_time is not None:
            self._giving_time.cancel()
        self._doubts.stop()
        if self._is_started:
            await self._pool.close()
        if self._requeueing:
            await asyncio.wait(self._requeueing)
        for reply in [*self._replies.values()]:
            self._end(reply)
            reply.fail(SendingStoppedError(_STOPPED))

    @property
    def paused_by(self) -> Exception | None:
        """Why replies wait just now: an error that concerns all of them, such as a service that is away."""
        return self._breaker.waits_for or self.journal.paused_by

    @property
    def open(self) -> int:
        """How many replies are not done."""
        return len(self._replies)

    # --- sending

    @hides_awaited_arguments
    async def send(
        self, key: str, chat: ChatAddress, content: Content, *, retry_refused: bool = False
    ) -> SentMessage:
        """Send a reply, unless it was sent under this key before, and return what was sent.

        Another content under a known key is not sent: the first one stands, and a warning is logged. It is
        taken in the place of a reply that was certainly not sent and whose files were no paths.

        What was certainly not sent, since it was refused or lost again and again, is not sent by itself
        either; with `retry_refused` it is, with this content.

        Raises:
            InvalidInputError: it cannot be right. Nothing was entered.
            CallError: the service refused it; it is not sent.
            ReplyNotSentError: the same, in an earlier run, or it was lost again and again.
            DeliveryUnknownError: it may have been delivered; it is never sent again.
            SendingStoppedError: the outbox was closed, or nothing gets through any more.
            JournalError: the store has failed.
        """
        return await self._send(await self._checker.reply(key, chat, content), chat, retry_refused)

    @hides_awaited_arguments
    async def request_verification(
        self,
        key: str,
        chat: ChatAddress,
        user_id: str | User,
        provider: str | IdentityProvider,
        *,
        retry_refused: bool = False,
    ) -> SentMessage:
        """Ask a user to prove who they are, unless that was asked under this key before.

        A request has no text by which it could be found in the chat. What was in doubt is settled by its
        echo, if that comes while this process runs, or stays unknown.

        Raises:
            As `send`.
        """
        provider_id = provider.provider_id if isinstance(provider, IdentityProvider) else provider
        asked = self._checker.verification(key, chat, id_of(user_id), provider_id)
        return await self._send(asked, chat, retry_refused)

    async def _send(self, asked: Asked, chat: ChatAddress, retry_refused: bool) -> SentMessage:  # noqa: FBT001 - of this class
        key = asked.entry.key
        reply = self._replies.get(key)
        if reply is None:
            await self._room.acquire()
            reply = self._replies.get(key)
            if reply is not None or self.failure is not None or self._is_closing:
                self._room.release()
        if self.failure is not None:
            raise another(self.failure)
        if self._is_closing:
            raise SendingStoppedError(_STOPPED)
        if reply is None:
            reply = self._replies[key] = Reply(key, chat, asked, retry_refused=retry_refused, has_room=True)
            self._changed.set()
        elif reply.asked is None:
            reply.asked = asked
            if self._checker.is_other(asked, reply.claim):
                _warn(key)
        elif reply.asked.entry.fingerprint != asked.entry.fingerprint:
            _warn(key)
        return await reply.wait()

    # --- what is known

    def heard(self, event: MessageCreated) -> None:
        """Take in a message that the gateway has just brought. One's own settles a reply in doubt at once.

        Call this when the event arrives: the handler that waits for the reply holds up its chat's events.
        """
        if event.is_own and not event.caught_up:
            self._echoes.hear(event.chat, event.message, event.received_at)

    async def unknown(self) -> list[JournalMessage]:
        """Return the replies of which it could not be found out whether they were delivered."""
        return [row async for row in self.journal.rows(State.UNKNOWN) if row.is_final]

    async def message_of(
        self,
        message_id: str,
        chat: ChatAddress | None = None,
        user_id: str | None = None,  # noqa: ARG002 - as campaigns have it
    ) -> OutboxMessage | None:
        """Return the reply that was delivered under this id; `None`: it is none of the outbox's.

        An answer may come before the response to its question. So this waits for the questions and requests
        for verification that are under way, in that chat if there is one. With the chat, a question of which
        it was not known whether it arrived is found too, if the message proves that; see `unproven`.

        Raises:
            CallError: the chat with such a question could not be read.
        """
        waiting = {
            reply.done
            for reply in self._replies.values()
            if reply.can_be_answered and self._may_be_in(reply, chat)
        }
        while True:
            row = await self.journal.message_with_id(message_id)
            if row is None and waiting:
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                continue
            if row is None and chat is not None:
                row = await self._unknown_questions.proven(message_id, chat)
            return None if row is None else OutboxMessage(row.key, row.label, row.to, message_id)

    async def is_unknown(self, key: str) -> bool:
        """Return whether it stays unknown if the reply with this key was delivered."""
        row = await self.journal.message(key)
        return row is not None and row.state is State.UNKNOWN

    def _may_be_in(self, reply: Reply, chat: ChatAddress | None) -> bool:
        return chat is None or self._api.aliases.are_same(reply.chat.text, chat.text) is True

    # --- going through what is to be sent

    async def _feed(self) -> None:
        try:
            async with self._lease:
                while self.failure is None:
                    self._changed.clear()
                    await self._launch_all()
                    if self._are_all_unproven:
                        self._give_up_proofs()
                    if not self._changed.is_set():
                        await self._wait_for_change()
                await self._pool.wait_for_in_flight()  # with the lease renewed
        except Exception as error:  # noqa: BLE001 - all that wait are to see it
            self._fail(error)

    @property
    def _are_all_unproven(self) -> bool:
        """Whether all that is under way waits for the first message that proves a search."""
        return 0 < len(self._pool.in_flight) == self._proofs.waiting

    def _give_up_proofs(self) -> None:
        """Let the first of them stay unknown, once other chats have had time to need a reply."""
        if self._has_given_time:
            self._proofs.release_one()
        elif self._giving_time is None:
            self._giving_time = asyncio.get_running_loop().call_later(self._settle, self._end_time_given)

    def _end_time_given(self) -> None:
        self._giving_time = None
        self._has_given_time = self._are_all_unproven
        self._changed.set()

    async def _take_in_doubt(self) -> None:
        for claim in await self.journal.claim_in_doubt():
            reply = self._replies.get(claim.key)
            if reply is None:
                reply = Reply(claim.key, ChatAddress.of_text(claim.sent_to or claim.chat))
                self._replies[claim.key] = reply
            reply.claim, reply.waits = claim, False

    async def _launch_all(self) -> None:
        """Begin with what was asked for, and with the first of each chat that waits, if one has ended."""
        has_ended, self._has_ended = self._has_ended, False
        first_of = set[ChatAddress]()
        for reply in [*self._replies.values()]:
            if reply.is_in_hand or reply.done.done():
                continue
            if not reply.waits or (has_ended and reply.chat not in first_of):
                await self._launch(reply)
            first_of.add(reply.chat)

    async def _launch(self, reply: Reply) -> None:
        await self._pool.places.acquire()
        reply.is_in_hand, reply.waits = True, False
        self._pool.launch(reply)

    async def _wait_for_change(self) -> None:
        if self.journal.lease is None:
            await self._changed.wait()
            return
        waits = any(reply.waits for reply in self._replies.values())
        try:
            async with asyncio.timeout(_POLL_INTERVAL if waits else _LONG_POLL_INTERVAL):
                await self._changed.wait()
        except TimeoutError:
            self._has_ended = True  # elsewhere, perhaps
            await self._take_in_doubt()

    # --- one reply

    async def _work(self, reply: Reply) -> SendResult | None:
        task = asyncio.current_task()
        result: SendResult | None = None
        begun: BegunAlready | None = None
        try:
            if reply.claim is None:
                begun = await self._enter(reply)
            if reply.claim is not None:
                result = await self._sender.send(reply.claim, begun)
            if self._sender.failure is not None:
                self._fail(self._sender.failure)
        except ClaimLostError:
            self._breaker.release_probe()
            if reply.claim is not None:
                await self._requeue(reply.claim)
        except SendingStoppedError:
            pass  # it waits in the store
        except Exception as error:  # noqa: BLE001 - no reply may pass in silence
            self._fail(error)
        finally:
            self._window.leave(task)
        self._conclude(reply, result)
        return None

    async def _enter(self, reply: Reply) -> BegunAlready | None:
        """Enter a reply and take it, or hand out what is known of it."""
        asked = reply.asked
        assert asked is not None  # noqa: S101 - for mypy: without a claim, a handler has asked for it
        check, begun = None, None
        if self._breaker.error is None and self._window.has_room:
            await self._window.enter()  # at once
            check = self._lease.of(Claim(reply.key, "", "", (), None, State.WAITING, 0, None, None, 0))
            begun = Begun(self.journal.now(), asked.entry.chat, self._proofs.date_ahead())
        groups = [one for one in self._api.aliases.known_groups([asked.entry.chat]) if len(one) > 1]
        entering = asyncio.ensure_future(
            self.journal.enter_next(
                asked.entry, same_chats=groups, begun=begun, retry_failed=reply.retry_refused
            )
        )
        try:
            entered = await asyncio.shield(entering)
        except asyncio.CancelledError:
            # It is about to be on the disk as begun, and certainly was not sent.
            with suppress(JournalError):
                entered = await entering
                if entered.claim is not None:
                    await self.journal.requeue(entered.claim)
            raise
        status, claim = entered.status, entered.claim
        if status.problem is not None:
            _warn(reply.key)
        if status.is_final:
            is_unknown = status.state is State.UNKNOWN
            resolve_known(reply, status, await self.journal.message(reply.key) if is_unknown else None)
        elif claim is None:
            reply.waits = True
        else:
            reply.claim = claim if status.problem is not None else evolve(claim, message=asked.message)
        return None if claim is None or begun is None else BegunAlready(check)

    def _conclude(self, reply: Reply, result: SendResult | None) -> None:
        """Hand out what became of a reply. Without a result it is still to be sent, or nothing is wanted."""
        reply.claim, reply.is_in_hand = None, False
        if result is not None and result.outcome is Outcome.DELIVERED:
            reply.succeed(result.message_id or "")
        elif result is not None:
            reply.fail(error_of(result, reply.chat))
        elif self.failure is not None:
            reply.fail(self.failure)
        if reply.done.done() or reply.asked is None:
            self._end(reply)
        if not reply.waits:
            self._has_ended = True
        self._changed.set()

    def _end(self, reply: Reply) -> None:
        if self._replies.pop(reply.key, None) is not None:
            self._echoes.forget(reply.key)
            if reply.has_room:
                self._room.release()

    def _cancelled(self, reply: Reply, task: _Task) -> None:
        """Leave a reply to the next start: what was begun in doubt, all else as certainly not sent."""
        claim = reply.claim
        is_open = claim is None or claim.state is not State.WAITING
        if claim is not None and not (is_open or task in self._doubts or self._calls.has_begun(task)):
            requeueing = start(self._requeue(claim))
            self._requeueing.add(requeueing)
            requeueing.add_done_callback(self._requeueing.discard)
        self._doubts.pop(task)
        reply.is_in_hand = False
        self._end(reply)
        reply.fail(self.failure or SendingStoppedError(_STOPPED))

    def _may_finish(self, task: _Task) -> bool:
        return self._calls.has_begun(task) and task not in self._doubts

    def _forget(self, task: _Task) -> None:
        self._calls.forget(task)
        self._changed.set()

    def _prepare(self, request: Request, task: _Task | None) -> None:
        began = asyncio.get_running_loop().time()
        request.may_repeat = partial(self._breaker.may_repeat, request, began)
        if task is not None:
            self._sender.prepare(request, task)

    async def _requeue(self, claim: Claim) -> None:
        try:
            await self.journal.requeue(claim)
        except ClaimLostError:
            pass  # its outcome is noted already, or another worker has it
        except JournalError as error:  # then the next start proves that it was not sent
            self._fail(error)

    # --- the end of all

    def _give_up(self) -> None:
        if self._breaker.given_up is not None:
            self._fail(self._breaker.given_up)

    def _fail(self, error: Exception) -> None:
        """End the sending; what is under way goes to its end, all who wait get the error."""
        if self.failure is None:
            self.failure = error
        self._doubts.stop()
        this = asyncio.current_task()
        self._pool.cancel_unless(lambda task: task is this or self._may_finish(task))
        for reply in [*self._replies.values()]:
            if not reply.is_in_hand:
                self._end(reply)
                reply.fail(self.failure)
        self._changed.set()


def _warn(key: str) -> None:
    log(logging.WARNING, _OTHER_CONTENT, key=key)
