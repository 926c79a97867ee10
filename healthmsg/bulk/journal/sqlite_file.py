"""The file of a journal: who may read it, and who sends with it."""

import os
import stat
import sys
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from healthmsg.errors import JournalError, JournalInUseError

_OWNER_ONLY: Final = 0o600
_GROUP_AND_OTHERS: Final = 0o077


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
