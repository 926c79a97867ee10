"""What every type of question has: how it is sent, and what is made of an answer.

A type of question is pure: it neither sends nor waits, and reads no clock. What it needs of the world comes
with the answer (`Given`).
"""

import re
from abc import ABC, abstractmethod
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import ClassVar, Final, Generic, TypeVar
from uuid import UUID

from attrs import field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.events import Event
from healthmsg.json_text import JSONObject
from healthmsg.models import Message

T = TypeVar("T")

_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")
_MENTIONS_AT_THE_START: Final = re.compile(r"\s*(?:\[mention=[^\]\s]+\]\s*)+")


class UnreadableAnswerError(ValueError):
    """What was kept of an answer is none of this question: the code has changed since. Raised by `decode`."""


@frozen
class Given:
    """What a user typed or pressed."""

    text: str | None = field(default=None, repr=False)
    """What was typed; `None` where a button was pressed."""
    options: tuple[str, ...] | None = field(default=None, repr=False)
    """The names of the buttons that were pressed."""
    message: Message | None = field(default=None, repr=False)
    user_id: str = field(default="", repr=False)
    event: Event | None = field(default=None, repr=False)
    today: date | None = field(default=None, repr=False)
    """The day on which it was answered, where the user is. Without it "tomorrow" is no date."""

    @property
    def typed(self) -> str:
        """What was typed, without blanks around it; empty if nothing was. It can always be kept as JSON."""
        return without_halves(self.text or "").strip()

    @property
    def said(self) -> str:
        """The same without the mentions that it begins with: in a group chat the bot is addressed so."""
        return _MENTIONS_AT_THE_START.sub("", self.typed, count=1).strip()


@frozen
class Invalid:
    """It is no answer."""

    reason: str = field(repr=False)
    """The text for the user."""
    state: JSONObject | None = field(default=None, repr=False)
    """What is kept of it all the same, as that of `More`; `None`: what was known before stays as it is."""


@frozen
class More:
    """It is a part of the answer: the question waits on."""

    state: JSONObject = field(repr=False)
    """What is known so far, as JSON; `read` is given it with what comes next."""
    say: str | None = field(default=None, repr=False)
    """The text for the user; `None` if nothing is to be said."""


class QuestionType(ABC, Generic[T]):
    """A question: what is sent, and what an answer means.

    `read` never raises, whatever a user typed. Only what the author brings (a pattern, a function) can.
    """

    __slots__ = ()

    kind: ClassVar[str]
    """A word for the journal: a step is known by it and by its key."""
    body: str
    """The question's text."""

    @property
    def users(self) -> tuple[str, ...]:
        """The ids of those who are asked; empty if it is the dialog's user."""
        return ()

    def content(self, texts: Texts) -> Content:  # noqa: ARG002 - questions with buttons need the texts
        """Return what is sent."""
        return Content(self.body)

    def content_again(self, state: JSONObject | None, texts: Texts) -> Content:  # noqa: ARG002 - some need it
        """Return what is sent when it is asked once more; *state* is that of the last `More`."""
        return self.content(texts)

    @abstractmethod
    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> T | Invalid | More:
        """Return the answer, why it is none, or what is known so far."""

    def read_known(self, value: object, texts: Texts, today: date | None = None) -> T | Invalid | More:
        """Return what an answer means that was known before.

        It is checked as one that a user gives: a list of texts and a member of an enum as if pressed; a text,
        a number and a date as if typed. Nothing else is an answer; `None` never comes here.
        """
        given = given_of(value, today)
        return Invalid(texts.text_missing) if given is None else self.read(given, None, texts)

    @abstractmethod
    def encode(self, value: T) -> object:
        """Return the answer as JSON."""

    @abstractmethod
    def decode(self, document: object) -> T:
        """Return the answer that `encode` made JSON of.

        Raises:
            UnreadableAnswerError: it is none of this question, as after a change of the code.
        """


def given_of(value: object, today: date | None) -> Given | None:
    """Return an answer that was known before as if a user had given it; `None`: none can have."""
    if isinstance(value, str):
        return Given(text=str.__str__(value), today=today)
    if isinstance(value, Enum):
        return Given(options=(value.name,), today=today)
    if isinstance(value, list | tuple):
        options = tuple(one.name if isinstance(one, Enum) else one for one in value)
        named = tuple(str(one) for one in options if isinstance(one, str | int | float))
        return Given(options=named, today=today) if len(named) == len(options) else None
    if isinstance(value, date):
        return Given(text=value.isoformat()[:10], today=today)
    return Given(text=str(value), today=today) if isinstance(value, int | float | Decimal | UUID) else None


def unreadable(kind: str) -> UnreadableAnswerError:
    """Return the error for what is no kept answer of a kind of question."""
    return UnreadableAnswerError(f"what was kept is not an answer to this {kind} question")


def kept_text(document: object, kind: str) -> str:
    """Return a kept answer that is text."""
    if isinstance(document, str):
        return document
    raise unreadable(kind)


def without_halves(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair, which JSON cannot hold."""
    return _HALF_A_PAIR.sub("\ufffd", text)
