"""Every check of an argument: what cannot be right is refused before anything is sent.

A check returns what it was given, in its usual form where there are several. Where it says nothing else, it
raises `InvalidInputError`, and for a setting `ConfigurationError`. What is checked by building it stays where
it is built: an id beside its encoding, TLS settings beside the certificates they are made of.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import Attribute

from healthmsg.errors import ConfigurationError, EmptyMessageError, InvalidFileError, InvalidInputError

if TYPE_CHECKING:
    from yarl import URL

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PHONE_NUMBER: Final = re.compile(r"\+[0-9](?:[0-9 ()./-]*[0-9])?")
# Of Unicode's categories: control characters, and what ends a line or a paragraph.
_BREAKS_A_LINE: Final = frozenset({"Cc", "Zl", "Zp"})
# As RFC 9110 has it: a product's name, and its version if it has one.
_PRODUCT: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(/[A-Za-z0-9!#$%&'*+.^_`|~-]+)?")

# Servers refuse headers that are too long, some of them by cutting the connection.
_LONGEST_PRODUCT: Final = 200

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


def check_text(value: object, name: str) -> str:
    """Return text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{name} must be text that is not empty")
    return value


def check_name(value: object, name: str) -> str:
    """Return text in one line. It may be empty: some people have one name only."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text")
    if any(unicodedata.category(letter) in _BREAKS_A_LINE for letter in value):
        raise InvalidInputError(f"{name} must be one line, without tabs and other control characters")
    return value


def check_flag(value: object, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} must be True or False")
    return value


def check_count(value: object, name: str, *, at_least: int = 0) -> int:
    """Return a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise InvalidInputError(f"{name} must be a whole number of at least {at_least}")
    return value


def check_choice(value: T, name: str, choices: Iterable[str]) -> T:
    """Return one of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, choices))}")
    return value


def check_moment(value: object, name: str) -> datetime:
    """Return a point in time, in UTC.

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
    # Imported when first used: most programs invite no person.
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
    # Imported when first used: most programs invite no person.
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
    """Return a collection of `kind` as a tuple."""
    items = tuple(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else None
    if items is None or not all(isinstance(item, kind) for item in items):
        raise InvalidInputError(f"{name} must be a collection of {kind.__name__}")
    return items


def check_seconds(value: object, name: str) -> float:
    """Return a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    raise InvalidInputError(f"{name} must be a number of seconds of at least 0")


def check_body(body: object) -> str:
    """Return a message's text, which may be empty."""
    if not isinstance(body, str):
        raise InvalidInputError(f"a message's text must be text, not {type(body).__name__}")
    return body


def require_non_blank(body: object) -> str:
    """Return a message's text, if there is something to read in it.

    Raises:
        EmptyMessageError: there is nothing.
        InvalidInputError: it is not text.
    """
    text = body if isinstance(body, str) else check_body(body)
    if not text.strip():
        raise EmptyMessageError("a message needs a text, or files")
    return text


def check_files(files: Sequence[T]) -> Sequence[T]:
    """Return a collection of files.

    Raises:
        InvalidFileError: it is a single path, or no sequence.
    """
    if isinstance(files, Sequence) and not isinstance(files, str | bytes):
        return files
    raise InvalidFileError([("files", "they must be a list or tuple of paths")])


def check_progress(progress: object) -> None:
    """Refuse what cannot be called with the progress of a transfer, or would have to be awaited."""
    if progress is None:
        return
    if not callable(progress):
        raise InvalidInputError("progress must be callable: it gets the bytes done and the bytes in all")
    if iscoroutinefunction(progress):
        raise InvalidInputError("progress must be a plain function: it is called, and not awaited")


# --- a call of the program's own


def check_method(method: object) -> str:
    """Return an HTTP method, in upper case."""
    if isinstance(method, str) and method.upper() in _METHODS:
        return method.upper()
    raise InvalidInputError(f"method must be one of {', '.join(_METHODS)}")


def check_path(path: object) -> str:
    """Return a path below the API's URL, without the slash before it.

    Raises:
        InvalidInputError: it is not percent-encoded text, or leads elsewhere.
    """
    if not isinstance(path, str) or not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidInputError("path must be percent-encoded text")
    bare = path.removeprefix("/")
    segments = bare.partition("?")[0].split("/")
    if "://" in path or "#" in path or {"", ".", ".."} & set(map(unquote, segments)):
        raise InvalidInputError("path must stay below the API's URL: no host, no '..', no empty segment")
    return bare


def check_query(query: Mapping[str, str] | None, path: str) -> Mapping[str, str] | None:
    """Return a query that is to be encoded.

    Raises:
        InvalidInputError: it is not a mapping of text, or `path` has one already.
    """
    if query is None:
        return None
    if not isinstance(query, Mapping) or "?" in path:
        raise InvalidInputError("query must be a mapping, and the path have no query of its own then")
    texts = (*query.keys(), *query.values())
    if not all(isinstance(text, str) and _has_utf8_form(text) for text in texts):
        raise InvalidInputError("query must hold text only, without halves of surrogate pairs")
    return query


def _has_utf8_form(text: str) -> bool:
    with suppress(UnicodeEncodeError):
        return bool(text.encode()) or not text
    return False


# --- settings of clients, limits and applications


def check_option(value: object, name: str, kind: type[T]) -> T:
    """Return a setting of the type `kind`."""
    if isinstance(value, kind):
        return value
    raise ConfigurationError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def check_hook(function: FunctionT | None, name: str, argument: str) -> FunctionT | None:
    """Return a function that is called with `argument`, if there is one.

    Raises:
        ConfigurationError: it cannot be called, or would have to be awaited.
    """
    if function is None or (callable(function) and not iscoroutinefunction(function)):
        return function
    raise ConfigurationError(f"{name} must be a plain function that takes a {argument}")


def check_header(value: object, name: str) -> str | None:
    """Return what is to stand in a header, if anything is."""
    if value is None or is_printable(value):
        return value
    raise ConfigurationError(f"{name} must be printable ASCII text")


def check_app_info(value: object) -> str | None:
    """Return what a program calls itself, such as `ourehr/2.1`, if it does.

    Raises:
        ConfigurationError: it cannot be a product in the header `User-Agent`.
    """
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= _LONGEST_PRODUCT and _PRODUCT.fullmatch(value):
        return value
    raise ConfigurationError(
        "app_info must be a program's name and version, such as 'ourehr/2.1', in ASCII, without blanks and"
        f" at most {_LONGEST_PRODUCT} characters long"
    )


def check_size(value: object, name: str) -> int:
    """Return a number of bytes."""
    if _is_number(value, int) and value >= 1:
        return value
    raise ConfigurationError(f"{name} must be a whole number of bytes, at least 1")


def require_secure_url(name: str, url: str, *, scheme: str = "https") -> None:
    """Check that a URL is absolute and encrypted; plain http (or ws) is for loopback only.

    Raises:
        ConfigurationError: it is not. The message calls it `name`.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except (ValueError, AttributeError, TypeError):
        host = None
    if not host or not isinstance(url, str) or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{name} must be an absolute URL such as {scheme}://host/path")
    if parts.username or parts.password:
        raise ConfigurationError(f"{name} must not carry a user name or password")
    plain = scheme.removesuffix("s")
    if parts.scheme != scheme and not (parts.scheme == plain and is_loopback(host)):
        raise ConfigurationError(f"{name} must use {scheme}; plain {plain} is allowed on loopback only")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_proxy(proxy: object, name: str = "proxy") -> "URL | None":
    """Return the URL of an HTTP proxy, if there is one.

    Raises:
        ConfigurationError: it is no such URL. The message repeats none of it: it may hold a password.
    """
    if proxy is None:
        return None
    # Imported when first used: programs without a client load it for nothing.
    from yarl import URL  # noqa: PLC0415 - see above

    try:
        url = URL(proxy if is_printable(proxy) and " " not in proxy else "")
        # The encoding in which they are sent.
        f"{url.user}{url.password}".encode("latin-1")
    except ValueError:
        url = URL()
    is_whole = url.scheme in {"http", "https"} and url.host and url.port
    if is_whole and url.path_qs in {"", "/"} and not url.fragment:
        return url
    raise ConfigurationError(f"{name} must be a URL such as http://user:password@host:3128 (not SOCKS)")


def is_printable(text: object) -> TypeGuard[str]:
    """Return whether `text` is printable ASCII and not empty, as RFC 6749 has codes, secrets and states."""
    return isinstance(text, str) and bool(text) and text.isascii() and text.isprintable()


def _is_number(value: object, *kinds: type) -> TypeGuard[int]:
    return isinstance(value, kinds) and not isinstance(value, bool)


def positive(_: object, attribute: "Attribute[float]", value: float) -> None:
    """Refuse all but finite numbers above 0."""
    if not _is_number(value, int, float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{attribute.name} must be a number above 0")


def not_negative(_: object, attribute: "Attribute[float]", value: float) -> None:
    """Refuse all but finite numbers of at least 0."""
    if not _is_number(value, int, float) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{attribute.name} must be a number of at least 0")


def true_or_false(_: object, attribute: "Attribute[bool]", value: bool) -> None:  # noqa: FBT001 - attrs passes it so
    """Refuse all but True and False."""
    check_option(value, attribute.name, bool)


def at_least_one(_: object, attribute: "Attribute[int]", value: int) -> None:
    """Refuse all but whole numbers of at least 1."""
    if not _is_number(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number of at least 1")
