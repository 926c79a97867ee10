"""Reading files so that only what they held when they were given is ever sent whole."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from healthmsg.files.values import FileState, TakenFile
from healthmsg.pipeline.sources import ChangedFileError, Readable

# Bytes at a time.
_CHUNK: Final = 1024 * 1024


class WatchedFile:
    """An open file that raises in place of its end, unless it is and holds what it must.

    `file` is read from where it stands. With a digest, what was read is hashed, and that alone decides: a
    copy that was put back is as good. Without, it must be in the noted state before and after it is read.

    Raises:
        ChangedFileError: it is another file, or was changed.
    """

    def __init__(self, file: IO[bytes], taken: TakenFile, size: int) -> None:
        self._file = file
        self._taken = taken
        self._left = size
        self._hash = sha256() if taken.digest is not None else None
        self._descriptor = descriptor_of(file)
        self._check_state()

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""
        chunk = self._file.read(size)
        if not isinstance(chunk, bytes):  # for the reader to refuse
            return chunk  # type: ignore[unreachable] # what programs give is not checked
        self._left -= len(chunk)
        if self._hash is not None:
            self._hash.update(chunk)
        # If there were fewer or more bytes, the reader says so.
        if not chunk and self._left == 0:
            self._check_state()
            if self._hash is not None and self._hash.digest() != self._taken.digest:
                raise ChangedFileError
        return chunk

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _check_state(self) -> None:
        state = self._taken.state
        if self._hash is not None or state is None or self._descriptor is None:
            return
        if FileState.of(self._descriptor) != state:
            raise ChangedFileError


class Lent:
    """An open file that its owner closes."""

    def __init__(self, file: Readable) -> None:
        self.read: Callable[[int], bytes] = file.read

    def close(self) -> None:
        """Leave it open."""


def open_watched(path: Path, taken: TakenFile, size: int) -> WatchedFile:
    """Open a file that must be the one that was taken. Blocks."""
    file = path.open("rb")
    try:
        return WatchedFile(file, taken, size)
    except BaseException:
        file.close()
        raise


def lend_watched(file: IO[bytes], start: int, taken: TakenFile, size: int) -> Lent:
    """Go to where an open file stood when it was taken. Blocks."""
    file.seek(start)
    return Lent(WatchedFile(file, taken, size))


def digest_of(file: IO[bytes]) -> bytes:
    """Hash what is left to read of a file. Blocks."""
    hashed = sha256()
    while chunk := file.read(_CHUNK):
        hashed.update(chunk)
    return hashed.digest()


def descriptor_of(file: object) -> int | None:
    """Return the descriptor of an open file that has one, without making it have one."""
    # A spooled file is written to the disk when it is asked.
    if hasattr(file, "rollover"):
        return None
    with suppress(OSError, ValueError, AttributeError):
        descriptor: object = file.fileno()  # type: ignore[attr-defined]
        return descriptor if isinstance(descriptor, int) and _is_regular(descriptor) else None
    return None


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
