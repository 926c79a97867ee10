"""A multipart body whose files are read ahead in a thread, so that neither memory nor event loop suffers."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Final

from aiohttp import MultipartWriter, hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from healthmsg.errors import UploadFileError
from healthmsg.pipeline.exchange import FilePart, Multipart, Slot

_CHUNK: Final = 1024 * 1024
# As browsers do, RFC 7578 and the HTML standard: UTF-8 as it is, and only what would end the name escaped.
_ESCAPES: Final = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class UploadBody:
    """Makes the payload for one try, and remembers whether a file was at fault when it failed."""

    def __init__(self, form: Multipart, slot: Slot | None) -> None:
        self._form = form
        self._slot = slot
        self.problem: str | None = None

    def payload(self) -> MultipartWriter:
        """Build the payload anew: one that has been sent would silently upload nothing."""
        writer = _FormWriter(self._slot)
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

    def failure(self, call: str) -> UploadFileError | None:
        """Give the error of the file that was at fault, if one was."""
        return UploadFileError(call, self.problem) if self.problem else None


class _FormWriter(MultipartWriter):
    """A form that waits for the limit before its end, should it have taken long."""

    def __init__(self, slot: Slot | None) -> None:
        super().__init__("form-data")
        self._slot = slot

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        await super().write(writer, close_boundary=False)
        if self._slot is not None:
            await self._slot.before_last_chunk()
        if close_boundary:
            await writer.write(f"--{self.boundary}--\r\n".encode())


class _FilePayload(Payload):
    """A file of known size, read a chunk ahead."""

    def __init__(self, file: FilePart, body: UploadBody) -> None:
        super().__init__(file, content_type=file.content_type)
        self._file = file
        self._body = body
        self._size = file.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's
        raise TypeError("a file that is being uploaded is not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        # A thread of its own: a slow disk or network share must not hold up the loop's other threads.
        thread = ThreadPoolExecutor(1, thread_name_prefix="healthmsg upload")
        opening = thread.submit(self._file.open)
        try:
            await self._copy(thread, opening, writer)
        finally:
            # Behind the last read in the same thread, so that no file is closed under a reader.
            thread.submit(_close, opening)
            thread.shutdown(wait=False)
        if self._body.problem is not None:
            raise ValueError(self._body.problem)  # makes aiohttp cut the connection

    async def _copy(
        self, thread: ThreadPoolExecutor, opening: Future[BinaryIO], writer: AbstractStreamWriter
    ) -> None:
        left = self._file.size
        try:
            source = await asyncio.wrap_future(opening)
            chunk = await asyncio.wrap_future(thread.submit(source.read, _CHUNK))
        except Exception as error:  # noqa: BLE001 - a source may be anything that can be read
            self._body.problem = _unreadable(error)
            return
        while chunk and (left := left - len(chunk)) >= 0:
            reading = thread.submit(source.read, _CHUNK)
            await writer.write(chunk)
            try:
                chunk = await asyncio.wrap_future(reading)
            except Exception as error:  # noqa: BLE001 - see above
                self._body.problem = _unreadable(error)
                return
        if left:
            self._body.problem = "a file changed its size while it was sent"


def _unreadable(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else type(error).__name__
    return f"a file could not be read while it was sent ({reason})"


def _close(opening: Future[BinaryIO]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
