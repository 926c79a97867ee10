"""Ids as they go into a path: refused when they cannot be one, percent-encoded as one segment."""

import re
import unicodedata
from functools import cache
from typing import Final
from urllib.parse import quote

from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError

# What the vendor's client leaves as it is: JavaScript's encodeURIComponent [V].
_UNESCAPED: Final = "!'()*"
_needs_no_escape: Final = re.compile(r"[A-Za-z0-9_.~!'()*-]+").fullmatch
# The vendor's client replaces, from À to ž, the letters with a mark [V],
_LETTERS: Final = range(0xC0, 0x17F)
# and, though they have none, dotless i, n with apostrophe, and eng [V].
_UNMARKED: Final = {"\u0131": "i", "\u0149": "n", "\u014a": "N", "\u014b": "n"}


class ExactAuxId(str):
    """An auxiliary id that is meant as it stands, diacritics included. See `exact_aux_id`."""

    __slots__ = ()


def require_text(value: object, name: str) -> str:
    """Refuse an id that is not text.

    Raises:
        InvalidIdError: it is not.
    """
    if isinstance(value, str):
        return value
    raise InvalidIdError(f"{name} must be text, not {type(value).__name__}")


def encode_segment(value: object, name: str) -> str:
    """Encode an id as one path segment that nothing can escape from.

    Raises:
        InvalidIdError: it is not text, empty, `.`, `..`, or has no UTF-8 form.
    """
    value = require_text(value, name)
    if value in {"", ".", ".."}:
        raise InvalidIdError(f"{name} must not be empty, '.' or '..'")
    if _needs_no_escape(value):
        return value
    try:
        return quote(value, safe=_UNESCAPED)
    except UnicodeEncodeError:
        pass
    raise InvalidIdError(f"{name} holds half of a surrogate pair, which cannot be encoded")


def encode_aux_id(value: object, name: str = "aux_id") -> str:
    """Encode an auxiliary id as one path segment.

    Raises:
        AmbiguousAuxIdError: it has a diacritic and is neither folded nor marked as exact.
        InvalidIdError: as `encode_segment`.
    """
    segment = encode_segment(value, name)
    if not isinstance(value, ExactAuxId) and fold_aux_id(require_text(value, name)) != value:
        raise AmbiguousAuxIdError(
            f"{name} has a diacritic, which the vendor's own client folds away (é becomes e), so that two"
            " patients can share one id. Pass fold_aux_id(...) to address what that client addresses, or"
            " exact_aux_id(...) to send the id as it is."
        )
    return segment


def fold_aux_id(aux_id: str) -> str:
    """Fold diacritics as the vendor's client does before it sends an auxiliary id: `José` → `Jose` [V].

    That client has a table of 177 letters of Western, Central and Northern Europe and Turkish (`á`, `ł`,
    `ğ`), and leaves everything else as it is [V]: `æ` and `ß`, letters of other languages (`ș`, `ệ`), and a
    mark that is a character of its own, as in text that was decomposed.
    """
    require_text(aux_id, "aux_id")
    return str(aux_id) if aux_id.isascii() else aux_id.translate(_fold_table())


def exact_aux_id(aux_id: str) -> ExactAuxId:
    """Mark an auxiliary id as meant exactly so, diacritics included."""
    return ExactAuxId(require_text(aux_id, "aux_id"))


@cache
def _fold_table() -> dict[int, str]:
    table = {ord(letter): plain for letter, plain in _UNMARKED.items()}
    for code in _LETTERS:
        plain, has_mark, _ = unicodedata.name(chr(code)).partition(" WITH ")
        if has_mark:
            table[code] = unicodedata.lookup(plain)
    return table
