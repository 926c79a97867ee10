"""Where a control surface is by itself, and the token for it, which is in a file."""

import os
import stat
from pathlib import Path
from typing import Final

from healthmsg.errors import ConfigurationError

HOST: Final = "127.0.0.1"
_OTHERS: Final = 0o077
# Bytes; more is no token.
_LONGEST: Final = 4096


def read_token(path: Path) -> str:
    """Return the token in a file that only its owner can read.

    Raises:
        ConfigurationError: it cannot be read, others can read it, or there is no token in it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = file.read(_LONGEST + 1)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or 'the system gives no reason'}"
    else:
        token = found.decode("ascii", "replace").strip()
        if not stat.S_ISREG(mode):
            problem = "is no file"
        elif os.name == "posix" and mode & _OTHERS:
            problem = "can be read by others: chmod 600"
        elif not token:
            problem = "is empty: write a token into it, such as that of `openssl rand -hex 32`"
        elif len(found) > _LONGEST or not token.isascii() or not token.isprintable() or " " in token:
            problem = "has no token in it: letters, digits and signs of ASCII on one line, without blanks"
        else:
            return token
    raise ConfigurationError(f"the file of the control surface's token {problem}")
