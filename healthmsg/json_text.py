"""Reading JSON as services write it: strictly where that works, and else with what is wrong in it replaced.

A message with half an emoji in it, which is what is left when a text is cut to a length, must not make the
whole chat unreadable, nor a byte order mark a delivered message an unknown one.
"""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import orjson

JSONObject = Mapping[str, object]
"""A JSON object as it came."""

# Around a document: a byte order mark, white space, and the zero bytes that some programs end a text with.
_AROUND: Final = " \t\r\n\ufeff\0"
_MOST_DIGITS: Final = 20
# A pair of surrogates, or group 1: half of one; or any other escape, so that `\\ud83d` is taken for none.
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_may_have_half_a_pair: Final = re.compile(r"\\u[dD][89a-fA-F]").search


class NotJSONError(ValueError):
    """It is not JSON at all."""


def parse_json(data: bytes | str) -> Any:
    """Return what a JSON document says; no text in it holds a surrogate, so that it can be written as UTF-8.

    What is not proper JSON is read as far as that can be done. Half of a surrogate pair, and bytes that are
    not UTF-8, become U+FFFD; NaN, the infinities and numbers beyond them become `None`; control characters
    within a text stay. UTF-16, UTF-32 and a byte order mark are understood.

    Raises:
        NotJSONError: it is not JSON at all, or nested too deeply.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    text = _repaired(data)
    try:
        return json.loads(
            text, strict=False, parse_constant=_no_number, parse_int=_whole, parse_float=_fraction
        )
    except (ValueError, RecursionError):
        pass
    # Outside the `except`: the library's error has the whole document in it.
    del data, text
    raise NotJSONError


def has_repeated_key(data: bytes | str) -> bool:
    """Return whether an object in a JSON document has one name twice, of which programs see different ones.

    `parse_json` takes the last one, as most do. Also where it is nested too deeply to find out.
    """
    found = False

    def note(pairs: list[tuple[str, object]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    try:
        json.loads(_repaired(data), strict=False, object_pairs_hook=note)
    except RecursionError:
        return True
    except ValueError:
        return False  # it is not JSON at all
    return found


def _repaired(data: bytes | str) -> str:
    if isinstance(data, bytes):
        data = _decoded(data)
    # Pairs are joined, and halves replaced.
    text = data.encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip(_AROUND)
    if _may_have_half_a_pair(text):
        text = _ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], text)
    return text


def _decoded(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    try:
        # Some programs write each half of a pair as a letter of its own.
        return data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        return data.decode(encoding, "replace")


def _no_number(_: str) -> None:
    return None


def _whole(digits: str) -> int | float | None:
    """Read a whole number; one of more than 64 bits becomes a fraction, as it does when read strictly."""
    if len(digits) <= _MOST_DIGITS and -(2**63) <= (number := int(digits)) < 2**64:
        return number
    return _fraction(digits)


def _fraction(digits: str) -> float | None:
    number = float(digits)
    return number if isfinite(number) else None
