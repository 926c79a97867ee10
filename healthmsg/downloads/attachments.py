"""Downloading every attachment of a chat into a folder."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from attrs import field, frozen

from healthmsg.api import Api
from healthmsg.codec import Model
from healthmsg.downloads.download import Download
from healthmsg.errors import ClientClosedError, DownloadError
from healthmsg.files.targets import make_folder, stored_name
from healthmsg.ids import ChatAddress
from healthmsg.models import Attachment, Message
from healthmsg.paging import PAGE_SIZE
from healthmsg.routes import GET_ATTACHMENT, LIST_MESSAGES
from healthmsg.task_pool import BulkRun, Job, TaskPool, Words
from healthmsg.transfer import Meter, Progress
from healthmsg.validation import check_count

_WORDS: Final = Words("a download_all", "attachments", "fetch", "fetched")


@frozen
class DownloadResult(Model):
    """What became of one attachment.

    `path` is where it is, or `None` if it could not be downloaded: then `error` says why. `skipped` means
    that it was there already, with the right size.
    """

    attachment: Attachment
    path: Path | None = field(default=None, repr=False)
    skipped: bool = False
    error: Exception | None = None


class DownloadAll(BulkRun[DownloadResult]):
    """A run that downloads attachments. Iterate it for the results, in the order in which they come.

    `await it.all()` waits for everything. One that fails does not stop the others; an error in reading the
    chat is raised after the results. It works on while its results are read. Leaving the `async with` (or
    closing the client) ends it, and leaves no part of a file; the results that are left can still be read by
    iterating on.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        api: Api,
        chat: ChatAddress,
        attachments: AsyncGenerator[Attachment, None],
        *,
        to: str | os.PathLike[str],
        concurrency: int,
        progress: Progress | None,
    ) -> None:
        self._api = api
        self._chat = chat
        self._attachments = attachments
        self._folder = Path(to)
        self._meter = Meter(progress)
        job = Job(_WORDS, self._feed, self._work, self._cancelled_result, finish=self._meter.finish)
        self._pool: TaskPool[Attachment, DownloadResult] = TaskPool(
            job, api.spawn, places=check_count(concurrency, "concurrency", at_least=1)
        )

    async def _feed(self) -> None:
        async with aclosing(self._attachments):
            await asyncio.to_thread(make_folder, self._folder)
            await self._pool.feed_all(self._attachments, _taken)

    def _cancelled_result(self, item: Attachment, _: "asyncio.Task[None]") -> DownloadResult:
        call = GET_ATTACHMENT.call(self._chat)
        return DownloadResult(item, error=DownloadError(call, "the run was ended before it was fetched"))

    async def _work(self, item: Attachment) -> DownloadResult:
        target = self._folder / stored_name(item)
        try:
            if await asyncio.to_thread(_is_there, target, item.size):
                return DownloadResult(item, target, skipped=True)
            transfer = self._meter.begin(item.size)
            download = Download.of_attachment(self._api, self._chat, item)
            await download.to_file(target, overwrite=True, transfer=transfer)
        except Exception as error:  # noqa: BLE001 - reported: it must not stop the others
            return DownloadResult(item, error=error)
        return DownloadResult(item, target)


async def _taken(attachment: Attachment) -> Attachment:
    return attachment


async def attachments_of(api: Api, chat: ChatAddress) -> AsyncGenerator[Attachment, None]:
    """Yield each attachment of a chat once, newest first.

    The list is read while files are downloaded, at full speed: messages that arrive between two pages shift
    the later ones, and enough of them would look like the end of the list.
    """
    messages = api.pages(Message, LIST_MESSAGES, chat, page_size=PAGE_SIZE)
    queue: asyncio.Queue[Attachment | None] = asyncio.Queue()

    async def read() -> None:
        seen: set[str] = set()
        async with messages:
            async for message in messages:
                for attachment in message.attachments:
                    if attachment.id not in seen:
                        seen.add(attachment.id)
                        queue.put_nowait(attachment)

    reading = api.spawn(read())
    # Not in the task itself, which may be cancelled before it has begun.
    reading.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (attachment := await queue.get()) is not None:
            yield attachment
        if reading.cancelled():
            raise ClientClosedError
        reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _is_there(path: Path, size: int | None) -> bool:
    """Return whether a file was downloaded before: it appears only when it is complete."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError("there is a folder of the file's name")
    return stat.S_ISREG(found.st_mode) and size in (None, found.st_size)
