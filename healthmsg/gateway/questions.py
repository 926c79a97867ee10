"""Questions that can still be answered: read again after each connect, since answers are in no list."""

from collections.abc import Iterable, Sequence

from attrs import frozen

from healthmsg.events import Event
from healthmsg.gateway.inbox.base import OpenQuestion
from healthmsg.models import Message


@frozen
class QuestionsFound:
    """What messages say of questions."""

    events: tuple[Event, ...] = ()
    open: tuple[OpenQuestion, ...] = ()
    closed: tuple[str, ...] = ()


class Questions:
    """The open questions of a user's chats."""

    def __init__(self, questions: Iterable[OpenQuestion] = ()) -> None:
        self._open = {question.message_id: question for question in questions}

    def ask_all(self, at: float) -> None: ...
    def due(self) -> float | None:
        return None

    def next(self, now: float) -> OpenQuestion | None:
        return None

    def failed(self, message_id: str, at: float) -> None: ...
    def seen(
        self, key: str, messages: Sequence[Message], events: Sequence[Event], *, is_baseline: bool
    ) -> QuestionsFound:
        return QuestionsFound()

    def read(self, chat: object, message_id: str, message: Message | None) -> QuestionsFound:
        return QuestionsFound()
