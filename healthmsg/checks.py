"""Checks of what a caller passes in: what cannot be right is refused before anything is sent."""

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from healthmsg.errors import InvalidInputError
from healthmsg.identifiers import encode_aux_id

T = TypeVar("T")


def check_text(value: object, name: str) -> str:
    """Refuse what is not text with something to read in it.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{name} must be text that is not empty")
    return value


def check_name(value: object, name: str) -> str:
    """Refuse what is not text. It may be empty: some people have one name only.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text")
    return value


def check_flag(value: object, name: str) -> bool:
    """Refuse what is neither True nor False.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} must be True or False")
    return value


def check_count(value: object, name: str, *, at_least: int = 0) -> int:
    """Refuse what is not a whole number of at least `at_least`.

    Raises:
        InvalidInputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidInputError(f"{name} must be a whole number of at least {at_least}")
    return value


def check_choice(value: object, name: str, choices: Iterable[str]) -> None:
    """Refuse what is not one of a few words.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, choices))}")


def check_aux_id(value: object) -> str:
    """Refuse an auxiliary id that could not be used in a path afterwards.

    Raises:
        InvalidIdError: it cannot be one.
        AmbiguousAuxIdError: it has a diacritic.
    """
    encode_aux_id(value)
    return str(value)


def check_moment(value: object, name: str) -> datetime:
    """Refuse what is not a point in time, and give it in UTC.

    Raises:
        InvalidInputError: it is no datetime, one without an offset, or one that UTC cannot express.
    """
    if isinstance(value, datetime) and value.utcoffset() is not None:
        with suppress(OverflowError):
            return value.astimezone(UTC)
    raise InvalidInputError(f"{name} must be an aware datetime, one with an offset, in the years 1 to 9999")


def check_reachable_by_one(email: object, phone_number: object) -> None:
    """Refuse a person to invite who has not exactly one of an e-mail address and a phone number.

    Raises:
        InvalidInputError: there is none or both, or it cannot be one.
    """
    if (email is None) == (phone_number is None):
        raise InvalidInputError("an invitation needs either email or phone_number, and not both")
    if email is not None:
        check_email(email)
    if phone_number is not None:
        check_text(phone_number, "phone_number")


def check_email(email: object) -> None:
    """Refuse what cannot be an e-mail address.

    Raises:
        InvalidInputError: it cannot.
    """
    if "@" not in check_text(email, "email"):
        raise InvalidInputError("email must be an e-mail address")


def check_all(values: object, kind: type[T], name: str) -> tuple[T, ...]:
    """Refuse a collection that holds something else than `kind`.

    Raises:
        InvalidInputError: it does, or it is no collection.
    """
    items = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else None
    if items is None or not all(isinstance(item, kind) for item in items):
        raise InvalidInputError(f"{name} must be a collection of {kind.__name__}")
    return items


def check_seconds(value: object, name: str) -> float:
    """Refuse what cannot be a number of seconds.

    Raises:
        InvalidInputError: it is not a number of at least 0.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    raise InvalidInputError(f"{name} must be a number of seconds of at least 0")
