"""What users type, press and send, for the tests of questions."""

from collections.abc import Sequence
from datetime import date
from typing import TypeVar

from healthmsg.bot.dialogs.questions import Given, Invalid, More, QuestionType, Texts
from healthmsg.json_text import JSONObject
from healthmsg.models import Attachment, Message, User

T = TypeVar("T")

TEXTS = Texts.dutch()
TODAY = date(2026, 11, 28)


def typed(text: str, user: str = "an") -> Given:
    return Given(text=text, message=Message("m1", body=text), user_id=user, today=TODAY)


def pressed(*options: str, user: str = "an") -> Given:
    return Given(options=options, user_id=user)


def sent(*files: Attachment, text: str = "") -> Given:
    return Given(text=text, message=Message("m1", body=text, attachments=files), user_id="an")


def mentioning(text: str, *users: User) -> Given:
    return Given(text=text, message=Message("m1", body=text, mentions=users), user_id="an")


def answer(question: QuestionType[T], given: Given | str, state: JSONObject | None = None) -> T | None:
    """Return the answer; `None` if it is not (yet) one."""
    found = question.read(typed(given) if isinstance(given, str) else given, state, TEXTS)
    return None if isinstance(found, Invalid | More) else found


def reason(question: QuestionType[T], given: Given | str, state: JSONObject | None = None) -> str:
    """Return why it is no answer."""
    found = question.read(typed(given) if isinstance(given, str) else given, state, TEXTS)
    assert isinstance(found, Invalid), found
    return found.reason


def more(question: QuestionType[T], given: Given | str, state: JSONObject | None = None) -> More:
    """Return what is known so far."""
    found = question.read(typed(given) if isinstance(given, str) else given, state, TEXTS)
    assert isinstance(found, More), found
    return found


def buttons(question: QuestionType[T], texts: Texts = TEXTS) -> Sequence[tuple[str, str, str | None]]:
    """Return name, label and style of each button."""
    asked = question.content(texts).question
    assert asked is not None
    return [(option.name, option.label, option.style) for option in asked.options]
