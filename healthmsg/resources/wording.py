"""What a message says, as it goes over the wire."""

from collections.abc import Iterable
from typing import Literal

from healthmsg.api import user_ids
from healthmsg.errors import EmptyMessageError, InvalidInputError
from healthmsg.models import Option, User
from healthmsg.validation import check_all, check_choice, check_flag

Style = Literal["horizontal", "vertical"]


def check_body(body: object) -> str:
    """Refuse a message's text that is not text.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(body, str):
        raise InvalidInputError(f"a message's text must be text, not {type(body).__name__}")
    return body


def readable(body: object) -> str:
    """Refuse a text that has nothing to read.

    Raises:
        EmptyMessageError: it has nothing.
        InvalidInputError: it is no text.
    """
    text = check_body(body)
    if not text.strip():
        raise EmptyMessageError("a message needs a text, or files")
    return text


def question_json(
    options: Iterable[Option], users: Iterable[str | User], *, multi_answer: bool, style: Style
) -> dict[str, object]:
    """Write a question [V].

    Raises:
        InvalidInputError: there is no option, two have one name, or something else is not what it must be.
    """
    check_choice(style, "style", ("horizontal", "vertical"))
    return {
        "multi_answer": check_flag(multi_answer, "multi_answer"),
        "style": style,
        "users": user_ids(users, "users"),
        "options": _distinct(check_all(options, Option, "options")),
    }


def _distinct(options: tuple[Option, ...]) -> tuple[Option, ...]:
    if not options:
        raise InvalidInputError("a question needs at least one option")
    if len({option.name for option in options}) < len(options):
        raise InvalidInputError("two options have one name: give them names of their own, Option(…, name=…)")
    return options
