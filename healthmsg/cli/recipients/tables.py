"""Reading a table: CSV with any of the usual delimiters."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Final

from attrs import field, frozen

from healthmsg.cli.recipients.columns import ADDRESSES, KNOWN, fold
from healthmsg.cli.recipients.problems import Problem, RefusedError
from healthmsg.cli.recipients.rows import Recipients, Row

_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Excel's own way to say it, in a line before the header.
_SEPARATOR_LINE: Final = re.compile(r"sep=([,;\t|])(?:\r\n|\r|\n)", re.IGNORECASE)
_BETWEEN_FILES: Final = re.compile("[;|]")
_LONGEST_FIELD: Final = 1 << 30
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_DIGITS: Final = re.compile(r"\d+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Digits and letters in turn, as in 5f3ac9b2e4b0: no two ids look the same.
_RANDOM: Final = re.compile(
    r"(?<![A-Za-z\d_-])(?=[A-Za-z\d_-]*(?:\d[A-Za-z]+\d|[A-Za-z]\d+[A-Za-z]))[A-Za-z\d_-]{8,}(?![A-Za-z\d_-])"
)
# What a line of prose may begin with, too.
_WEAK: Final = re.compile("a|9+")

Cells = list[str]


def read_table(text: str) -> Recipients:
    """Read all rows; those that cannot be read are among the problems.

    Raises:
        RefusedError: there is nothing in it but, at most, a header.
    """
    with _fields_of_any_length():
        return _read(text)


def _read(text: str) -> Recipients:
    told = _SEPARATOR_LINE.match(text)
    delimiter = told[1] if told else _delimiter_of(text)
    lines = _Lines(text, delimiter)
    if told:
        next(lines)
    line, header = next(((line, cells) for line, cells in lines if any(cells)), (None, None))
    if header is None:
        raise RefusedError(*(lines.problems or [Problem("the file is empty")]))
    columns = tuple(map(fold, header))
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
        self._source = _Kept(StringIO(text, newline=""))
        # A blank after a delimiter is not part of the cell; nor is a quotation mark behind it.
        self._reader = csv.reader(self._source, delimiter=delimiter, strict=True, skipinitialspace=True)

    def __iter__(self) -> Iterator[tuple[int, Cells]]:
        return self

    def __next__(self) -> tuple[int, Cells]:
        line = self._reader.line_num + 1
        self._source.read.clear()
        try:
            return line, next(self._reader)
        except csv.Error:
            # Where a quotation mark is wrong, all that follows is in doubt.
            problem = "a quotation mark is not closed, or stands within a field; nothing after it was read"
        self.problems.append(Problem(problem, line))
        raise StopIteration

    @property
    def written(self) -> Sequence[str]:
        """The lines of the last row, as they stand in the file."""
        return self._source.read


class _Kept:
    """Lines, of which those that were read last are kept."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.read: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.read.append(line)
        return line


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Within, a long field is not taken for a wrong quotation mark; the limit is the whole process's."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter_of(text: str) -> str:
    """Give the delimiter under which the header makes most sense.

    The standard library's sniffer looks at the rows, where it stumbles over a single column, and takes a
    quotation mark written twice for the end of a text.
    """
    return max(_DELIMITERS, key=lambda delimiter: _sense_of_header(text, delimiter))


def _sense_of_header(text: str, delimiter: str) -> tuple[int, int]:
    header = next((cells for _, cells in _Lines(text, delimiter) if any(cells)), [])
    return sum(fold(cell) in KNOWN for cell in header), len(header)


def _rows(lines: _Lines, columns: tuple[str, ...], table: Recipients) -> Iterator[Row]:
    width = len(columns)
    unnamed = [position for position, name in enumerate(columns) if not name]
    swallowed = _Swallowed(columns, table.delimiter)
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
            swallowed.look_at(line, cells, lines.written)
            yield Row(line, fields, _split(fields.get("files", "")))
    table.problems += swallowed.problems()


def _is_header(cells: Cells, columns: tuple[str, ...]) -> bool:
    """Return whether a row is a header again, be it that of another file."""
    addresses = [cell for cell, column in zip(cells, columns, strict=False) if column in ADDRESSES]
    if not any(_is_name(cell, columns) for cell in addresses):
        return False  # as nearly every row
    same = sum(_folded(cell) == column for cell, column in zip(cells, columns, strict=False) if cell)
    return same > 1 or all(_is_name(cell, columns) for cell in cells if cell.strip())


def _is_name(cell: str, columns: tuple[str, ...]) -> bool:
    name = _folded(cell)
    return bool(name) and (name in columns or name in KNOWN)


def _folded(cell: str) -> str:
    return fold(cell.replace("\ufeff", ""))


@frozen
class _Swallowed:
    """Finds rows that a quotation mark took in, which was opened in one row and closed in another.

    The file's form is right then: only that what should be a text looks like another row gives it away.
    """

    _columns: tuple[str, ...]
    _delimiter: str
    _shapes: set[str] = field(factory=set)
    """How ids look in this file."""
    _suspects: list[tuple[int, int, Collection[str], bool]] = field(factory=list)

    def look_at(self, line: int, cells: Cells, written: Sequence[str]) -> None:
        """Look at a row and at the lines that it was made of."""
        at = [n for n, name in enumerate(self._columns) if name in ADDRESSES and cells[n].strip()]
        self._shapes.update(_shape(cells[position]) for position in at)
        for number, text in enumerate(written[1:], line + 1):
            parts = text.rstrip("\r\n").split(self._delimiter)
            # A text with the delimiter in it can make the line longer than a row.
            if len(parts) >= len(self._columns):
                found = {_shape(parts[n]) for n, name in enumerate(self._columns) if name in ADDRESSES}
                is_prose = self._is_spaced(text) and not self._is_spaced(written[0])
                self._suspects.append((line, number, found - {""}, is_prose))

    def problems(self) -> Iterator[Problem]:
        """Say where there is a row within a text, now that it is known how ids look."""
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

    def _is_spaced(self, written: str) -> bool:
        """Return whether there is a blank after each delimiter, as after a comma in a sentence."""
        return all(not part or part[0].isspace() for part in written.split(self._delimiter)[1:])


def _shape(cell: str) -> str:
    """Return what ids of the same kind have in common."""
    text = cell.strip().strip('"').strip()
    if text.isdecimal():
        return "9" * len(text)
    return _DIGITS.sub("9", _LETTERS.sub("a", _RANDOM.sub("\1", _UUID.sub("\0", text))))


def _split(files: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, _BETWEEN_FILES.split(files)) if name) if files else ()
