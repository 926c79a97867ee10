"""Uploading many files at once, each message with its own outcome."""

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any, ClassVar

from attrs import evolve, field, frozen

from healthmsg.api import Api
from healthmsg.bulk.in_hand import FilesInHand
from healthmsg.bulk.messages import Recipient, shown_recipient
from healthmsg.bulk.sending import Sending, outcome_of
from healthmsg.errors import InvalidInputError, SendingStoppedError
from healthmsg.files import FileToUpload
from healthmsg.models import Outcome
from healthmsg.task_pool import Words
from healthmsg.transfer import Meter, Progress, Transfer
from healthmsg.validation import check_count


@frozen
class Upload:
    """Files to upload to a chat as one message, with an optional text. An address is as in `Outgoing`.

    What is sent is what the files hold when the run takes the upload from its iterable: see `UploadFile`.
    """

    chat: Recipient = field(repr=shown_recipient)
    files: Sequence[FileToUpload] | FileToUpload = field(repr=False)
    message: str = field(default="", repr=False)


@frozen
class UploadResult:
    """What became of one upload; `chat` and `files` are as they were given.

    `message_id` is set if it was delivered, `error` if not.
    """

    chat: Recipient = field(repr=shown_recipient)
    files: Sequence[FileToUpload] | FileToUpload = field(repr=False)
    outcome: Outcome
    message_id: str | None = None
    error: Exception | None = None


Pair = tuple[Recipient, Sequence[FileToUpload] | FileToUpload]
Uploads = Iterable[Upload | Pair] | AsyncIterable[Upload | Pair]


@frozen
class _Taken:
    """An upload, and its files as they were when it was taken."""

    upload: Upload
    files: Sequence[FileToUpload] = field(repr=False)


class UploadMany(Sending[_Taken, UploadResult]):
    """Files that are being uploaded. Iterate it for the results, in the order in which they come.

    Uploads are read as they are needed and made at the same time, in no order, within a chat neither. Each
    call passes the limit, among all other calls of the client. Results that nobody reads hold up the work.

    Leaving the `async with` (or closing the client) begins nothing more. An upload that has left completely
    is waited for, within the time-outs and retries, so that its outcome is known; one that is still being
    sent is cut off, and is UNKNOWN; all others are NOT_SENT. The results that are left can still be read by
    iterating on.
    """

    _words: ClassVar[Words] = Words("an upload_many", "uploads", "make", "sent")

    def __init__(self, api: Api, uploads: Uploads, *, concurrency: int, progress: Progress | None) -> None:
        super().__init__(api, uploads, places=check_count(concurrency, "concurrency", at_least=1))
        self._progress = progress
        self._meter = Meter(progress)
        self._files = FilesInHand()

    def _accept(self, item: Any) -> _Taken:
        if isinstance(item, tuple) and len(item) == 2:  # noqa: PLR2004 - a pair
            item = Upload(*item)
        if not isinstance(item, Upload):
            raise InvalidInputError(
                f"upload_many takes pairs of a chat and its files, or Upload, not {type(item).__name__}"
            )
        several = isinstance(item.files, Sequence) and not isinstance(item.files, str | bytes)
        files: Any = item.files if several else (item.files,)
        return _Taken(item, files)

    async def _take(self, item: Any) -> _Taken:
        accepted = self._accept(item)
        return evolve(accepted, files=await self._files.take(accepted.files))

    def _is_waited_for(self, task: "asyncio.Task[None]") -> bool:
        request = self._requests.get(task)
        return request is not None and request.current.body_sent

    def _cut_off(self, item: _Taken, task: "asyncio.Task[None]") -> UploadResult:
        outcome = Outcome.UNKNOWN if self._may_have_left(task) else Outcome.NOT_SENT
        error = SendingStoppedError(f"The run was ended before this upload was done; it is {outcome.value}.")
        return _result(item.upload, outcome, error=error)

    def _may_have_left(self, task: "asyncio.Task[None]") -> bool:
        # One without a connection has not left, nor had an earlier try taken effect: it was made again.
        return self._has_begun(task) and self._requests[task].current.has_left is not False

    def _finish(self) -> None:
        super()._finish()
        self._meter.finish()

    async def _work(self, item: _Taken) -> UploadResult:
        upload = item.upload
        share = _Share(self._meter) if self._progress is not None else None
        try:
            chat = self._chat(upload.chat)
            sent = await chat.upload(*item.files, body=upload.message, progress=share)
        except Exception as error:  # noqa: BLE001 - reported, with what can be said of the upload
            return _result(upload, outcome_of(error), error=error)
        finally:
            self._files.release(item.files)
        return _result(upload, Outcome.DELIVERED, message_id=sent.id)


def _result(
    upload: Upload, outcome: Outcome, *, message_id: str | None = None, error: Exception | None = None
) -> UploadResult:
    return UploadResult(upload.chat, upload.files, outcome, message_id, error)


class _Share:
    """Takes the progress of one upload into that of all."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._transfer: Transfer | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self._transfer is None:
            self._transfer = self._meter.begin(total)
        elif total is not None:
            self._transfer.know_size(total)
        self._transfer.restart(at=done)
