"""What is in a file: kept in memory, on the disk, or made up while it is read."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from typing import BinaryIO, Final, Protocol

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

    def read(self, start: int, most: int) -> bytes:
        """Give some, from `start` on; none when there are no more."""


@frozen
class InMemory:
    """Bytes that are kept."""

    content: bytes | bytearray = field(repr=False)

    @property
    def size(self) -> int:
        """See `Bytes`."""
        return len(self.content)

    def read(self, start: int, most: int) -> bytes:
        """See `Bytes`."""
        return bytes(self.content[start : start + most])


@frozen
class MadeUp:
    """Bytes that nobody keeps: the numbers from 0 to 250, again and again."""

    size: int

    def read(self, start: int, most: int) -> bytes:
        """See `Bytes`."""
        offset = start % len(_MADE_UP)
        return _MADE_UP[offset : offset + max(0, min(most, self.size - start))]


@define(eq=False)
class OnDisk:
    """Bytes in a file without a name, which goes when it is closed."""

    _file: BinaryIO = field(factory=tempfile.TemporaryFile, repr=False)
    size: int = 0

    def append(self, chunk: bytes | bytearray) -> None:
        """Write more."""
        self._file.seek(self.size)
        self.size += self._file.write(chunk)

    def read(self, start: int, most: int) -> bytes:
        """See `Bytes`."""
        self._file.seek(start)
        return self._file.read(most)

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def __del__(self) -> None:
        self.close()  # of a form that came in, but was refused or not complete


class Intake:
    """Bytes that are coming in: in memory, or on the disk when they become many."""

    def __init__(self) -> None:
        self.held: bytearray = bytearray()
        """What has come since it was last moved to the disk."""
        self._on_disk: OnDisk | None = None

    async def add(self, chunk: bytes) -> None:
        """Take in more."""
        self.held += chunk
        if len(self.held) > _KEPT_IN_MEMORY:
            await self._move()

    async def _move(self) -> None:
        on_disk = self._on_disk = self._on_disk or OnDisk()
        held, self.held = self.held, bytearray()
        await asyncio.to_thread(on_disk.append, held)

    async def all(self) -> "InMemory | OnDisk":
        """Give what has come."""
        if self._on_disk is None:
            return InMemory(self.held)
        await self._move()
        return self._on_disk

    def drop(self) -> None:
        """Forget what has come."""
        if self._on_disk is not None:
            self._on_disk.close()


@define(eq=False)
class Content:
    """What is in a file at present, and since when."""

    bytes: Bytes
    since: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        """What tells it from what was there before."""
        return f'"{id(self):x}-{self.version}-{self.bytes.size:x}"'

    def replace(self, new: Bytes, now: datetime) -> None:
        """Put something else there."""
        self.bytes, self.since, self.version = new, now, self.version + 1


async def chunks_of(content: Bytes, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    """Give a part of the bytes, piece by piece."""
    end = content.size if end is None else end
    while start < end:
        most = min(_CHUNK, end - start)
        is_quick = not isinstance(content, OnDisk)
        chunk = content.read(start, most) if is_quick else await asyncio.to_thread(content.read, start, most)
        if not chunk:
            return
        start += len(chunk)
        yield chunk


async def digest_of(content: Bytes) -> str:
    """Give the SHA-256 of the bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    async for chunk in chunks_of(content):
        await asyncio.to_thread(digest.update, chunk)
    return digest.hexdigest()


def part_of_file(content: Bytes, start: int, end: int, content_type: str) -> Payload:
    """Give a part of a file as an answer's body."""
    return _PartOfFile(content, start, end, content_type)


class _PartOfFile(Payload):
    def __init__(self, content: Bytes, start: int, end: int, content_type: str) -> None:
        super().__init__(content, content_type=content_type)
        self._start, self._end = start, end
        self._size = end - start

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's
        raise TypeError("a file is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        async for chunk in chunks_of(self._value, self._start, self._end):
            await writer.write(chunk)
