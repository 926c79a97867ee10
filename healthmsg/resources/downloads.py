"""Fetching a file: ask the API for a link, follow it by hand, write it whole or not at all.

The bearer token goes to the API's own origin only, and the cookie that came with the link only to where
the link leads.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar
from urllib.parse import urljoin, urlsplit

from healthmsg.addresses import ChatAddress
from healthmsg.codec import as_mapping
from healthmsg.environment import port_of, require_secure_url
from healthmsg.errors import ClientUsageError, ConfigurationError, DownloadError, InvalidResponseError
from healthmsg.files import target_path
from healthmsg.models import Attachment
from healthmsg.pipeline.exchange import Request, Response, Stream
from healthmsg.resources.api import Api
from healthmsg.routes import GET_ATTACHMENT

T = TypeVar("T")

_MOST_REDIRECTS: Final = 5


class Download:
    """One file to fetch; nothing is sent until it is asked for."""

    def __init__(
        self, api: Api, request: Request, *, name: str | None = None, size: int | None = None
    ) -> None:
        self._api = api
        self._request = request
        self._name = name
        self._size = size

    @classmethod
    def of_attachment(cls, api: Api, chat: ChatAddress, attachment: Attachment | str) -> "Download":
        """Prepare the download of an attachment; what is known of it is held against what comes."""
        if not isinstance(attachment, Attachment):
            return cls(api, api.request(GET_ATTACHMENT, chat, attachment_id=attachment))
        request = api.request(GET_ATTACHMENT, chat, attachment_id=attachment.id)
        return cls(api, request, name=attachment.name, size=attachment.size)

    async def to_file(self, to: str | os.PathLike[str], *, overwrite: bool) -> Path:
        """Write the file beside its place, and put it there when it is complete."""
        target = await asyncio.to_thread(target_path, to, self._name)
        if not overwrite and await asyncio.to_thread(target.exists):
            raise FileExistsError(f"{target} exists; pass overwrite=True to replace it")
        partial = target.with_name(f".healthmsg-{token_hex(8)}.part")
        with ExitStack() as tidy:
            tidy.callback(partial.unlink, missing_ok=True)
            file = await _in_thread(_create, partial, tidy)
            await self._write(file)
            self._check_size(file.tell())
            await _in_thread(file.close)
            await _in_thread(_put_in_place, partial, target, overwrite)
        return target

    async def read(self, *, max_bytes: int) -> bytes:
        """Give the whole file, if it is not larger than `max_bytes`."""
        content = bytearray()
        async with FileStream(self) as stream:
            async for chunk in stream:
                content += chunk
                if len(content) > max_bytes:
                    raise DownloadError(self._request.call, "the file is larger than max_bytes")
        return bytes(content)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give the file piece by piece; its size is checked at the end."""
        stream = await self._open()
        received = 0
        try:
            async for chunk in stream.chunks():
                received += len(chunk)
                yield chunk
        finally:
            stream.close()
        self._check_size(received)

    async def _write(self, file: BinaryIO) -> None:
        stream = await self._open()
        try:
            async for chunk in stream.chunks():
                await _in_thread(file.write, chunk)
        finally:
            stream.close()

    def _check_size(self, received: int) -> None:
        if self._size is not None and received != self._size:
            raise DownloadError(self._request.call, "the file does not have the size that was announced")

    async def _open(self) -> Stream:
        self._request.query = {**(self._request.query or {}), "headers": "false"}
        self._request.answers_with_link = True
        response = await self._api.send(self._request)
        url = self._acceptable(self._link_of(response), base=f"{self._api.url}/{self._request.path}")
        cookie = _cookie_header(response.cookies)
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._fetch(url, cookie)
            if response.stream is not None:
                return response.stream
            onwards = self._acceptable(self._link_of(response), base=url)
            if _origin(onwards) != _origin(url):
                cookie = None
            url = onwards
        raise DownloadError(self._request.call, "the link led from one redirect to the next")

    async def _fetch(self, url: str, cookie: str | None) -> Response:
        request = Request(
            f"{self._request.call} (the file)",
            "GET",
            url,
            cookie=cookie,
            streamed=True,
            answers_with_link=True,
            lane=self._api.lane,
        )
        own = _origin(url) == _origin(self._api.url)
        return await (self._api.send if own else self._api.fetch)(request)

    def _link_of(self, response: Response) -> str:
        link = response.headers.get("Location")
        if link is None:
            with suppress(InvalidResponseError):
                link = as_mapping(response.json()).get("link")  # type: ignore[assignment] # checked below
        if not isinstance(link, str) or not link:
            raise DownloadError(self._request.call, "the answer has no link")
        return link

    def _acceptable(self, link: str, *, base: str) -> str:
        try:
            url = urlsplit(urljoin(base, link)).geturl()  # writes the scheme in small letters
            require_secure_url("the link", url)
        except (ValueError, ConfigurationError):
            pass
        else:
            return url
        raise DownloadError(self._request.call, "the link is neither https nor on loopback")


class FileStream:
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


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, port_of(parts)


def _cookie_header(set_cookies: tuple[str, ...]) -> str | None:
    pairs: dict[str, str] = {}
    for set_cookie in set_cookies:
        with suppress(CookieError):
            pairs |= {name: cookie.coded_value for name, cookie in SimpleCookie(set_cookie).items()}
    return "; ".join(f"{name}={value}" for name, value in pairs.items()) or None


async def _in_thread(work: Callable[..., T], *args: object) -> T:
    """Run something in a thread; when cancelled, wait for its end, since tidying up comes after it."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _create(partial: Path, tidy: ExitStack) -> BinaryIO:
    try:
        return tidy.enter_context(open(partial, "xb", opener=_private))
    except (FileNotFoundError, NotADirectoryError):
        pass
    raise FileNotFoundError(f"{partial.parent} is not a folder that exists")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _put_in_place(partial: Path, target: Path, overwrite: bool) -> None:  # noqa: FBT001 - goes through a thread
    if not overwrite:
        try:
            os.link(partial, target)  # fails if the target has come to exist meanwhile
        except FileExistsError:
            raise
        except OSError:  # a disk without hard links
            target.open("xb").close()
        else:
            return
    partial.replace(target)
