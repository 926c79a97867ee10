"""When the words around a number or a date may make it mean something else: then it is asked for again."""

import re
import unicodedata
from typing import Final

from healthmsg.bot.dialogs.questions.matching import HEDGES

_ONES: Final = (
    "nul zero twee two drie three vier four vijf five zes six zeven seven acht eight negen nine tien ten"
    " elf eleven twaalf twelve dertien thirteen veertien fourteen vijftien fifteen zestien sixteen zeventien"
    " seventeen achttien eighteen negentien nineteen one half halve anderhalf anderhalve dozijn dozen"
)
_TENS: Final = (
    "twintig twenty dertig thirty veertig forty vijftig fifty zestig sixty zeventig seventy tachtig eighty"
    " negentig ninety honderd hundred duizend thousand"
)
_PART: Final = "|".join(sorted(("een", *_ONES.split(), *_TENS.split()), key=len, reverse=True))
# A word that is made of them, such as "drieentwintig". "Een" alone is most often no number, but an article.
_WORD: Final = re.compile(rf"\b(?!een\b|ten ?(?:min|hoog)ste)(?:{_PART})(?:(?:en)?(?:{_PART}))*\b")
_ONE: Final = re.compile(
    "\\b(?:\u00e9\u00e9n|e\u00e9n|\u00e9en)\\b|\\been(?!\\w|\\s+\\w)|\\been\\s+(?:a|en|tot)\\b"
)
_NEGATED: Final = re.compile(r"\w+n't\b|\b(?:nauwelijks|hardly|soms|sometimes)\b")
_COMPARES: Final = re.compile(
    r"\b(?:(?:minder|meer|lager|hoger|kleiner|groter|korter|langer|eerder|later|vroeger|ouder|jonger) dan"
    r"|(?:less|more|lower|higher|smaller|greater|fewer|shorter|longer|earlier|later|sooner|older|younger)"
    r" than"
    r"|minstens|hoogstens|maximaal|minimaal|max|maximum|minimum|ten ?minste|ten ?hoogste|at least|at most"
    r"|up to|under|below|above|onder|boven|beneden|ruim|bijna|almost|nearly|vanaf|tot|t/m|tussen|between"
    r"|until|till|uiterlijk|no later|behoudens|uitgezonderd|exclusief)\b|[<>\u2264\u2265]"
)
_OF_DATES: Final = re.compile(r"\b(?:voor|na|before|after|from|by|past)\b")
# In front of the number alone: "4 voor de pijn" is 4.
_BEFORE_A_NUMBER: Final = re.compile(
    r"\b(?:(?:voor|na|over|before|after|past|from|by)\s+(?:(?:de|het|the|een|a)\s+)?|min\.\s*)[-+]?[0-9.,]"
)


def plain(text: str) -> str:
    """Return a text as it is looked through: in lower case, with letters composed."""
    return unicodedata.normalize("NFC", text.casefold()).replace("\u2019", "'")


def without(text: str, *places: tuple[int, int]) -> str:
    """Return a text with a mark for each of some places, which themselves say nothing."""
    for start, end in sorted(places, reverse=True):
        text = f"{text[:start]} \ufffc {text[end:]}"
    return text


def number_words(text: str) -> bool:
    """Return whether there is a number in words in a `plain` text, Dutch or English; "een" is an article."""
    return _ONE.search(text) is not None or _WORD.search(_bare(text)) is not None


def is_doubtful(text: str) -> bool:
    """Return whether a `plain` text has a negation, an alternative, a comparison or a question mark in it."""
    bare = _bare(text)
    return any(pattern.search(bare) is not None for pattern in (HEDGES, _NEGATED, _COMPARES))


def is_doubtful_date(text: str) -> bool:
    """Return the same of what stands beside a date: it may be before or after it that is meant."""
    return is_doubtful(text) or _OF_DATES.search(_bare(text)) is not None


def is_doubtful_number(text: str) -> bool:
    """Return the same of a text with its number: it may be before or after it that is meant."""
    return is_doubtful(text) or _BEFORE_A_NUMBER.search(_bare(text)) is not None


def _bare(text: str) -> str:
    """Return it without marks on letters."""
    if text.isascii():
        return text
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
