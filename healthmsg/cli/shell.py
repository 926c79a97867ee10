"""Commands as a shell has them: read, and printed for the user to copy."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Final
from unicodedata import is_normalized

import typer
from typer.core import TyperCommand, TyperOption

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


class EachOptionOnce(TyperCommand):
    """A command that refuses an option with a value that is given twice, of which the last would count.

    With two journals, those who got a message by the one would get it again by the other.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(given).items():
            if times > 1 and isinstance(option, TyperOption) and not option.is_flag and not option.multiple:
                ctx.fail(f"{option.opts[0]} is given {times} times")
        return super().parse_args(ctx, args)
