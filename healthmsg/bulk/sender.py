"""How one message is sent, and reconciled when no clear answer came."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

from attrs import define, evolve, field, frozen

from healthmsg.bulk.circuit_breaker import CircuitBreaker
from healthmsg.bulk.dispatch import CallTracker, DispatchWindow, Lease, OrderKeeper
from healthmsg.bulk.echoes import Echo, Echoes
from healthmsg.bulk.entries import check_question, is_verification, outgoing_of
from healthmsg.bulk.intake import Intake
from healthmsg.bulk.journal.base import Claim, Journal
from healthmsg.bulk.models import (
    Outgoing,
    SendOptions,
    SendResult,
    VerificationRequest,
    address_of,
    check_own,
    is_user,
    outcome_of,
)
from healthmsg.bulk.reconcile import DeliveryProofs, JournalEvidence, Reconciled, reconciler_of
from healthmsg.clock import ServerClock
from healthmsg.database.states import State
from healthmsg.delivery.proof import Attempt, attempt_of
from healthmsg.errors import (
    ClaimLostError,
    ClientUsageError,
    DeliveryUnknownError,
    EarlierRunError,
    ForbiddenError,
    JournalError,
    SendingGivenUpError,
    StatusError,
)
from healthmsg.ids import USERS, ChatAddress
from healthmsg.models import Outcome, SentMessage
from healthmsg.pipeline.request import Request
from healthmsg.resources.chat import Chat
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.group_chat import GroupChat, handle
from healthmsg.task_pool import TaskPool
from healthmsg.validation import check_files

# A message that was lost this often, while the service works, will not arrive the next time either.
_MOST_SENDINGS: Final = 6
_MOST_CONVERSATIONS: Final = 10_000
_NOT_FOUND_OUT: Final = "An earlier run may have sent this message. It could not be found out: {}."
_UNRESOLVED: Final = (
    "The run was ended before it was known whether this message was delivered; it is unknown."
)
_NOT_NOTED: Final = (
    "This message was delivered, but that could not be noted in the journal: the next run looks for it, if it"
    " has the same journal."
)

_NO_TEXT: Final = "a request for verification has no text by which it could be found in the chat"

_Task = asyncio.Task[Any]


class Search(Protocol):
    """What finds out what became of a message: a `Reconciler`."""

    async def find_out(self, attempt: Attempt, ended_at: float | None = None) -> Reconciled:
        """See `Reconciler`."""


MakeReconciler = Callable[[], Awaitable[Search]]


@frozen
class BegunAlready:
    """That a message was noted as begun when it was entered; `check` is the lease's, from before that."""

    check: Callable[[], None] | None


@frozen
class _NoSearch:
    """In the place of a search, for what has no text by which it could be found."""

    _seconds: float

    async def find_out(self, attempt: Attempt, ended_at: float | None = None) -> Reconciled:  # noqa: ARG002 - as `Search`
        await asyncio.sleep(self._seconds)  # its echo may still come
        return Reconciled(Outcome.UNKNOWN, reason=_NO_TEXT)


class Doubts:
    """The messages that are being reconciled.

    They do not block others: while they wait, they give their places in the pool back.
    """

    def __init__(
        self, pool: TaskPool[Any, SendResult], breaker: CircuitBreaker, clock: ServerClock, settle: float
    ) -> None:
        self._pool = pool
        self._breaker = breaker
        self._clock = clock
        self._settle = settle
        self._open: dict[_Task | None, DeliveryUnknownError | None] = {}
        self._settled_at = 0.0
        """When the last of them can be decided, by the client's clock."""
        self._is_stopped = False

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, task: _Task) -> bool:
        return task in self._open

    @property
    def settled_in(self) -> float:
        """Seconds until they are reconciled at the latest, if the service answers."""
        return max(0.0, self._settled_at - self._clock.now()) if self._open else 0.0

    def pop(self, task: _Task) -> DeliveryUnknownError | None:
        """Return the error that left a message in doubt. It stays unknown."""
        return self._open.pop(task, None)

    def stop(self) -> None:
        """Stop reconciling: what is in doubt stays unknown."""
        self._is_stopped = True
        for task in self._open:
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    async def find_out(
        self,
        attempt: Attempt,
        error: DeliveryUnknownError | None,
        reconciler: MakeReconciler,
        echo: Echo | None = None,
    ) -> Reconciled:
        """Reconcile a message; while the service does not answer, wait. Its echo ends that at once.

        After `stop`, the task is cancelled, and the message stays unknown.
        """
        task, places = asyncio.current_task(), self._pool.places
        self._open[task] = error
        if self._pool.is_stopping or self._is_stopped:
            raise asyncio.CancelledError  # as `stop` did with those in doubt before
        self._breaker.release_probe()
        places.release()
        try:
            search = partial(self._find_out, attempt, reconciler)
            found = await (search() if echo is None else echo.or_else(search, attempt))
        except SendingGivenUpError:
            raise asyncio.CancelledError from None
        except Exception:
            del self._open[task]
            raise
        finally:
            # Not waited for: while no results are read, no place would come free.
            places.take()
        del self._open[task]
        if error is not None and found.outcome is Outcome.UNKNOWN:
            error.note_reason(found.reason, found.similar)
        return found

    async def _find_out(self, attempt: Attempt, reconciler: MakeReconciler) -> Reconciled:
        ended_at = self._clock.now()
        self._settled_at = ended_at + self._settle
        while True:
            await self._breaker.wait_closed()
            try:
                return await (await reconciler()).find_out(attempt, ended_at)
            except (JournalError, SendingGivenUpError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever it was, nothing is proven
                if not await self._breaker.record_failure(error):
                    return Reconciled(Outcome.UNKNOWN, reason=f"the chat could not be read ({error})")


@define(eq=False)
class Sender:
    """Sends claimed messages: each is noted in the journal before its call is made, and after it."""

    _journal: Journal
    _intake: Intake
    _options: SendOptions
    _calls: CallTracker
    _breaker: CircuitBreaker
    _doubts: Doubts
    _proofs: DeliveryProofs
    _order: OrderKeeper
    _window: DispatchWindow
    _lease: Lease
    resumes: bool = field(kw_only=True)
    """Whether the run was given no messages, and continues with what its journal holds."""
    check: Callable[[Claim, Callable[[], None] | None], None] | None = field(default=None, kw_only=True)
    """Refuses a call of a message that is about to leave; it is given the lease's own check, if any."""
    echoes: Echoes | None = field(default=None, kw_only=True)
    """What a stream of events says of this user's messages, if one is open."""
    failure: JournalError | None = field(default=None, init=False)
    """A journal error after a delivery that was reported all the same. It ends the run."""
    _conversations: OrderedDict[str, Chat] = field(factory=OrderedDict, init=False)
    _before_send: dict[_Task | None, Callable[[], None] | None] = field(factory=dict, init=False)
    """The lease check of each task whose message is begun."""

    async def send(self, claim: Claim, begun: BegunAlready | None = None) -> SendResult | None:
        """Send a message and return its result; `None`: it waits in the journal, or is another worker's.

        With `begun`, the first try need not be noted.

        Raises:
            ClaimLostError: another worker has it, or an earlier message goes first.
            JournalError: the journal has failed.
            SendingGivenUpError: nothing gets through any more, and it was not sent.
        """
        error: Exception = EarlierRunError(self.unresolved_text)
        attempts, doubt = claim.attempts, self._earlier_attempt(claim)
        for _ in range(_MOST_SENDINGS):
            if doubt is None:
                sent = await self._try(claim, begun)
                begun = None
                attempts += self._calls.calls_of(asyncio.current_task())
                if isinstance(sent, SentMessage):
                    if result := await self._delivered(claim, sent.id, attempts):
                        return result
                    sent = await self._id_conflict(claim)
                error = sent
                doubt = attempt_of(error)
                if doubt is None:
                    return await self._note_failure(claim, error, attempts)
                self._note_answer(error)
                await self._journal.finish(claim, Outcome.UNKNOWN, error=_reason_of(error))
            is_done, result = await self._resolve(claim, doubt, error, attempts)
            if is_done:
                return result
            doubt = None
        return await self._closed(claim, Outcome.NOT_SENT, error, attempts)

    def result(
        self,
        claim: Claim,
        outcome: Outcome,
        error: Exception | None,
        attempts: int,
        message_id: str | None = None,
    ) -> SendResult:
        """Return the result of a message, and count it as reported."""
        message = claim.message or claim
        to = message.to if isinstance(message, Outgoing) else message.chat
        index = self._intake.index_of(claim)
        return SendResult(message.key, to, outcome, message_id, error, attempts, index, message.label)

    @property
    def unresolved_text(self) -> str:
        """The error text of a message that stays unknown because the run ended."""
        if self._journal.is_durable:
            return f"{_UNRESOLVED} The next run with the same journal looks for it."
        return _UNRESOLVED

    def prepare(self, request: Request, task: _Task) -> None:
        """Set the hooks of a message's request."""
        if task in self._before_send:
            request.on_departure = partial(self._window.leave, task)
            request.before_send = self._before_send[task]

    # --- one try

    async def _try(self, claim: Claim, begun: BegunAlready | None) -> SentMessage | Exception:
        number = await self._order.enter(claim.chat)
        try:
            # While it waits here, no call of it is under way.
            self._calls.forget(asyncio.current_task())
            await self._breaker.acquire()
            message = claim.message or outgoing_of(claim)
            check_question(message.question, check_files(message.files))
            chat = await self._chat_of(claim, message)
            await self._order.record_aliases(self._journal)
            self._order.mark_started(number)
            sent = await self._begin_and_send(claim, chat, message, begun)
        except (JournalError, SendingGivenUpError):
            raise
        except Exception as error:  # noqa: BLE001 - reported, with what can be said of the message
            return error
        finally:
            self._order.mark_started(number)
        self._breaker.record_success()
        return sent

    async def _chat_of(self, claim: Claim, message: Outgoing) -> Chat | GroupChat:
        """Return the handle of the chat, starting the conversation with a user if need be."""
        api, to = self._calls.api, claim.chat
        if not is_user(to):
            if claim.message is None:
                return handle(api, ChatAddress.of_text(to))
            check_own(message.to, api)
            return handle(api, address_of(message.to))
        user = to.removeprefix(USERS)
        chat = self._conversations.get(to)
        if chat is None and (known := await self._journal.conversation_with(to)) is not None:
            chat = Conversations(api)(ChatAddress.of_text(known).id)
            api.aliases.learn_conversation(conversation=chat.id, user=user)
        chat = chat or await Conversations(api).start(user)
        self._conversations[to] = chat
        if len(self._conversations) > _MOST_CONVERSATIONS:
            self._conversations.popitem(last=False)
        return chat

    async def _begin_and_send(
        self, claim: Claim, chat: Chat | GroupChat, message: Outgoing, begun: BegunAlready | None
    ) -> SentMessage:
        journal = self._journal
        if not journal.is_durable:  # no later run finds it begun, however long it waits
            await journal.begin(claim, journal.now(), chat.address.text)
            return await _send_content(chat, message)
        await self._window.enter()
        task = asyncio.current_task()
        check = self._lease.of(claim) if begun is None else begun.check
        self._before_send[task] = check if self.check is None else partial(self.check, claim, check)
        try:
            if begun is None:
                await journal.begin(claim, journal.now(), chat.address.text, self._proofs.date_ahead())
            if self.echoes is not None:
                self.echoes.expect(claim, chat.address)
            if isinstance(message, VerificationRequest):
                return await self._request_verification(chat, message)
            return await _send_content(chat, message)
        finally:
            del self._before_send[task]
            self._window.leave(task)

    async def _request_verification(
        self, chat: Chat | GroupChat, message: VerificationRequest
    ) -> SentMessage:
        try:
            return await chat.request_verification(user_id=message.user_id, provider_id=message.provider_id)
        except DeliveryUnknownError as error:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - for mypy: this is a coroutine
            call = self._calls.requests[task]
            self._calls.api.deliveries.note(error, chat.address, message.body, call)
            raise

    async def _note_failure(self, claim: Claim, error: Exception, attempts: int) -> SendResult | None:
        """Note the outcome of a message whose error leaves no doubt."""
        outcome = Outcome.NOT_SENT if isinstance(error, DeliveryUnknownError) else outcome_of(error)
        if outcome is Outcome.NOT_SENT and (
            isinstance(error, ClientUsageError) or await self._breaker.record_failure(error)
        ):
            await self._journal.requeue(evolve(claim, attempts=attempts))
            return None
        self._note_answer(error)
        return await self._closed(claim, outcome, error, attempts)

    def _note_answer(self, error: Exception) -> None:
        """Pass to the circuit breaker what this message's error says about the service."""
        if isinstance(error, DeliveryUnknownError):  # also of the conversation alone, not yet of the message
            self._breaker.record_unclear(error)
        elif isinstance(error, StatusError) and not isinstance(error, ForbiddenError):
            self._breaker.record_success()
        else:
            self._breaker.release_probe()

    async def _closed(self, claim: Claim, outcome: Outcome, error: Exception, attempts: int) -> SendResult:
        result = self.result(claim, outcome, error, attempts)
        await self._journal.finish(claim, outcome, error=_reason_of(error), is_final=True)
        return result

    async def _delivered(self, claim: Claim, message_id: str, attempts: int) -> SendResult | None:
        """Note that it was delivered; `None`: another message is known under this id."""
        result = self.result(claim, Outcome.DELIVERED, None, attempts, message_id)
        try:
            await self._journal.finish(claim, Outcome.DELIVERED, message_id=message_id)
        except BaseException as error:
            # The next run looks for it, and must not think that it belongs to another sending.
            self._calls.api.deliveries.forget(message_id)
            if isinstance(error, ClaimLostError) and await self._journal.is_claimed_id(message_id, claim.key):
                return None
            # If two workers reported "delivered", it could mean two messages. Only the current one reports.
            if not isinstance(error, JournalError) or isinstance(error, ClaimLostError):
                raise
            self.failure = self.failure or error
            return evolve(result, error=JournalError(_NOT_NOTED))
        self._proofs.note_first()
        return result

    # --- what is in doubt

    def _earlier_attempt(self, claim: Claim) -> Attempt | None:
        """Return the attempt of an earlier run, whose process has exited or lost the claim."""
        if claim.state is State.WAITING or claim.started_at is None:
            return None
        files = tuple((file.name, file.size) for file in claim.files)
        chat = ChatAddress.of_text(claim.sent_to or claim.chat)
        departed_at = claim.started_at + self._proofs.journal_ahead
        ended_at, date_ahead = self._calls.api.deliveries.clock.moment(), claim.date_ahead
        if date_ahead is not None:
            date_ahead -= self._proofs.journal_ahead
        return Attempt(chat, claim.body, departed_at, ended_at, files, date_ahead=date_ahead)

    async def _id_conflict(self, claim: Claim) -> DeliveryUnknownError:
        """Return the error for an answer that has the id of a message which an earlier run has delivered."""
        message = claim.message or outgoing_of(claim)
        chat, task = await self._chat_of(claim, message), asyncio.current_task()
        assert task is not None  # noqa: S101 - for mypy: this is a coroutine
        call = self._calls.requests[task]
        error = call.delivery_unknown("the answer has the id of another message")
        self._calls.api.deliveries.note(error, chat.address, message.body, call)
        return error

    async def _resolve(
        self, claim: Claim, doubt: Attempt, error: Exception, attempts: int
    ) -> tuple[bool, SendResult | None]:
        """Reconcile a message; return whether it is done, and its result."""
        found = await self._reconcile(claim, doubt, error)
        if found.message_id is not None:
            self._breaker.record_success()
            if result := await self._delivered(claim, found.message_id, attempts):
                return True, result
            found = Reconciled(Outcome.UNKNOWN)
        if found.outcome is Outcome.UNKNOWN:
            if isinstance(error, EarlierRunError) and found.reason:
                error = EarlierRunError(_NOT_FOUND_OUT.format(found.reason))
            return True, await self._closed(claim, Outcome.UNKNOWN, error, attempts)
        if claim.state is not State.WAITING:
            await self._release(claim)
            return True, None
        return False, None

    async def _reconcile(self, claim: Claim, doubt: Attempt, error: Exception) -> Reconciled:
        api = self._calls.api
        api.deliveries.is_for(doubt, self._journal.salt, claim.key)
        if self._options.on_unknown == "report":
            return Reconciled(Outcome.UNKNOWN)
        for group in await self._journal.same_chats([claim.chat]):
            api.aliases.learn_same(group)
        unclear = error if isinstance(error, DeliveryUnknownError) else None
        evidence = JournalEvidence(api.deliveries, self._journal, self._proofs, claim.key)
        echo = None if self.echoes is None else self.echoes.of(claim, evidence)
        return await self._doubts.find_out(doubt, unclear, partial(self._search, claim), echo)

    async def _search(self, claim: Claim) -> Search:
        if is_verification(claim):
            is_heard = self.echoes is not None and claim.state is State.WAITING
            return _NoSearch(self._options.settle if is_heard else 0.0)
        evidence = JournalEvidence(self._calls.api.deliveries, self._journal, self._proofs, claim.key)
        return await reconciler_of(self._calls.api, self._options.settle, evidence)

    async def _release(self, claim: Claim) -> None:
        """Requeue a message that an earlier run did not send if this run has it, else park it."""
        is_resumed = self.resumes and (self._options.superseded or not claim.is_superseded)
        if is_resumed or self._intake.is_pending(claim):
            await self._journal.requeue(claim)
        else:
            await self._journal.park(claim)


async def _send_content(chat: Chat | GroupChat, message: Outgoing) -> SentMessage:
    question, files = message.question, message.files
    if question:
        return await chat.ask(
            message.body,
            options=question.options,
            users=question.users,
            multi_answer=question.multi_answer,
            style=question.style,
        )
    return await (chat.upload(*files, body=message.body) if files else chat.send(message.body))


def _reason_of(error: Exception) -> str:
    if isinstance(error, EarlierRunError):
        return str(error)
    return f"{type(error).__name__}: {error}"
