"""Reading a table: CSV with any of the usual delimiters."""

import csv
import re
from collections.abc import Iterator
from io import StringIO
from typing import Final

from healthmsg.cli.recipients.columns import KNOWN, fold
from healthmsg.cli.recipients.problems import Problem, RefusedError
from healthmsg.cli.recipients.rows import Recipients, Row

_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Excel's own way to say it, in a line before the header.
_SEPARATOR_LINE: Final = re.compile(r"sep=([,;\t|])(?:\r\n|\r|\n)", re.IGNORECASE)
_BETWEEN_FILES: Final = re.compile("[;|]")

Cells = list[str]


def read_table(text: str) -> Recipients:
    """Read all rows; those that cannot be read are among the problems.

    Raises:
        RefusedError: there is nothing in it but, at most, a header.
    """
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
        self._reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[tuple[int, Cells]]:
        return self

    def __next__(self) -> tuple[int, Cells]:
        line = self._reader.line_num + 1
        try:
            return line, next(self._reader)
        except csv.Error:
            # Where a quotation mark is wrong, all that follows is in doubt.
            problem = "a quotation mark is not closed, or stands within a field; nothing after it was read"
        self.problems.append(Problem(problem, line))
        raise StopIteration


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
    for line, cells in lines:
        if not any(map(str.strip, cells)):
            table.empty_rows += 1
        elif len(cells) != width:
            problem = f"{len(cells)} fields where the header has {width}"
            table.problems.append(Problem(problem, line))
        else:
            fields = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
            if any(cells[position].strip() for position in unnamed):
                table.problems.append(Problem("there is something in a column without a name", line))
            yield Row(line, fields, _split(fields.get("files", "")))


def _split(files: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, _BETWEEN_FILES.split(files)) if name) if files else ()
