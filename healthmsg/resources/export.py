"""The archive of a chat: what it is, its messages, its attachments."""

import os
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from pathlib import Path
from typing import Final

import orjson
from attrs import field, frozen

from healthmsg.addresses import ChatAddress
from healthmsg.codec import as_mapping, decode, encode
from healthmsg.errors import ClientClosedError, ClientUsageError, ExportIncompleteError, InvalidInputError
from healthmsg.file_lock import remove_and_unlock, try_to_lock
from healthmsg.files.names import stored_name
from healthmsg.files.targets import make_folder
from healthmsg.files.threads import in_thread
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.many import check_concurrency
from healthmsg.models import Attachment, ConversationInfo, GroupChatInfo, Message
from healthmsg.paging import PAGE_SIZE
from healthmsg.pipeline.meter import Progress, check_progress
from healthmsg.resources.api import Api
from healthmsg.resources.archive import DownloadAll
from healthmsg.resources.spool import Spool, write_whole
from healthmsg.results import DownloadResult
from healthmsg.routes import GET_CHAT, LIST_MESSAGES

_CHAT: Final = "chat.json"
_MESSAGES: Final = "messages.jsonl"
_ATTACHMENTS: Final = "attachments"
_LOCK: Final = ".export.lock"


@frozen
class Export:
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
    check_concurrency(concurrency)
    check_progress(progress)
    folder = Path(to)
    with ExitStack() as stack:
        await in_thread(_claim, folder, stack)
        await _write_chat(api, chat, folder)
        messages = await in_thread(Spool, folder, stack)
        attachments = await in_thread(Spool, folder, stack)
        await _read(api, chat, messages, attachments)
        await in_thread(_refuse_what_is_planted, folder)  # reading may have taken long
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
    """Read the whole list before any file is fetched: in a list that is read slowly, pages move more."""
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
    """Fetch what is missing, and give how many that were."""
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
    _refuse_what_is_planted(folder)
    stack.enter_context(_locked(folder / _LOCK))


def _refuse_what_is_planted(folder: Path) -> None:
    """Refuse links and the like in the places of an export's own files: they would lead out of the folder.

    The folder itself may be a link: that is the user's choice.

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
    """Keep other exports out. The lock goes with the process; a file that is left behind is none."""
    descriptor = try_to_lock(path)
    if descriptor is None:
        raise ClientUsageError("another export into this folder is under way: wait for its end")
    try:
        yield
    finally:
        remove_and_unlock(path, descriptor)
