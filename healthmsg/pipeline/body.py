"""A multipart body that is sent piece by piece, so that neither memory nor event loop suffers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import MultipartWriter, hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from attrs import frozen

from healthmsg.errors import UploadFileError
from healthmsg.pipeline.exchange import FilePart, Multipart, Request, Slot
from healthmsg.pipeline.sources import ChangedFileError

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
        """Build the payload anew: one that has been sent would silently upload nothing."""
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
        """Give the error of the file that was at fault, if one was."""
        return UploadFileError(self._request.call, self.problem) if self.problem else None


class _FormWriter(MultipartWriter):
    """A form that waits for the limit before its end, should it have taken long.

    Until then the service has only a part of it, so that is where whether it may be sent is asked once more.
    """

    def __init__(self, request: Request) -> None:
        super().__init__("form-data")
        self._request = request

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        await super().write(writer, close_boundary=False)
        if self._request.slot is not None:
            await self._wait_for_the_limit(self._request.slot)
        if self._request.may_leave is not None:
            self._request.may_leave()  # what it raises makes aiohttp cut the connection
        self._request.body_sent = True
        if close_boundary:
            await writer.write(f"--{self.boundary}--\r\n".encode())

    async def _wait_for_the_limit(self, slot: Slot) -> None:
        # A wait of our own making, which is not to count for how long the call may take.
        clock, began = self._request.clock, asyncio.get_running_loop().time()
        if clock is None or (ends_at := clock.when()) is None:
            await slot.before_last_chunk()
            return
        with suppress(RuntimeError):  # it has struck in this very moment
            clock.reschedule(None)
            await slot.before_last_chunk()
            clock.reschedule(ends_at + asyncio.get_running_loop().time() - began)


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
        """Send all there is; give what is wrong with it, if anything is."""
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
