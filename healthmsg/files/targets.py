"""Writing a file beside its place, and putting it there when it is complete."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeVar

from attrs import frozen

from healthmsg.files.names import safe_name

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
        """Look where a file goes. Blocks.

        What ends with a slash is a folder, and made unless it exists.

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
        """Put a complete file there, and give its path. Blocks.

        Raises:
            FileExistsError: something has come to be there meanwhile.
        """
        if self.overwrite:
            return partial.replace(self.path)
        for path in self._names():
            with suppress(FileExistsError):
                _move_to_new(partial, path)
                return path
        raise FileExistsError(f"{self.path} has come to exist meanwhile; it was left as it is")

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
    """A file that is being written; leaving it removes what was not put in its place.

    A thread of its own writes: one chunk is written while the next one is received.
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
        """Begin to write, when what came before is written.

        Raises:
            OSError: the disk is full, say.
        """
        await self._written()
        self._writing = self._begin(self._opened.write, chunk)

    async def empty(self) -> None:
        """Begin anew."""
        await self._written()
        await self._run(self._truncate)

    async def complete(self) -> Path:
        """Put it in its place, and give its path.

        Raises:
            OSError: the disk is full, say.
            FileExistsError: something has come to be there meanwhile.
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
        # Noted here, for whoever asked may have been cancelled.
        self._file = open(self._path, "xb", opener=_private)  # noqa: SIM115 - closed with this object

    def _truncate(self) -> None:
        self._opened.seek(0)
        self._opened.truncate()

    def _put(self) -> Path:
        self._opened.close()
        return self._target.take(self._path)

    def _remove(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what could not be written before cannot be now
                self._file.close()
        with suppress(FileNotFoundError, NotADirectoryError):  # it is in its place, or its folder is gone
            self._path.unlink()

    async def _tidy(self) -> None:
        # In the same thread, and so behind the last write. However often this is cancelled, it is waited for.
        if self._writing is not None:
            self._writing.add_done_callback(_look_at)
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


def _look_at(writing: "asyncio.Future[int]") -> None:
    if not writing.cancelled():
        writing.exception()  # another error is on its way already


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _move_to_new(partial: Path, path: Path) -> None:
    """Move a file to a name that nobody has."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links
        path.open("xb").close()
        partial.replace(path)
    else:
        partial.unlink()
