"""Checks of what a caller passes in: what cannot be right is refused before anything is sent."""

import math
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

from attrs import Attribute

from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.ids import encode_aux_id

_PHONE_NUMBER: Final = re.compile(r"\+[0-9](?:[0-9 ()./-]*[0-9])?")
# Of Unicode's categories: control characters, and what ends a line or a paragraph.
_BREAKS_A_LINE: Final = frozenset({"Cc", "Zl", "Zp"})

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
    """Refuse what is not text in one line. It may be empty: some people have one name only.

    Raises:
        InvalidInputError: it is not.
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text")
    if any(unicodedata.category(letter) in _BREAKS_A_LINE for letter in value):
        raise InvalidInputError(f"{name} must be one line, without tabs and other control characters")
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


def check_reachable_by_one(email: object, phone_number: object) -> tuple[str | None, str | None]:
    """Return e-mail address and phone number of a person to invite, of which exactly one must be there.

    Raises:
        InvalidInputError: there is none or both, or it cannot be one.
    """
    if (email is None) == (phone_number is None):
        raise InvalidInputError("an invitation needs either email or phone_number, and not both")
    if email is not None:
        return check_email(email), None
    return None, check_phone_number(phone_number)


def check_email(email: object) -> str:
    """Return an e-mail address in its usual form: the domain in lower case. No name server is asked.

    A domain with other letters than ASCII's stays in the form that it was given in, encoded (`xn--…`) or not.

    Raises:
        InvalidInputError: it cannot be one.
    """
    # Imported when first used: most programs invite no one.
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - see above

    with suppress(EmailNotValidError):
        address = check_text(email, "email")
        found = validate_email(address, check_deliverability=False, strict=True, globally_deliverable=True)
        # The library decodes the domain, which the service may not take for an address then.
        return (found.ascii_email if address.isascii() else None) or found.normalized
    # Outside the library's own error, whose words may repeat parts of the address.
    raise InvalidInputError(
        "email must be one e-mail address, such as name@example.org: no name beside it, and no blank,"
        " line break or invisible letter in it"
    )


def check_phone_number(number: object) -> str:
    """Return a phone number in the form of E.164, such as `+31612345678`.

    It begins with `+` and the country's code; blanks, dashes, dots, slashes and parentheses are left out. It
    must be a number that can exist by the number plans in `phonenumbers`, whose releases follow them.

    Raises:
        InvalidInputError: it cannot be one.
    """
    # Imported when first used: most programs invite no one.
    import phonenumbers  # noqa: PLC0415 - see above

    # The library is made for finding numbers in any text: it takes letters, extensions and what follows.
    if _PHONE_NUMBER.fullmatch(check_text(number, "phone_number")):
        with suppress(phonenumbers.NumberParseException):
            parsed = phonenumbers.parse(str(number))
            if phonenumbers.is_valid_number(parsed):
                return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    raise InvalidInputError(
        "phone_number must be a whole phone number that begins with + and the country's code, such as"
        " +31612345678, without letters, line breaks and invisible letters"
    )


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


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def positive(_: object, attribute: "Attribute[float]", value: float) -> None:
    """Refuse all but finite numbers above 0."""
    if not _is_number(value, int, float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{attribute.name} must be a number above 0")


def not_negative(_: object, attribute: "Attribute[float]", value: float) -> None:
    """Refuse all but finite numbers of at least 0."""
    if not _is_number(value, int, float) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{attribute.name} must be a number of at least 0")


def at_least_one(_: object, attribute: "Attribute[int]", value: int) -> None:
    """Refuse all but whole numbers of at least 1."""
    if not _is_number(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number of at least 1")
