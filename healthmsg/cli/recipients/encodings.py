"""From bytes to text.

A mark at the start of a file comes first, then UTF-8, which text in another encoding almost never is by
chance. The rest comes from a spreadsheet that saves in an old encoding: Windows-1252, or that of Excel's "CSV
(Macintosh)" or "CSV (MS-DOS)". Each of these has relatives for Central Europe, Turkey and the Baltic, in
which the same bytes are other letters: Paweł becomes Pawe³, Jiří becomes Jiøí. Statistics cannot tell them
apart in a short list of names. So an encoding is guessed only if each letter is where Western names and Dutch
words have it, and its relatives do not; otherwise the user has to name it.
"""

import codecs
import re
from contextlib import suppress
from typing import Final

from attrs import frozen

from healthmsg.cli.problems import RefusedError

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16, whose mark is the beginning of this one.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Each with the bytes that are no letters in it, or so rare that another encoding is more probable.
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
_WORD: Final = re.compile(r"[^ \t\r\n;,|]*[^\x00-\x7f][^ \t\r\n;,|]*")
# Where a letter or sign may be in a word in lower case, by the letters around it. Anything else is refused:
# č, ć, ę, ė, ď, ř, ű or ā of a related encoding may be meant.
_IN_PLACE: Final = re.compile(
    r"""
      (?<!\d)[éóúô](?!\d)
    | (?<!\d)ö(?!\d) | (?<!\d)\bü(?=[bcdfghjklmnprstvwxyz]) | (?<=[a-zç])ü(?!\d)
    | (?<![aeiou\d])ä(?=[bcdfghjklmnpqrstuvwxzß])
    | (?<=[aeiouäöü])ß(?![aiou])
    | (?<=[aeiouéüö])ë | (?<=[aeou])ï(?=[stnldmrcvz]|e[fkv])  # Zoë, but not Smiltė; Maïté, but not Naďka
    | (?<=[bcdfghijklmnpqrstuvwxyzá])á(?!\d) | \bá(?=[glná])
    | (?<=[bcdfglmnprstv])í | \bí(?=[bcdfgklmnprstv]) | (?<=a)í(?=[alnz]) | (?<=[lr]u)í(?=[sz]) | (?<=[gq]u)í
    | (?<=[ao])î(?=[tns]) | (?<=ch)â(?=t) | \bâ(?=ng)
    | \bç(?=[aeiouöü]) | (?<=[nr])ç(?=[aouã]) | (?<=[ao])ç(?=ã|ao|ade) | (?<=[ei])ç(?=ã|u)
    | (?<=[aeiouáéíóú])ñ(?=[aeiouáéíóú])                     # Muñoz, but not Kamiński
    | è(?=[cdglmnrstv]e\b|che\b|gue|vre|s\b)                 # Hélène, but not Kovačevič
    | (?<=\b[bdhmwz])è(?=[lt]|ze?\b) | (?<=p)è(?=l\b) | (?<=\bh)è\b
    | (?<=qu)ê(?=te) | (?<=cr)ê(?=pe) | (?<=f)ê(?=te) | (?<=g)ê(?=n) | (?<=v)ê(?=q) | (?<=[nu])ê(?=s\b)
    | (?<=[adlnjb])à\b | \bà\b
    | (?<!\d)å(?=[bdghklmnprsv])
    | (?<=[bdfghjklmnprstv])ø(?=[bdfghklmnprstv]) | \bø(?=[bdfgjklmnrstvy]|iv) | (?<=r)ø\b
    | (?<=[bdfghjklmnpsv])æ(?=[rt]) | \bæ(?=r)
    | ã(?=o\b|es?\b) | õ(?=es\b)
    # Signs.
    | (?<=\b[dlo])’(?=[a-zéèêàô]) | (?<=[a-zé])’(?=(?:s|n|tjes?)\b) | (?<![a-zé])’(?=[stnmkr]\b)
    | (?<![\w’])[‘“„](?=[\w‘“]) | (?<=[\w.?!…)])[’”](?!\w)
    | (?<!\w)[–—](?!\w) | (?<=\d)[–—](?=\d)
    | (?<=[\w’”])…(?!\w) | (?<!\w)…(?!\w)
    | (?<![^\W\d_])[€£§©®°•](?![^\W\d_]) | (?<=\d)°(?=[cf]\b)
    | (?<=\bm)[²³]\b | (?<=\b[ckd]m)[²³]\b | (?<![a-z])µ(?=[gml]\b) | (?<![^\W\d_])[½¼¾×](?![^\W\d_])
    | (?<!\w)«(?=[\s\w]) | (?<=[\s\w])»(?!\w)
    | (?<=[\d.:])\u00a0(?=\w) | (?<=[\w.])\u00a0(?=[\d€])
    """,  # noqa: RUF001 - these letters and signs are meant
    re.VERBOSE,
)
# The same for the rare formats, with Dutch words only: their relatives are too similar for more.
_IN_PLACE_OF_RARE: Final = re.compile(
    r"(?<=[bcdfghjklmnopqrstvwxzé])é|\bé(?=é)|(?<=[aeiou])ë|(?<=[aeou])ï(?=[stnldmrcvz])"
    r"|(?<=[bcdfghjklmnprstvwz])[öü](?=[bcdfghjklmnprstvwz])|(?<=n)ç(?=o)|è(?=[lnr]e\b)"
)
_OUT_OF_PLACE: Final = re.compile(
    # A capital after a small letter, one between capitals and small letters, a small one among capitals.
    r"[a-zà-öø-ÿ][À-ÖØ-Þ]|[A-Z][À-ÖØ-Þ][a-z]|[A-Z][à-öø-ÿ][A-Z]|\b[áåèìòùâêîôûãõøæíúñ][a-z]"
)
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
# Hebrew, Arabic, Syriac and others within a Latin word.
_BY_CHANCE: Final = re.compile("[A-Za-z][\u0590-\u07ff]|[\u0590-\u07ff][A-Za-z]")
_FEW: Final = 4
_LETTER: Final = re.compile(r"[^\W\d_]")


@frozen
class Decoded:
    """A text, and the encoding that it was read in."""

    text: str
    encoding: str
    is_guess: bool = False
    """Whether the bytes could mean other letters, too."""


def decode(data: bytes, encoding: str | None = None) -> Decoded:
    """Decode the bytes of a file. `encoding` is one that the user names.

    Raises:
        RefusedError: it is not certain which letters they mean.
    """
    if encoding is not None:
        return Decoded(_decoded_as_named(data, encoding), encoding)
    found = _own_encoding(data)
    text = None
    with suppress(UnicodeDecodeError):
        text = data.decode(found)
    if text is not None and not _is_by_chance(text, found):
        # Where files were joined, there can be several marks.
        return Decoded(text.lstrip("\ufeff"), _NAMES.get(found, found.upper()))
    readings = {old: text for old in _OLD if (text := _western(data, old))} if found == "utf-8" else {}
    if len(readings) == 1:
        ((old, text),) = readings.items()
        return Decoded(text, _NAMES[old], is_guess=True)
    raise RefusedError(
        f"the file is not UTF-8, and which letters its bytes mean is not certain{_where(data)}."
        " Save it as CSV UTF-8, or name its encoding: --encoding cp1252 (Western Europe), cp1250 (Polish,"
        " Czech, Hungarian, Croatian, …), cp1254 (Turkish), cp1257 (Baltic), mac_roman or cp850 (MS-DOS), …"
    )


def _is_by_chance(text: str, found: str) -> bool:
    """Return whether it is UTF-8 only by chance, as two letters of another encoding can be: Jiř, Dvořák."""
    return found == "utf-8" and bool(_BY_CHANCE.search(text)) and len(_NOT_ASCII.findall(text)) <= _FEW


def _western(data: bytes, old: str) -> str | None:
    """Return the text, if it is plausible as Western European text in this encoding."""
    if _OLD[old].search(data):
        return None
    text = data.decode(old)
    words = set(_WORD.findall(text))
    if any(_OUT_OF_PLACE.search(word) for word in words):
        return None
    in_place = _IN_PLACE if old == "cp1252" else _IN_PLACE_OF_RARE
    if not all(in_place.sub("", word.lower()).isascii() for word in words):
        return None
    # An ellipsis may be a letter at the end of a word: Donà in MS-DOS.
    is_certain = any(not word.strip("…").isascii() or not _LETTER.search(word) for word in words)
    return text if is_certain else None


def _where(data: bytes) -> str:
    """Return where the first word is that Windows-1252 may misread."""
    text = data.decode("cp1252", "replace")
    for found in _WORD.finditer(text):
        word = found[0]
        if _OUT_OF_PLACE.search(word) or not _IN_PLACE.sub("", word.lower()).isascii():
            line = text.count("\n", 0, found.start()) + 1
            return f" (first in line {line})"
    return ""


def _own_encoding(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    # The first sign is ASCII: in UTF-16, the byte beside it is zero.
    if len(data) % 2 == 0 and data[:1] == b"\0" != data[1:2]:
        return "utf-16-be"
    if len(data) % 2 == 0 and data[:1] != b"\0" == data[1:2]:
        return "utf-16-le"
    return "utf-8"


def _decoded_as_named(data: bytes, encoding: str) -> str:
    try:
        # In every encoding, a mark is not part of the text.
        return data.decode(encoding).lstrip("\ufeff")
    except LookupError:
        problem = "--encoding: no such encoding is known"
    except UnicodeError:
        problem = "--encoding: the file is not in this encoding"
    raise RefusedError(problem)
