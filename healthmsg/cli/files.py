"""Names for files that belong to another one."""

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

from healthmsg.bulk.journal import libpq
from healthmsg.bulk.journal.target import Target, text_of
from healthmsg.cli.problems import RefusedError

# Of a name, in nearly every file system.
_MOST_BYTES: Final = 255
# The longest ending that SQLite and the lock add to that of a journal.
_MORE: Final = len("-journal")
_DIGITS: Final = 8


def beside(path: Path, ending: str) -> Path:
    """Return the path in the same folder that is called after this one.

    Of a name that is too long, the start remains, with a few digits that stand for the whole.
    """
    stem = os.fsencode(path.stem)
    room = _MOST_BYTES - len(os.fsencode(ending)) - _MORE
    if len(stem) > room:
        digits = sha256(stem).hexdigest()[:_DIGITS]
        # A letter may be cut in two: its first bytes are left out.
        start = stem[: room - _DIGITS - 1].decode("utf-8", "ignore")
        return path.with_name(f"{start}-{digits}{ending}")
    return path.with_name(f"{path.stem}{ending}")


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


JOURNAL_VARIABLE: Final = "HEALTHMSG_JOURNAL"
"""Says it instead of the command, where others on the machine could see a password."""
HIDDEN: Final = "***"
"""Stands for a password."""
# In a command, for the program and not for the shell: what a shell fills in, others on the machine can see.
_FROM_ENVIRONMENT: Final = f"${JOURNAL_VARIABLE}"
# Of a database: what else stands where the port is may be a password.
_HOST_AND_NAME: Final = re.compile(r"(\[[^\]]*\]|[^:/]*)(:\d*)?(/.*)?")


@frozen
class JournalPlace:
    """A journal, by its file or the URL of its database."""

    target: str | Path = field(repr=False)
    """As the client takes it: with a path, nothing in it is an option."""
    path: Path | None
    """Of a file."""

    @classmethod
    def parse(cls, target: str) -> "JournalPlace":
        """Read what a user gives; `$HEALTHMSG_JOURNAL`, in single quotes, is what the variable says.

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
        options = {
            "keep_bodies": parsed.keep_bodies,
            "accepts_missing_wal": parsed.accepts_missing_wal,
        }
        if any(options.values()):
            return cls(text_of(parsed.path, **options), parsed.path)
        return cls(parsed.path, parsed.path)

    @classmethod
    def beside(cls, recipients: Path) -> "JournalPlace":
        """Return the one that belongs to a file of recipients."""
        path = beside(recipients, ".journal.db")
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
            problem = f"the journal cannot be looked for: {error.strerror}"
        raise RefusedError(problem)

    @property
    def shown(self) -> str:
        """Return it as text that `parse` takes, but without a password."""
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
    def word(self) -> str:
        """Return it as a command names it: without a password, and if possible so that it works as it is."""
        shown = self.shown
        is_of_environment = isinstance(self.target, str) and self.target == os.environ.get(JOURNAL_VARIABLE)
        return _FROM_ENVIRONMENT if HIDDEN in shown and is_of_environment else shown


def require_extra() -> None:
    """See to it that there can be a journal.

    Raises:
        RefusedError: its packages are not installed.
    """
    if missing := [name for name in ("sqlalchemy", "filelock") if find_spec(name) is None]:
        raise RefusedError(
            f"a journal needs {missing[0]}: pip install 'healthmsg[bulk]'. It keeps a run that broke off from"
            " sending twice; --no-journal goes without"
        )
