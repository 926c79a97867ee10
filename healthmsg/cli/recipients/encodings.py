"""From bytes to text.

What a file says of itself comes first, then UTF-8, which other text practically never happens to be. What is
left comes from a spreadsheet that saves in an encoding of old: Windows-1252, or that of Excel's "CSV
(Macintosh)" or "CSV (MS-DOS)". Guessing these by statistics garbles the names in a short list of them; so it
is the first in which every letter stands where it can stand, and none rather than one that garbles.
"""

import codecs
import re
from typing import Final

from attrs import frozen

from healthmsg.cli.recipients.problems import RefusedError

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Each with the bytes that are not letters in it, or so rarely that it is more probably another encoding.
_OLD: Final = {
    "cp1252": re.compile(rb"[\x81\x8d\x8f\x90\x9d]"),
    "mac_roman": re.compile(rb"[\xb0\xc5\xf0]"),
    "cp850": re.compile(rb"[\x9e-\xff]"),
}
_NAMES: Final = {
    "utf-8-sig": "UTF-8",
    "utf-8": "UTF-8",
    "cp1252": "Windows-1252",
    "mac_roman": "Mac Roman",
    "cp850": "MS-DOS (850)",
}
# Not Icelandic's letters: they are where Turkish, which has many more names here, has its own.
_EXPECTED: Final = "À-ÏÑ-ÖØ-Üßàáâãäåæçèéêëìíîïñ-öø-üÿŒœŠšŽžŸƒ‘’“”‚„–—…•€£§©®™°²³µ·½¼¾×«»¿¡\u00a0"  # noqa: RUF001 - these are meant
_COMMON: Final = re.compile("[éëèïöü]")
_UNEXPECTED: Final = re.compile(f"[^\\x00-\\x7f{_EXPECTED}]")
# A capital or a sign in the middle of a word, or nothing but accents: read in the wrong encoding.
_OUT_OF_PLACE: Final = re.compile(
    "[a-z][À-ÖØ-ÞŒŠŽŸƒ‚„‘•£§µ½¼¾«¿¡]"  # noqa: RUF001 - these are meant
    "|[A-Za-z][À-ÖØ-ÞŒŠŽŸ€™°²³·×][a-z]"  # noqa: RUF001 - these are meant
    "|[ƒ£§©®µ½¼¾°²³·•”][a-z]"
    "|[À-ÿ]{3}|[^\\x00-\\x7f]{4}"
)


@frozen
class Decoded:
    """A text, and what was found out about it."""

    text: str
    encoding: str
    is_guess: bool = False
    """Whether the bytes could mean something else, too."""


def decode(data: bytes, encoding: str | None = None) -> Decoded:
    """Read a file's bytes; `encoding` is the user's own, should the file be read wrongly without.

    Raises:
        RefusedError: it cannot be told what they mean.
    """
    if encoding is not None:
        return Decoded(_decoded_as_told(data, encoding), encoding)
    told = _own_encoding(data)
    text = _decoded(data, told)
    if text is not None:
        return Decoded(text, _NAMES.get(told, told.upper()))
    plausible = [] if told != "utf-8" else [old for old in _OLD if _is_plausible(data, old)]
    if plausible:
        old = "cp1252" if "cp1252" in plausible else max(plausible, key=lambda one: _count_common(data, one))
        return Decoded(data.decode(old), _NAMES[old], is_guess=True)
    raise RefusedError(
        "the file is not UTF-8, and in none of the usual encodings all of its letters make sense."
        " Save it as UTF-8, or name its encoding with --encoding, such as --encoding cp1252."
    )


def _is_plausible(data: bytes, old: str) -> bool:
    if _OLD[old].search(data):
        return False
    text = data.decode(old)
    return not (_UNEXPECTED.search(text) or _OUT_OF_PLACE.search(text))


def _count_common(data: bytes, old: str) -> int:
    return len(_COMMON.findall(data.decode(old)))


def _own_encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    # A column's name, or a brace, is ASCII: in UTF-16 every other byte is zero.
    if len(data) % 2 == 0 and data[:1] == b"\0" != data[1:2]:
        return "utf-16-be"
    if len(data) % 2 == 0 and data[:1] != b"\0" == data[1:2]:
        return "utf-16-le"
    return "utf-8"


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _decoded_as_told(data: bytes, encoding: str) -> str:
    try:
        # A mark is not part of the text in whatever encoding has one.
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        problem = "--encoding: no such encoding is known"
    except UnicodeError:
        problem = "--encoding: the file is not in this encoding"
    raise RefusedError(problem)
