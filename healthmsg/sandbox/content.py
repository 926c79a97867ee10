"""What is in a file: kept in memory, on the disk, or made up while it is read."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import Final, Protocol

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from attrs import define, field, frozen

_CHUNK: Final = 256 * 1024
_KEPT_IN_MEMORY: Final = 4 * 1024 * 1024
# A length that no buffer has, so that a piece that is lost or doubled shows.
_MADE_UP: Final = bytes(range(251)) * 4096


class Bytes(Protocol):
    """The bytes of a file."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def is_on_disk(self) -> bool:
        """Whether they are on the disk, so that a thread must read them."""

    def read(self, start: int, most: int) -> bytes:
        """Return some, from `start` on; none at the end."""

    def close(self) -> None:
        """Release them."""


@frozen
class MadeUp:
    """Bytes that are not stored: the numbers from 0 to 250, again and again."""

    size: int
    is_on_disk: bool = field(default=False, init=False)

    def read(self, start: int, most: int) -> bytes:
        """See `Bytes`."""
        offset = start % len(_MADE_UP)
        return _MADE_UP[offset : offset + max(0, min(most, self.size - start))]

    def close(self) -> None:
        """See `Bytes`."""


def _spool() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(_KEPT_IN_MEMORY)


@define(eq=False)
class Stored:
    """Bytes in memory; in a file without a name when they are many."""

    size: int = 0
    _file: SpooledTemporaryFile[bytes] = field(factory=_spool, repr=False)
    _lock: Lock = field(factory=Lock, init=False, repr=False)

    @classmethod
    def of(cls, content: bytes) -> "Stored":
        """Store bytes."""
        stored = cls()
        stored.append(content)
        return stored

    @property
    def is_on_disk(self) -> bool:
        """See `Bytes`."""
        return self.size > _KEPT_IN_MEMORY

    def append(self, chunk: bytes) -> None:
        """Write more."""
        with self._lock:
            self._file.seek(self.size)
            self.size += self._file.write(chunk)

    async def receive(self, chunk: bytes) -> None:
        """Write more, in a thread if that writes to the disk."""
        if self.size + len(chunk) > _KEPT_IN_MEMORY:
            await asyncio.to_thread(self.append, chunk)
        else:
            self.append(chunk)

    def read(self, start: int, most: int) -> bytes:
        """See `Bytes`."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(most)

    def close(self) -> None:
        """See `Bytes`."""
        self._file.close()

    def __del__(self) -> None:
        self.close()  # of a form that was refused or not complete


@define(eq=False)
class Content:
    """What is in a file at present, and since when."""

    bytes: Bytes
    since: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        """The entity tag, which changes with the bytes."""
        return f"{id(self):x}-{self.version}-{self.bytes.size:x}"

    def replace(self, new: Bytes, now: datetime) -> None:
        """Replace the bytes."""
        self.bytes, self.since, self.version = new, now, self.version + 1


async def chunks_of(content: Bytes, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    """Yield a part of the bytes, piece by piece."""
    end = content.size if end is None else end
    while start < end:
        most = min(_CHUNK, end - start)
        if content.is_on_disk:
            chunk = await asyncio.to_thread(content.read, start, most)
        else:
            chunk = content.read(start, most)
        if not chunk:
            return
        start += len(chunk)
        yield chunk


async def digest_of(content: Bytes) -> str:
    """Return the SHA-256 of the bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    async for chunk in chunks_of(content):
        await asyncio.to_thread(digest.update, chunk)
    return digest.hexdigest()


class PartOfFile(Payload):
    """A part of a file as an answer's body."""

    def __init__(self, content: Bytes, start: int, end: int, content_type: str) -> None:
        super().__init__(content, content_type=content_type)
        self._start, self._end = start, end
        self._size = end - start

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's
        """Refuse: a file is not text."""
        raise TypeError("a file is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send it piece by piece."""
        async for chunk in chunks_of(self._value, self._start, self._end):
            await writer.write(chunk)
