"""What sending many messages is, with a journal or without."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar, Final, Literal

from attrs import frozen

from healthmsg.api import Api
from healthmsg.bulk.hold import Hold
from healthmsg.bulk.messages import Outgoing, Recipient, SendReport, SendResult
from healthmsg.bulk.order import Order
from healthmsg.bulk.other_texts import OTHER_TEXTS, OtherText
from healthmsg.bulk.reconcile import Reconciled, Reconciler
from healthmsg.bulk.sending import USERS, Sending, is_user, outcome_of
from healthmsg.delivery.proof import Attempt
from healthmsg.errors import (
    DeliveryUnknownError,
    ForbiddenError,
    InvalidInputError,
    JournalError,
    SendingGivenUpError,
    StatusError,
)
from healthmsg.models import Outcome, Question, SentMessage
from healthmsg.pipeline.request import Request
from healthmsg.resources.chat import Chat
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.group_chat import GroupChat
from healthmsg.task_pool import Words
from healthmsg.validation import check_choice, check_flag, check_seconds

# More than the limit lets go while an answer takes three seconds.
MOST_IN_FLIGHT: Final = 128
# What has not arrived so often, though nothing is wrong with the service, will not the next time either.
MOST_SENDINGS: Final = 6
_MOST_CONVERSATIONS: Final = 10_000
_MOST_FAILURES: Final = 1_000

OnUnknown = Literal["reconcile", "report"]
MakeReconciler = Callable[[], Awaitable[Reconciler]]


@frozen
class SendOptions:
    """How a run is to go about it.

    Raises:
        InvalidInputError: an option cannot be right.
    """

    on_unknown: OnUnknown
    settle: float
    retry_failed: bool
    stop_after: float
    other_text: OtherText = "send"
    superseded: bool = False

    def __attrs_post_init__(self) -> None:
        check_choice(self.on_unknown, "on_unknown", ("reconcile", "report"))
        check_seconds(self.settle, "settle")
        check_flag(self.retry_failed, "retry_failed")
        check_seconds(self.stop_after, "stop_after")
        check_choice(self.other_text, "other_text", OTHER_TEXTS)
        check_flag(self.superseded, "superseded")


class _Places(asyncio.Semaphore):
    """Places, of which one can be taken without waiting: then the next that comes free is gone."""

    _owed = 0

    def take(self) -> None:
        """Take a place, if need be one that is not free yet."""
        self._owed += 1

    def release(self) -> None:
        """Give a place back."""
        if self._owed:
            self._owed -= 1
        else:
            super().release()


class SendMany(Sending[Any, SendResult]):
    """Messages that are being sent. Iterate it for the results, in the order in which they come.

    Messages are read as they are needed and sent in parallel; within one chat, one after the other. Results
    that nobody reads hold up the sending. Leaving the `async with` (or closing the client) sends no further
    message and waits for those under way; the results that are left can still be read by iterating on.
    """

    _words: ClassVar[Words] = Words("a send_many", "messages", "send", "sent")
    _called = "send_many"
    _instead_of_await = "await its report()"

    def __init__(self, api: Api, messages: Any, options: SendOptions, *, advice: str) -> None:
        super().__init__(api, messages, places=MOST_IN_FLIGHT)
        self._options = options
        self._places: _Places = _Places(MOST_IN_FLIGHT)
        self._hold = Hold(self._api, options.stop_after, advice)
        self._hold.when_given_up = self._given_up
        self._conversations = OrderedDict[str, Chat]()
        self._order = Order(self._api.aliases)
        self._in_doubt: dict[asyncio.Task[Any] | None, DeliveryUnknownError | None] = {}
        self._settled_at: float = 0.0
        """When the last of them can be decided, by the client's clock."""
        self._leaves_doubts = False
        self._other_texts = 0
        self._superseded = 0

    @property
    def paused_by(self) -> Exception | None:
        """What holds the run up just now, since it concerns every message: a host that does not answer.

        Also while calls are tried again by themselves, from the first one that failed.
        """
        return self._hold.waits_for

    @property
    def in_doubt(self) -> int:
        """How many messages it is being found out about just now: no clear answer came to them."""
        return len(self._in_doubt)

    @property
    def settled_in(self) -> float:
        """Seconds until what became of them is known at the latest, if the service answers."""
        return max(0.0, self._settled_at - self._api.deliveries.clock.now()) if self._in_doubt else 0.0

    async def report(self) -> SendReport:
        """Send everything, and sum up what became of it.

        Raises:
            SendingGivenUpError: nothing got through for `stop_after` seconds.
            JournalError: the journal cannot be used any more.
        """
        started = asyncio.get_running_loop().time()
        counts = dict.fromkeys(Outcome, 0)
        attempts, failures = 0, list[SendResult]()
        async with self:
            async for result in self:
                counts[result.outcome] += 1
                attempts += result.attempts
                if result.outcome is not Outcome.DELIVERED and len(failures) < _MOST_FAILURES:
                    failures.append(result)
        return SendReport(
            messages=sum(counts.values()),
            delivered=counts[Outcome.DELIVERED],
            not_sent=counts[Outcome.NOT_SENT],
            unknown=counts[Outcome.UNKNOWN],
            attempts=attempts,
            seconds=asyncio.get_running_loop().time() - started,
            failures=tuple(failures),
            other_text=self._other_texts,
            superseded=self._superseded,
        )

    def _is_waited_for(self, task: "asyncio.Task[None]") -> bool:
        return self._has_begun(task) and task not in self._in_doubt

    def _prepare(self, request: Request) -> None:
        request.may_repeat = partial(self._hold.may_repeat, request, asyncio.get_running_loop().time())

    def _given_up(self) -> None:
        """Begin nothing that is not under way, and find out nothing more, since nothing gets through."""
        self._leave_doubts()
        self._leave_unbegun()

    def _leave_unbegun(self) -> None:
        """Cut off those that wait for their turn, however long that may last."""
        for task in self._in_flight:
            if not self._is_waited_for(task) and task is not asyncio.current_task():
                task.cancel()

    def _leave_doubts(self) -> None:
        """Find out no more what became of messages: they are unknown."""
        self._leaves_doubts = True
        for task in self._in_doubt:
            if task is not None and task is not asyncio.current_task():
                task.cancel()

    async def _let_through(self) -> None:
        """Wait until a call may be made; of who still waits for that, nothing is under way.

        Raises:
            SendingGivenUpError: nothing got through for too long.
        """
        if (task := asyncio.current_task()) is not None:
            self._requests.pop(task, None)
        await self._hold.passed()

    async def _say(
        self, chat: Chat | GroupChat, body: str, files: Any, question: Question | None
    ) -> SentMessage:
        if files and question:
            raise InvalidInputError("a question cannot have files: send them in a message of their own")
        if question:
            running = chat.ask(
                body,
                options=question.options,
                users=question.users,
                multi_answer=question.multi_answer,
                style=question.style,
            )
        else:
            running = chat.upload(*files, body=body) if files else chat.send(body)
        del body  # a traceback shows the local variables of this frame
        return await running

    async def _reached(self, to: Recipient) -> Chat | GroupChat:
        """Give the handle of the chat, starting the conversation with a user if need be."""
        if not is_user(to):
            return self._chat(to)
        user = to.removeprefix(USERS)
        chat = self._conversations.get(to)
        if chat is None and (chat := await self._known_conversation(to)) is not None:
            self._api.aliases.learn_conversation(conversation=chat.id, user=user)
        chat = chat or await Conversations(self._api).start(user)
        self._conversations[to] = chat
        if len(self._conversations) > _MOST_CONVERSATIONS:
            self._conversations.popitem(last=False)
        return chat

    def _note_answer(self, error: Exception) -> None:
        """Note what an error that concerns this message alone says of the others."""
        if is_of_a_message(error):
            self._hold.unclear(error)
        elif isinstance(error, StatusError) and not isinstance(error, ForbiddenError):
            self._hold.well()
        elif outcome_of(error) is Outcome.NOT_SENT:
            self._hold.nothing_learnt()

    async def _known_conversation(self, to: str) -> Chat | None:  # noqa: ARG002 - of interest to some
        """Give the conversation that an earlier run has started."""
        return None

    async def _find_out(
        self, attempt: Attempt, error: DeliveryUnknownError | None, reconciler: MakeReconciler
    ) -> Reconciled:
        """Find out what became of a message; while the service does not answer, wait.

        When that is not to be waited for any more, the task is cut off, and the message unknown.
        """
        task = asyncio.current_task()
        self._in_doubt[task] = error
        if self._is_stopping or self._leaves_doubts:
            raise asyncio.CancelledError  # as those are that were in doubt before
        self._hold.nothing_learnt()
        # Who waits for certainty does not keep others from being sent.
        self._places.release()
        try:
            found = await self._patiently(attempt, reconciler)
        except SendingGivenUpError:
            raise asyncio.CancelledError from None
        except Exception:
            del self._in_doubt[task]
            raise
        finally:
            # Not waited for: with nobody who reads results, none would come free.
            self._places.take()
        del self._in_doubt[task]
        if error is not None and found.outcome is Outcome.UNKNOWN:
            error.note_reason(found.reason, found.similar)
        return found

    async def _patiently(self, attempt: Attempt, reconciler: MakeReconciler) -> Reconciled:
        ended_at = self._api.deliveries.clock.now()
        self._settled_at = ended_at + self._options.settle
        while True:
            await self._hold.over()
            try:
                return await (await reconciler()).find_out(attempt, ended_at)
            except (JournalError, SendingGivenUpError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever kept us from finding out, nothing is known then
                if not await self._hold.is_held_up_by(error):
                    return Reconciled(Outcome.UNKNOWN, reason=f"the chat could not be read ({error})")


def check_outgoing(item: object) -> Outgoing:
    """Refuse what is no message.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(item, Outgoing):
        return item
    raise InvalidInputError(f"send_many takes Outgoing messages, not {type(item).__name__}")


def is_of_a_message(error: Exception) -> bool:
    """Tell whether an error leaves open whether a message was delivered."""
    return isinstance(error, DeliveryUnknownError) and error.attempt is not None
