"""Where the bytes of an upload come from: files, read ahead in a thread, and async iterables."""

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

from healthmsg.pipeline.log import log

# Bytes. Larger ones are no faster; of these, eight uploads at once hold less than 20 MiB even where the
# network is slower than the disk: one is being sent, one is what is left of it, and one is read ahead.
_CHUNK: Final = 768 * 1024


class Readable(Protocol):
    """What is needed of a file."""

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes; none at the end."""

    def close(self) -> None:
        """Close it."""


class ChangedFileError(Exception):
    """What is read is not the file that was given, or not what that held then. It must not be sent."""


class FileSource:
    """A file that is opened for each try, read ahead by one chunk in a thread of its own, and closed.

    `once`: it cannot be opened a second time. `is_lent`: it is one open file for all tries, and its owner may
    close it when it is let go of. So both wait until the thread of the try before has left it.
    """

    def __init__(
        self, open_file: Callable[[], Readable], *, once: bool = False, is_lent: bool = False
    ) -> None:
        self._open = open_file
        self._once = once
        self._is_lent = is_lent
        self._was_left: asyncio.Event | None = None
        self.is_spent: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Read it from its beginning; the event loop never waits for it."""
        _check_readable(self)
        await self.release()
        self.is_spent = self._once
        self._was_left = was_left = asyncio.Event()
        file = _FileInThread(self._open)
        try:
            ahead = file.read()
            while (chunk := await ahead) != b"":
                if isinstance(chunk, Exception):
                    raise chunk
                ahead = file.read()
                yield chunk
        finally:
            file.close().add_done_callback(lambda _: was_left.set())

    async def release(self) -> None:
        """Wait until nothing reads it any more, if that matters to its owner."""
        if self._is_lent and self._was_left is not None:
            await self._was_left.wait()


def _check_readable(source: "FileSource | PieceSource") -> None:
    if source.is_spent:  # what is left of it must not pass for the whole
        raise OSError(errno.ESPIPE, "it can be read only once")


class _FileInThread:
    """A file that is opened, read and closed in a thread of its own, each after the other.

    A slow disk or a network share must not hold up the loop's other threads; a pipe in which nothing comes
    must not keep the program from ending, as threads of an executor do.
    """

    def __init__(self, open_file: Callable[[], Readable]) -> None:
        self._open = open_file
        self._file: Readable | None = None
        self._loop = asyncio.get_running_loop()
        self._orders: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        Thread(target=self._run, name="healthmsg upload", daemon=True).start()

    def read(self) -> "asyncio.Future[bytes | Exception]":
        """Read the next chunk. An error is a result, so that one which nobody waits for is told nowhere."""
        return self._order(self._read)

    def close(self) -> "asyncio.Future[object]":
        """Close it behind the last read, so that no file is closed under a reader, and end the thread."""
        closing = self._order(self._close)
        self._orders.put(None)
        return closing

    def _order(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        future = self._loop.create_future()
        self._orders.put((work, future))
        return future

    def _run(self) -> None:
        while self._do_next():  # a call each, so that nothing of the last one is kept while it waits
            pass

    def _do_next(self) -> bool:
        order = self._orders.get()
        if order is None:
            return False
        work, future = order
        try:
            result: object = work()
        except Exception as error:  # noqa: BLE001 - a source may be anything that can be read
            result = error
        except BaseException as error:  # noqa: BLE001 - else the thread ends, and its answer is waited for in vain
            result = OSError(0, type(error).__name__)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_settle, future, result)
        return True

    def _read(self) -> bytes:
        if self._file is None:
            self._file = self._open()
        return self._file.read(_CHUNK)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


def _settle(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


class PieceSource:
    """An async iterable of bytes, which can be read once."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = pieces
        self._let_go: asyncio.Event | None = None
        self.is_spent: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Take what comes, in pieces of a bearable size."""
        _check_readable(self)
        self.is_spent = True
        self._let_go = asyncio.Event()
        iterator = None
        try:
            iterator = aiter(self._pieces)
            async for piece in iterator:
                if not isinstance(piece, bytes):  # for the reader to refuse
                    yield piece  # type: ignore[unreachable] # what programs give is not checked
                    return
                for start in range(0, len(piece), _CHUNK):
                    yield piece[start : start + _CHUNK]
                # Neither the iterable nor the network need ever have made us wait.
                await asyncio.sleep(0)
        finally:
            if iterator is not self._pieces:
                await close_pieces(iterator)
            self._let_go.set()

    async def release(self) -> None:
        """Wait until a try that was cut off has let go of it; it is its giver who closes it."""
        if self._let_go is not None:
            await self._let_go.wait()


async def close_pieces(pieces: object) -> None:
    """Close an async iterable, if it can be closed."""
    close = getattr(pieces, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception as error:  # noqa: BLE001 - what became of the upload matters more
        # No traceback: it may be private.
        log(logging.ERROR, "closing what was uploaded raised %(error)s", error=type(error).__name__)
