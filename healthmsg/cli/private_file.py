"""Files that are written for the user alone."""

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

from healthmsg.cli.recipients.problems import RefusedError

BOM: Final = codecs.BOM_UTF8
"""What spreadsheets recognise UTF-8 by."""
_OWNER_ONLY: Final = 0o600
_OURS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
# With these, or their wide forms, a spreadsheet takes a cell for a formula. Blanks before them hide nothing;
# with apostrophes before them, what is put in front here can be known from what was there.
_FORMULA: Final = re.compile(r"['\s]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def as_cells(row: Iterable[object]) -> list[object]:
    """Return what is written into a table that a spreadsheet opens: nothing in it is run as a formula.

    Text that would be has an apostrophe before it, which marks text there: take one away to have it back.
    """
    return [f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row]


def create_private(path: Path) -> TextIO:
    """Make a file that only its owner can read, for text as spreadsheets recognise it.

    Raises:
        RefusedError: there is one already, which is never overwritten, or the folder does not let us.
    """
    return os.fdopen(open_private(path), "w", encoding="utf-8-sig", newline="")


def open_private(path: Path) -> int:
    """Make a file that only its owner can read, and return its descriptor.

    Raises:
        RefusedError: there is one already, which is never overwritten, or the folder does not let us.
    """
    try:
        return os.open(path, _OURS, _OWNER_ONLY)
    except FileExistsError:
        problem = f"{path} exists already, and is not overwritten"
    except OSError as error:
        problem = f"{path} cannot be made: {error.strerror}"
    raise RefusedError(problem)
