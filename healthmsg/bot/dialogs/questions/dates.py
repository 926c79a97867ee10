"""A question for a date."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import ClassVar, Final

from attrs import field, frozen

from healthmsg.bot.dialogs.questions.base import Given, Invalid, QuestionType, kept_text, unreadable
from healthmsg.bot.dialogs.questions.doubt import is_doubtful_date, number_words, plain, without
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject

_MOST_TEXT: Final = 1_000
_HAS_YEAR: Final = re.compile(r"%[-#]?[YyGcx]")
"""Without one, Python 3.13 warns of what it reads by it."""
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "januari january jan",
            "februari february feb febr",
            "maart march mrt mar",
            "april apr",
            "mei may",
            "juni june jun",
            "juli july jul",
            "augustus august aug",
            "september sep sept",
            "oktober october okt oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
}
_WEEKDAYS: Final = {
    name: number
    for number, names in enumerate(
        (
            "maandag monday ma mon",
            "dinsdag tuesday di tue",
            "woensdag wednesday wo wed",
            "donderdag thursday do thu",
            "vrijdag friday vr fri",
            "zaterdag saturday za sat",
            "zondag sunday zo sun",
        )
    )
    for name in names.split()
}
_FROM_TODAY: Final = {
    "eergisteren": -2,
    "the day before yesterday": -2,
    "gisteren": -1,
    "yesterday": -1,
    "vandaag": 0,
    "today": 0,
    "morgen": 1,
    "tomorrow": 1,
    "overmorgen": 2,
    "the day after tomorrow": 2,
}
_MONTH: Final = f"(?P<name>{'|'.join(sorted(_MONTHS, key=len, reverse=True))})"
_DAY: Final = r"(?P<day>[0-9]{1,2})"
_YEAR: Final = r"(?P<year>[0-9]{4}|[0-9]{2})"
_FORMS: Final = tuple(
    re.compile(rf"(?<![\w./-]){form}(?![\w]|[./-][0-9])")
    for form in (
        r"(?P<year>[0-9]{4})(?P<mark>[-/.])(?P<month>[0-9]{1,2})(?P=mark)(?P<day>[0-9]{1,2})",
        rf"{_DAY}\s?(?P<mark>[-/.])\s?(?P<month>[0-9]{{1,2}})\s?(?P=mark)\s?{_YEAR}",
        rf"{_DAY}(?:ste|de|e|st|nd|rd|th)?(?:\s+of)?[\s-]*{_MONTH}\.?[\s,-]*{_YEAR}",
        rf"{_MONTH}\.?\s+{_DAY}(?:st|nd|rd|th)?,?\s+{_YEAR}",
    )
)
_WEEKDAY: Final = re.compile(
    rf"(?:^|\s)(?P<name>{'|'.join(_WEEKDAYS)})\.?,?\s+(?:de\s+|the\s+|op\s+|on\s+)?$"
)
_TIME_OF_DAY: Final = re.compile(
    r"(?<![\w.,:/-])(?:[0-9]{1,2}[:.][0-9]{2}(?:\s?(?:uur|u|h|am|pm))?|[0-9]{1,2}\s?(?:uur|u|h|am|pm))(?![\w:/-])"
)
_HAS_DIGIT: Final = re.compile("[0-9]")
_FULL_YEAR: Final = 4


@frozen
class DateQuestion(QuestionType[date]):
    """A question for a date, the day first: `31-12-2026`, `31/12/2026`, `31.12.2026`, `31 december 2026`.

    Also `2026-12-31`, months by their Dutch and English names, the day of the week before it if it is the
    right one, words around it, and "morgen" and the like where `Given.today` says which day it is. A year of
    two digits counts where only one century fits between `after` and `before`, which are themselves excluded.

    What stands beside the date must leave no doubt, or it is asked for alone: no negation ("niet op
    1-1-2028"), no alternative or question mark, no comparison ("voor", "na", "vanaf", "tot", "behalve 1 mei
    2028"). Nor may there be another number, in digits or in words, but a time of day ("31-12-2026 om 10:30").

    `format` is for `datetime.strptime`: then nothing else is taken.

    Raises:
        InvalidInputError: no date is possible, or `format` does not say day, month and year.
    """

    kind: ClassVar[str] = "date"

    body: str = field(repr=False)
    after: date | None = field(default=None, repr=False)
    before: date | None = field(default=None, repr=False)
    format: str | None = None

    def __attrs_post_init__(self) -> None:
        for limit in (self.after, self.before):
            if limit is not None and (not isinstance(limit, date) or isinstance(limit, datetime)):
                raise InvalidInputError("after and before must be dates, without a time of day")
        if self.after is not None and self.before is not None and (self.before - self.after).days <= 1:
            raise InvalidInputError("no date is after `after` and before `before`")
        if self.format is not None and not _says_all(self.format):
            raise InvalidInputError("format must have day, month and year, such as '%d-%m-%Y'")

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> date | Invalid:  # noqa: ARG002
        """Return the date."""
        text = _folded(given.said[:_MOST_TEXT])
        if self.format is not None:
            found = _parsed(given.said[:_MOST_TEXT], self.format)
            return self._checked(found, texts) if found is not None else Invalid(texts.date_invalid)
        if (days := _FROM_TODAY.get(text.rstrip(".!"))) is not None and given.today is not None:
            with suppress(OverflowError):
                return self._checked(given.today + timedelta(days=days), texts)
        places = list(_places(text))
        if len({(int(place["day"]), _month_of(place), place["year"]) for place in places}) > 1:
            return Invalid(texts.date_several)
        if not places:
            return Invalid(texts.date_invalid)
        around = plain(without(text, *(place.span() for place in places)))
        if _HAS_DIGIT.search(_TIME_OF_DAY.sub(" ", around)) or number_words(around):
            return Invalid(texts.date_several)
        return Invalid(texts.date_alone) if is_doubtful_date(around) else self._of(places[0], texts)

    def _of(self, place: re.Match[str], texts: Texts) -> date | Invalid:
        year, weekday = place["year"], _WEEKDAY.search(place.string[: place.start()])
        days = list(_dates(year, _month_of(place), int(place["day"])))
        if not days:
            return Invalid(texts.date_invalid)
        possible = [day for day in days if not isinstance(self._checked(day, texts), Invalid)]
        if len(year) < _FULL_YEAR and len(possible) != 1:
            return Invalid(texts.date_year)
        day = (possible or days)[0]
        if weekday is not None and _WEEKDAYS[weekday["name"]] != day.weekday():
            return Invalid(texts.date_weekday)
        return self._checked(day, texts)

    def _checked(self, day: date, texts: Texts) -> date | Invalid:
        if self.after is not None and day <= self.after:
            return Invalid(texts.date_too_early.format(after=self.after.strftime(texts.date_form)))
        if self.before is not None and day >= self.before:
            return Invalid(texts.date_too_late.format(before=self.before.strftime(texts.date_form)))
        return day

    def encode(self, value: date) -> str:
        """Return it as ISO 8601 has it."""
        return value.isoformat()

    def decode(self, document: object) -> date:
        """Return the date."""
        with suppress(ValueError):
            return date.fromisoformat(kept_text(document, self.kind))
        raise unreadable(self.kind)


def _folded(text: str) -> str:
    """Return a text in lower case, with 0 to 9 for the digits of other scripts."""
    letters = (str(unicodedata.decimal(letter, letter)) for letter in text)
    return " ".join("".join(letters).casefold().split())


def _places(text: str) -> Iterator[re.Match[str]]:
    taken: set[int] = set()
    for form in _FORMS:
        for place in form.finditer(text):
            if taken.isdisjoint(range(*place.span())):
                taken.update(range(*place.span()))
                yield place


def _month_of(place: re.Match[str]) -> int:
    parts = place.groupdict()
    return _MONTHS[parts["name"]] if parts.get("name") else int(parts["month"])


def _dates(year: str, month: int, day: int) -> Iterator[date]:
    """Yield the date, or of a year of two digits those of this century and of the one before."""
    for number in (int(year),) if len(year) == _FULL_YEAR else (1900 + int(year), 2000 + int(year)):
        with suppress(ValueError):
            yield date(number, month, day)


def _parsed(text: str, form: str) -> date | None:
    with suppress(ValueError, OverflowError):
        return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no time zone
    return None


def _says_all(form: object) -> bool:
    if not isinstance(form, str) or _HAS_YEAR.search(form.replace("%%", "")) is None:
        return False
    # Two days of which no part is the same: each part must come back.
    with suppress(ValueError, re.error):
        return all(_parsed(day.strftime(form), form) == day for day in (date(2026, 12, 31), date(1987, 2, 3)))
    return False
