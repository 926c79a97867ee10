"""Rows that send the same message to the same recipient again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from unicodedata import normalize

# A conversation has the address of the other side's user, too.
_SAME_PERSON = {"users": "conversations"}


class Row(Protocol):
    """What is looked at of a message."""

    @property
    def line(self) -> int:
        """Its line in the file."""

    @property
    def to(self) -> str:
        """Its address."""

    @property
    def body(self) -> str:
        """Its text."""

    @property
    def files(self) -> Sequence[Path]:
        """Its files."""


def same_recipient(address: str) -> str:
    """Return what is equal for addresses that are written differently, but lead to the same recipient.

    Upper and lower case make a difference to the service.
    """
    # An id can have a slash in it.
    parts = address.split("/", 2 if address.startswith("aux/") else 1)
    kind = "/".join(parts[:-1])
    return f"{_SAME_PERSON.get(kind, kind)}/{_one_space(parts[-1])}"


def find_repeats(messages: Sequence[Row]) -> list[tuple[int, int]]:
    """Return the lines that say the same to the same recipient, each with the first line that does."""
    first: dict[tuple[str, str, tuple[str, ...]], int] = {}
    real: dict[Path, str] = {}
    found = []
    for message in messages:
        for path in message.files:
            if path not in real:
                real[path] = os.path.realpath(path)
        files = tuple(sorted(real[path] for path in message.files))
        said = (same_recipient(message.to), _one_space(normalize("NFC", message.body)), files)
        line = first.setdefault(said, message.line)
        if line != message.line:
            found.append((message.line, line))
    return found


def _one_space(text: str) -> str:
    return " ".join(text.split())
