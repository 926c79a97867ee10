"""Which of several options a typed text means."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from attrs import field, frozen

from healthmsg.bot.dialogs.questions.text import compiled

MOST_TEXT: Final = 1_000
"""Characters. A longer text names no option."""
_MOST_MATCHES: Final = 50
"""Of one option."""
_AROUND: Final = " \t\r\n.!,;:()\"'*_\u201c\u201d\u2018\u2019`"
_STOPS: Final = re.compile(r"[.,;:!]+(?=\s|$)")
_NUMBER: Final = re.compile(r"(?:(?:optie|option|nummer|number|nr)\.? ?)?([0-9]{1,3})")
HEDGES: Final = re.compile(
    r"\b(?:niet|geen|nooit|nee|neen|behalve|zonder|maar|misschien|of|not|no|never|don'?t|except|without"
    r"|but|maybe|perhaps|or)\b|\?"
)
"""With one of these beside an option's name the user may mean the opposite, or two of them."""


@frozen
class Words:
    """By what an option is known in a typed text."""

    name: str = field(repr=False)
    label: str = field(repr=False)
    exact: frozenset[str] = field(repr=False)
    """Folded: label, name and aliases."""
    pattern: re.Pattern[str] | None = field(repr=False)

    @classmethod
    def of(
        cls, name: str, label: str, aliases: Iterable[str], pattern: str | re.Pattern[str] | None
    ) -> "Words":
        """Return those of an option. A spelling of which nothing is left when it is folded is left out."""
        exact = frozenset(filter(None, (folded(one) for one in (label, *aliases, name))))
        return cls(name, folded(label), exact, None if pattern is None else compiled(pattern))


@frozen
class _Found:
    start: int
    end: int
    name: str = field(repr=False)


def folded(text: str) -> str:
    """Return a text as it is compared: without marks on letters, without case and punctuation around it."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(_STOPS.sub("", plain.casefold()).split()).strip(_AROUND)


def named_exactly(text: str, options: Sequence[Words]) -> str | None:
    """Return the name of the option that a text is: its label, its name, an alias or its number, from 1."""
    wanted = folded(text)
    matches = [words for words in options if wanted in words.exact]
    if len(matches) > 1:
        matches = [words for words in matches if words.label == wanted]
    if matches:
        return matches[0].name
    number = _NUMBER.fullmatch(wanted)
    # Of "2 dagen" and "3 dagen", "2" is not the second.
    if any(spelling[0].isdigit() for words in options for spelling in words.exact):
        return None
    if number is not None and 1 <= int(number[1]) <= len(options):
        return options[int(number[1]) - 1].name
    return None


def named_within(text: str, options: Sequence[Words]) -> set[str]:
    """Return the names of the options that a text has in it, by a word or a pattern; the longest match wins.

    One that lies within a longer match of another option does not count: "donkerrood" is not "rood".
    """
    wanted = folded(text)
    found = [one for words in options for one in islice(_all_found(words, text, wanted), _MOST_MATCHES)]
    kept = [
        one
        for one in found
        if not any(
            other.start <= one.start
            and one.end <= other.end
            and other.end - other.start > one.end - one.start
            for other in found
        )
    ]
    names = {one.name for one in kept}
    if not names or not _is_hedged(wanted, kept):
        return names
    # It may mean another one than it names: the user is asked which.
    return {words.name for words in options}


def _all_found(words: Words, text: str, wanted: str) -> Iterable[_Found]:
    for spelling in words.exact:
        for place in re.finditer(rf"(?<!\w){re.escape(spelling)}(?!\w)", wanted):
            yield _Found(place.start(), place.end(), words.name)
    if words.pattern is not None:
        # In the folded text, so that places can be compared; one with marks in it finds them in the text.
        places = [*islice(words.pattern.finditer(wanted), _MOST_MATCHES)] or [
            *islice(words.pattern.finditer(text), _MOST_MATCHES)
        ]
        for place in places:
            if place.end() > place.start():
                yield _Found(place.start(), place.end(), words.name)


def _is_hedged(wanted: str, kept: Sequence[_Found]) -> bool:
    return any(
        not any(one.start <= hedge.start() and hedge.end() <= one.end for one in kept)
        for hedge in HEDGES.finditer(wanted)
    )
