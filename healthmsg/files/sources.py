"""What can be uploaded, and what a file held when it was given."""

import asyncio
import os
import stat
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from attrs import define, field, frozen

from healthmsg.transport.multipart import ChangedFileError, Readable

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
    """Which file it is, and when it was last changed. Equal states mean one file that was not changed.

    Two changes do not show: writing through a memory map, and, on a share whose clock is more than two
    seconds behind, a second change within one tick.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """When its content, name or permissions were changed, which no program can set; else 0."""

    @classmethod
    def of(cls, descriptor: int) -> "FileState":
        """Return the state of an open file. Blocks."""
        found = os.fstat(descriptor)
        changed = found.st_ctime_ns if _HAS_TIME_OF_CHANGE else 0
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, changed)

    def age(self, now: int) -> int:
        """Return the nanoseconds since the last change, by the clock that `now` is from."""
        return now - max(self.modified_ns, self.changed_ns)

    def is_settled(self, now: int) -> bool:
        """Return whether any later change must show in the state, whatever the file system."""
        return self._is_stamped and self.age(now) > _COARSEST_STAMP

    @property
    def is_stamped_finely(self) -> bool:
        """Whether a change `TICK` nanoseconds later must show in the state."""
        return self._is_stamped and bool(self.modified_ns % _HUNDREDTH and self.changed_ns % _HUNDREDTH)

    @property
    def _is_stamped(self) -> bool:
        # Some network shares number no files.
        return self.inode != 0 and self.changed_ns != 0


@frozen
class TakenFile(UploadFile):
    """A file as it was when its message was taken: only what it held then may be sent."""

    problem: str | None = field(default=None, kw_only=True)
    """Why it cannot be uploaded."""
    content: bytes | None = field(default=None, repr=False, kw_only=True)
    """All of it, if it was read."""
    digest: bytes | None = field(default=None, repr=False, kw_only=True)
    """What it must hash to."""
    state: FileState | None = field(default=None, repr=False, kw_only=True)
    """What it must be if there is no digest."""
    start: int | None = field(default=None, kw_only=True)
    """Where an open file stood."""


CHANGED: Final = (
    "it was changed or replaced after it was given: give each message a file of its own, or its bytes"
)
_UNREADABLE: Final = "it cannot be read"
_MOST_DIGESTS: Final = 1_000
_MIB: Final = 1024 * 1024

in_use: Final[dict[int, object]] = {}
"""Open files and async iterables that are being uploaded, by their ids. Two uploads that read from one would
each get only a part of it."""


@define
class FileSnapshots:
    """Takes files, each of them as it is now. Blocks.

    Files of up to `hold_up_to` bytes are read. Of all others the state is noted, which is proof enough unless
    they were changed just now. Those are hashed if they have up to `digest_up_to` bytes, or where stamps are
    coarse; for larger ones, the next tick is waited for. `digest_all`: hash every file, since another process
    may send it. `holds_up_others`: this is done in the event loop; then a large open file that has no stamps,
    such as a `BytesIO`, is trusted.
    """

    hold_up_to: int = 0
    digest_up_to: int = 16 * _MIB
    digest_all: bool = False
    holds_up_others: bool = False
    _digests: OrderedDict[FileState, bytes] = field(factory=OrderedDict, init=False)
    """Of files that many messages have in common."""

    def take(self, files: Iterable[FileToUpload]) -> tuple[UploadFile, ...]:
        """Note what the files hold. A problem with one is noted, too, and raised when it is uploaded."""
        return tuple(map(self._taken, files))

    def _taken(self, file: FileToUpload) -> UploadFile:
        upload = file if isinstance(file, UploadFile) else UploadFile(file)
        if isinstance(upload, TakenFile):
            return upload
        try:
            return self._noted(upload)
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            return _as_taken(upload, problem=reason or _UNREADABLE)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - an open file may be any object of the program's
            return _as_taken(upload, problem=f"{_UNREADABLE} ({type(error).__name__})")

    def _noted(self, upload: UploadFile) -> UploadFile:
        source = upload.source
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            check_path(path)
            with path.open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                return self._noted_open(upload, opened, None, size)
        if isinstance(source, bytes | AsyncIterable) or not hasattr(source, "read") or id(source) in in_use:
            return upload
        check_readable(source)
        if not source.seekable():
            return upload
        start, size = room_in(source)
        try:
            return self._noted_open(upload, source, start, size)
        finally:
            source.seek(start)

    def _noted_open(self, upload: UploadFile, file: IO[bytes], start: int | None, size: int) -> TakenFile:
        descriptor = descriptor_of(file)
        state = FileState.of(descriptor) if descriptor is not None else None
        content = digest = None
        if size <= self.hold_up_to:
            content = _all_of(file, size)
            digest = sha256(content).digest()
        elif self.digest_all or not self._is_proof(state, size):
            digest = self._digest_of(file, state)
        if descriptor is not None and FileState.of(descriptor) != state:
            raise ValueError("it was changed while it was looked at: give it when it is complete")
        return _as_taken(upload, state=state, content=content, digest=digest, start=start)

    def _is_proof(self, state: FileState | None, size: int) -> bool:
        """Return whether a further change must show in the state.

        For a large file, it waits for the next tick rather than read it.
        """
        if state is None:
            return self.holds_up_others and size > self.digest_up_to
        now = time.time_ns()
        if state.is_settled(now):
            return True
        age = state.age(now)
        if size <= self.digest_up_to or age < 0 or not state.is_stamped_finely:
            return False
        time.sleep(max(0, TICK - age) / 1e9)
        return True

    def _digest_of(self, file: IO[bytes], state: FileState | None) -> bytes:
        if state is None or file.tell() or not state.is_settled(time.time_ns()):
            return digest_of(file)
        digest = self._digests.pop(state, None) or digest_of(file)
        self._digests[state] = digest
        if len(self._digests) > _MOST_DIGESTS:
            self._digests.popitem(last=False)
        return digest


_IN_THE_EVENT_LOOP: Final = FileSnapshots(digest_up_to=_MIB, holds_up_others=True)


def take_now(files: Iterable[FileToUpload]) -> tuple[UploadFile, ...]:
    """Return files as they are now. In the event loop, it reads little: up to 1 MiB of those just changed."""
    return _IN_THE_EVENT_LOOP.take(files)


def check_path(path: Path) -> None:
    """Refuse a path that is no regular file.

    Raises:
        ValueError: it is not a regular file.
        OSError: there is none.
    """
    if "\0" in str(path):  # versions of Python word it differently
        raise ValueError("no file has a null character in its name")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for its writer
        raise ValueError("it is not a regular file")


def check_readable(file: IO[bytes]) -> None:
    """Refuse an open file that yields no bytes.

    Raises:
        TypeError: it yields text.
        ValueError: it is closed, or open for writing.
    """
    nothing: object = file.read(0)
    if not isinstance(nothing, bytes):
        raise TypeError(f"it yields {type(nothing).__name__} where bytes are needed: open it in mode 'rb'")


def room_in(file: IO[bytes]) -> tuple[int, int]:
    """Return where an open file stands, and how many bytes follow.

    Raises:
        ValueError: there are none.
    """
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    if size <= 0:
        raise ValueError("it has nothing left to read")
    return start, size


def _all_of(file: IO[bytes], size: int) -> bytes:
    pieces: list[bytes] = []
    while piece := file.read(size + 1):
        pieces.append(piece)
    content = b"".join(pieces)
    if len(content) != size:
        raise ValueError("it was changed while it was looked at: give it when it is complete")
    return content


def _as_taken(  # noqa: PLR0913 - by keyword
    upload: UploadFile,
    *,
    problem: str | None = None,
    state: FileState | None = None,
    content: bytes | None = None,
    digest: bytes | None = None,
    start: int | None = None,
) -> TakenFile:
    return TakenFile(
        upload.source,
        upload.name,
        upload.content_type,
        size=upload.size,
        problem=problem,
        state=state,
        content=content,
        digest=digest,
        start=start,
    )


# Bytes at a time.
_CHUNK: Final = 1024 * 1024


class WatchedFile:
    """An open file that raises `ChangedFileError` at its end if it is not what was taken.

    It is read from where it stands. If there is a digest, only that counts: a copy that was put back is as
    good. Otherwise it must be in the noted state before and after it is read.
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
        if not isinstance(chunk, bytes):  # which the reader refuses
            return chunk  # type: ignore[unreachable] # a program's own file may return anything
        self._left -= len(chunk)
        if self._hash is not None:
            self._hash.update(chunk)
        # With fewer or more bytes, the reader raises an error of its own.
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
        """Do nothing."""


def open_watched(path: Path, taken: TakenFile, size: int) -> WatchedFile:
    """Return the open file at a path, watched. Blocks."""
    file = path.open("rb")
    try:
        return WatchedFile(file, taken, size)
    except BaseException:
        file.close()
        raise


def lend_watched(file: IO[bytes], start: int, taken: TakenFile, size: int) -> Lent:
    """Return an open file of the program's, watched, at the place where it stood at first. Blocks."""
    file.seek(start)
    return Lent(WatchedFile(file, taken, size))


def digest_of(file: IO[bytes]) -> bytes:
    """Return the hash of what is left to read of a file. Blocks."""
    hashed = sha256()
    while chunk := file.read(_CHUNK):
        hashed.update(chunk)
    return hashed.digest()


def descriptor_of(file: object) -> int | None:
    """Return the descriptor of an open file, if it is a regular file on the disk."""
    # To ask a spooled file for its descriptor would write it to the disk.
    if hasattr(file, "rollover"):
        return None
    with suppress(OSError, ValueError, AttributeError):
        descriptor: object = file.fileno()  # type: ignore[attr-defined]
        if isinstance(descriptor, int) and stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
    return None
