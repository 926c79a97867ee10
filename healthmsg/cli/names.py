"""Names for files that belong to another one."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

# Of a name, in nearly every file system.
_MOST_BYTES: Final = 255
# The longest ending that SQLite and the lock add to that of a journal.
_MORE: Final = len("-journal")
_DIGITS: Final = 8


def beside(path: Path, ending: str) -> Path:
    """Return the path in the same folder that is called after this one.

    Of a name that is too long, the start remains, with a few digits that stand for the whole.
    """
    stem = os.fsencode(path.stem)
    room = _MOST_BYTES - len(os.fsencode(ending)) - _MORE
    if len(stem) > room:
        digits = sha256(stem).hexdigest()[:_DIGITS]
        # A letter may be cut in two: its first bytes are left out.
        start = stem[: room - _DIGITS - 1].decode("utf-8", "ignore")
        return path.with_name(f"{start}-{digits}{ending}")
    return path.with_name(f"{path.stem}{ending}")
