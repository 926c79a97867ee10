"""Where an author's code has failed, for logs and for `healthmsg bot show`."""

import os
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

from healthmsg.errors import (
    ForeignAwaitError,
    ProgramExitError,
    StepNotAwaitedError,
    StepOutsideDialogError,
)

_STDLIB: Final = str(Path(sysconfig.get_paths()["stdlib"]))
_PACKAGE: Final = str(Path(__file__).parent.parent) + os.sep
_WITH_PLACE: Final = ForeignAwaitError | ProgramExitError | StepNotAwaitedError | StepOutsideDialogError


def place_of(failure: BaseException, file: str | None) -> tuple[str, int] | None:
    """Return the file and line where an error was raised, if that is known.

    An error that names a place itself is believed. Of any other one it is the last line in *file*, the
    author's, that it has passed through.
    """
    if isinstance(failure, _WITH_PLACE) and failure.line:
        return failure.file, failure.line
    return next((frame for frame in reversed(_frames_of(failure)) if frame[0] == file), None)


def last_place_of(failure: BaseException) -> tuple[str, int]:
    """Return the last file and line that an error has passed through, outside of this package if it did."""
    frames = _frames_of(failure)
    return next((frame for frame in reversed(frames) if not frame[0].startswith(_PACKAGE)), frames[-1])


def is_of_python(frame: FrameType) -> bool:
    """Return whether it is one of Python's own functions that runs."""
    file = frame.f_code.co_filename
    return file.startswith(_STDLIB) and "site-packages" not in file


def author_of(frame: FrameType | None) -> tuple[str, int] | None:
    """Return where the author's code stands that has led to a call, if any did."""
    while frame is not None and (is_of_python(frame) or frame.f_code.co_filename.startswith(_PACKAGE)):
        frame = frame.f_back
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def _frames_of(failure: BaseException) -> list[tuple[str, int]]:
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(failure.__traceback__)]
