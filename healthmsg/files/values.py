"""A file to upload, and what was noted of it when it was given."""

import os
from collections.abc import AsyncIterable
from typing import IO, Final

from attrs import field, frozen

# Elsewhere, `st_ctime` is when the file was created.
_HAS_TIME_OF_CHANGE: Final = os.name == "posix"
_SECOND: Final = 1_000_000_000
# Nanoseconds. FAT stamps every second second, older network shares and file systems whole seconds.
_COARSEST_STAMP: Final = 2 * _SECOND
# Nanoseconds. Systems whose clock for stamps ticks stamp at least that often (Linux each 1 to 10 ms, Windows
# each 16 ms), and their stamps are not whole hundredths of a second.
TICK: Final = 20_000_000
_HUNDREDTH: Final = 10_000_000


@frozen
class UploadFile:
    """A file to upload: where its bytes come from, and how it is to be called.

    `source` is a path, bytes, an open binary file, or an async iterable of bytes. An open file is sent from
    where it stands, and is not closed; leave it alone meanwhile. One that cannot seek, such as a pipe, and an
    async iterable are read only once: their upload is not repeated once it has read from them. An async
    iterable is closed (`aclose`) however the upload ends.

    What is sent is what the file held when it was given: when `upload` is called, or when `send_many` or
    `upload_many` takes the message from its iterable. A file at a path, or an open one, that was changed,
    replaced or deleted since is refused, never sent: `InvalidFileError`, or, once the call has begun,
    `UploadFileError`; the service gets no complete call then. So give each message a file of its own, or its
    bytes, and leave the file alone until the message has its result. Runs without a journal read files of up
    to 4 MiB (together at most 32 MiB at a time) when they take them, and send what they have read, whatever
    becomes of the file. With a journal, what is in a file decides, by its SHA-256: of larger files it is also
    read for that when it is given.

    `name` is what the reader of the message sees; it defaults to the path's or the open file's, and must be
    given for all else. `content_type` defaults to what the name's extension stands for. `size`, in bytes, is
    for what is read only once: where it is known, `Content-Length` is sent.
    """

    source: str | os.PathLike[str] | bytes | IO[bytes] | AsyncIterable[bytes] = field(repr=False)
    name: str | None = field(default=None, repr=False)
    content_type: str | None = None
    size: int | None = field(default=None, kw_only=True)


FileToUpload = str | os.PathLike[str] | IO[bytes] | UploadFile
"""A path or an open binary file, or a file with a name of its own."""


@frozen
class FileState:
    """Which file it is, and when it was last changed. Two that are equal are one file that nothing changed.

    Not seen is what is not stamped: writing through a memory map, and, of a file on a share whose clock is
    more than two seconds behind, a second change within one tick.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """When its content, name or permissions were changed, which no program can set; else 0."""

    @classmethod
    def of(cls, descriptor: int) -> "FileState":
        """Look at an open file. Blocks."""
        found = os.fstat(descriptor)
        changed = found.st_ctime_ns if _HAS_TIME_OF_CHANGE else 0
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, changed)

    def age(self, now: int) -> int:
        """Return the nanoseconds since the last change, by the clock that `now` is from."""
        return now - max(self.modified_ns, self.changed_ns)

    def is_settled(self, now: int) -> bool:
        """Tell whether any later change must make another state, whatever the file system."""
        return self._is_stamped and self.age(now) > _COARSEST_STAMP

    @property
    def is_stamped_finely(self) -> bool:
        """Whether a change `TICK` nanoseconds later must make another state."""
        return self._is_stamped and bool(self.modified_ns % _HUNDREDTH and self.changed_ns % _HUNDREDTH)

    @property
    def _is_stamped(self) -> bool:
        # Some network shares number no files.
        return self.inode != 0 and self.changed_ns != 0


@frozen
class TakenFile(UploadFile):
    """A file of a message that was taken: what it held then is all that may be sent."""

    problem: str | None = field(default=None, kw_only=True)
    """Why it cannot be uploaded."""
    content: bytes | None = field(default=None, repr=False, kw_only=True)
    """All of it, if it was read."""
    digest: bytes | None = field(default=None, repr=False, kw_only=True)
    """What it must hash to."""
    state: FileState | None = field(default=None, repr=False, kw_only=True)
    """What it must be where there is no digest: nothing can prove more than that."""
    start: int | None = field(default=None, kw_only=True)
    """Where an open file stood."""
