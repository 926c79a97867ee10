"""Fetching a file: in one go, or, when the transfer breaks, from where it broke off."""

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
# A file could have changed twice within the second that its date names; after a minute it has not [RFC 9110].
_CERTAIN_AFTER: Final = timedelta(seconds=60)


class Download:
    """One file to fetch; nothing is sent until it is asked for."""

    def __init__(
        self, api: Api, ask: Callable[[], Request], *, name: str | None = None, size: int | None = None
    ) -> None:
        self._api = api
        self._ask = ask
        self._call = ask().call
        self._name = name
        self._size = size

    @classmethod
    def of_attachment(cls, api: Api, chat: ChatAddress, attachment: Attachment | str) -> "Download":
        """Prepare the download of an attachment; what is known of it is held against what comes."""
        known = attachment if isinstance(attachment, Attachment) else None
        attachment_id = known.id if known else attachment

        def ask() -> Request:
            return api.request(GET_ATTACHMENT, chat, attachment_id=attachment_id)

        return cls(api, ask, name=known.name, size=known.size) if known else cls(api, ask)

    def stream(self) -> "FileStream":
        """Return the file's bytes as they arrive; nothing is sent yet."""
        return FileStream(self)

    async def to_file(
        self, to: str | os.PathLike[str], *, overwrite: bool, transfer: Transfer | None = None
    ) -> Path:
        """Write the file beside its place, and put it there when it is complete."""
        target = await in_thread(lambda: Target.find(to, self._name, overwrite=overwrite))
        fetching = _Fetching(self._api, self._ask, self._call, self._size, can_begin_anew=True)
        async with PartialFile(target) as partial, aclosing(fetching.pieces()) as pieces:
            async for piece in pieces:
                if piece is None:
                    await partial.empty()
                else:
                    await partial.write(piece)
                if transfer is not None:
                    fetching.tell(transfer)
            path = await partial.complete()
        if transfer is not None:
            transfer.finish()
        return path

    async def read(self, *, max_bytes: int) -> bytes:
        """Give the whole file, if it is not larger than `max_bytes`."""
        if self._size is not None and self._size > max_bytes:
            raise DownloadError(self._call, "the file is larger than max_bytes")
        fetching = _Fetching(self._api, self._ask, self._call, self._size, can_begin_anew=True)
        content = bytearray()
        async with aclosing(fetching.pieces()) as pieces:
            async for piece in pieces:
                if piece is None:
                    content.clear()
                else:
                    content += piece
                if max(len(content), fetching.size or 0) > max_bytes:
                    raise DownloadError(self._call, "the file is larger than max_bytes")
        return bytes(content)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the file piece by piece; its size is checked at the end."""
        fetching = _Fetching(self._api, self._ask, self._call, self._size, can_begin_anew=False)
        async with aclosing(fetching.pieces()) as pieces:
            async for piece in pieces:
                if piece is not None:
                    yield piece


@frozen
class _Known:
    """What an answer says of the whole file."""

    size: int | None
    """Bytes of it as it is, not as it was encoded for the way."""
    validator: str | None
    """What tells it from another version of itself."""
    has_parts: bool

    @classmethod
    def of(cls, response: Response) -> "_Known":
        headers = response.headers
        is_plain = headers.get("Content-Encoding", "identity") == "identity"
        length = headers.get("Content-Length", "")
        return cls(
            int(length) if is_plain and length.isascii() and length.isdigit() else None,
            _validator(headers) if is_plain else None,
            is_plain and headers.get("Accept-Ranges") == "bytes",
        )

    def rest(self, start: int) -> Mapping[str, str] | None:
        """Give the headers that ask for the rest of it, if it can be asked for."""
        if not (start and self.has_parts and self.validator):
            return None
        return {"Range": f"bytes={start}-", "If-Range": self.validator}


class _Fetching:
    """The bytes of one file, over as many connections as it takes."""

    def __init__(
        self, api: Api, ask: Callable[[], Request], call: str, size: int | None, *, can_begin_anew: bool
    ) -> None:
        self._api = api
        self._ask = ask
        self._call = call
        self._size = size
        self._can_begin_anew = can_begin_anew
        self._known = _Known(size, None, False)
        self._received = 0
        self._furthest = 0
        """The most that was received before it broke off."""
        self._to_skip = 0
        self._has_begun_anew = False
        self._stream: Stream | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._failure: CallError | None = None

    @property
    def size(self) -> int | None:
        """Bytes in all, as far as is known."""
        return self._known.size

    def tell(self, transfer: Transfer) -> None:
        """Say how far it is."""
        if self.size is not None:
            transfer.know_size(self.size)
        transfer.restart(self._received)

    async def pieces(self) -> AsyncGenerator[bytes | None, None]:
        """Give it piece by piece; `None` when it begins anew."""
        request = self._new_tries()
        try:
            while True:
                response = await self._api.retry(request, self._next_piece)
                if self._failure is not None:
                    raise self._failure
                if self._has_begun_anew:
                    self._has_begun_anew = False
                    yield None
                if not response.body:
                    break
                if self._received > self._furthest:
                    # So that a long transfer may break more often than a short one. But one that starts over
                    # each time, and breaks at the same place, would never end.
                    self._furthest = self._received
                    request = self._new_tries()
                yield response.body
        finally:
            self._let_go()
        if self._size is not None and self._received != self._size:
            raise self._wrong_size()

    def _new_tries(self) -> Request:
        return Request(f"{self._call} (the file)", "GET", "", priority=self._api.priority)

    async def _next_piece(self, request: Request) -> Response:
        """Give the next piece, or an empty one at the end. What is raised can be tried again."""
        try:
            if self._chunks is None:
                await self._open()
        except CallError as failure:  # the call has had its tries
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
            self._let_go()
            if self._can_begin_anew or not self._received or self._known.validator:
                raise
            self._failure = failure
        self._received += len(piece)
        if self._size is not None and self._received > self._size:
            self._failure = self._wrong_size()
        return Response(request.call, 200, {}, body=piece)

    async def _open(self) -> None:
        headers = self._known.rest(self._received)
        try:
            response = await fetch_file(self._api, self._ask(), headers or {})
        except StatusError as failure:
            if headers is None or failure.status != _NO_SUCH_PART:
                raise
            response = None
        self._to_skip = 0
        if headers is None and response is not None and response.status == _PART:
            raise DownloadError(self._call, "a part of the file came that was not asked for")
        if response is None or (response.status == _PART and not self._is_rest(response)):
            if response is not None and response.stream is not None:
                response.stream.close()
            self._begin_anew()
            response = await fetch_file(self._api, self._ask(), {})
        self._stream = response.stream
        self._refuse_what_cannot_be_whole(response)
        if response.status != _PART:
            self._begin_with(_Known.of(response))
        assert self._stream is not None, "fetch_file gives nothing else"  # noqa: S101 - see there
        self._chunks = self._stream.chunks()

    def _begin_with(self, known: _Known) -> None:
        """Take in an answer that has the whole file."""
        is_same = known.validator is not None and known.validator == self._known.validator
        if self._received and is_same:
            self._to_skip = self._received
        elif self._received:
            self._begin_anew()
        self._known = known
        if self._size is not None and known.size not in (None, self._size):
            self._let_go()
            raise self._wrong_size()

    def _refuse_what_cannot_be_whole(self, response: Response) -> None:
        headers = response.headers
        has_end = "Content-Length" in headers or headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not has_end and self._size is None:
            self._let_go()
            raise DownloadError(self._call, "the answer does not tell where the file ends")
        if headers.get("Content-Encoding", "identity").lower() not in _ENCODINGS:
            self._let_go()
            raise DownloadError(self._call, "the file came in an encoding that nobody asked for")

    def _begin_anew(self) -> None:
        if self._received and not self._can_begin_anew:
            self._let_go()
            raise DownloadError(self._call, "the transfer broke off, and the file is another one by now")
        self._has_begun_anew = self._has_begun_anew or self._received > 0
        self._received = 0
        self._known = _Known(None, None, False)

    def _is_rest(self, response: Response) -> bool:
        part = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return part is not None and (int(part[1]), int(part[2])) == (self._received, self._known.size)

    def _let_go(self) -> None:
        stream, self._stream, self._chunks = self._stream, None, None
        if stream is not None:
            stream.close()

    def _wrong_size(self) -> DownloadError:
        return DownloadError(self._call, "the file does not have the size that was announced")


def _validator(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("ETag", "")
    if tag.startswith('"') and tag.isprintable():  # else it could not be sent back
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
        self._chunks = download.chunks()
        self._is_begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_begun:  # a file that broke off must not look like an empty one
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
        """Stop here, and give the connection back.

        Raises:
            ClientUsageError: another task is waiting for the next piece; cancel that one.
        """
        self._is_begun = True
        try:
            await self._chunks.aclose()
        except RuntimeError:  # how Python says so
            is_busy = True
        else:
            is_busy = False
        if is_busy:
            raise ClientUsageError("This stream is being iterated by another task: cancel that one.")
