"""What can be uploaded, and under which name files are written."""

import mimetypes
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from attrs import field, frozen

from healthmsg.errors import InvalidFileError
from healthmsg.pipeline.exchange import FilePart

_UNKNOWN_TYPE: Final = "application/octet-stream"
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Bytes. File systems take 255; the rest is for what makes a name unique.
_LONGEST_NAME: Final = 200
_LONGEST_SUFFIX: Final = 20


@frozen
class UploadFile:
    """A file to upload: a path or bytes, and how it is to be called.

    `name` is what the reader of the message sees; it defaults to the path's, and must be given for bytes.
    `content_type` defaults to what the name's extension stands for.
    """

    source: str | os.PathLike[str] | bytes = field(repr=False)
    name: str | None = field(default=None, repr=False)
    content_type: str | None = None


FileToUpload = str | os.PathLike[str] | UploadFile
"""A path, or a file with a name of its own."""


def prepare(files: Iterable[FileToUpload], *, field_name: str) -> tuple[FilePart, ...]:
    """Look at all files before anything is sent. Blocks: call it in a thread.

    Raises:
        InvalidFileError: names every file that is missing, empty, unreadable or a folder.
    """
    parts: list[FilePart] = []
    problems: list[tuple[str, str]] = []
    for position, file in enumerate(files, 1):
        upload = file if isinstance(file, UploadFile) else UploadFile(file)
        try:
            parts.append(_part(upload, field_name))
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            problems.append((_label(upload, position), reason or "it cannot be read"))
    if problems:
        raise InvalidFileError(problems)
    return tuple(parts)


def _part(upload: UploadFile, field_name: str) -> FilePart:
    opener, size = _opener(upload.source)
    if not size:
        raise ValueError("it is empty")
    if not isinstance(upload.name, str | None) or not isinstance(upload.content_type, str | None):
        raise TypeError("its name and content type must be text")
    name = _bare_name(upload.name if upload.name is not None else _own_name(upload.source))
    content_type = upload.content_type or _guessed_type(name)
    if _CONTROL_CHARACTERS.search(content_type):
        raise ValueError("its content type has control characters")
    return FilePart(field_name, name, content_type, size, opener)


def _guessed_type(name: str) -> str:
    guessed, compression = mimetypes.guess_type(name)
    return guessed if guessed and not compression else _UNKNOWN_TYPE


def _opener(source: object) -> tuple[Callable[[], BinaryIO], int]:
    if isinstance(source, bytes):
        return partial(BytesIO, source), len(source)
    if not isinstance(source, str | os.PathLike):
        raise TypeError("it must be a path, or bytes in an UploadFile")
    path = Path(source)
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise ValueError("it is a folder")
    if not stat.S_ISREG(kind):  # opening a pipe would wait for whoever writes to it
        raise ValueError("it is not a regular file")
    with path.open("rb") as opened:
        return lambda: path.open("rb"), os.fstat(opened.fileno()).st_size


def _own_name(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    raise ValueError("bytes need a name")


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


def target_path(to: str | os.PathLike[str], suggested_name: str | None) -> Path:
    """Give the path that a download is written to: `to`, or within it when it is a folder."""
    path = Path(to)
    return path / safe_name(suggested_name) if path.is_dir() else path


def safe_name(suggested: str | None) -> str:
    """Make a name that the service gave harmless: no path parts, device names, or leading dots."""
    bare = (suggested or "").encode(errors="replace").decode()
    bare = _CONTROL_CHARACTERS.sub("", bare.replace("\\", "/").rpartition("/")[2])
    bare = _shortened(_trimmed(re.sub(r'[<>:"|?*]', "_", bare)))
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", bare):
        bare = f"_{bare}"
    return bare or "attachment"


def _shortened(name: str) -> str:
    """Cut the middle out of a name that file systems would refuse, and leave its extension."""
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = Path(name).suffix
    suffix = suffix if len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    room = _LONGEST_NAME - len(suffix.encode())
    return _trimmed(name.removesuffix(suffix).encode()[:room].decode(errors="ignore")) + suffix


def _trimmed(name: str) -> str:
    return name.lstrip(". ").rstrip(". ")


def check_files(files: object) -> Sequence[FileToUpload]:
    """Refuse a single path where a collection of files is meant.

    Raises:
        InvalidFileError: `files` is not a sequence of files.
    """
    if isinstance(files, Sequence) and not isinstance(files, str | bytes):
        return files
    raise InvalidFileError([("files", "they must be a list or tuple of paths")])
