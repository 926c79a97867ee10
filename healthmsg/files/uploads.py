"""What can be uploaded."""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from attrs import evolve, field, frozen
from content_types import get_content_type

from healthmsg.errors import InvalidFileError
from healthmsg.pipeline.exchange import FilePart, Source
from healthmsg.pipeline.meter import Meter
from healthmsg.pipeline.sources import FileSource, PieceSource, close_pieces

_UNKNOWN_TYPE: Final = "application/octet-stream"
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KINDS: Final = "it must be a path or an open binary file, or bytes or an async iterable in an UploadFile"


@frozen
class UploadFile:
    """A file to upload: where its bytes come from, and how it is to be called.

    `source` is a path, bytes, an open binary file, or an async iterable of bytes. An open file is sent from
    where it stands, and is not closed; leave it alone meanwhile. One that cannot seek, such as a pipe, and an
    async iterable are read only once: their upload is not repeated once it has read from them. An async
    iterable is closed (`aclose`) however the upload ends.

    `name` is what the reader of the message sees; it defaults to the path's or the open file's, and must be
    given for all else. `content_type` defaults to what the name's extension stands for. `size`, in bytes, is
    for what is read only once: where it is known, `Content-Length` is sent.
    """

    source: str | os.PathLike[str] | bytes | IO[bytes] | AsyncIterable[bytes] = field(repr=False)
    name: str | None = field(default=None, repr=False)
    content_type: str | None = None
    size: int | None = field(default=None, kw_only=True)


FileToUpload = str | os.PathLike[str] | IO[bytes] | UploadFile
"""A path or an open binary file, or a file with a name of its own."""

# Open files and async iterables that are being uploaded, by their ids. Two uploads that read from one would
# each send what the other lacks.
_in_use: Final[dict[int, object]] = {}


@asynccontextmanager
async def file_parts(
    files: Iterable[FileToUpload], *, field_name: str, meter: Meter
) -> AsyncIterator[tuple[FilePart, ...]]:
    """Look at all files before anything is sent, and let go of them when their upload has ended.

    Raises:
        InvalidFileError: names every file that cannot be uploaded.
    """
    uploads = [file if isinstance(file, UploadFile) else UploadFile(file) for file in files]
    async with AsyncExitStack() as ending:
        busy = [pair for pair in enumerate(uploads, 1) if id(pair[1].source) in _in_use]
        for upload in uploads:
            if _is_lent(upload.source) and id(upload.source) not in _in_use:
                _in_use[id(upload.source)] = upload.source
                ending.callback(_in_use.pop, id(upload.source))
                if isinstance(upload.source, AsyncIterable):
                    ending.push_async_callback(close_pieces, upload.source)
        if busy:
            raise InvalidFileError(
                [(_label(upload, n), "it is being uploaded already") for n, upload in busy]
            )
        parts = await asyncio.to_thread(prepare, uploads, field_name=field_name)
        for part in parts:
            ending.push_async_callback(part.source.release)
        transfers = meter.begin_all(part.size for part in parts)
        yield tuple(evolve(part, transfer=transfer) for part, transfer in zip(parts, transfers, strict=True))


def _is_lent(source: object) -> bool:
    return not isinstance(source, str | os.PathLike | bytes)


def prepare(files: Iterable[FileToUpload], *, field_name: str) -> tuple[FilePart, ...]:
    """Look at all files before anything is sent. Blocks: call it in a thread.

    Raises:
        InvalidFileError: names every file that is missing, empty, unreadable, a folder, no regular file, or
            without a usable name.
    """
    parts: list[FilePart] = []
    problems: list[tuple[str, str]] = []
    lent: set[int] = set()
    for position, file in enumerate(files, 1):
        upload = file if isinstance(file, UploadFile) else UploadFile(file)
        try:
            if id(upload.source) in lent:
                raise ValueError("it is given twice")
            if _is_lent(upload.source):
                lent.add(id(upload.source))
            parts.append(_part(upload, field_name))
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append((_label(upload, position), reason or "it cannot be read"))
    if problems:
        raise InvalidFileError(problems)
    return tuple(parts)


def _part(upload: UploadFile, field_name: str) -> FilePart:
    source, size = _source(upload.source)
    if not isinstance(upload.name, str | None) or not isinstance(upload.content_type, str | None):
        raise TypeError("its name and content type must be text")
    if upload.size is not None:
        size = _agreed_size(upload.size, size)
    if size == 0:
        raise ValueError("it is empty")
    name = _bare_name(upload.name if upload.name is not None else _own_name(upload.source))
    content_type = upload.content_type or _guessed_type(name)
    if _CONTROL_CHARACTERS.search(content_type):
        raise ValueError("its content type has control characters")
    return FilePart(field_name, name, content_type, size, source)


def _agreed_size(given: object, found: int | None) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise TypeError("its size must be a whole number of bytes")
    if found not in {None, given}:
        raise ValueError("it has another size than the one given")
    return given


def _guessed_type(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    # It would take what follows these for parts of a URL.
    return _UNKNOWN_TYPE if set("?#") & set(suffix) else str(get_content_type(Path(f"_{suffix}")))


def _source(source: object) -> tuple[Source, int | None]:
    if isinstance(source, bytes):
        return FileSource(partial(BytesIO, source)), len(source)
    if isinstance(source, str | os.PathLike):
        return _source_at(Path(source))
    if isinstance(source, AsyncIterable):
        return PieceSource(source), None
    if hasattr(source, "read"):
        return _source_from_open(cast(IO[bytes], source))
    raise TypeError(_KINDS)


def _source_at(path: Path) -> tuple[Source, int]:
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(kind):  # opening a pipe would wait for whoever writes to it
        raise ValueError("it is not a regular file")
    with path.open("rb") as opened:
        return FileSource(lambda: path.open("rb")), os.fstat(opened.fileno()).st_size


def _source_from_open(file: IO[bytes]) -> tuple[Source, int | None]:
    nothing: object = file.read(0)
    if not isinstance(nothing, bytes):
        raise TypeError(f"it gives {type(nothing).__name__} where bytes are needed: open it in mode 'rb'")
    if not file.seekable():
        return FileSource(partial(_Lent, file), once=True), None
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    if size <= 0:
        raise ValueError("it has nothing left to read")
    return FileSource(partial(_Lent, file, start), is_lent=True), size


class _Lent:
    """An open file that somebody else closes."""

    def __init__(self, file: IO[bytes], start: int | None = None) -> None:
        if start is not None:
            file.seek(start)
        self.read = file.read

    def close(self) -> None:
        """Leave it open."""


def _own_name(source: object) -> str:
    own = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    name = os.fspath(own) if isinstance(own, str | os.PathLike) else None
    # "<stdin>" and the like are no file's name.
    if isinstance(name, str) and not name.startswith("<"):
        return Path(name).name
    raise ValueError("it needs a name")


def _bare_name(name: str) -> str:
    """Strip path parts and control characters from a name."""
    bare = _CONTROL_CHARACTERS.sub("", name.replace("\\", "/").rpartition("/")[2]).strip()
    if bare in {"", ".", ".."}:
        raise ValueError("it has no usable name")
    bare.encode()  # half a surrogate pair has no UTF-8 form: a ValueError
    return bare


def _label(upload: UploadFile, position: int) -> str:
    if isinstance(upload.source, str | os.PathLike):
        return str(upload.source)
    return upload.name if upload.name and isinstance(upload.name, str) else f"file {position}"


def check_files(files: object) -> Sequence[FileToUpload]:
    """Refuse a single path where a collection of files is meant.

    Raises:
        InvalidFileError: `files` is not a sequence of files.
    """
    if isinstance(files, Sequence) and not isinstance(files, str | bytes):
        return files
    raise InvalidFileError([("files", "they must be a list or tuple of paths")])
