"""The files of one upload: checked before the call, and let go of after it."""

import asyncio
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast
from weakref import WeakValueDictionary

from attrs import evolve
from content_types import get_content_type

from healthmsg.errors import InvalidFileError
from healthmsg.files.sources import (
    CHANGED,
    FileState,
    FileToUpload,
    Lent,
    TakenFile,
    UploadFile,
    check_path,
    check_readable,
    digest_of,
    in_use,
    lend_watched,
    open_watched,
    room_in,
)
from healthmsg.pipeline.request import FilePart, Source
from healthmsg.transfer import Meter
from healthmsg.transport.multipart import FileSource, PieceSource, close_pieces

_UNKNOWN_TYPE: Final = "application/octet-stream"
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KINDS: Final = "it must be a path or an open binary file, or bytes or an async iterable in an UploadFile"
# Bytes: so small a file is hashed before its call is made, so that a wrong one makes none. A larger one is
# hashed while it is sent alone.
_HASHED_AHEAD: Final = 1024 * 1024
# Sources that can be read only once and were: another message must not get what is left of them.
_was_read: Final[WeakValueDictionary[int, object]] = WeakValueDictionary()


@asynccontextmanager
async def file_parts(
    files: Iterable[FileToUpload], *, field_name: str, meter: Meter
) -> AsyncIterator[tuple[FilePart, ...]]:
    """Check all files before anything is sent, and let go of them when their upload has ended.

    Raises:
        InvalidFileError: names every file that cannot be uploaded.
    """
    uploads = [file if isinstance(file, UploadFile) else UploadFile(file) for file in files]
    async with AsyncExitStack() as ending:
        problems = _problems_of_lent(uploads)
        for upload in uploads:
            if _is_lent(upload) and id(upload.source) not in in_use:
                in_use[id(upload.source)] = upload.source
                ending.callback(in_use.pop, id(upload.source))
                if isinstance(upload.source, AsyncIterable):
                    ending.push_async_callback(close_pieces, upload.source)
        if problems:
            raise InvalidFileError(problems)
        parts = await asyncio.to_thread(prepare, uploads, field_name=field_name)
        for upload, part in zip(uploads, parts, strict=True):
            ending.push(partial(_leave, upload, part.source))
            ending.push_async_callback(part.source.release)
        transfers = meter.begin_all(part.size for part in parts)
        yield tuple(evolve(part, transfer=transfer) for part, transfer in zip(parts, transfers, strict=True))


def _problems_of_lent(uploads: Iterable[UploadFile]) -> list[tuple[str, str]]:
    problems = list[tuple[str, str]]()
    for position, upload in enumerate(uploads, 1):
        if _is_lent(upload) and id(upload.source) in in_use:
            problems.append((_label(upload, position), "it is being uploaded already"))
        elif _was_read.get(id(upload.source)) is upload.source:
            problems.append((_label(upload, position), "it can be read only once, and was read before"))
    return problems


def _leave(upload: UploadFile, source: Source, kind: type[BaseException] | None, *_: object) -> None:
    """Note what must not be sent again; after a failure, put an open file back to where it stood."""
    if source.is_spent and (not isinstance(upload.source, AsyncIterable) or _is_iterator(upload.source)):
        with suppress(TypeError):  # not everything can be referred to weakly
            _was_read[id(upload.source)] = upload.source
    if kind is not None and isinstance(upload, TakenFile) and upload.start is not None and _is_lent(upload):
        with suppress(Exception):  # the failure matters more
            cast(IO[bytes], upload.source).seek(upload.start)


def _is_iterator(source: AsyncIterable[bytes]) -> bool:
    """Return whether it is an iterator; any other async iterable may be able to begin again."""
    return isinstance(source, AsyncIterator)


def _is_lent(upload: UploadFile) -> bool:
    """Return whether an open file or async iterable of the program's is read while it is uploaded."""
    is_held = isinstance(upload, TakenFile) and upload.content is not None
    return not (is_held or isinstance(upload.source, str | os.PathLike | bytes))


def prepare(files: Iterable[FileToUpload], *, field_name: str) -> tuple[FilePart, ...]:
    """Check all files before anything is sent. Blocks: call it in a thread.

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
            if _is_lent(upload):
                lent.add(id(upload.source))
            parts.append(_part(upload, field_name))
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append((_label(upload, position), reason or "it cannot be read"))
    if problems:
        raise InvalidFileError(problems)
    return tuple(parts)


def _part(upload: UploadFile, field_name: str) -> FilePart:
    taken = upload if isinstance(upload, TakenFile) else TakenFile(upload.source)
    if taken.problem is not None:
        raise ValueError(taken.problem)
    source, size = _source(taken)
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
    # The library would take what follows these for parts of a URL.
    return _UNKNOWN_TYPE if set("?#") & set(suffix) else str(get_content_type(Path(f"_{suffix}")))


def _source(taken: TakenFile) -> tuple[Source, int | None]:
    source = taken.source if taken.content is None else taken.content
    if isinstance(source, bytes):
        return FileSource(partial(BytesIO, source)), len(source)
    if isinstance(source, str | os.PathLike):
        return _source_at(Path(source), taken)
    if isinstance(source, AsyncIterable):
        return PieceSource(source), None
    if hasattr(source, "read"):
        return _source_from_open(source, taken)
    raise TypeError(_KINDS)


def _source_at(path: Path, taken: TakenFile) -> tuple[Source, int]:
    check_path(path)
    with path.open("rb") as opened:
        state = FileState.of(opened.fileno())
        _refuse_changed(opened, state, taken)
    if taken.state is None and taken.digest is None:
        taken = evolve(taken, state=state)
    return FileSource(partial(open_watched, path, taken, state.size)), state.size


def _refuse_changed(opened: IO[bytes], state: FileState, taken: TakenFile) -> None:
    """Refuse a file that was changed, as far as that shows before it is sent."""
    size = taken.size if taken.state is None else taken.state.size
    if taken.digest is None:
        is_changed = taken.state not in {None, state}
    elif size not in {None, state.size}:
        is_changed = True
    else:
        is_hashed_ahead = state != taken.state and state.size <= _HASHED_AHEAD
        is_changed = is_hashed_ahead and digest_of(opened) != taken.digest
    if is_changed:
        raise ValueError(CHANGED)


def _source_from_open(file: IO[bytes], taken: TakenFile) -> tuple[Source, int | None]:
    check_readable(file)
    if not file.seekable():
        return FileSource(partial(Lent, file), once=True), None
    start = file.tell() if taken.start is None else taken.start
    file.seek(start)
    _, size = room_in(file)
    return FileSource(partial(lend_watched, file, start, taken, size), is_lent=True), size


def _own_name(source: object) -> str:
    own = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    name = os.fspath(own) if isinstance(own, str | os.PathLike) else None
    # Python names some files "<stdin>" and the like.
    if isinstance(name, str) and not name.startswith("<"):
        return Path(name).name
    raise ValueError("it needs a name")


def _bare_name(name: str) -> str:
    """Return a name without path parts and control characters."""
    bare = _CONTROL_CHARACTERS.sub("", name.replace("\\", "/").rpartition("/")[2]).strip()
    if bare in {"", ".", ".."}:
        raise ValueError("it has no usable name")
    bare.encode()  # half a surrogate pair has no UTF-8 form: a ValueError
    return bare


def _label(upload: UploadFile, position: int) -> str:
    if isinstance(upload.source, str | os.PathLike):
        return str(upload.source)
    return upload.name if upload.name and isinstance(upload.name, str) else f"file {position}"
