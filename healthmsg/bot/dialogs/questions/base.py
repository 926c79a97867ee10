"""What every type of question is."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from attrs import field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.events import Event
from healthmsg.json_text import JSONObject
from healthmsg.models import Message

T = TypeVar("T")


@frozen
class Given:
    """What a user typed or pressed."""

    text: str | None = field(default=None, repr=False)
    options: tuple[str, ...] | None = field(default=None, repr=False)
    message: Message | None = field(default=None, repr=False)
    user_id: str = field(default="", repr=False)
    event: Event | None = field(default=None, repr=False)


@frozen
class Invalid:
    """It is no answer."""

    reason: str = field(repr=False)
    """The text for the user."""


@frozen
class More:
    """It is a part of the answer: the question waits on."""

    state: JSONObject = field(repr=False)
    say: str | None = field(default=None, repr=False)


class QuestionType(ABC, Generic[T]):
    """A question: what is sent, and what an answer means."""

    kind: ClassVar[str]
    body: str

    @abstractmethod
    def content(self, texts: Texts) -> Content:
        """Return what is sent."""

    @abstractmethod
    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> T | Invalid | More:
        """Return the answer, or why it is none."""

    @abstractmethod
    def encode(self, value: T) -> object:
        """Return the answer as JSON."""

    @abstractmethod
    def decode(self, document: object) -> T:
        """Return the answer that `encode` made JSON of."""
