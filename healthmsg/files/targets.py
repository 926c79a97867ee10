"""Under which names files are written."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar
from unicodedata import bidirectional, category, combining

from attrs import frozen

from healthmsg.models import Attachment

_RESERVED: Final = re.compile(r'[<>:"|?*]')
# On Windows, with any extension, and with spaces before it.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?")
# Windows reads these when a folder is opened, and may then call another machine or start a program.
_FOLDER_SETTINGS: Final = re.compile(r"(?i)(desktop\.ini|autorun\.inf)")
# A command takes the one for an option, a shell the other for a user's home.
_NOT_FIRST: Final = ("-", "~")
# Categories of Unicode: control characters, those that only change how others are shown (such as the
# direction of writing), halves of pairs, and the ends of lines.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# What is not seen though its category does not say so: fillers, and what is no character. What is not
# assigned stays: it may be an emoji that is newer than this Python.
_UNSEEN_TOO: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e0fff]"
)
_JOINERS: Final = frozenset("\u200c\u200d")
# They choose between forms of the character before them: a heart as text, or in colour.
_VARIATIONS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))
_VIRAMA: Final = 9
# Bytes. File systems take 255; the rest is for what makes a name unique.
_LONGEST_NAME: Final = 200
_LONGEST_SUFFIX: Final = 20


def safe_name(suggested: str | None) -> str:
    """Return a harmless form of a name that the service gave.

    It has no path parts and no leading dots, and is no device, option or settings of a folder. It has no
    invisible letters either, with which `annexe.pdf` could show as `annfdp.exe`, or two names look the same.
    """
    bare = (suggested or "").encode(errors="replace").decode()
    bare = _trimmed(_seen(bare.replace("\\", "/").rpartition("/")[2]))
    if bare.startswith(_NOT_FIRST) or _DEVICE.fullmatch(bare) or _FOLDER_SETTINGS.fullmatch(bare):
        bare = f"_{bare}"
    return _shortened(bare) or "attachment"


def stored_name(attachment: Attachment) -> str:
    """Return the name of the file for one attachment of many: its safe name, and a part of its id's hash.

    So no two attachments share a name, and a second run finds the files that are there already.
    """
    name = Path(safe_name(attachment.name))
    # 64 bits: with fewer, two of a chat's many `foto.jpg` could share a file.
    return f"{name.stem}-{sha256(attachment.id.encode(errors='surrogatepass')).hexdigest()[:16]}{name.suffix}"


def _seen(text: str) -> str:
    """Return the text without invisible and reserved letters, and with single plain blanks."""
    kept = list[str]()
    for index, letter in enumerate(text):
        if letter in _VARIATIONS:
            if kept and category(kept[-1]) in {"So", "Sm", "Nd"}:
                kept.append(letter)
        elif letter in _JOINERS:
            if _does_join(kept, text[index + 1 : index + 2]):
                kept.append(letter)
        elif category(letter) not in _UNSEEN and not _UNSEEN_TOO.match(letter):
            kept.append(" " if letter.isspace() else letter)
    # A run of blanks can push what follows out of sight: `annexe.pdf          .exe`.
    return _RESERVED.sub("_", re.sub(" {2,}", " ", "".join(kept)))


def _does_join(before: list[str], after: str) -> bool:
    """Return whether a joiner has an effect there: in an emoji, or in scripts that are written with it."""
    if not before or not after:
        return False
    last = before[-1]
    if last in _VARIATIONS or category(last) in {"So", "Sk"}:
        return category(after) in {"So", "Sm"}
    if combining(last) == _VIRAMA:
        return category(after).startswith("L")
    return bidirectional(last) == "AL" == bidirectional(after)


def _shortened(name: str) -> str:
    """Return a name that file systems take, with its extension."""
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = Path(name).suffix
    suffix = suffix if len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    room = _LONGEST_NAME - len(suffix.encode())
    # Checked again, since a joiner that is last now has nothing to join.
    return _trimmed(_seen(name.removesuffix(suffix).encode()[:room].decode(errors="ignore"))) + suffix


def _trimmed(name: str) -> str:
    return name.lstrip(". ").rstrip(". ")


T = TypeVar("T")
_SEPARATORS: Final = tuple(filter(None, (os.sep, os.altsep)))


@frozen
class Target:
    """Where a file is to be: at `path`, or in a folder under the first of its names that is free."""

    path: Path
    overwrite: bool
    is_in_folder: bool

    @classmethod
    def find(cls, to: str | os.PathLike[str], suggested_name: str | None, *, overwrite: bool) -> "Target":
        """Return where a file goes. Blocks.

        A path that ends with a slash is a folder, and made unless it exists.

        Raises:
            FileExistsError: it is there already, and is not to be overwritten.
            FileNotFoundError: there is no such folder.
            NotADirectoryError: it ends with a slash, and is a file.
        """
        path = Path(to)
        if os.fspath(to).endswith(_SEPARATORS):
            make_folder(path)
        if path.is_dir():
            return cls(path / safe_name(suggested_name), overwrite, True)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} is not a folder that exists")
        if not overwrite and os.path.lexists(path):
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        return cls(path, overwrite, False)

    def take(self, partial: Path) -> Path:
        """Put a complete file there, and return its path. Blocks.

        Raises:
            FileExistsError: the path was taken meanwhile.
        """
        if self.overwrite:
            return partial.replace(self.path)
        for path in self._names():
            with suppress(FileExistsError):
                _move_to_new(partial, path)
                return path
        raise FileExistsError(f"{self.path} was made meanwhile; it was left as it is")

    def _names(self) -> Iterator[Path]:
        yield self.path
        if self.is_in_folder:
            for number in count(1):
                yield self.path.with_name(f"{self.path.stem} ({number}){self.path.suffix}")


def make_folder(folder: Path) -> None:
    """Make a folder that only the user can look into, unless it exists. Blocks.

    Raises:
        FileNotFoundError: the folder it would be in does not exist.
        NotADirectoryError: there is a file of that name.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")


class PartialFile:
    """A file that is being written, and removed on leaving the `async with` unless it was completed.

    A thread of its own writes, so that the next chunk is received meanwhile.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._path = target.path.with_name(f".healthmsg-{token_hex(8)}.part")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="healthmsg download")
        self._file: BinaryIO | None = None
        self._writing: asyncio.Future[int] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._create)
        except BaseException:
            await self._tidy()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tidy()

    async def write(self, chunk: bytes) -> None:
        """Begin to write a chunk, once the one before is written.

        Raises:
            OSError: the disk is full, say.
        """
        await self._written()
        self._writing = self._begin(self._opened.write, chunk)

    async def empty(self) -> None:
        """Remove what was written."""
        await self._written()
        await self._run(self._truncate)

    async def complete(self) -> Path:
        """Put the file in its place, and return its path.

        Raises:
            OSError: the disk is full, say.
            FileExistsError: the path was taken meanwhile.
        """
        await self._written()
        return await self._run(self._put)

    @property
    def _opened(self) -> BinaryIO:
        assert self._file is not None, "only within `async with`"  # noqa: S101 - a mistake of our own
        return self._file

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def _begin(self, work: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._begin(work)

    def _create(self) -> None:
        # Noted here, since the task that awaits this may have been cancelled.
        self._file = open(self._path, "xb", opener=_private)  # noqa: SIM115 - closed with this object

    def _truncate(self) -> None:
        self._opened.seek(0)
        self._opened.truncate()

    def _put(self) -> Path:
        self._opened.close()
        return self._target.take(self._path)

    def _remove(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # it failed to be written before
                self._file.close()
        with suppress(FileNotFoundError, NotADirectoryError):  # it was completed, or its folder is gone
            self._path.unlink()

    async def _tidy(self) -> None:
        # In the same thread, and so after the last write. It is waited for, however often this is cancelled.
        if self._writing is not None:
            self._writing.add_done_callback(_retrieve_exception)
        removing = self._begin(self._remove)
        self._thread.shutdown(wait=False)
        cancelled = False
        while not removing.done():
            try:
                await asyncio.wait([removing])
            except asyncio.CancelledError:
                cancelled = True
        removing.result()
        if cancelled:
            raise asyncio.CancelledError


def _retrieve_exception(writing: "asyncio.Future[int]") -> None:
    if not writing.cancelled():
        writing.exception()  # another error is being raised already


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _move_to_new(partial: Path, path: Path) -> None:
    """Move a file to a name that is not taken."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        path.open("xb").close()
        partial.replace(path)
    else:
        partial.unlink()
