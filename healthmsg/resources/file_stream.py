"""A file's bytes as they arrive."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from healthmsg.errors import ClientUsageError
from healthmsg.resources.downloads import Download
from healthmsg.tasks import AsyncIterationOnly


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
