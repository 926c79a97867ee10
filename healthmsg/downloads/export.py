"""The archive of a chat: what the service says of it, its messages, its attachments."""

import os
import stat
import tempfile
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson
from attrs import field, frozen

from healthmsg.aio import in_thread
from healthmsg.api import Api
from healthmsg.codec import Model, as_mapping, decode, encode
from healthmsg.downloads.attachments import DownloadAll, DownloadResult
from healthmsg.errors import ClientClosedError, ClientUsageError, ExportIncompleteError, InvalidInputError
from healthmsg.file_lock import remove_and_unlock, try_to_lock
from healthmsg.files.targets import make_folder, stored_name
from healthmsg.ids import ChatAddress
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.models import Attachment, ConversationInfo, GroupChatInfo, Message
from healthmsg.paging import PAGE_SIZE
from healthmsg.routes import GET_CHAT, LIST_MESSAGES
from healthmsg.transfer import Progress
from healthmsg.validation import check_count, check_progress

_CHAT: Final = "chat.json"
_MESSAGES: Final = "messages.jsonl"
_ATTACHMENTS: Final = "attachments"
_LOCK: Final = ".export.lock"


class Spool:
    """Blocks of lines in an unnamed file, which is removed with the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._file = stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - it is one
        self._starts: list[int] = []
        self.lines: int = 0

    def add(self, block: Sequence[bytes]) -> None:
        """Add a block of lines."""
        self._starts.append(self._file.tell())
        self._file.writelines(line + b"\n" for line in block)
        self.lines += len(block)

    async def forwards(self) -> AsyncGenerator[bytes, None]:
        """Yield line after line. Nothing may be added meanwhile."""
        position = 0
        while lines := await in_thread(self._lines_from, position):
            for line in lines:
                yield line
            position += sum(map(len, lines))

    def blocks_backwards(self) -> Iterator[bytes]:
        """Yield the last block first; the lines in a block stay in their order."""
        end = self._file.seek(0, os.SEEK_END)
        for start in reversed(self._starts):
            self._file.seek(start)
            yield self._file.read(end - start)
            end = start

    def _lines_from(self, position: int) -> list[bytes]:
        self._file.seek(position)
        return self._file.readlines(_READ_AT_ONCE)


@frozen
class Export(Model):
    """A complete archive of a chat."""

    folder: Path = field(repr=False)
    messages: int
    """In `messages.jsonl`."""
    attachments: int
    """In `attachments/`."""
    fetched: int
    """Those of them that were not there before."""


async def export_chat(
    api: Api,
    chat: ChatAddress,
    *,
    to: str | os.PathLike[str],
    concurrency: int,
    progress: Progress | None,
) -> Export:
    """Write the archive of a chat; see `BaseChat.export`."""
    check_count(concurrency, "concurrency", at_least=1)
    check_progress(progress)
    folder = Path(to)
    with ExitStack() as stack:
        await in_thread(_claim, folder, stack)
        await _write_chat(api, chat, folder)
        messages = await in_thread(Spool, folder, stack)
        attachments = await in_thread(Spool, folder, stack)
        await _read(api, chat, messages, attachments)
        await in_thread(_refuse_links, folder)  # reading may have taken long
        run = DownloadAll(
            api,
            chat,
            _decoded(attachments),
            to=folder / _ATTACHMENTS,
            concurrency=concurrency,
            progress=progress,
        )
        fetched = await _fetch(run, attachments.lines)
        await in_thread(write_whole, folder / _MESSAGES, messages.blocks_backwards())
    return Export(folder, messages.lines, attachments.lines, fetched)


async def _write_chat(api: Api, chat: ChatAddress, folder: Path) -> None:
    info: ConversationInfo | GroupChatInfo
    if chat.kind.is_group:
        info = await api.read(GroupChatInfo, GET_CHAT, chat)
    else:
        info = await api.read(ConversationInfo, GET_CHAT, chat)
    if not await in_thread(_is_for, folder, info.id):
        raise InvalidInputError(
            "the folder has a chat.json or messages.jsonl of something else than this chat. Nothing was"
            " exported: choose another folder"
        )
    await in_thread(write_whole, folder / _CHAT, [encode(info), b"\n"])


def _is_for(folder: Path, chat_id: str) -> bool:
    try:
        written = (folder / _CHAT).read_bytes()
    except FileNotFoundError:
        return not (folder / _MESSAGES).exists()
    with suppress(NotJSONError):
        return as_mapping(parse_json(written)).get("id") == chat_id
    return False


async def _read(api: Api, chat: ChatAddress, messages: Spool, attachments: Spool) -> None:
    """Read the whole list before any file is downloaded: in a list that is read slowly, pages shift more."""
    seen: set[str] = set()
    async with (
        api.pages(Message, LIST_MESSAGES, chat, page_size=PAGE_SIZE) as pager,
        aclosing(pager.pages()) as pages,
    ):
        async for page in pages:
            new = {
                name: encode(attachment)
                for message in page
                for attachment in message.attachments
                if (name := stored_name(attachment)) not in seen
            }
            seen.update(new)
            # Oldest first within a page, and later the last page first.
            await in_thread(messages.add, [_line(message) for message in reversed(page)])
            await in_thread(attachments.add, [*new.values()])


def _line(message: Message) -> bytes:
    if not message.attachments:
        return encode(message)
    document = orjson.loads(encode(message))
    for written, attachment in zip(document["attachments"], message.attachments, strict=True):
        written["file"] = f"{_ATTACHMENTS}/{stored_name(attachment)}"
    return orjson.dumps(document)


async def _decoded(attachments: Spool) -> AsyncGenerator[Attachment, None]:
    async with aclosing(attachments.forwards()) as lines:
        async for line in lines:
            yield decode(line, Attachment, "an attachment of the chat")


async def _fetch(run: DownloadAll, count: int) -> int:
    """Download the missing files, and return how many they were."""
    failures: list[DownloadResult] = []
    skipped = done = 0
    async with run:
        async for result in run:
            done += 1
            skipped += result.skipped
            if result.error is not None:
                failures.append(result)
    if done < count:  # the run was ended with the client
        raise ClientClosedError
    if failures:
        raise ExportIncompleteError(failures)
    return done - skipped


def _claim(folder: Path, stack: ExitStack) -> None:
    make_folder(folder)
    _refuse_links(folder)
    stack.enter_context(_locked(folder / _LOCK))


def _refuse_links(folder: Path) -> None:
    """Refuse links and the like in place of an export's own files: they could lead out of the folder.

    The folder itself may be a link, which is the user's choice.

    Raises:
        InvalidInputError: there is something that no export leaves there.
    """
    for name, is_kind in (
        (_CHAT, stat.S_ISREG),
        (_MESSAGES, stat.S_ISREG),
        (_LOCK, stat.S_ISREG),
        (_ATTACHMENTS, stat.S_ISDIR),
    ):
        with suppress(FileNotFoundError):
            if not is_kind((folder / name).lstat().st_mode):
                raise InvalidInputError(
                    f"{name} in the folder is not what an export leaves there, but a link or something else."
                    " Nothing was exported: remove it, or choose another folder"
                )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other exports out. The lock ends with the process; a file that is left behind locks nothing."""
    descriptor = try_to_lock(path)
    if descriptor is None:
        raise ClientUsageError("another export into this folder is under way: wait for its end")
    try:
        yield
    finally:
        remove_and_unlock(path, descriptor)


# Bytes.
_READ_AT_ONCE: Final = 64 * 1024


def write_whole(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file that appears when it is complete, and that only the user can read."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise
