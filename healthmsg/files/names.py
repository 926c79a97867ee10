"""Under which names files are written."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Final
from unicodedata import bidirectional, category, combining

from healthmsg.models import Attachment

_RESERVED: Final = re.compile(r'[<>:"|?*]')
# On Windows, with any extension, and with spaces before it.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?")
# Read by Windows from any folder that is opened: they can make it call another machine, or start a program.
_FOLDER_SETTINGS: Final = re.compile(r"(?i)(desktop\.ini|autorun\.inf)")
# What a command takes for an option, and a shell for a user's home.
_NOT_FIRST: Final = ("-", "~")
# Categories of Unicode: control characters, those that only change how others are shown (such as the
# direction of writing), halves of pairs, and the ends of lines.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# What is not seen though its category does not say so: fillers, and what is no character. What is not
# assigned stays: it may be an emoji that is newer than this Python.
_UNSEEN_TOO: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e0fff]"
)
_JOINERS: Final = frozenset("\u200c\u200d")
# They choose between forms of the character before them: a heart as text, or in colour.
_VARIATIONS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))
_VIRAMA: Final = 9
# Bytes. File systems take 255; the rest is for what makes a name unique.
_LONGEST_NAME: Final = 200
_LONGEST_SUFFIX: Final = 20


def safe_name(suggested: str | None) -> str:
    """Make a name that the service gave harmless.

    It has no path parts, no leading dots, and is no device, option or settings of a folder. Nor has it
    anything that is not seen, by which `annexe.pdf` could show as `annfdp.exe`, or two names look the same.
    """
    bare = (suggested or "").encode(errors="replace").decode()
    bare = _trimmed(_seen(bare.replace("\\", "/").rpartition("/")[2]))
    if bare.startswith(_NOT_FIRST) or _DEVICE.fullmatch(bare) or _FOLDER_SETTINGS.fullmatch(bare):
        bare = f"_{bare}"
    return _shortened(bare) or "attachment"


def stored_name(attachment: Attachment) -> str:
    """Name the file of one attachment of many: its name made safe, and a part of its id's hash.

    So equal names never meet, and a second run finds what is there already.
    """
    name = Path(safe_name(attachment.name))
    # 64 bits: with fewer, two of a chat's many `foto.jpg` could come to share a file.
    return f"{name.stem}-{sha256(attachment.id.encode(errors='surrogatepass')).hexdigest()[:16]}{name.suffix}"


def _seen(text: str) -> str:
    """Return the text without what is not seen, with plain blanks, one at a time, and nothing reserved."""
    kept = list[str]()
    for index, letter in enumerate(text):
        if letter in _VARIATIONS:
            if kept and category(kept[-1]) in {"So", "Sm", "Nd"}:
                kept.append(letter)
        elif letter in _JOINERS:
            if _does_join(kept, text[index + 1 : index + 2]):
                kept.append(letter)
        elif category(letter) not in _UNSEEN and not _UNSEEN_TOO.match(letter):
            kept.append(" " if letter.isspace() else letter)
    # A run of blanks can push what follows out of sight: `annexe.pdf          .exe`.
    return _RESERVED.sub("_", re.sub(" {2,}", " ", "".join(kept)))


def _does_join(before: list[str], after: str) -> bool:
    """Tell whether a joiner does something there: in an emoji, or in scripts that are written with it."""
    if not before or not after:
        return False
    last = before[-1]
    if last in _VARIATIONS or category(last) in {"So", "Sk"}:
        return category(after) in {"So", "Sm"}
    if combining(last) == _VIRAMA:
        return category(after).startswith("L")
    return bidirectional(last) == "AL" == bidirectional(after)


def _shortened(name: str) -> str:
    """Cut the middle out of a name that file systems would refuse, and leave its extension."""
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = Path(name).suffix
    suffix = suffix if len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    room = _LONGEST_NAME - len(suffix.encode())
    # A joiner that is last now has nothing to join.
    return _trimmed(_seen(name.removesuffix(suffix).encode()[:room].decode(errors="ignore"))) + suffix


def _trimmed(name: str) -> str:
    return name.lstrip(". ").rstrip(". ")
