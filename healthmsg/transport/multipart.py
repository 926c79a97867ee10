"""A multipart body that is sent piece by piece, so that neither memory nor event loop suffers."""

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

from aiohttp import MultipartWriter, hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from attrs import frozen

from healthmsg.errors import UploadFileError
from healthmsg.log import log
from healthmsg.pipeline.request import FilePart, Multipart, Request
from healthmsg.ratelimit.window import Slot

# As browsers do, RFC 7578 and the HTML standard: UTF-8 as it is, and only what would end the name escaped.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
_CHANGED: Final = (
    "a file was changed or replaced after it was given: give each message a file of its own, or its bytes"
)


class UploadBody:
    """Makes the payload for one try, and remembers whether a file was at fault when it failed."""

    def __init__(self, form: Multipart, request: Request) -> None:
        self._form = form
        self._request = request
        self.problem: str | None = None

    def payload(self) -> MultipartWriter:
        """Build a new payload: one that has been sent would silently upload nothing."""
        writer = _FormWriter(self._request)
        for name, text in self._form.fields:
            part = writer.append(text)
            part.headers.popall(hdrs.CONTENT_TYPE)
            part.headers[hdrs.CONTENT_DISPOSITION] = f'form-data; name="{name}"'
        for file in self._form.files:
            part = writer.append_payload(_FilePayload(file, self))
            file_name = file.file_name.translate(_ESCAPES)
            disposition = f'form-data; name="{file.name}"; filename="{file_name}"'
            part.headers[hdrs.CONTENT_DISPOSITION] = disposition
        return writer

    def failure(self) -> UploadFileError | None:
        """Return the error of the file that was at fault, if one was."""
        return UploadFileError(self._request.call, self.problem) if self.problem else None


class _FormWriter(MultipartWriter):
    """A form that waits for the limit before its end, should it have taken long.

    Until then the service has only a part of it, so `before_send` is called once more there.
    """

    def __init__(self, request: Request) -> None:
        super().__init__("form-data")
        self._request = request

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        await super().write(writer, close_boundary=False)
        if self._request.current.slot is not None:
            await self._wait_for_the_limit(self._request.current.slot)
        if self._request.before_send is not None:
            self._request.before_send()  # what it raises makes aiohttp cut the connection
        self._request.current.body_sent = True
        if close_boundary:
            await writer.write(f"--{self.boundary}--\r\n".encode())

    async def _wait_for_the_limit(self, slot: Slot) -> None:
        # A wait of our own making, which is not to count for how long the call may take.
        timeout, began = self._request.current.timeout, asyncio.get_running_loop().time()
        if timeout is None or (ends_at := timeout.when()) is None:
            await slot.before_last_chunk()
            return
        with suppress(RuntimeError):  # the time was up in this very moment
            timeout.reschedule(None)
            await slot.before_last_chunk()
            timeout.reschedule(ends_at + asyncio.get_running_loop().time() - began)


class _FilePayload(Payload):
    """A file, sent as its source gives it."""

    def __init__(self, file: FilePart, body: UploadBody) -> None:
        super().__init__(file, content_type=file.content_type)
        self._file = file
        self._body = body
        self._size = file.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's
        raise TypeError("a file that is being uploaded is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self._file.transfer is not None:
            self._file.transfer.restart()
        async with aclosing(self._file.source.chunks()) as chunks:
            self._body.problem = await self._copy(chunks, writer)
        if self._body.problem is not None:
            raise ValueError(self._body.problem)  # makes aiohttp cut the connection

    async def _copy(self, chunks: AsyncIterator[bytes], writer: AbstractStreamWriter) -> str | None:
        """Send all there is; return what is wrong with it, if anything is."""
        sent, size, transfer = 0, self._file.size, self._file.transfer
        while True:
            chunk = await _next_of(chunks)
            if isinstance(chunk, _Problem):
                return chunk.what
            if not isinstance(chunk, bytes):
                return f"a file gave {type(chunk).__name__} where bytes are needed"
            sent += len(chunk)
            if not chunk or (size is not None and sent > size):
                break
            await writer.write(chunk)
            if transfer is not None:
                transfer.advance(len(chunk))
        if size is not None and sent != size:
            more_or_fewer = "more" if sent > size else "fewer"
            return f"a file gave {more_or_fewer} bytes than its size: it was changed, or its size was wrong"
        if transfer is not None:
            transfer.know_size(sent)
        return None if sent else "a file is empty"


@frozen
class _Problem:
    what: str


async def _next_of(chunks: AsyncIterator[bytes]) -> object:
    """Return the next chunk, or why there is none."""
    try:
        return await anext(chunks, b"")
    except ChangedFileError:
        return _Problem(_CHANGED)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise  # the call is cut off, not its source
        return _Problem(_unreadable(error))
    except Exception as error:  # noqa: BLE001 - a source may be anything that can be read
        return _Problem(_unreadable(error))


def _unreadable(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) else type(error).__name__
    return f"a file could not be read while it was sent ({reason})"


# Bytes. Larger ones are no faster; of these, eight uploads at once hold less than 20 MiB even where the
# network is slower than the disk: one is being sent, one is what is left of it, and one is read ahead.
_CHUNK: Final = 768 * 1024


class Readable(Protocol):
    """The part of a binary file's interface that is needed here."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""

    def close(self) -> None:
        """Close it."""


class ChangedFileError(Exception):
    """The file was replaced or changed since it was given. It must not be sent."""


class FileSource:
    """A file that is opened for each try, read ahead by one chunk in a thread of its own, and closed.

    `once`: it cannot be opened a second time. `is_lent`: it is one open file for all tries, and its owner may
    close it when it is released. So both wait until the thread of the try before has left it.
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
    if source.is_spent:  # what is left of it must not be taken for the whole
        raise OSError(errno.ESPIPE, "it can be read only once")


class _FileInThread:
    """A file that is opened, read and closed in a thread of its own, each after the other.

    A slow disk or a network share must not block the loop's thread pool. A pipe that stays empty must not
    keep the program from exiting, as a thread of an executor would.
    """

    def __init__(self, open_file: Callable[[], Readable]) -> None:
        self._open = open_file
        self._file: Readable | None = None
        self._loop = asyncio.get_running_loop()
        self._orders: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        Thread(target=self._run, name="healthmsg upload", daemon=True).start()

    def read(self) -> "asyncio.Future[bytes | Exception]":
        """Read the next chunk. An error is a result too, so that asyncio logs none of an unused read."""
        return self._order(self._read)

    def close(self) -> "asyncio.Future[object]":
        """Close it after the last read, and end the thread."""
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
        with suppress(RuntimeError):  # the loop is closed: nothing waits any more
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
        self._released: asyncio.Event | None = None
        self.is_spent: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Pass on what comes, in pieces of a bearable size."""
        _check_readable(self)
        self.is_spent = True
        self._released = asyncio.Event()
        iterator = None
        try:
            iterator = aiter(self._pieces)
            async for piece in iterator:
                if not isinstance(piece, bytes):  # for the reader to refuse
                    yield piece  # type: ignore[unreachable] # what programs give is not checked
                    return
                for start in range(0, len(piece), _CHUNK):
                    yield piece[start : start + _CHUNK]
                # Give other tasks a turn: neither the iterable nor the network may ever make this one wait.
                await asyncio.sleep(0)
        finally:
            if iterator is not self._pieces:
                await close_pieces(iterator)
            self._released.set()

    async def release(self) -> None:
        """Wait until a try that was cancelled has released it. Its owner closes it."""
        if self._released is not None:
            await self._released.wait()


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
