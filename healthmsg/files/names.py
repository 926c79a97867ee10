"""Under which names files are written."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Final

from healthmsg.models import Attachment

# Control characters, and those that turn the direction of writing around.
_NOT_SEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_RESERVED: Final = re.compile(r'[<>:"|?*]')
# On Windows, with any extension, and with spaces before it.
_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?")
# Bytes. File systems take 255; the rest is for what makes a name unique.
_LONGEST_NAME: Final = 200
_LONGEST_SUFFIX: Final = 20


def safe_name(suggested: str | None) -> str:
    """Make a name that the service gave harmless: no path parts, device names, or leading dots.

    Nor has it anything that is not seen, by which `annexe.pdf` could show as `annfdp.exe`.
    """
    bare = (suggested or "").encode(errors="replace").decode()
    bare = _NOT_SEEN.sub("", bare.replace("\\", "/").rpartition("/")[2])
    bare = _shortened(_trimmed(_RESERVED.sub("_", bare)))
    if _DEVICE.fullmatch(bare):
        bare = f"_{bare}"
    return bare or "attachment"


def stored_name(attachment: Attachment) -> str:
    """Name the file of one attachment of many: its name made safe, and a part of its id's hash.

    So equal names never meet, and a second run finds what is there already.
    """
    name = Path(safe_name(attachment.name))
    # 64 bits: with fewer, two of a chat's many `foto.jpg` could come to share a file.
    return f"{name.stem}-{sha256(attachment.id.encode(errors='surrogatepass')).hexdigest()[:16]}{name.suffix}"


def _shortened(name: str) -> str:
    """Cut the middle out of a name that file systems would refuse, and leave its extension."""
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = Path(name).suffix
    suffix = suffix if len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    room = _LONGEST_NAME - len(suffix.encode())
    return _trimmed(name.removesuffix(suffix).encode()[:room].decode(errors="ignore")) + suffix


def _trimmed(name: str) -> str:
    return name.lstrip(". ").rstrip(". ")
