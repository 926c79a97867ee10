"""Questions and requests for verification that are open: read again after each connect.

Answers are in no list: one that was given while nothing was connected is found only where its message is read
again. A question is learnt of when a list shows it, which a reading of its chat does sooner or later.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime
from typing import Final

from attrs import define, field, frozen

from healthmsg.events import Event
from healthmsg.events.questions import answers_of, is_open
from healthmsg.gateway.inbox.base import OpenQuestion
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, QuestionPayload, VerificationPayload

_MOST: Final = 20_000
"""Open questions that are remembered: the newest."""


@frozen
class QuestionsFound:
    """What messages say of questions."""

    events: tuple[Event, ...] = ()
    open: tuple[OpenQuestion, ...] = ()
    """To be remembered."""
    closed: tuple[str, ...] = ()
    """Ids of messages, to be forgotten."""


@define(eq=False)
class Questions:
    """The open questions in a user's chats. `me` is the user's id."""

    _questions: Iterable[OpenQuestion]
    me: str
    _moment: Callable[[], datetime]
    _open: dict[str, OpenQuestion] = field(init=False)
    _to_ask: dict[str, None] = field(factory=dict, init=False)
    """In the order in which they were read last."""
    _waiting: set[str] = field(factory=set, init=False)
    """Those that are still to be read after this connect."""
    _at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._open = {question.message_id: question for question in self._questions}
        self._to_ask = dict.fromkeys(self._open)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    # --- reading them again

    def ask_all(self, at: float) -> None:
        """Have all of them read again, from that moment on."""
        self._at = at
        self._waiting = set(self._open)

    def due(self) -> float | None:
        """Return from when on one is to be read; `None`: none is."""
        return self._at if self._waiting else None

    def next(self, now: float) -> OpenQuestion | None:
        """Return the one to read next, if it is time."""
        if not self._waiting or now < self._at:
            return None
        message_id = next(one for one in self._to_ask if one in self._waiting)
        self._waiting.discard(message_id)
        self._to_ask[message_id] = self._to_ask.pop(message_id)
        return self._open[message_id]

    def failed(self, message_id: str, at: float) -> None:
        """Have one read once more, and all others after that moment."""
        if message_id in self._open:
            self._waiting.add(message_id)
            self._at = at

    # --- what messages say

    def seen(
        self, chat: ChatAddress, messages: Sequence[Message], recent: Container[str], *, is_baseline: bool
    ) -> QuestionsFound:
        """Take what a list shows of a chat; `recent` are the messages that are known to be handled."""
        events: list[Event] = []
        opened: list[OpenQuestion] = []
        closed: list[str] = []
        for message in reversed(messages):
            if not isinstance(message.payload, QuestionPayload | VerificationPayload):
                continue
            known = self._open.get(message.id)
            if known is None and message.id not in recent and not is_baseline:
                continue
            # What was answered before the start was not to be handled.
            is_old = known is None and message.id not in recent
            answers = answers_of(chat, message, me=self.me, received_at=self._moment())
            before = tuple(event.id for event in answers) if is_old else known.answered if known else ()
            events += [event for event in answers if event.id not in before]
            if not self._may_be_answered(chat, message):
                closed += self._forget(message.id)
            elif known is None:
                opened.append(self._remember(OpenQuestion(message.id, chat.text, before)))
        closed += self._too_many()
        return QuestionsFound(tuple(events), tuple(opened), tuple(closed))

    def read(
        self, chat: ChatAddress, message_id: str, message: Message | None, verified: Event | None
    ) -> QuestionsFound:
        """Take a message that was read again; `verified` is the event of a request that was met."""
        if message is None or verified is not None:
            events = () if verified is None else (verified,)
            return QuestionsFound(events, (), tuple(self._forget(message_id)))
        return self.seen(chat, [message], (), is_baseline=False)

    def _may_be_answered(self, chat: ChatAddress, message: Message) -> bool:
        payload = message.payload
        if not isinstance(payload, QuestionPayload):
            return True
        # In a conversation only the other side is asked.
        is_answered = not chat.kind.is_group and any(answer.options for answer in payload.answers)
        return is_open(message) and not is_answered

    def _remember(self, question: OpenQuestion) -> OpenQuestion:
        self._open[question.message_id] = question
        self._to_ask[question.message_id] = None
        return question

    def _forget(self, message_id: str) -> list[str]:
        self._to_ask.pop(message_id, None)
        self._waiting.discard(message_id)
        return [message_id] if self._open.pop(message_id, None) is not None else []

    def _too_many(self) -> list[str]:
        closed: list[str] = []
        while len(self._open) > _MOST:
            closed += self._forget(next(iter(self._open)))
        return closed
