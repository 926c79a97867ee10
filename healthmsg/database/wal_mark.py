"""The mark in a journal's file that says whether a `-wal` file belongs to it, and which one.

SQLite writes what is committed into `journal.db-wal` first, and into `journal.db` at a checkpoint. After a
kill the newest state is in the former, and a `journal.db` that is moved alone opens without a word, in an
older state. So the file itself says `opened` as long as something may be beside it, and `closed` when all is
in it:

- At opening, `opened` is written and checkpointed before anything else is noted, let alone sent.
- At closing, everything is checkpointed first, then `closed` is written and checkpointed. That changes one
  page, so a kill within it leaves the one or the other.
- Each transaction that changes something also writes a random token and its predecessor. A `-wal` file
  belongs to the file if the token that the file has is in it: either it holds that transaction, or it begins
  with the next. One that is older, or newer than what the file has, or of another journal, does not hold it.

What this cannot see: a file and its `-wal` that were copied together at an earlier moment, or a copy that was
made after a clean end and restored after later runs. Both are whole; that they are old is not in them.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Final

from attrs import frozen

from healthmsg.errors import JournalIncompleteError

_TOKEN_BYTES: Final = 8
_NONE: Final = "0" * 2 * _TOKEN_BYTES
_READ: Final = "SELECT value FROM healthmsg_journal WHERE name = 'wal'"
_HAS_TABLE: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'healthmsg_journal'"
# The state, the moment of opening, the last token but one, and the last: always of the same length, so that a
# change stays within one page.
_INSERT: Final = "INSERT OR IGNORE INTO healthmsg_journal (name, value) VALUES ('wal', ?)"
_OPEN: Final = (
    "UPDATE healthmsg_journal SET value = 'opened ' || ? || ' ' || substr(value, -16) || ' ' || ?"
    " WHERE name = 'wal'"
)
_ADVANCE: Final = (
    "UPDATE healthmsg_journal SET value = {} || substr(value, 7, 27) || substr(value, -16) || ' ' || ?"
    " WHERE name = 'wal'"
)
_WAL_MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
# Clocks differ, and an earlier begin only makes the search for what was sent a longer one.
_MARGIN: Final = timedelta(hours=1)

_REMEDY: Final = (
    " What was noted last, such as messages that were sent, may be missing from this file: nothing was sent."
    " Put the `-wal` file that lay beside the journal when its run ended back beside it, under the same name."
)
_MISSING: Final = (
    f"The journal's `-wal` file is missing: a run with it was not ended in order.{_REMEDY} If there is none"
    " any more, `?accept_missing_wal=1` at the end of the journal's name goes on without: what may have been"
    " sent is looked for in its chat first. Messages that the file does not have at all would be sent again."
)
_ORPHANED_WAL: Final = (
    "The journal is missing, but its `-wal` file is there, with what was noted last: nothing was sent. Put"
    " the journal itself back beside it, or, to begin a new one, keep the `-wal` file elsewhere."
)
_FOREIGN: Final = (
    "The `-wal` file beside the journal does not belong to it: it is of another journal, or of another time"
    f" than this file.{_REMEDY} Keep the other one elsewhere."
)


@frozen
class Mark:
    """What the file itself says."""

    is_open: bool
    opened_at: datetime
    token: str


class _Relation(Enum):
    OWN = "own"
    FOREIGN = "foreign"
    EMPTY = "empty"
    """Nothing was committed to it."""


def wal_of(path: Path) -> Path:
    """Return the name of the `-wal` file of a database."""
    return path.with_name(f"{path.name}-wal")


def has_wal(path: Path) -> bool:
    """Return whether there is a `-wal` file. An empty one is as good as none: reading makes it."""
    wal = wal_of(path)
    return wal.exists() and wal.stat().st_size > 0


def require_no_orphaned_wal(path: Path) -> None:
    """Refuse to make a journal where only the `-wal` file of one is: SQLite would delete that. Blocks.

    Raises:
        JournalIncompleteError: there is one.
    """
    if not path.exists() and has_wal(path):
        raise JournalIncompleteError(_ORPHANED_WAL)


def require_wal(path: Path, *, accepts_missing: bool) -> datetime | None:
    """Refuse a file that lacks its `-wal` file, before SQLite makes a new one. Blocks.

    Return, if its lack is accepted, when what is missing can have begun. Only for one who has the file's
    lock: closing a file releases the locks that the process has on it.

    Raises:
        JournalIncompleteError: there is none, or one that belongs to something else.
    """
    mark = _read_file_alone(path)
    if mark is None:
        # An older version made it, or a kill came before anything was sent. What else is wrong, SQLite says.
        return None
    relation = _relation(wal_of(path), mark.token.encode()) if has_wal(path) else _Relation.EMPTY
    if relation is _Relation.FOREIGN:
        raise JournalIncompleteError(_FOREIGN)
    if relation is _Relation.OWN or not mark.is_open:
        return None
    if not accepts_missing:
        raise JournalIncompleteError(_MISSING)
    return mark.opened_at - _MARGIN


def require_complete(connection: sqlite3.Connection) -> None:
    """Refuse to read a file that had no `-wal` file before it was opened, and should have.

    Raises:
        JournalIncompleteError: it should.
    """
    mark = _mark_in(connection)
    if mark is not None and mark.is_open:
        raise JournalIncompleteError(_MISSING)


def has_tables(connection: sqlite3.Connection) -> bool:
    """Return whether there are tables in which a mark could be."""
    return connection.execute(_HAS_TABLE).fetchone() is not None


def begin(connection: sqlite3.Connection) -> bool:
    """Say in the file that a `-wal` file belongs to it; False if a reader keeps that from being done."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_INSERT, (f"closed {now} {_NONE} {_NONE}",))
    connection.execute(_OPEN, (now, _new_token()))
    connection.execute("COMMIT")
    # Not emptied: from now on there is always something in it.
    return checkpoint(connection, "FULL")


def advance(connection: sqlite3.Connection) -> None:
    """Note within a transaction that it was the last."""
    connection.execute(_ADVANCE.format("substr(value, 1, 6)"), (_new_token(),))


def accept(connection: sqlite3.Connection) -> None:
    """Note within a transaction that it is the first after one that is missing."""
    connection.execute(_ADVANCE.format("'accept'"), (_new_token(),))


def end(connection: sqlite3.Connection) -> bool:
    """Bring everything into the file, and say so there; False if a reader keeps that from being done."""
    if not checkpoint(connection, "FULL"):
        return False
    if has_tables(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_ADVANCE.format("'closed'"), (_new_token(),))
        connection.execute("COMMIT")
    return checkpoint(connection, "TRUNCATE")


def checkpoint(connection: sqlite3.Connection, kind: str) -> bool:
    """Bring what is in the `-wal` file into the file; False if a reader keeps that from being done."""
    is_busy, *_ = connection.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
    return not is_busy


def _new_token() -> str:
    return token_hex(_TOKEN_BYTES)


def _read_file_alone(path: Path) -> Mark | None:
    """Read what is in the file itself, without its `-wal` file."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
        try:
            return _mark_in(connection)
        except (sqlite3.Error, ValueError):
            return None


def _mark_in(connection: sqlite3.Connection) -> Mark | None:
    if not has_tables(connection):
        return None
    row = connection.execute(_READ).fetchone()
    if row is None:
        return None
    state, opened_at, _, token = str(row[0]).split(" ")
    return Mark(state != "closed", datetime.fromisoformat(opened_at), token)


def _relation(wal: Path, token: bytes) -> _Relation:
    """Return how a `-wal` file relates to the file that has this token as its last."""
    of_acceptance = re.compile(rb"accept .{25} " + token)
    is_found = is_pending = is_committed = False
    with wal.open("rb") as file:
        for frame in _frames(file):
            if of_acceptance.search(frame):
                # Until it is committed, what should be in doubt is not.
                is_pending = True
            elif token in frame:
                is_found = True
            if any(frame[4:8]):  # the size of the database: the last of a transaction
                is_committed, is_found = True, is_found or is_pending
        if is_found:
            return _Relation.OWN
        if is_committed:
            return _Relation.FOREIGN
        # It was being begun from the start: all that it had before must be in the file.
        file.seek(0)
        rest = file.read()
    has_later = re.search(token + rb" [0-9a-f]{16}", rest) is not None
    return _Relation.OWN if token in rest and not has_later else _Relation.EMPTY


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """Read what counts of a `-wal` file: not what it has from before it was last begun from the start."""
    header = file.read(_WAL_HEADER)
    if len(header) < _WAL_HEADER or header[:4] not in _WAL_MAGIC:
        return
    length, salts = _FRAME_HEADER + int.from_bytes(header[8:12], "big"), header[16:24]
    while len(frame := file.read(length)) == length and frame[8:16] == salts:
        yield frame
