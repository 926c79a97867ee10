"""A journal in an SQLite file: its lock, its permissions, and whether it is complete."""

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import frozen
from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from healthmsg.clock import SteadyClock
from healthmsg.database import recovery, wal_mark
from healthmsg.database.base import ENGINE_OPTIONS, ask
from healthmsg.database.tables import check_version, make_tables, read_salt, require_tables
from healthmsg.errors import JournalError, JournalGoneError, JournalInUseError

T = TypeVar("T")

PRAGMAS: Final = (
    # One sync a commit, and readers are not kept out.
    "PRAGMA journal_mode = WAL",
    # With NORMAL, a power cut takes the last commits along.
    "PRAGMA synchronous = FULL",
    # On macOS, a sync ends before the disk has it.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    # What is deleted is overwritten: patients' texts do not stay in the file.
    "PRAGMA secure_delete = ON",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 30000",
    # Pages, a quarter of SQLite's own: the less is in the `-wal` file alone, the less can be lost with it.
    "PRAGMA wal_autocheckpoint = 250",
)
_FULL: Final = 2
_OWNER_ONLY: Final = 0o600
_GROUP_AND_OTHERS: Final = 0o077
# Milliseconds. A run that ends does not wait for those who read.
_WAIT_AT_THE_END: Final = 2000
_READER_IN_THE_WAY: Final = (
    "Another program reads the journal and keeps it from being opened: nothing was sent. Try again when it"
    " has ended."
)
_DAMAGED: Final = (
    "The journal cannot be used without its `-wal` file: the file itself was being written when its run was"
    " ended, and is damaged. Nothing was sent."
)
_ADVICE: Final = (
    " The run has stopped, and nothing was sent after that. What was reported before holds. But a new"
    " journal, or an older copy of this one, does not know of it: with that, what was delivered would be sent"
    " again. Put the journal's own files back, or leave out what the results say was delivered or is unknown."
)


class SqliteDatabase:
    """One connection to an SQLite file.

    A whole transaction is done in its thread at one go, since each visit there costs both threads time.
    """

    def __init__(self, path: Path, *, accepts_missing_wal: bool, is_reading: bool) -> None:
        self.salt: bytes = b""
        self.is_shared: bool = False
        self.is_partly_lost: bool = False
        self.is_sender: bool = False
        self._path = path
        self._accepts_missing_wal = accepts_missing_wal
        self._is_reading = is_reading
        self._thread = ThreadPoolExecutor(1, "healthmsg journal")
        self._connection: Connection | None = None
        self._file: SqliteFile | None = None
        """Of one who sends."""
        self._clock = SteadyClock()

    async def start(self) -> None:
        """Connect, and see to the tables."""
        await self._in_thread(self._connect)
        if self._file is None:
            await self.run(require_tables)
        else:
            await self.run_sync(self._file.start)
            self.is_partly_lost = self._file.lost_since is not None
        self.salt = await self.run(read_salt)

    def now(self) -> datetime:
        """Return the time of day by this machine's clock as it was at the opening."""
        return self._clock.moment()

    async def run(self, work: Callable[[Connection], T], *, into_file: bool = False) -> T:
        """Do something in a transaction: all of it, or nothing.

        `into_file` brings it from the `-wal` file into the file, unless a reader keeps that from being done.
        """
        if self._file is None:
            return await self.run_sync(partial(_read, work))
        return await self.run_sync(partial(self._file.run, work, into_file=into_file))

    async def compact(self) -> bool:
        """Rewrite the file without what was deleted; False if a reader prevents the last of it."""
        return self._file is None or await self.run_sync(self._file.compact)

    async def close(self) -> None:
        """Release the connection, after the current transaction, and the lock."""
        try:
            await self._in_thread(self._close)
        finally:
            self._thread.shutdown(wait=False)

    def is_passing(self, error: Exception) -> bool:
        """Return whether the error may pass. Nothing of the transaction was done."""
        original = error.orig if isinstance(error, DBAPIError) else error
        return getattr(original, "sqlite_errorname", "") == "SQLITE_FULL"

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """Do something with the connection. Cancelling the wait for it does not end it."""
        assert self._connection is not None  # noqa: S101 - for mypy: it was started
        return await self._in_thread(partial(work, self._connection))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _connect(self) -> None:
        accepts = self._accepts_missing_wal
        if self._is_reading:
            engine = _reading_engine(self._path.resolve(), accepts_missing_wal=accepts)
        else:
            self._file = SqliteFile.prepare(self._path, accepts_missing_wal=accepts)
            engine = _writing_engine(self._file.path)
        self._connection = engine.connect()

    def _close(self) -> None:
        # What was committed is safe; an error here does not matter.
        if self._connection is not None:
            with suppress(Exception):
                if self._file is not None:
                    self._file.end(self._connection)
            with suppress(Exception):
                self._connection.close()
        if self._file is not None:
            self._file.release()


def _read(work: Callable[[Connection], T], connection: Connection) -> T:
    with connection.begin():
        return work(connection)


def _writing_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), **ENGINE_OPTIONS)
    event.listen(engine, "connect", _or_close(_read_and_write))
    # It takes the lock at once: taking it later can fail. By the driver alone, at a tenth of the cost.
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    _raw(connection).execute("BEGIN IMMEDIATE")


def _reading_engine(path: Path, *, accepts_missing_wal: bool) -> Engine:
    check(path)
    had_wal = wal_mark.has_wal(path)
    # The last to close a `-wal` file brings it into the file and deletes it, which only the next run may do.
    uri = f"{path.as_uri()}?mode={'ro' if had_wal else 'rw'}"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), **ENGINE_OPTIONS)

    def read_only(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        ask(connection, "PRAGMA busy_timeout = 30000")
        ask(connection, "PRAGMA query_only = ON")
        if not (had_wal or accepts_missing_wal):
            wal_mark.require_complete(connection)

    event.listen(engine, "connect", _or_close(read_only))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN") and None)
    return engine


def _or_close(
    check: Callable[[sqlite3.Connection, object], None],
) -> Callable[[sqlite3.Connection, object], None]:
    """Return the check as one that closes what it refuses.

    SQLAlchemy before 2.0.53 leaves it open, and what opens the file next in this process would read what that
    connection saw: without a `-wal` file that was brought since.
    """

    def listener(connection: sqlite3.Connection, record: object) -> None:
        try:
            check(connection, record)
        except BaseException:
            connection.close()
            raise

    return listener


def _read_and_write(connection: Any, _: object) -> None:
    # Only our own BEGINs begin a transaction: Python's leave changes of tables out.
    connection.isolation_level = None
    for pragma in PRAGMAS:
        ask(connection, pragma)
    if ask(connection, "PRAGMA synchronous") != _FULL or ask(connection, "PRAGMA journal_mode") != "wal":
        raise JournalError("SQLite does not promise here that what is written survives a power cut.")


class FileWatch:
    """Compares the files at their places with those that were there when the journal was opened.

    A file that was deleted, renamed or replaced stays open: what is written to it is acknowledged, and gone
    when the run ends. The comparison is by device and inode. Where a system has no inodes, only whether there
    is a file is seen; where open files cannot be replaced (Windows), that is enough.

    A file can also be written to in place, by a copy of itself. On POSIX, size and time of change of what
    SQLite writes are compared with those that were seen after this run's own last write.
    """

    def __init__(self, given: Path, path: Path) -> None:
        self._path = str(path)
        self._lock = f"{path}.lock"
        # What is given may be a symbolic link, which can point elsewhere later.
        self._places = {str(given): "file", self._path: "file", self._lock: "`.lock` file"}
        self._written = {self._path, f"{path}-wal"} if os.name == "posix" else set[str]()
        self._known: dict[str, tuple[int, int]] = {}
        self._states: dict[str, tuple[int, int]] = {}
        self.check_after()

    def add_sidecars(self) -> None:
        """Also watch the files that SQLite has made beside the database."""
        self._places |= {f"{self._path}-{end}": f"`-{end}` file" for end in ("wal", "shm")}
        self.check_after()

    def check(self) -> None:
        """Compare before a transaction.

        Raises:
            JournalGoneError: a file is not what it was.
        """
        _raise(self._find(is_after=False))

    def check_after(self) -> None:
        """Compare after a transaction, before it is acknowledged, and remember what it has written.

        Raises:
            JournalGoneError: a file is not what it was.
        """
        _raise(self._find(is_after=True))

    @property
    def may_be_marked(self) -> bool:
        """Whether nothing else can have written to the open file, wherever that is now."""
        found = self._find(is_after=False)
        return found is None or not found.is_shared

    @property
    def is_lock_gone(self) -> bool:
        """Whether the lock is no longer where others look for it, and the other files are our own."""
        return self._find(is_after=True, with_lock=False) is None

    def _find(self, *, is_after: bool, with_lock: bool = True) -> "_Difference | None":
        for place, name in self._places.items():
            # Without its lock, another sender may have begun.
            is_lock = place == self._lock
            if is_lock and not with_lock:
                continue
            try:
                found = os.stat(place)  # noqa: PTH116 - pathlib's takes three times as long
            except OSError:
                return _Difference(name, "was deleted or moved", is_lock)
            identity, state = (found.st_dev, found.st_ino), (found.st_size, found.st_mtime_ns)
            if self._known.setdefault(place, identity) != identity:
                return _Difference(name, "was replaced by another one", is_lock)
            if is_after:
                self._states[place] = state
            elif place in self._written and self._states[place] != state:
                return _Difference(name, "was written to by another program", True)
        return None


@frozen
class _Difference:
    name: str
    what: str
    is_shared: bool
    """Whether something else may have written, or may be writing, to the file that is open."""


def _raise(found: _Difference | None) -> None:
    if found is not None:
        raise JournalGoneError(f"The journal's {found.name} {found.what} while the run was on.{_ADVICE}")


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
            wal_mark.require_no_orphaned_wal(path)
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
            check_version(connection)
        is_whole = self.lost_since is None
        is_marked = is_whole and self._mark(raw)
        # Of a file that was copied within a checkpoint, the parts are not of one moment.
        if not is_whole and raw.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise JournalError(_DAMAGED)
        with connection.begin():
            make_tables(connection)
            # This process has the lock, so whatever had claims has exited.
            recovery.release_all(connection)
            if self.lost_since is not None:
                recovery.mark_all_in_doubt(connection, self.lost_since)
                wal_mark.accept(raw)
            else:
                wal_mark.advance(raw)
        self._is_whole = True
        if not is_marked:
            self._mark(raw)
        self._watch.add_sidecars()

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
        """Rewrite the file without what was deleted; False if a reader prevents the last of it."""
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
    """Lock the journal against other senders, until released or this process exits. Blocks.

    The lock is on a file beside the journal's, which stays there: SQLite's own locks would keep readers out.

    Raises:
        JournalInUseError: another process has it.
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
