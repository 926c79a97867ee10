"""Uploading many files at once, and keeping the contents of files that are still to be sent."""

import asyncio
import os
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from typing import Any, Final

from attrs import define, evolve, field, frozen

from healthmsg.aio import in_thread
from healthmsg.api import Api
from healthmsg.bulk.dispatch import CallTracker
from healthmsg.bulk.models import RECIPIENT, Recipient, address_of, check_own, outcome_of, shown_recipient
from healthmsg.codec import Model
from healthmsg.errors import InvalidInputError, SendingStoppedError
from healthmsg.files import FileSnapshots, FileToUpload, TakenFile, UploadFile
from healthmsg.models import Outcome
from healthmsg.resources.group_chat import handle
from healthmsg.structuring import in_json
from healthmsg.task_pool import BulkRun, Job, TaskPool, Words
from healthmsg.transfer import Meter, Progress, Transfer
from healthmsg.validation import check_count

_WORDS: Final = Words("an upload_many", "uploads", "make", "sent")
# Bytes. Letters and scans are smaller; a run holds so many of them at once, whatever its messages are.
_LARGEST_HELD: Final = 4 * 1024 * 1024
_MOST_HELD: Final = 32 * 1024 * 1024
_Task = asyncio.Task[None]


@define
class _Held:
    content: bytes
    times: int = 0


class HeldFiles:
    """The files of messages that were read and not sent yet, for runs without a journal.

    Each is recorded before the next message is requested. Small files are read into memory, so that a later
    change does not matter. Content that several messages share is kept once.
    """

    def __init__(self) -> None:
        self._taker = FileSnapshots(hold_up_to=_LARGEST_HELD)
        self._held: dict[bytes, _Held] = {}
        self._bytes = 0
        self._was_released = asyncio.Event()

    async def take(self, files: Sequence[FileToUpload]) -> tuple[FileToUpload, ...]:
        """Record the files, and wait while too many bytes are held."""
        if not files:
            return ()
        taken = await in_thread(self._taker.take, files)
        while self._bytes and self._bytes + self._new_bytes(taken) > _MOST_HELD:
            self._was_released.clear()
            await self._was_released.wait()
        return tuple(map(self._hold, taken))

    def release(self, files: Sequence[FileToUpload]) -> None:
        """Release the files of a message that was sent, or will not be."""
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


@frozen
class Upload:
    """Files to upload to a chat as one message, with an optional text. An address is as in `Outgoing`.

    What is sent is what the files hold when the run takes the upload from its iterable: see `UploadFile`.
    `key` and `label` are yours, and come back in the result.
    """

    to: Recipient = field(repr=shown_recipient)
    files: Sequence[FileToUpload] | FileToUpload = field(repr=False)
    body: str = field(default="", repr=False)
    key: str | None = field(default=None, repr=False)
    label: str | None = field(default=None, repr=False)


def _file_names(files: Sequence[FileToUpload] | FileToUpload) -> list[str]:
    """Return what tells the files of a result apart in JSON: their paths, or the names that they have."""
    if isinstance(files, Sequence) and not isinstance(files, str):
        return [_file_name(file) for file in files]
    return [_file_name(files)]


def _file_name(file: object) -> str:
    source = file.source if isinstance(file, UploadFile) else file
    if isinstance(source, str | os.PathLike):
        return str(source)
    name = getattr(file, "name", "")
    return name if isinstance(name, str) else ""


@frozen
class UploadResult(Model):
    """The result of one upload; `to`, `files`, `key` and `label` are as they were given.

    `message_id` is set if it was delivered, `error` if not. Its dict has paths or names as `files`.
    """

    to: Recipient = field(repr=shown_recipient, metadata=RECIPIENT)
    files: Sequence[FileToUpload] | FileToUpload = field(
        repr=False, metadata=in_json(tuple[str, ...], _file_names)
    )
    outcome: Outcome
    message_id: str | None = None
    error: Exception | None = None
    key: str | None = field(default=None, repr=False)
    label: str | None = field(default=None, repr=False)


Pair = tuple[Recipient, Sequence[FileToUpload] | FileToUpload]
Uploads = Iterable[Upload | Pair] | AsyncIterable[Upload | Pair]


@frozen
class _Snapshot:
    """An upload, and its files as they were when it was read."""

    upload: Upload
    files: Sequence[FileToUpload] = field(repr=False)


class UploadMany(BulkRun[UploadResult]):
    """Files that are being uploaded. Iterate it for the results, in the order in which they come.

    Uploads are read as they are needed and made at the same time, in no order, within a chat neither. Each
    call passes the limit, among all other calls of the client. Unread results block the work.

    Leaving the `async with` (or closing the client) begins nothing more. An upload that has left completely
    is waited for, within the time-outs and retries, so that its outcome is known; one that is still being
    sent is cut off, and is UNKNOWN; all others are NOT_SENT. The results that are left can still be read by
    iterating on.
    """

    def __init__(self, api: Api, uploads: Uploads, *, concurrency: int, progress: Progress | None) -> None:
        self._uploads = uploads
        self._progress = progress
        self._meter = Meter(progress)
        self._files = HeldFiles()
        job = Job(
            _WORDS,
            self._feed,
            self._work,
            self._cancelled_result,
            self._may_finish,
            self._forget,
            self._meter.finish,
        )
        self._pool: TaskPool[_Snapshot, UploadResult] = TaskPool(
            job, api.spawn, places=check_count(concurrency, "concurrency", at_least=1)
        )
        self._calls = CallTracker(api, self._pool.in_flight)

    async def _feed(self) -> None:
        await self._pool.feed_all(self._uploads, self._take)

    async def _take(self, item: object) -> _Snapshot:
        if isinstance(item, tuple) and len(item) == 2:  # noqa: PLR2004 - a pair
            item = Upload(*item)
        if not isinstance(item, Upload):
            raise InvalidInputError(
                f"upload_many takes pairs of a chat and its files, or Upload, not {type(item).__name__}"
            )
        several = isinstance(item.files, Sequence) and not isinstance(item.files, str | bytes)
        files: Any = item.files if several else (item.files,)
        return _Snapshot(item, await self._files.take(files))

    async def _work(self, item: _Snapshot) -> UploadResult:
        upload = item.upload
        share = _Share(self._meter) if self._progress is not None else None
        try:
            check_own(upload.to, self._calls.api)
            chat = handle(self._calls.api, address_of(upload.to))
            sent = await chat.upload(*item.files, body=upload.body, progress=share)
        except Exception as error:  # noqa: BLE001 - reported, with what can be said of the upload
            return _result(upload, outcome_of(error), error=error)
        finally:
            self._files.release(item.files)
        return _result(upload, Outcome.DELIVERED, message_id=sent.id)

    def _cancelled_result(self, item: _Snapshot, task: _Task) -> UploadResult:
        # Without a connection nothing was sent, and no earlier try took effect, since it was retried.
        may_have_left = (
            self._calls.has_begun(task) and self._calls.requests[task].current.has_left is not False
        )
        outcome = Outcome.UNKNOWN if may_have_left else Outcome.NOT_SENT
        error = SendingStoppedError(f"The run was ended before this upload was done; it is {outcome.value}.")
        return _result(item.upload, outcome, error=error)

    def _may_finish(self, task: _Task) -> bool:
        request = self._calls.requests.get(task)
        return request is not None and request.current.body_sent

    def _forget(self, task: _Task) -> None:
        self._calls.forget(task)


def _result(
    upload: Upload, outcome: Outcome, *, message_id: str | None = None, error: Exception | None = None
) -> UploadResult:
    return UploadResult(upload.to, upload.files, outcome, message_id, error, upload.key, upload.label)


class _Share:
    """Adds the progress of one upload to that of all."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._transfer: Transfer | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self._transfer is None:
            self._transfer = self._meter.begin(total)
        elif total is not None:
            self._transfer.know_size(total)
        self._transfer.restart(at=done)
