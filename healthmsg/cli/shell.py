"""Commands for the user to copy into a shell."""

import os
import shlex
import sys
from collections.abc import Iterable
from typing import Final
from unicodedata import is_normalized

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - set(b"'\\!")


def joined(words: Iterable[str]) -> str:
    """Return the command that a POSIX shell reads as these words, whatever is in them."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    r"""Return the word as a shell takes it.

    What this terminal cannot show, or a copy would change, is written as bytes: `$'caf\351.csv'`.
    """
    if word.isprintable() and is_normalized("NFC", word) and _can_be_shown(word):
        return shlex.quote(word)
    letters = (chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"$'{''.join(letters)}'"


def _can_be_shown(word: str) -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        word.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
