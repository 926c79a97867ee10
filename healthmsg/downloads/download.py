"""Downloading a file; a transfer that breaks goes on from where it broke off, if the service allows that."""

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import frozen

from healthmsg.aio import AsyncIterationOnly, in_thread
from healthmsg.api import Api
from healthmsg.clock import http_date
from healthmsg.downloads.links import fetch_file
from healthmsg.errors import CallError, ClientUsageError, DownloadError, StatusError, TransportError
from healthmsg.files.targets import PartialFile, Target
from healthmsg.ids import ChatAddress
from healthmsg.models import Attachment
from healthmsg.pipeline.request import Request, Response, Stream
from healthmsg.routes import GET_ATTACHMENT
from healthmsg.transfer import Transfer

_PART: Final = 206
_NO_SUCH_PART: Final = 416
# What aiohttp undoes.
_ENCODINGS: Final = frozenset({"identity", "gzip", "x-gzip", "deflate", "br", "zstd"})
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")
# Within the second that a date names, a file can change twice. After a minute the date is certain [RFC 9110].
_CERTAIN_AFTER: Final = timedelta(seconds=60)


class Download:
    """One file to download; nothing is sent until one of its methods is awaited."""

    def __init__(
        self,
        api: Api,
        new_request: Callable[[], Request],
        *,
        name: str | None = None,
        size: int | None = None,
    ) -> None:
        self._api = api
        self._new_request = new_request
        self.call: str = new_request().call
        self._name = name
        self._size = size

    def _fetching(self, *, may_restart: bool) -> "_Fetching":
        return _Fetching(self._api, self._new_request, self.call, self._size, may_restart=may_restart)

    @classmethod
    def of_attachment(cls, api: Api, chat: ChatAddress, attachment: Attachment | str) -> "Download":
        """Return the download of an attachment. If its size is known, the file must have it."""
        known = attachment if isinstance(attachment, Attachment) else None
        attachment_id = known.id if known else attachment

        def new_request() -> Request:
            return api.request(GET_ATTACHMENT, chat, attachment_id=attachment_id)

        return cls(api, new_request, name=known.name, size=known.size) if known else cls(api, new_request)

    def stream(self) -> "FileStream":
        """Return the file's bytes as they arrive; nothing is sent yet."""
        return FileStream(self)

    async def to_file(
        self, to: str | os.PathLike[str], *, overwrite: bool, transfer: Transfer | None = None
    ) -> Path:
        """Write the file beside its place, put it there when it is complete, and return its path."""
        target = await in_thread(lambda: Target.find(to, self._name, overwrite=overwrite))
        fetching = self._fetching(may_restart=True)
        async with PartialFile(target) as partial, aclosing(fetching.pieces()) as pieces:
            async for piece in pieces:
                if piece is None:
                    await partial.empty()
                else:
                    await partial.write(piece)
                if transfer is not None:
                    fetching.report_to(transfer)
            path = await partial.complete()
        if transfer is not None:
            transfer.finish()
        return path

    async def read(self, *, max_bytes: int) -> bytes:
        """Return the whole file, of at most `max_bytes`."""
        if self._size is not None and self._size > max_bytes:
            raise DownloadError(self.call, "the file is larger than max_bytes")
        fetching = self._fetching(may_restart=True)
        content = bytearray()
        async with aclosing(fetching.pieces()) as pieces:
            async for piece in pieces:
                if piece is None:
                    content.clear()
                else:
                    content += piece
                if max(len(content), fetching.size or 0) > max_bytes:
                    raise DownloadError(self.call, "the file is larger than max_bytes")
        return bytes(content)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the file piece by piece; its size is checked at the end."""
        fetching = self._fetching(may_restart=False)
        async with aclosing(fetching.pieces()) as pieces:
            async for piece in pieces:
                if piece is not None:
                    yield piece


@frozen
class _FileInfo:
    """What an answer says about the whole file."""

    size: int | None
    """Bytes, before any encoding for the transfer."""
    validator: str | None
    """An entity tag or a date that no other version of the file has."""
    has_ranges: bool

    @classmethod
    def of(cls, response: Response) -> "_FileInfo":
        headers = response.headers
        is_plain = headers.get("Content-Encoding", "identity") == "identity"
        length = headers.get("Content-Length", "")
        return cls(
            int(length) if is_plain and length.isascii() and length.isdigit() else None,
            _validator(headers) if is_plain else None,
            is_plain and headers.get("Accept-Ranges") == "bytes",
        )

    def range_headers(self, start: int) -> Mapping[str, str] | None:
        """Return the headers that ask for the rest of the file, if the service has ranges of it."""
        if not (start and self.has_ranges and self.validator):
            return None
        return {"Range": f"bytes={start}-", "If-Range": self.validator}


class _Fetching:
    """The bytes of one file, over as many connections as are needed."""

    def __init__(
        self, api: Api, new_request: Callable[[], Request], call: str, size: int | None, *, may_restart: bool
    ) -> None:
        self._api = api
        self._new_request = new_request
        self._call = call
        self._size = size
        self._may_restart = may_restart
        self._info = _FileInfo(size, None, False)
        self._received = 0
        self._furthest = 0
        """The most bytes that were received before a transfer broke."""
        self._to_skip = 0
        self._has_restarted = False
        self._stream: Stream | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._failure: CallError | None = None

    @property
    def size(self) -> int | None:
        """Bytes in all, as far as is known."""
        return self._info.size

    def report_to(self, transfer: Transfer) -> None:
        """Note in a transfer how many bytes were received."""
        if self.size is not None:
            transfer.know_size(self.size)
        transfer.restart(self._received)

    async def pieces(self) -> AsyncGenerator[bytes | None, None]:
        """Yield the file piece by piece; `None` when it starts from its beginning again."""
        request = self._new_tries()
        try:
            while True:
                response = await self._api.retry(request, self._next_piece)
                if self._failure is not None:
                    raise self._failure
                if self._has_restarted:
                    self._has_restarted = False
                    yield None
                if not response.body:
                    break
                if self._received > self._furthest:
                    # A transfer that made progress gets all its tries again, so a long one may break more
                    # often. One that always breaks at the same place does not, or it would never end.
                    self._furthest = self._received
                    request = self._new_tries()
                yield response.body
        finally:
            self._release()
        if self._size is not None and self._received != self._size:
            raise self._wrong_size()

    def _new_tries(self) -> Request:
        return Request(f"{self._call} (the file)", "GET", "", priority=self._api.priority)

    async def _next_piece(self, request: Request) -> Response:
        """Return the next piece, or an empty one at the end. What this raises can be tried again."""
        try:
            if self._chunks is None:
                await self._open()
        except CallError as failure:  # the call was tried as often as allowed
            self._failure = failure
            return Response(request.call, 0, {})
        piece = b""
        try:
            while self._chunks is not None and not piece:
                piece = await anext(self._chunks)
                skipped = min(self._to_skip, len(piece))
                self._to_skip -= skipped
                piece = piece[skipped:]
        except StopAsyncIteration:
            pass
        except TransportError as failure:
            self._release()
            if self._may_restart or not self._received or self._info.validator:
                raise
            self._failure = failure
        self._received += len(piece)
        if self._size is not None and self._received > self._size:
            self._failure = self._wrong_size()
        return Response(request.call, 200, {}, body=piece)

    async def _open(self) -> None:
        headers = self._info.range_headers(self._received)
        try:
            response = await fetch_file(self._api, self._new_request(), headers or {})
        except StatusError as failure:
            if headers is None or failure.status != _NO_SUCH_PART:
                raise
            response = None
        self._to_skip = 0
        if headers is None and response is not None and response.status == _PART:
            raise DownloadError(self._call, "the answer is a part of the file, which was not asked for")
        if response is None or (response.status == _PART and not self._is_rest(response)):
            if response is not None and response.stream is not None:
                response.stream.close()
            self._restart()
            response = await fetch_file(self._api, self._new_request(), {})
        self._stream = response.stream
        self._check_completeness(response)
        if response.status != _PART:
            self._start_with(_FileInfo.of(response))
        assert self._stream is not None, "fetch_file returns a stream"  # noqa: S101 - as it says
        self._chunks = self._stream.chunks()

    def _start_with(self, known: _FileInfo) -> None:
        """Begin to read an answer that has the whole file."""
        is_same = known.validator is not None and known.validator == self._info.validator
        if self._received and is_same:
            self._to_skip = self._received
        elif self._received:
            self._restart()
        self._info = known
        if self._size is not None and known.size not in (None, self._size):
            self._release()
            raise self._wrong_size()

    def _check_completeness(self, response: Response) -> None:
        headers = response.headers
        has_end = "Content-Length" in headers or headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not has_end and self._size is None:
            self._release()
            raise DownloadError(self._call, "the answer does not say where the file ends")
        if headers.get("Content-Encoding", "identity").lower() not in _ENCODINGS:
            self._release()
            raise DownloadError(self._call, "the file has an encoding that was not asked for")

    def _restart(self) -> None:
        if self._received and not self._may_restart:
            self._release()
            raise DownloadError(self._call, "the transfer broke off, and the file was changed meanwhile")
        self._has_restarted = self._has_restarted or self._received > 0
        self._received = 0
        self._info = _FileInfo(None, None, False)

    def _is_rest(self, response: Response) -> bool:
        part = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return part is not None and (int(part[1]), int(part[2])) == (self._received, self._info.size)

    def _release(self) -> None:
        stream, self._stream, self._chunks = self._stream, None, None
        if stream is not None:
            stream.close()

    def _wrong_size(self) -> DownloadError:
        return DownloadError(self._call, "the file does not have the size that was announced")


def _validator(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("ETag", "")
    if tag.startswith('"') and tag.isprintable():  # other characters could not be sent back
        return tag
    modified, now = headers.get("Last-Modified", ""), http_date(headers.get("Date", ""))
    changed: datetime | None = http_date(modified)
    return modified if changed and now and now - changed >= _CERTAIN_AFTER else None


class FileStream(AsyncIterationOnly):
    """A file's bytes as they arrive: iterate it, within `async with` if you may leave early.

    It can be iterated once. Raises, while it is, what a download raises: `DownloadError` when the link or
    what it led to is not acceptable, and any `CallError`.
    """

    def __init__(self, download: Download) -> None:
        self._download = download
        self._chunks = download.chunks()
        self._is_begun = False

    def __repr__(self) -> str:
        return f"<FileStream {self._download.call}>"

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_begun:  # a broken transfer must not look like an empty file
            raise ClientUsageError("This stream has been iterated or closed already: ask for a new one.")
        self._is_begun = True
        return self._chunks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop reading, and release the connection.

        Raises:
            ClientUsageError: another task is waiting for the next piece; cancel that one.
        """
        self._is_begun = True
        try:
            await self._chunks.aclose()
        except RuntimeError:  # which Python raises then
            is_busy = True
        else:
            is_busy = False
        if is_busy:
            raise ClientUsageError("This stream is being iterated by another task: cancel that one.")
