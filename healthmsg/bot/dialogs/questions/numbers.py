"""A question for a number."""

import re
import unicodedata
from datetime import date
from itertools import islice
from math import isfinite
from typing import ClassVar, Final, TypeGuard

from attrs import field, frozen

from healthmsg.bot.dialogs.questions.base import Given, Invalid, More, QuestionType, unreadable
from healthmsg.bot.dialogs.questions.doubt import is_doubtful_number, number_words, plain
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject

Number = int | float
Between = tuple[Number | None, Number | None]

# A minus is one at the start or after a blank: in "5-10" it means "to".
_NUMBER: Final = re.compile(
    "(?P<sign>(?<![^\\s(])[-+\u2212\u2013])?(?P<digits>[0-9]+(?:[.,'\u2019][0-9]+)*|(?<!\\w)[.,][0-9]+)"
)
_GROUPED: Final = re.compile("[0-9]{1,3}(?:([.,'\u2019])[0-9]{3})(?:\\1[0-9]{3})*(?:(?!\\1)[.,][0-9]+)?")
_MORE: Final = re.compile(
    r"\b(?:min|minus)\s*[0-9]|[0-9]\s*(?:duizend|miljoen|thousand|million|half)\b", re.IGNORECASE
)
# What may be written to the end of a number: other letters may make it a name, as of the vitamin B12.
_UNITS: Final = re.compile(
    r"(?:[kmc\u00b5\u03bcu]?g|mcg|gram|gr|[mcd]?l|liter|[kcm]?m|mm ?hg|kcal|cal|kj|[mn]mol|bpm|ie|iu"
    r"|x|keer|maal|times|uur|u|h|hours?|min|minuten|minutes|sec|s|dagen|dag|days?|weken|week|weeks|maanden|maand|months?|mnd"
    r"|jaar|jr|years?|yrs?|graden|c|f|st|stuks|tabletten|tablet|tablets|pillen|pil|euro|eur)(?!\w)",
    re.IGNORECASE,
)
_MARKS_AFTER: Final = re.compile("\\s?\\+|[-\u2212\u2013](?!\\w)")
_LONGEST: Final = 15
"""Digits. More of them JSON cannot be sure to keep."""
_MOST_TEXT: Final = 4_000


@frozen
class NumberQuestion(QuestionType[Number]):
    """A question for a number: `7`, `-3`, `38,5`, `38.5`, `1.250`, also with words around it ("7 graden").

    More than one number in the text is no answer, be it in digits or in words ("drie of 4"); nor is a number
    in words alone. A number that can be read in two ways, as `1.250` can, is taken in the way that `between`
    and `whole` allow, if there is one only.

    A number is asked for alone where what stands beside it may make it another one: a negation ("niet 4"), an
    alternative or a doubt ("misschien 4", "4?"), a comparison ("meer dan 4", "minstens 4", "tot 4", "voor 4",
    "<4"), or a letter or a dash right beside it ("B12", "COVID-19") that is no unit ("70kg"). "Ongeveer 4"
    is 4.

    `between` is the lowest and the highest, both included; either may be `None`. A whole number is an `int`;
    with `whole=False` one that is written with decimals is a `float`.

    Raises:
        InvalidInputError: `between` is not two numbers (or `None`), the lower one first.
    """

    kind: ClassVar[str] = "number"

    body: str = field(repr=False)
    between: Between | None = None
    whole: bool = True

    def __attrs_post_init__(self) -> None:
        if self.between is None:
            return
        is_pair = isinstance(self.between, tuple | list) and len(self.between) == 2  # noqa: PLR2004 - two ends
        if not is_pair or not all(end is None or _is_number(end) for end in self.between):
            raise InvalidInputError(
                "between must be two numbers, the lowest and the highest, or None for no end"
            )
        low, high = self.between
        if low is not None and high is not None and low > high:
            raise InvalidInputError("between: the lowest number must come first")

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> Number | Invalid:  # noqa: ARG002
        """Return the number."""
        if _is_more_than_digits(given.typed):
            return Invalid(texts.number_missing)
        written = _only_number(given.said[:_MOST_TEXT], texts)
        if isinstance(written, Invalid):
            return written
        sign, digits = written.group("sign", "digits")
        meant = _readings(digits)
        if sign is not None and sign != "+":
            meant = [-number for number in meant]
        if not meant:
            return Invalid(texts.number_missing)
        fitting = [number for number in meant if self._problem(number, texts) is None]
        if len(fitting) == 1:
            return fitting[0]
        # None fits: what is wrong with the likelier reading, which comes first.
        return (None if fitting else self._problem(meant[0], texts)) or Invalid(texts.number_unclear)

    def read_known(
        self,
        value: object,
        texts: Texts,
        today: date | None = None,
    ) -> Number | Invalid | More:
        """Return a number that was known before: as it is, or read from a text as if it was typed."""
        if not _is_number(value):
            return super().read_known(value, texts, today)
        number = int(value) if self.whole and float(value).is_integer() else value
        return self._problem(number, texts) or number

    def _problem(self, number: Number, texts: Texts) -> Invalid | None:
        if self.whole and isinstance(number, float):
            return Invalid(texts.number_whole)
        low, high = self.between or (None, None)
        is_below, is_above = low is not None and number < low, high is not None and number > high
        if not is_below and not is_above:
            return None
        if low is not None and high is not None:
            return Invalid(texts.number_outside.format(low=_shown(low), high=_shown(high)))
        if low is not None:
            return Invalid(texts.number_too_low.format(low=_shown(low)))
        return Invalid(texts.number_too_high.format(high="" if high is None else _shown(high)))

    def encode(self, value: Number) -> Number:
        """Return it as it is."""
        return value

    def decode(self, document: object) -> Number:
        """Return it as it is."""
        if isinstance(document, int | float) and not isinstance(document, bool):
            return document
        raise unreadable(self.kind)


def _readings(digits: str) -> list[Number]:
    """Return what written digits can mean, the likelier meaning first; two only for such as `1.250`."""
    if sum(map(str.isdigit, digits)) > _LONGEST:
        return []
    marks = re.findall("[^0-9]", digits)
    if not marks:
        return [int(digits)]
    grouped = _GROUPED.fullmatch(digits)
    readings: list[Number] = []
    if grouped is not None:
        group = grouped[1]
        plain = digits.replace(group, "")
        is_whole = plain.isdigit()
        readings.append(int(plain) if is_whole else float(plain.replace(",", ".")))
    # `0,125` has no thousands; `1.250` may have.
    if len(marks) == 1 and marks[0] in ".,":
        decimal = float(digits.replace(",", "."))
        readings = [decimal] if digits[0] in "0.," else [*readings, decimal]
    return readings


def _only_number(said: str, texts: Texts) -> re.Match[str] | Invalid:
    """Return where the one number is that a text has in it, if nothing beside it leaves a doubt."""
    text = plain(_with_usual_digits(said))
    written = list(islice(_NUMBER.finditer(text), 2))
    if not written:
        return Invalid(texts.number_missing)
    if len(written) > 1 or number_words(text):
        return Invalid(texts.number_several)
    if is_doubtful_number(text) or _is_part_of_a_word(written[0]):
        return Invalid(texts.number_alone)
    return written[0]


def _is_part_of_a_word(written: re.Match[str]) -> bool:
    """Return whether there are letters or dashes next to a number that are neither its sign nor its unit."""
    text, start, end = written.string, written.start(), written.end()
    before, after = text[start - 1 : start], text[end : end + 1]
    if before and (before.isalnum() or before in "_-+\u2212\u2013/"):
        return True
    if _MARKS_AFTER.match(text, end) is not None:
        return True
    return (after.isalnum() or after == "_") and _UNITS.match(text, end) is None


def _is_more_than_digits(text: str) -> bool:
    """Return whether there is a number in words beside the digits, or a fraction as one sign, as in `5½`."""
    return _MORE.search(text) is not None or (
        not text.isascii() and any(unicodedata.category(letter) == "No" for letter in text)
    )


def _with_usual_digits(text: str) -> str:
    """Return a text with 0 to 9 for the digits of other scripts. Those set high or low stay."""
    if text.isascii():
        return text
    return "".join(
        letter if letter.isascii() or (digit := unicodedata.decimal(letter, None)) is None else str(digit)
        for letter in text
    )


def _is_number(value: object) -> TypeGuard[Number]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _shown(number: Number) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)
