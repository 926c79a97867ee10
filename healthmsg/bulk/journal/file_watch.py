"""Whether a journal's files are still those that are open."""

import os
from pathlib import Path
from typing import Final

from attrs import frozen

from healthmsg.errors import JournalGoneError

_ADVICE: Final = (
    " The run has stopped, and nothing was sent after that. What was reported before holds. But a new"
    " journal, or an older copy of this one, does not know of it: with that, what was delivered would be sent"
    " again. Put the journal's own files back, or leave out what the results say was delivered or is unknown."
)


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

    def add_those_beside(self) -> None:
        """Look after what SQLite has made beside the file, too."""
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
