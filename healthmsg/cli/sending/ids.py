"""Ids of any kind: what is wrong with one, and what their column shows about all of them.

A spreadsheet keeps fifteen digits of a number, and other programs seventeen: what is rounded so leads to
another patient, or several patients' ids become one.
"""

import re
from collections.abc import Sequence
from typing import Final

from attrs import Factory, define

from healthmsg.cli.recipients import Problems
from healthmsg.cli.sending.cells import Rule, has_hidden, is_null, problem_of_value
from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.ids import ChatAddress, encode_segment

USERS: Final = "users/"
_KINDS: Final = "conversations/…, groupchats/…, aux/conversations/…, aux/groupchats/… or users/…"
_KIND: Final = re.compile(r"\A(?:(?:aux/)?(?:conversations|groupchats)|users)/")
_DIACRITIC: Final = (
    "the vendor's own program leaves it out (José is Jose there), so write the id as it was registered;"
    " if that is with the diacritic, --exact-aux-ids sends all as they are"
)
_AS_TEXT: Final = "make that column text there, and export it again from where the ids come from"
_ROUNDED: Final = f"was rounded to something like 1.23E+15 by a spreadsheet: {_AS_TEXT}"
_AS_NUMBER: Final = f"was written as a number, like 4711.0 or 1.234.567, by a spreadsheet: {_AS_TEXT}"
_ENDS_IN_ZEROS: Final = f"ends in zeros after fifteen digits, as spreadsheets round it: {_AS_TEXT}"
_MAY_BE_NUMBER: Final = "may have been written as a number, like 1.234, by a spreadsheet"
_MAY_BE_ROUNDED: Final = "ends in zeros, as spreadsheets round numbers of more than fifteen digits"
_MAY_BE_DATE: Final = "may have been made a date by a spreadsheet"
_IS_NULL: Final = "is a word that programs write where there is no value"
_NULL: Final = frozenset({"nan", "null", "none", "nil", "n/a", "-nan"})
_LONGEST: Final = 1_000
# The digits that a spreadsheet keeps of a number, and those that a number of 64 bits has at most.
_SPREADSHEET: Final = 15
_DOUBLE: Final = 17
# Digits that are zero by chance once in a thousand times.
_BY_CHANCE: Final = 3

_E: Final = r"\s?(?:[eE]|[x×*·]\s?10\s?\^?)\s?"  # noqa: RUF001 - these are meant
# 1.23E+15, in Dutch 1,23E+15; 12.3e15, 1E+15. Not 12E5 or 5E-10, which no program makes of a number.
_SCIENTIFIC: Final = re.compile(rf"[-+−]?(?:\d+[.,٫]\d*{_E}[-+−]?\d+|\d+{_E}\+\d+)")  # noqa: RUF001 - the same
# 1.234.567, 1'234'567, and Indian 12,34,567.
_GROUPS: Final = (
    r"\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:,\d{3}){2,}|\d{1,3}(?:['’]\d{3}){2,}"  # noqa: RUF001 - the same
    r"|\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}"
)
_NUMBER: Final = re.compile(
    rf"[-+−]?(?:(?:{_GROUPS})(?:[.,]\d+)?|\d+[.,٫]0+|\d{{1,3}}(?:[.,'’ ]\d{{3}})+[.,]0+)"  # noqa: RUF001 - the same
)
_PERHAPS_NUMBER: Final = re.compile(r"[1-9]\d{0,2}(?:[.,'’]\d{3}| \d{3}(?: \d{3})*)")  # noqa: RUF001 - the same
_MONTHS: Final = (
    "jan|feb|fév|mrt|mar|mär|mrz|mars|apr|avr|abr|mei|may|mai|maj|mag|jun|juin|giu|haz|jul|juil|lug|tem|aug|aoû"
    "|ago|ağu|sep|sept|set|eyl|okt|oct|ott|out|eki|nov|kas|dec|déc|dez|dic|ara"
)
_DATE: Final = re.compile(
    rf"\d{{1,2}}[-. /](?:{_MONTHS})\.?(?:[-. /]\d{{2,4}})?|(?:{_MONTHS})\.?[-. /]\d{{2,4}}"
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[ T]0?0:00(?::00)?(?:\.0+)?",
    re.IGNORECASE,
)


def own_id(value: str) -> str:
    """Return the id in an address, or the id as it is: there can be slashes in one."""
    return _KIND.sub("", value)


def problem_of_id(value: str) -> str | None:
    """Return what is wrong with an id of any kind."""
    if problem := problem_of_value(value):
        return problem
    own = own_id(value)
    if own != value and (problem := problem_of_value(own)):
        return problem
    if problem := next((problem for is_wrong, problem in _CERTAIN if is_wrong(own)), None):
        return problem
    return "has a character that cannot be seen" if has_hidden(value) else None


_CERTAIN: Final[Sequence[Rule]] = (
    (_SCIENTIFIC.fullmatch, _ROUNDED),
    (_NUMBER.fullmatch, _AS_NUMBER),
    (lambda own: own.casefold() in _NULL, _IS_NULL),
    (
        lambda own: own.startswith(("'", "=")),
        "begins with a sign by which spreadsheets mark text or a formula: take it away",
    ),
    (
        lambda own: len(own) > _LONGEST,
        f"has more than {_LONGEST:,} characters, too many for an id: is a quotation mark missing?",
    ),
)


def doubt_about_id(value: str) -> str | None:
    """Return what may be wrong with an id of any kind."""
    own = own_id(value)
    if is_null(own):
        return _IS_NULL
    if _PERHAPS_NUMBER.fullmatch(own):
        return _MAY_BE_NUMBER
    if _DATE.fullmatch(own):
        return _MAY_BE_DATE
    return None


@define
class LongNumbers:
    """The long numbers among the ids of one column, which show together whether they were rounded.

    A real id of sixteen digits ends in a zero once in ten times, and three of them do so once in a thousand.
    """

    _lines: dict[str, int] = Factory(dict)
    """Of each number, the line where it is first."""

    def add(self, value: str, line: int) -> None:
        """Look at an id."""
        own = own_id(value).lstrip("+-")
        if len(own) > _SPREADSHEET and own.isdecimal():
            self._lines.setdefault(own, line)

    def report(self, name: str, problems: Problems, doubts: Problems) -> None:
        """Say which were rounded, or may have been."""
        for kept in (_SPREADSHEET, _DOUBLE):
            long = [number for number in self._lines if len(number) > kept]
            ending = [number for number in long if not number[kept:].strip("0")]
            is_mixed = len(ending) < len(long)
            zeros = sum(len(number) - kept for number in ending)
            if not is_mixed and zeros >= _BY_CHANCE:
                for number in ending:
                    problems.add(f"{name} {_ENDS_IN_ZEROS}", self._lines[number])
                return
            for number in ending:
                # Beside others that were not rounded, a zero or two are nothing special.
                if not is_mixed or len(number) - kept >= _BY_CHANCE:
                    doubts.add(f"{name} {_MAY_BE_ROUNDED}", self._lines[number])
            if ending:
                return


def problem_of_address(address: str, *, is_exact: bool) -> str | None:
    """Say what is wrong with an address of a chat or user. `is_exact`: a diacritic is meant."""
    try:
        if address.startswith(USERS):
            encode_segment(address.removeprefix(USERS), "the id of a user")
        else:
            ChatAddress.parse(address)
    except AmbiguousAuxIdError:
        return None if is_exact else f"has a diacritic: {_DIACRITIC}"
    except InvalidIdError:
        return f"is no address: {_KINDS} with an id is one"
    return None
