"""The file of a journal: who may read it, who sends with it, and whether it is still there, and whole."""

import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import Connection

from healthmsg.bulk.journal import migrations, missing_wal, statements, wal_mark
from healthmsg.bulk.journal.file_watch import FileWatch
from healthmsg.errors import JournalError, JournalInUseError

T = TypeVar("T")

_OWNER_ONLY: Final = 0o600
_GROUP_AND_OTHERS: Final = 0o077
_READER_IN_THE_WAY: Final = (
    "Another program reads the journal and keeps it from being opened: nothing was sent. Try again when it"
    " has ended."
)
# Milliseconds. A run that ends does not wait for those who read.
_WAIT_AT_THE_END: Final = 2000


class SqliteFile:
    """The file that this process sends with. All but the making of it is done in the connection's thread.

    Each transaction is done between two looks at the files: nothing is acknowledged, and so nothing sent,
    that is not in the file at its place.
    """

    def __init__(self, given: Path, path: Path, held: FileLock, *, accepts_missing_wal: bool) -> None:
        self._lock = held
        self.path: Path = path
        """Of the file itself, whatever link was given."""
        self.lost_since: datetime | None = wal_mark.require_wal(path, accepts_missing=accepts_missing_wal)
        """If part of the state is lost, and that was accepted: when what was lost can have begun."""
        self._is_whole = self.lost_since is None
        self._watch = FileWatch(given, path)
        self._kept: sqlite3.Connection | None = None

    @classmethod
    def prepare(cls, given: Path, *, accepts_missing_wal: bool) -> "SqliteFile":
        """Lock the file, make it if it is not there, and look whether it is whole. Blocks.

        Raises:
            JournalInUseError: another process sends with it.
            JournalIncompleteError: its `-wal` file is missing, or is another one's.
            JournalError: it cannot be used; says why.
        """
        given, path = given.absolute(), given.resolve()
        if path.exists():
            check(path)
        held = lock(path)
        try:
            wal_mark.require_not_left_behind(path)
            make(path)
            check(path)
            return cls(given, path, held, accepts_missing_wal=accepts_missing_wal)
        except BaseException:
            held.release()
            raise

    def start(self, connection: Connection) -> None:
        """Mark the file as open, and see to the tables."""
        raw = _raw(connection)
        with connection.begin():
            migrations.refuse_newer(connection)
        is_whole = self.lost_since is None
        # Before an older version's tables are changed, with some of that in the `-wal` file.
        is_marked = is_whole and self._mark(raw)
        if not is_whole:
            missing_wal.require_sound(raw)
        with connection.begin():
            migrations.bring_up_to_date(connection)
            # We have the file to ourselves: what had a claim is no more.
            connection.execute(statements.RELEASE_EVERY_CLAIM)
            if self.lost_since is not None:
                missing_wal.doubt_all(connection, self.lost_since)
                wal_mark.accept(raw)
            else:
                wal_mark.advance(raw)
        self._is_whole = True
        if not is_marked:
            self._mark(raw)
        self._watch.add_those_beside()

    def run(self, work: Callable[[Connection], T], connection: Connection, *, into_file: bool = False) -> T:
        """Do something in a transaction: all of it, or nothing.

        `into_file` brings it from the `-wal` file into the file, unless a reader keeps that from being done.

        Raises:
            JournalGoneError: it is not in the file at its place.
        """
        self._watch.check()
        raw = _raw(connection)
        with self._transaction(connection):
            before = raw.total_changes
            result = work(connection)
            if raw.total_changes != before:
                wal_mark.advance(raw)
        if into_file:
            wal_mark.checkpoint(raw, "PASSIVE")
        self._watch.check_after()
        return result

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        """Do what is within in a transaction. What it leaves in the files is our own, also if it fails.

        On a full disk, some of it is in the `-wal` file, where it does not count.
        """
        has_begun = False
        try:
            with connection.begin():
                has_begun = True
                yield
        except BaseException:
            # Only then: until it begins, others can write.
            if has_begun:
                self._watch.check_after()
            raise

    def compact(self, connection: Connection) -> bool:
        """Write the file anew, without what was deleted; False if a reader prevents the last of it."""
        self._watch.check()
        raw = _raw(connection)
        try:
            raw.execute("VACUUM")
        except sqlite3.Error as error:
            # As above. In any other case, something else may have been writing.
            if error.sqlite_errorname == "SQLITE_FULL":
                self._watch.check_after()
            raise
        is_complete = wal_mark.checkpoint(raw, "TRUNCATE")
        # Else a kill would leave a `-wal` file that is empty, as if it were missing.
        with connection.begin():
            wal_mark.advance(raw)
        self._watch.check_after()
        return is_complete

    def end(self, connection: Connection) -> None:
        """Bring everything into the file, and say so in it, as far as that can be done."""
        if not (self._is_whole and self._watch.may_be_marked):
            if self._watch.is_lock_gone:
                self._keep_wal()
            return
        raw = _raw(connection)
        raw.execute(f"PRAGMA busy_timeout = {_WAIT_AT_THE_END}")
        # What was committed is safe without, in the two files.
        with suppress(sqlite3.Error):
            wal_mark.end(raw)

    def release(self) -> None:
        """Let others send with it."""
        if self._kept is not None:
            self._kept.close()
        self._lock.release()

    def _keep_wal(self) -> None:
        """Keep the `-wal` file for the next run, or for one that has begun already.

        Closing the last connection deletes it, unless that one can only read. Without the lock, the file
        cannot learn that it is not needed any more.
        """
        with suppress(sqlite3.Error):
            uri = f"{self.path.as_uri()}?mode=ro"
            self._kept = sqlite3.connect(uri, uri=True, check_same_thread=False)
            wal_mark.has_tables(self._kept)

    def _mark(self, raw: sqlite3.Connection) -> bool:
        """Mark the file as open; False if there are no tables yet in which that could be said."""
        if not wal_mark.has_tables(raw):
            return False
        if not wal_mark.begin(raw):
            raise JournalError(_READER_IN_THE_WAY)
        self._watch.check_after()
        return True


def _raw(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)  # noqa: S101 - for mypy
    return found


def lock(path: Path) -> FileLock:
    """Keep other senders out, until the lock is released or this process is no more. Blocks.

    The lock is on a file beside the journal's, which stays there: SQLite's own locks would keep readers out.

    Raises:
        JournalInUseError: somebody else has it.
        JournalError: the folder does not let us.
    """
    if not path.parent.is_dir():
        # filelock would make one, for everybody to look into.
        raise JournalError("The journal could not be made: its folder does not exist.")
    # Not counted by thread: it is taken in one and released in another.
    held = FileLock(f"{path}.lock", mode=_OWNER_ONLY, thread_local=False, blocking=False)
    try:
        held.acquire()
    except Timeout:
        problem: JournalError = JournalInUseError(
            "Another process sends with this journal. Wait until it has ended; `healthmsg journal show` can"
            " be used meanwhile."
        )
    except (OSError, RuntimeError, NotImplementedError) as error:
        problem = JournalError(f"The journal could not be locked: {_reason(error)}.")
    else:
        return held
    raise problem


def make(path: Path) -> None:
    """Make the file, for its owner alone, if it is not there. Blocks.

    Before SQLite touches it: SQLite gives the files beside it the same mode.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError:
        return
    except OSError as error:
        problem = JournalError(f"The journal could not be made: {_reason(error)}.")
    else:
        os.close(descriptor)
        _sync_folder(path.parent)
        return
    raise problem


def check(path: Path) -> None:
    """Refuse what is no file, what others can read, and what we cannot write. Blocks.

    Raises:
        JournalError: says what is wrong with it.
    """
    try:
        found = path.stat()
    except OSError as error:
        problem = _reason(error)
    else:
        problem = _what_is_wrong(path, found)
    if problem:
        raise JournalError(f"The journal cannot be used: {problem}.")


def _what_is_wrong(path: Path, found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a file"
    if os.name == "posix" and found.st_mode & _GROUP_AND_OTHERS:
        return "others can read the file, and patients' messages are in it; `chmod 600` it"
    if not os.access(path, os.R_OK | os.W_OK) or not found.st_mode & stat.S_IWUSR:
        return "the file is read-only"
    return ""


def _sync_folder(folder: Path) -> None:
    """Make the file's name survive a power cut, not only what is in it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """Say why, without the file's name."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
