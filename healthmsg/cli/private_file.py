"""Files that are written for the user alone."""

import os
from pathlib import Path
from typing import Final, TextIO

from healthmsg.cli.recipients.problems import RefusedError

_OWNER_ONLY: Final = 0o600


def create_private(path: Path) -> TextIO:
    """Make a file that only its owner can read, for text as spreadsheets recognise it.

    Raises:
        RefusedError: there is one already, which is never overwritten, or the folder does not let us.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    except FileExistsError:
        problem = f"{path} exists already, and is not overwritten"
    except OSError as error:
        problem = f"{path} cannot be made: {error.strerror}"
    else:
        return os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="")
    raise RefusedError(problem)
