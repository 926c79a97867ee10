"""Cells without a value, and ids that a program has changed.

A cell can have what a program wrote where there was no value, or made of it. What is certain is refused.
What may also be a name (Null, Nan and None are), or be meant, is a doubt: it is shown before anything is
sent.

A spreadsheet keeps fifteen digits of a number, and other programs seventeen: an id that is rounded leads to
another patient, or the ids of several patients become one.
"""

import html
import re
from collections.abc import Callable, Sequence
from typing import Final

from attrs import Factory, define

from healthmsg.cli.problems import Problems
from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError
from healthmsg.ids import USERS, ChatAddress, encode_segment

# What a spreadsheet shows instead of a value, in whatever language: #REF!, #NAAM?, #OVERLOPEN!, #DIV/0!.
_FAILED: Final = re.compile(r"#(?:#+|[¡¿]?[^\W\d_][\w/ .]{1,24}[!?]|div/0)", re.IGNORECASE)
# The same without a sign at the end, in Excel and its translations.
_FAILED_WORDS: Final = frozenset(
    {
        *("#n/a", "#n/b", "#nv", "#n/d", "#nd", "#na", "#yok", "#i/t", "#saknas", "#puuttuu", "#hiányzik"),
        *("#н/д", "#н/п", "#n/disp", "#n/disponible", "#err", "#error", "#fout", "#fehler", "#ref", "#value"),
        *("#getting_data", "#gegevens_ophalen", "#daten_abrufen", "#wird_geladen", "#busy", "#bezig"),
        *("#obtention_donnees", "#obtention_données", "#obteniendo_datos", "#estrazione_dati", "#null"),
        *("#pobieranie_danych", "#veri_al\u0131n\u0131yor", "#veri_alma", "#a_obter_dados", "#obtendo_dados"),
    }
)
# Err:502 of LibreOffice, in its languages.
_NUMBERED: Final = re.compile(
    r"(?:err|error|erreur|fout|fehler|errore|erro|błąd|hata|chyba|hiba|virhe|fejl|feil|fel|gre[šs]ka|eroare"
    r"|ошибка|помилка)\s?:\s?\d{3}",
    re.IGNORECASE,
)
# Google Sheets, while it computes.
_LOADING: Final = re.compile(
    r"(?:loading|laden|wordt geladen|wird geladen|lädt|chargement|chargement en cours|cargando|caricamento"
    r"|caricamento in corso|ładowanie|wczytywanie|yükleniyor|carregando|a carregar|laster|läser in|indlæser"
    r"|načítání|betöltés|загрузка)\s?(?:\.{3}|…)",
    re.IGNORECASE,
)
_FORMULA: Final = re.compile(r"""[=+@]\s*(?:["'].*["']|[A-Z$]{1,4}\$?\d+\b.*|[A-Z][\w.]*\(.*)""", re.DOTALL)
_TEXT_MARK: Final = re.compile(r"'(?:[=+@\d]|-\d)")
_LONGEST: Final = 100_000
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_CODE_POINT: Final = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|<U\+[0-9A-F]{4}>")
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0"
)
_HIDDEN: Final = re.compile(f"[{_INVISIBLE}]")
_ONLY_HIDDEN: Final = re.compile(rf"[\s{_INVISIBLE}]+")
_NOTHING: Final = frozenset(
    {r"\n", "<na>", "<null>", "<none>", "<nil>", "(null)", "[null]", "{null}", "(none)", "(blank)", "(leeg)"}
    | {"1.#qnan", "-1.#ind", "nan.0", "[object object]", "undefined", "#n/a n/a"}
)
"""Not the name of any person."""
_NOT_A_TIME: Final = "NaT"
"""Of pandas; in lower case it is a word."""
_NULL: Final = frozenset({"nan", "null", "none", "nil", "na", "n/a", "n/b", "nvt", "n.v.t.", "-nan"})
"""What programs and people write where there is nothing; some of it is also a surname."""
_IS_NULL: Final = "is a word that programs write where there is no value"
_LONGEST_NULL: Final = 40
_DATE_OF_NOTHING: Final = re.compile(
    r"(?:0000-00-00|1900-01-0[01]|1899-12-3[01]|1970-01-01|0001-01-01|0?[01][-/.]0?1[-/.](?:1900|1970|0001)"
    r"|3[01][-/.]12[-/.]1899)(?:[ T]00:00.*)?"
)
_SCIENTIFIC: Final = re.compile(r"[-+]?\d(?:[.,]\d+)?[eE]\+\d{1,3}")
_TURNED_AROUND: Final = re.compile("[\u202d\u202e]")
_LOST_LETTER: Final = re.compile(r"[^\W\d_]\?[^\W\d_]")
_LINK: Final = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_ENCODED: Final = re.compile(r"(?:=[0-9A-F]{2}){2}|(?:%[0-9A-F]{2}){2}")
# 't Hart, 's-Gravenhage.
_DUTCH_APOSTROPHE: Final = re.compile(r"['’][a-zA-Z](?:[\s'’-]|$)")  # noqa: RUF001 - it is written so, too
_QUOTES: Final = ('""', "''", "“”", "‘’", "„”", "„“", "«»")  # noqa: RUF001 - these are meant


def problem_of_value(value: str) -> str | None:
    """Return what is certainly wrong with a value of any column."""
    if not value or (len(value) <= _LONGEST and not _SUSPICIOUS.search(value)):
        return None  # nearly every value
    return _first(_CERTAIN, value)


# Every value that is certainly wrong matches this.
_SUSPICIOUS: Final = re.compile(
    r"[#=+@'&\\<(\[{]|[^\x20-\x7e\r\n]|\.{3}\Z|:\s?\d{3}\Z|\A(?:nat|nan\.0|undefined)\Z", re.IGNORECASE
)


def _has_failed(value: str) -> bool:
    if value[0] == "#":
        return bool(_FAILED.fullmatch(value)) or value.casefold() in _FAILED_WORDS
    return bool(_NUMBERED.fullmatch(value) or _LOADING.fullmatch(value))


def _has_entity(value: str) -> bool:
    return "&" in value and any(html.unescape(found) != found for found in _ENTITY.findall(value))


Rule = tuple[Callable[[str], object], str]

_CERTAIN: Final[Sequence[Rule]] = (
    (
        lambda value: len(value) > _LONGEST,
        f"has more than {_LONGEST:,} characters: is a quotation mark missing?",
    ),
    (_has_failed, "has what a spreadsheet shows when a formula failed, or is not ready"),
    (
        lambda value: value[0] in "=+@" and _FORMULA.fullmatch(value),
        "has a formula instead of what it results in",
    ),
    (_TEXT_MARK.match, "begins with the apostrophe by which spreadsheets mark text: take it away"),
    (
        lambda value: value == _NOT_A_TIME or value.casefold() in _NOTHING,
        "has what programs write where there is no value",
    ),
    (_CONTROL.search, "has a control character"),
    (
        lambda value: "\ufffd" in value,
        "has a letter that was lost when the file was read or saved in a wrong encoding",
    ),
    (_ONLY_HIDDEN.fullmatch, "has nothing that can be seen"),
    (_has_entity, "has a letter as HTML writes it, such as &#39; or &amp;: it would be sent like that"),
    (_CODE_POINT.search, r"has a letter as programs write it, such as \u00eb: it would be sent like that"),
)


def is_null(value: str) -> bool:
    """Return whether all its words mean no value: `nan`, `None None`."""
    if len(value) > _LONGEST_NULL:
        return False
    words = value.casefold().split()
    return bool(words) and all(word in _NULL for word in words)


def has_hidden(value: str) -> bool:
    """Return whether it has an invisible character."""
    return not value.isprintable() or (not value.isascii() and bool(_HIDDEN.search(value)))


# Encodings in which UTF-8 is often misread.
_MISREAD_AS: Final = (
    *("cp1252", "latin-1", "mac_roman", "cp850", "cp437", "cp1250", "iso8859_2", "cp1254", "cp1251", "cp852"),
)
_RUN: Final = re.compile(r"[^\x00-\x7f]+")
_PLAUSIBLE: Final = re.compile(
    # Latin letters, and the signs that word processors make; or all of another script.
    r"[\u00a0-\u017f\u0218-\u021b\u2013-\u2026\u20ac\u1e9e]+|[\u0400-\u045f]{2,}|[\u0386-\u03ce]{2,}"
    r"|[\u0600-\u06ff]{2,}|[\U0001f300-\U0001faff\ufe0f\u2600-\u27bf]+"
)


def is_misread(text: str) -> bool:
    """Return whether it has UTF-8 that was read in another encoding: Zo\u00c3\u00ab."""
    if text.isascii():
        return False
    return any(_is_misread(run) for run in set(_RUN.findall(text)) if len(run) > 1)


def _is_misread(run: str) -> bool:
    for encoding in _MISREAD_AS:
        try:
            read = run.encode(encoding).decode()
        except UnicodeError:
            continue
        if _PLAUSIBLE.fullmatch(read):
            return True
    return False


def doubt_about_text(value: str) -> str | None:
    """Return what may be wrong with a text, or a value within a text."""
    return _first(_OF_TEXTS, value)


def doubt_about_field(value: str) -> str | None:
    """Return what may be wrong with a value for a field of the template."""
    if value.isascii() and value.isalpha() and not is_null(value):
        return None  # most names
    return _first(_OF_FIELDS, value)


def _first(rules: Sequence[Rule], value: str) -> str | None:
    return next((problem for is_wrong, problem in rules if is_wrong(value)), None)


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] + value[-1] in _QUOTES


_OF_TEXTS: Final[Sequence[Rule]] = (
    (is_misread, "looks as if it was read in a wrong encoding, as Zo\u00c3\u00ab is for Zo\u00eb"),
    (_TURNED_AROUND.search, "has a mark that turns the direction of letters around"),
)
_OF_FIELDS: Final[Sequence[Rule]] = (
    (is_null, _IS_NULL),
    (lambda value: value.isascii() and not any(map(str.isalnum, value)), "has neither a letter nor a digit"),
    (_DATE_OF_NOTHING.fullmatch, "is the date that programs write where there is none"),
    (_SCIENTIFIC.fullmatch, "is a number as a spreadsheet shortens it, like 1.23E+15"),
    (
        lambda value: _LOST_LETTER.search(_LINK.sub("", value)),
        "has a question mark within a word, where a letter may have been lost",
    ),
    (lambda value: _ENCODED.search(_LINK.sub("", value)), "has letters as addresses or e-mails encode them"),
    (_is_quoted, "stands in quotation marks, which would be sent"),
    (
        lambda value: value[0] == "'" and not _DUTCH_APOSTROPHE.match(value),
        "begins with an apostrophe, by which spreadsheets mark text",
    ),
    *_OF_TEXTS,
)


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
_NULL_IDS: Final = frozenset({"nan", "null", "none", "nil", "n/a", "-nan"})
_LONGEST_ID: Final = 1_000
# Digits that a spreadsheet keeps of a number, and most digits of a floating-point number.
_SPREADSHEET: Final = 15
_DOUBLE: Final = 17
# So many digits are zero by chance once in a thousand times.
_BY_CHANCE: Final = 3

_E: Final = r"\s?(?:[eE]|[x×*·]\s?10\s?\^?)\s?"  # noqa: RUF001 - these are meant
# 1.23E+15, in Dutch 1,23E+15; 12.3e15, 1E+15. Not 12E5 or 5E-10, which no program makes of a number.
_ROUNDED_ID: Final = re.compile(rf"[-+−]?(?:\d+[.,٫]\d*{_E}[-+−]?\d+|\d+{_E}\+\d+)")  # noqa: RUF001 - the same
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
    """Return the id in an address, or an id as it is: it can have slashes."""
    return _KIND.sub("", value)


def problem_of_id(value: str) -> str | None:
    """Return what is wrong with an id of any kind."""
    if problem := problem_of_value(value):
        return problem
    own = own_id(value)
    if own != value and (problem := problem_of_value(own)):
        return problem
    if problem := _first(_ID_RULES, own):
        return problem
    return "has a character that cannot be seen" if has_hidden(value) else None


_ID_RULES: Final[Sequence[Rule]] = (
    (_ROUNDED_ID.fullmatch, _ROUNDED),
    (_NUMBER.fullmatch, _AS_NUMBER),
    (lambda own: own.casefold() in _NULL_IDS, _IS_NULL),
    (
        lambda own: own.startswith(("'", "=")),
        "begins with a sign by which spreadsheets mark text or a formula: take it away",
    ),
    (
        lambda own: len(own) > _LONGEST_ID,
        f"has more than {_LONGEST_ID:,} characters, too many for an id: is a quotation mark missing?",
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
    """The long numbers among the ids of one column, which together show whether they were rounded.

    A real id of sixteen digits ends in a zero once in ten times, and three of them do so once in a thousand.
    """

    _lines: dict[str, int] = Factory(dict)
    """The first line of each number."""

    def add(self, value: str, line: int) -> None:
        """Add an id, if it is a long number."""
        own = own_id(value).lstrip("+-")
        if len(own) > _SPREADSHEET and own.isdecimal():
            self._lines.setdefault(own, line)

    def report(self, name: str, problems: Problems, doubts: Problems) -> None:
        """Add the numbers that were rounded, or may have been."""
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
                # Among others that were not rounded, one or two zeros mean nothing.
                if not is_mixed or len(number) - kept >= _BY_CHANCE:
                    doubts.add(f"{name} {_MAY_BE_ROUNDED}", self._lines[number])
            if ending:
                return


def problem_of_address(address: str, *, is_exact: bool) -> str | None:
    """Return what is wrong with the address of a chat or user. `is_exact`: a diacritic is meant."""
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
