"""Reading the file of recipients, whatever program has written it: a table (CSV), or JSON Lines."""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, Final, NoReturn
from unicodedata import normalize

from attrs import Factory, define, field, frozen

from healthmsg.cli.problems import Problem, Problems, RefusedError, system_reason
from healthmsg.cli.recipients.encodings import Decoded, decode

ADDRESSES: Final = {
    "to": "",
    "aux_id": "aux/conversations/",
    "user_id": "users/",
    "groupchat_id": "groupchats/",
}
"""The columns of the recipient, and the start of the address that each stands for."""
BODIES: Final = ("body", "message")
KNOWN: Final = (*ADDRESSES, "files", "key", *BODIES)
# Results can be recipients again.
_OF_RESULTS: Final = "message_id"
_SIMILAR: Final = 0.75
# Beyond this, many programs round a whole number to what 64 bits hold.
_MOST_EXACT: Final = 2**53 - 1
_MOST_DIGITS: Final = 100
_ROUNDED: Final = 'programs round or rewrite these, so write it as text, in quotation marks: "…"'
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# By which Excel names the delimiter, in a line before the header.
_SEPARATOR_LINE: Final = re.compile(r"sep=([,;\t|])(?:\r\n|\r|\n)", re.IGNORECASE)
_BETWEEN_FILES: Final = re.compile("[;|]")
_LONGEST_FIELD: Final = 1 << 30
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_DIGITS: Final = re.compile(r"\d+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Digits and letters in turn, as in 5f3ac9b2e4b0: no two ids have the same shape.
_RANDOM: Final = re.compile(
    r"(?<![A-Za-z\d_-])(?=[A-Za-z\d_-]*(?:\d[A-Za-z]+\d|[A-Za-z]\d+[A-Za-z]))[A-Za-z\d_-]{8,}(?![A-Za-z\d_-])"
)
# Shapes that a line of prose may begin with, too.
_WEAK: Final = re.compile("a|9+")
Cells = list[str]
# A spreadsheet itself is often given in the place of its export.
_SPREADSHEETS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@frozen
class Row:
    """One recipient's fields, by the folded names of their columns."""

    line: int
    """Line of the file where the row begins, from 1."""
    fields: Mapping[str, str] = field(repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)


@define
class Recipients:
    """What was read from a file of recipients."""

    columns: tuple[str, ...]
    """Folded, as `fold_name` does."""
    rows: Sequence[Row]
    header_line: int | None = None
    problems: list[Problem] = Factory(list)
    """Rows that could not be read."""
    empty_rows: int = 0
    """Rows without anything in them, as spreadsheets leave at the end."""
    delimiter: str = ","
    form: str = ""
    """Encoding and format, for the user to compare with the file."""
    is_guess: bool = False
    """Whether its encoding had to be guessed."""


def fold_name(name: str) -> str:
    """Return a column's name in one form, however it is written: `aux_id` for `Aux ID `."""
    return "_".join(normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())


def closest_name(name: str, names: Iterable[str]) -> str | None:
    """Return which of these was probably meant."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=_SIMILAR)), None)


def check_columns(columns: Sequence[str], used: Iterable[str], line: int | None, problems: Problems) -> None:
    """Add what is wrong with the columns. `used` are those of the template.

    Without a column of addresses, the first line may be no header but a patient's: then only what is nearly
    a known name is repeated.
    """
    named = [column for column in columns if column]
    if ADDRESSES.keys().isdisjoint(columns):
        problems.add(f"no column says who it is for: one of {', '.join(ADDRESSES)} is needed", line)
    else:
        for column, times in Counter(named).items():
            if times > 1:
                problems.add(f"the column {column} is there {times} times", line)
    # `tot` and `too` are words, not typos of `to`.
    missing = set(KNOWN) - {"to", *columns}
    for column in set(named) - {*KNOWN, *used, _OF_RESULTS}:
        if meant := closest_name(column, missing):
            problems.add(f"the column {column} is nearly called {meant}: give it that name, or another", line)


def read_json_lines(text: str) -> Recipients:
    """Read one object a line; those that cannot be read are among the problems.

    Raises:
        RefusedError: it is one list of objects.
    """
    if text.lstrip().startswith("["):
        raise RefusedError("one JSON object a line is needed, not a list of them")
    recipients = Recipients((), [], form="JSON Lines")
    rows = []
    columns: dict[str, None] = {}
    # Not by `splitlines`: a text in JSON can have signs that it takes for the end of a line.
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        try:
            row = _row(line, source)
        except ValueError as error:
            recipients.problems.append(Problem(str(error), line))
        else:
            rows.append(row)
            columns.update(dict.fromkeys((*row.fields, "files") if row.files else row.fields))
    recipients.rows, recipients.columns = rows, tuple(columns)
    return recipients


def _row(line: int, source: str) -> Row:
    try:
        document = json.loads(
            # Where files were joined, a byte order mark can be within.
            source.lstrip("\ufeff"),
            strict=False,  # a raw tab within a text stays one
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_int=_whole_number,
        )
    except RecursionError:
        raise ValueError("this is nested too deeply") from None
    except json.JSONDecodeError:
        raise ValueError("this is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("this is not an object: {…} is needed")  # noqa: TRY004 - one kind for all of these
    files = document.pop("files", None)
    return Row(line, {name: _text(name, value) for name, value in document.items()}, _files(files))


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        folded = fold_name(name)
        if folded in found:
            raise ValueError(f"the field {folded} is there twice")
        found[folded] = value
    return found


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _MOST_EXACT:
            raise ValueError(f"the field {name} is a number beyond {_MOST_EXACT:,}: {_ROUNDED}")
        text = str(value)
    elif isinstance(value, float):
        raise ValueError(f"the field {name} is a number with a fraction or an exponent: {_ROUNDED}")  # noqa: TRY004 - as above
    else:
        # How yes and no, or a list, are written in a text, the sender decides.
        raise ValueError(f"the field {name} must be text or a whole number")  # noqa: TRY004 - as above
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"the field {name} has half of a surrogate pair, which is no letter")
    return text


def _files(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise ValueError("the field files must be a list of texts")


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:  # more than Python reads
        return _MOST_EXACT + 1
    return int(digits)


def _no_constant(_: str) -> NoReturn:
    raise ValueError("this is not JSON")


def read_table(text: str) -> Recipients:
    """Read all rows; those that cannot be read are among the problems.

    Raises:
        RefusedError: there is nothing in it but, at most, a header.
    """
    # The limit is the whole process's. Within it, a long field would pass for a wrong quotation mark.
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        return _read_table(text)
    finally:
        csv.field_size_limit(limit)


def _read_table(text: str) -> Recipients:
    named = _SEPARATOR_LINE.match(text)
    delimiter = named[1] if named else _find_delimiter(text)
    lines = _Lines(text, delimiter)
    if named:
        next(lines)
    line, header = next(((line, cells) for line, cells in lines if any(cells)), (None, None))
    if header is None:
        raise RefusedError(*(lines.problems or [Problem("the file is empty")]))
    columns = tuple(map(fold_name, header))
    table = Recipients(columns, [], line, delimiter=delimiter, form=f"separated by {_DELIMITERS[delimiter]}")
    rows = list(_rows(lines, columns, table))
    table.rows = rows
    table.problems += lines.problems
    if not rows and not table.problems:
        raise RefusedError("there is a header in the file, but no recipient")
    return table


class _Lines:
    """The rows of cells, each with the line where it begins."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.problems: list[Problem] = []
        self.source: list[str] = []
        """The lines of the last row, as they are in the file."""
        # A blank after a delimiter is not part of the cell; nor is a quotation mark behind it.
        lines = self._remember(StringIO(text, newline=""))
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)

    def __iter__(self) -> Iterator[tuple[int, Cells]]:
        return self

    def __next__(self) -> tuple[int, Cells]:
        line = self._reader.line_num + 1
        self.source.clear()
        try:
            return line, next(self._reader)
        except csv.Error:
            # After a wrong quotation mark, all that follows is in doubt.
            problem = "a quotation mark is not closed, or stands within a field; nothing after it was read"
        self.problems.append(Problem(problem, line))
        raise StopIteration

    def _remember(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            self.source.append(line)
            yield line


def _find_delimiter(text: str) -> str:
    """Return the delimiter with which the header has most columns of known names, or most columns.

    `csv.Sniffer` looks at the rows, fails with a single column, and takes a doubled quotation mark for the
    end of a text.
    """
    return max(_DELIMITERS, key=lambda delimiter: _rate_header(text, delimiter))


def _rate_header(text: str, delimiter: str) -> tuple[int, int]:
    header = next((cells for _, cells in _Lines(text, delimiter) if any(cells)), [])
    return sum(fold_name(cell) in KNOWN for cell in header), len(header)


def _rows(lines: _Lines, columns: tuple[str, ...], table: Recipients) -> Iterator[Row]:
    width = len(columns)
    unnamed = [position for position, name in enumerate(columns) if not name]
    swallowed = _SwallowedRows(columns, table.delimiter)
    for line, cells in lines:
        if not any(map(str.strip, cells)):
            table.empty_rows += 1
        elif _is_header(cells, columns):
            table.problems.append(Problem("the header is there again: were two files joined?", line))
        elif len(cells) != width:
            problem = f"{len(cells)} fields where the header has {width}"
            table.problems.append(Problem(problem, line))
        else:
            fields = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
            if any(cells[position].strip() for position in unnamed):
                table.problems.append(Problem("there is something in a column without a name", line))
            swallowed.look_at(line, cells, lines.source)
            yield Row(line, fields, _split_files(fields.get("files", "")))
    table.problems += swallowed.problems()


def _is_header(cells: Cells, columns: tuple[str, ...]) -> bool:
    """Return whether a row is a header again, of this or another file."""
    addresses = [cell for cell, column in zip(cells, columns, strict=False) if column in ADDRESSES]
    if not any(_is_name(cell, columns) for cell in addresses):
        return False  # as nearly every row
    same = sum(_folded(cell) == column for cell, column in zip(cells, columns, strict=False) if cell)
    return same > 1 or all(_is_name(cell, columns) for cell in cells if cell.strip())


def _is_name(cell: str, columns: tuple[str, ...]) -> bool:
    name = _folded(cell)
    return bool(name) and (name in columns or name in KNOWN)


def _folded(cell: str) -> str:
    return fold_name(cell.replace("\ufeff", ""))


@frozen
class _SwallowedRows:
    """Finds rows that became part of a text, between a quotation mark in one row and one in another.

    The form of such a file is right: the only sign is that a line of a text looks like a row.
    """

    _columns: tuple[str, ...]
    _delimiter: str
    _shapes: set[str] = field(factory=set)
    """How ids look in this file."""
    _suspects: list[tuple[int, int, Collection[str], bool]] = field(factory=list)

    def look_at(self, line: int, cells: Cells, source: Sequence[str]) -> None:
        """Examine a row, and the lines that it was read from."""
        at = [n for n, name in enumerate(self._columns) if name in ADDRESSES and cells[n].strip()]
        self._shapes.update(_shape(cells[position]) for position in at)
        for number, text in enumerate(source[1:], line + 1):
            parts = text.rstrip("\r\n").split(self._delimiter)
            # A text with the delimiter in it can make the line longer than a row.
            if len(parts) >= len(self._columns):
                found = {_shape(parts[n]) for n, name in enumerate(self._columns) if name in ADDRESSES}
                is_prose = self._is_spaced(text) and not self._is_spaced(source[0])
                self._suspects.append((line, number, found - {""}, is_prose))

    def problems(self) -> Iterator[Problem]:
        """Yield where a text has a row in it, once all rows have shown how ids look."""
        # The next patient's number may have a digit more: 9, and then 10.
        decimals = {
            len(shape) + more for shape in self._shapes if shape.strip("9") == "" for more in (-1, 0, 1)
        }
        known = self._shapes | {"9" * length for length in decimals if length}
        for line, number, found, is_prose in self._suspects:
            if any(shape in known and not (is_prose and _WEAK.fullmatch(shape)) for shape in found):
                problem = (
                    f"a quotation mark that is opened here takes in line {number}, which looks like a row of"
                    " its own: a mark is missing, or there is one too many"
                )
                yield Problem(problem, line)

    def _is_spaced(self, line: str) -> bool:
        """Return whether there is a blank after each delimiter, as after a comma in a sentence."""
        return all(not part or part[0].isspace() for part in line.split(self._delimiter)[1:])


def _shape(cell: str) -> str:
    """Return the shape of an id, which ids of the same kind share."""
    text = cell.strip().strip('"').strip()
    if text.isdecimal():
        return "9" * len(text)
    return _DIGITS.sub("9", _LETTERS.sub("a", _RANDOM.sub("\1", _UUID.sub("\0", text))))


def _split_files(files: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, _BETWEEN_FILES.split(files)) if name) if files else ()


def read_recipients(path: Path, encoding: str | None = None) -> Recipients:
    """Read the recipients, all of them.

    Raises:
        RefusedError: the file cannot be read as a whole. Single rows are among the problems.
    """
    data = _read_bytes(path)
    if data.startswith(_SPREADSHEETS):
        raise RefusedError("the file is a spreadsheet: save it as CSV (UTF-8) first")
    decoded = decode(data, encoding)
    if not decoded.text.strip():
        raise RefusedError("the file is empty")
    _refuse_nul(decoded.text)
    is_json = decoded.text.lstrip()[0] in "{["
    recipients = read_json_lines(decoded.text) if is_json else read_table(decoded.text)
    recipients.form = f"{decoded.encoding}, {recipients.form}"
    recipients.is_guess = decoded.is_guess
    return recipients


def read_text_file(path: Path, encoding: str | None = None) -> Decoded:
    """Read a text, such as that of a template.

    Raises:
        RefusedError: the file cannot be read.
    """
    return decode(_read_bytes(path), encoding)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{path.name} cannot be read: {system_reason(error)}"
    raise RefusedError(problem)


def _refuse_nul(text: str) -> None:
    if "\0" in text:
        problem = "there is a NUL byte: the file is damaged, or no text"
        lines = enumerate(text.split("\n"), 1)
        raise RefusedError(*(Problem(problem, number) for number, line in lines if "\0" in line))
