"""The files of messages that a run without a journal has taken, and not sent yet."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, evolve

from healthmsg.aio import in_thread
from healthmsg.files import FileTaker, FileToUpload, TakenFile, UploadFile

# Bytes. Letters and scans are smaller; a run holds so many of them at once, whatever its messages are.
_LARGEST_HELD: Final = 4 * 1024 * 1024
_MOST_HELD: Final = 32 * 1024 * 1024


@define
class _Held:
    content: bytes
    times: int = 0


class FilesInHand:
    """Takes the files of each message before the next message is asked for.

    Small ones are read, so that whatever happens to them later, their message is sent as it was given. What
    many messages have in common is held once.
    """

    def __init__(self) -> None:
        self._taker = FileTaker(hold_up_to=_LARGEST_HELD)
        self._held: dict[bytes, _Held] = {}
        self._bytes = 0
        self._was_released = asyncio.Event()

    async def take(self, files: Sequence[FileToUpload]) -> tuple[FileToUpload, ...]:
        """Take them, and wait while too much is held already."""
        if not files:
            return ()
        taken = await in_thread(self._taker.take, files)
        while self._bytes and self._bytes + self._new_bytes(taken) > _MOST_HELD:
            self._was_released.clear()
            await self._was_released.wait()
        return tuple(map(self._hold, taken))

    def release(self, files: Sequence[FileToUpload]) -> None:
        """Let go of the files of a message that was sent, or will not be."""
        for _, digest in _contents_of(files):
            held = self._held[digest]
            held.times -= 1
            if not held.times:
                del self._held[digest]
                self._bytes -= len(held.content)
        self._was_released.set()

    def _new_bytes(self, files: Sequence[FileToUpload]) -> int:
        new = {digest: len(content) for content, digest in _contents_of(files) if digest not in self._held}
        return sum(new.values())

    def _hold(self, file: UploadFile) -> FileToUpload:
        if not isinstance(file, TakenFile) or file.content is None or file.digest is None:
            return file
        if file.digest not in self._held:
            self._held[file.digest] = _Held(file.content)
            self._bytes += len(file.content)
        held = self._held[file.digest]
        held.times += 1
        return evolve(file, content=held.content)


def _contents_of(files: Sequence[FileToUpload]) -> Iterator[tuple[bytes, bytes]]:
    """Return what was read, with its hash."""
    for file in files:
        if isinstance(file, TakenFile) and file.content is not None and file.digest is not None:
            yield file.content, file.digest
