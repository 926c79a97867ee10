"""Where an author's code has failed, for logs and for `healthmsg bot show`."""

import os
import traceback
from pathlib import Path
from typing import Final

from healthmsg.errors import ForeignAwaitError, ProgramExitError, StepNotAwaitedError

_PACKAGE: Final = str(Path(__file__).parent.parent) + os.sep


def place_of(failure: BaseException, file: str | None) -> tuple[str, int] | None:
    """Return the file and line where an error was raised, if that is known.

    An error that names a place itself is believed. Of any other one it is the last line in *file*, the
    author's, that it has passed through.
    """
    if isinstance(failure, ForeignAwaitError | ProgramExitError | StepNotAwaitedError) and failure.line:
        return failure.file, failure.line
    return next((frame for frame in reversed(_frames_of(failure)) if frame[0] == file), None)


def last_place_of(failure: BaseException) -> tuple[str, int]:
    """Return the last file and line that an error has passed through, outside of this package if it did."""
    frames = _frames_of(failure)
    return next((frame for frame in reversed(frames) if not frame[0].startswith(_PACKAGE)), frames[-1])


def _frames_of(failure: BaseException) -> list[tuple[str, int]]:
    return [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(failure.__traceback__)]
