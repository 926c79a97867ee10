"""Noting what files hold when they are given, so that nothing else is sent in their place.

Stamps alone do not prove that a file is unchanged when it was changed just before it was given: a further
change within the same tick of the file system's clock leaves no trace. Then the content is hashed, or read.
"""

import asyncio
import os
import stat
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from attrs import define, field

from healthmsg.files.reading import descriptor_of, digest_of
from healthmsg.files.values import TICK, FileState, FileToUpload, TakenFile, UploadFile

CHANGED: Final = (
    "it was changed or replaced after it was given: give each message a file of its own, or its bytes"
)
_UNREADABLE: Final = "it cannot be read"
_MOST_DIGESTS: Final = 1_000
_MIB: Final = 1024 * 1024

in_use: Final[dict[int, object]] = {}
"""Open files and async iterables that are being uploaded, by their ids. Two uploads that read from one would
each send what the other lacks."""


@define
class FileTaker:
    """Takes files, each of them as it is now. Blocks.

    Files of up to `hold_up_to` bytes are read. Of all others it is noted which they are and when they were
    changed; that is proof enough, but for those that were changed just now. Of these, up to `digest_up_to`
    bytes, or all where stamps are coarse, are hashed; for larger ones, the next tick is waited for.
    `digest_all`: hash every file, since it may be another process that sends it. `holds_up_others`: this is
    done in the event loop; then a large open file that has no stamps, such as a `BytesIO`, is trusted.
    """

    hold_up_to: int = 0
    digest_up_to: int = 16 * _MIB
    digest_all: bool = False
    holds_up_others: bool = False
    _digests: OrderedDict[FileState, bytes] = field(factory=OrderedDict, init=False)
    """Of files that many messages have in common."""

    def take(self, files: Iterable[FileToUpload]) -> tuple[UploadFile, ...]:
        """Note what they hold. What is wrong with one is noted, too; whoever uploads it raises that."""
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
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - an open file may be anything that can be read
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
        """Tell whether a further change must make another state.

        Rather than read a large file, it waits for the next tick.
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


_IN_THE_EVENT_LOOP: Final = FileTaker(digest_up_to=_MIB, holds_up_others=True)


def take_now(files: Iterable[FileToUpload]) -> tuple[UploadFile, ...]:
    """Take files in the event loop: only those are read that were changed just now, up to 1 MiB of each."""
    return _IN_THE_EVENT_LOOP.take(files)


def check_path(path: Path) -> None:
    """Refuse what has no bytes of its own.

    Raises:
        ValueError: it is not a regular file.
        OSError: there is none.
    """
    if "\0" in str(path):  # said here, since each version of Python says it otherwise
        raise ValueError("no file has a null character in its name")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for whoever writes to it
        raise ValueError("it is not a regular file")


def check_readable(file: IO[bytes]) -> None:
    """Refuse an open file that gives no bytes.

    Raises:
        TypeError: it gives text.
        ValueError: it is closed, or open for writing.
    """
    nothing: object = file.read(0)
    if not isinstance(nothing, bytes):
        raise TypeError(f"it gives {type(nothing).__name__} where bytes are needed: open it in mode 'rb'")


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
