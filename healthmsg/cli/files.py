"""The files of a command: those it writes, for the user alone, and the journal.

The names of what belongs to a file are made from its own.
"""

import codecs
import os
import re
from collections.abc import Iterable
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TextIO
from urllib.parse import parse_qsl, urlencode

from attrs import field, frozen

from healthmsg.cli.problems import RefusedError, system_reason
from healthmsg.database import target as libpq
from healthmsg.database.target import Target, text_of

# Of a name, in nearly every file system.
_MOST_BYTES: Final = 255
# The longest ending that SQLite and the lock add to that of a journal.
_LONGEST_ENDING: Final = len("-journal")
_DIGITS: Final = 8
BOM: Final = codecs.BOM_UTF8
"""By which spreadsheets recognise UTF-8."""
_OWNER_ONLY: Final = 0o600
_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
# With these, or their wide forms, a spreadsheet takes a cell for a formula. Blanks before them hide nothing;
# with apostrophes before them, what is put in front here can be known from what was there.
_FORMULA: Final = re.compile(r"['\s]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
JOURNAL_VARIABLE: Final = "HEALTHMSG_JOURNAL"
"""Names the journal outside the command, where others on the machine could see a password."""
HIDDEN: Final = "***"
"""Printed in the place of a password."""
# In a command, for the program and not for the shell: what a shell fills in, others on the machine can see.
_FROM_ENVIRONMENT: Final = f"${JOURNAL_VARIABLE}"
# Of a database: what else stands where the port is may be a password.
_HOST_AND_NAME: Final = re.compile(r"(\[[^\]]*\]|[^:/]*)(:\d*)?(/.*)?")


def sibling_path(path: Path, ending: str) -> Path:
    """Return the path in the same folder with this file's name and another ending.

    A name that would be too long is cut, and gets a few digits of a hash of the whole.
    """
    stem = os.fsencode(path.stem)
    room = _MOST_BYTES - len(os.fsencode(ending)) - _LONGEST_ENDING
    if len(stem) > room:
        digits = sha256(stem).hexdigest()[:_DIGITS]
        # A letter may be cut in two: its first bytes are left out.
        start = stem[: room - _DIGITS - 1].decode("utf-8", "ignore")
        return path.with_name(f"{start}-{digits}{ending}")
    return path.with_name(f"{path.stem}{ending}")


def escape_formulas(row: Iterable[object]) -> list[object]:
    """Return a row for a table in which a spreadsheet runs nothing as a formula.

    Text that it would run gets an apostrophe in front, which marks text there: remove one to have it back.
    """
    return [f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row]


def create_private(path: Path) -> TextIO:
    """Create a file that only its owner can read, for text in UTF-8 as spreadsheets recognise it.

    Raises:
        RefusedError: the file exists, and is never overwritten, or it cannot be created.
    """
    return os.fdopen(open_private(path), "w", encoding="utf-8-sig", newline="")


def open_private(path: Path) -> int:
    """Create a file that only its owner can read, and return its descriptor.

    Raises:
        RefusedError: the file exists, and is never overwritten, or it cannot be created.
    """
    try:
        return os.open(path, _NEW_FILE, _OWNER_ONLY)
    except FileExistsError:
        problem = f"{path} exists already, and is not overwritten"
    except OSError as error:
        problem = f"{path} cannot be made: {system_reason(error)}"
    raise RefusedError(problem)


@frozen
class JournalLocation:
    """Where a journal is: its file, or the URL of its database."""

    target: str | Path = field(repr=False)
    """For `Client.send_many`: in a `Path`, nothing is an option."""
    path: Path | None
    """That of a file; `None`: it is a database."""

    @classmethod
    def parse(cls, target: str) -> "JournalLocation":
        """Parse what a user gives; `$HEALTHMSG_JOURNAL`, in single quotes, stands for the variable's value.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
            RefusedError: the variable is not set.
        """
        if target == _FROM_ENVIRONMENT:
            target = os.environ.get(JOURNAL_VARIABLE, "")
            if not target:
                raise RefusedError(f"{JOURNAL_VARIABLE} is not set")
        parsed = Target.parse(target)
        if parsed.path is None:
            return cls(target, None)
        options = {"keep_bodies": parsed.keep_bodies, "accepts_missing_wal": parsed.accepts_missing_wal}
        if any(options.values()):
            return cls(text_of(parsed.path, **options), parsed.path)
        return cls(parsed.path, parsed.path)

    @classmethod
    def for_recipients(cls, recipients: Path) -> "JournalLocation":
        """Return the journal that belongs to a file of recipients."""
        path = sibling_path(recipients, ".journal.db")
        return cls(path, path)

    @property
    def may_exist(self) -> bool:
        """Whether there may be messages in it.

        Raises:
            RefusedError: that cannot be found out.
        """
        if self.path is None:
            return True
        try:
            return self.path.exists()
        except OSError as error:
            problem = f"the journal cannot be looked for: {system_reason(error)}"
        raise RefusedError(problem)

    @property
    def text(self) -> str:
        """The location as text for `parse`, but without a password."""
        if isinstance(self.target, Path):
            return text_of(self.target)
        target = self.target
        if self.path is not None:
            return target
        # Not by the rules for URLs: SQLAlchemy takes a `/` or `#` in a password for a part of it.
        scheme, _, rest = target.partition("://")
        place, _, query = rest.partition("?")
        user, at, host = place.rpartition("@")
        name, _, password = user.partition(":")
        if password:
            name += f":{HIDDEN}"
        if not _HOST_AND_NAME.fullmatch(host):
            return f"{scheme}://…"
        # A password can be among the options, too.
        pairs = [(name, HIDDEN if name in libpq.SECRET else value) for name, value in parse_qsl(query)]
        options = urlencode(pairs, safe="/*")
        return f"{scheme}://{name}{at}{host}{f'?{options}' if options else ''}"

    @property
    def argument(self) -> str:
        """The location for a command, without a password, and if possible such that the command works."""
        text = self.text
        is_from_environment = isinstance(self.target, str) and self.target == os.environ.get(JOURNAL_VARIABLE)
        return _FROM_ENVIRONMENT if HIDDEN in text and is_from_environment else text


def require_journal_packages() -> None:
    """Check that the packages for a journal are installed.

    Raises:
        RefusedError: one is missing.
    """
    if missing := [name for name in ("sqlalchemy", "filelock") if find_spec(name) is None]:
        raise RefusedError(
            f"a journal needs {missing[0]}: pip install 'healthmsg[bulk]'. It keeps a run that broke off from"
            " sending twice; --no-journal goes without"
        )
