"""Services to send to while the sender is killed: each habit alone, and several drawn at random."""

import html
import unicodedata
from datetime import timedelta
from random import Random
from typing import Any, Final

from healthmsg.sandbox import Habits


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def cut(text: str) -> str:
    return text[:40]


def cleaned(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "." else "_" for letter in composed(name))


def shrunk(size: int) -> int:
    return size * 3 // 4


ALONE: Final[dict[str, dict[str, Any]]] = {
    "whole seconds": {},
    "microseconds": {"resolution": timedelta(microseconds=1)},
    "rounded seconds": {"rounds": True},
    "another zone": {"utc_offset": timedelta(hours=2)},
    "clock 20 s ahead": {"clock_ahead": timedelta(seconds=20)},
    "clock 10 min behind": {"clock_ahead": timedelta(minutes=-10)},
    "no Date, 2 min behind": {"sends_date": False, "clock_ahead": timedelta(minutes=-2)},
    "entities": {"rewrite_text": html.escape},
    "NFKC": {"rewrite_text": plain, "rewrite_file_name": composed},
    "cut at 40": {"rewrite_text": cut},
    "files cleaned, smaller": {"rewrite_file_name": cleaned, "rewrite_file_size": shrunk},
    "oldest first": {"order": "oldest first"},
    "no order": {"order": "none"},
    "lists lag": {"listing_lag": timedelta(seconds=0.3)},
}


def drawn(draw: Random) -> tuple[str, Habits]:
    """Return some of them at once, and their names."""
    names = draw.sample(sorted(ALONE), 4)
    together: dict[str, Any] = {}
    for name in names:
        together |= ALONE[name]
    return ", ".join(names), Habits(**together)
