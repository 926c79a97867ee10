"""A chat as a PDF: plain pages of text, with only what every reader must know.

Characters that Windows-1252 does not have become question marks.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from typing import Final

from healthmsg.sandbox.records import StoredMessage

_LINES_ON_A_PAGE: Final = 54
# In Courier, all of whose characters are 6 points wide at this size: that many fit.
_LONGEST_LINE: Final = 82
_FONT: Final = b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>"
_BEGIN_TEXT: Final = b"BT /F1 10 Tf 14 TL 50 800 Td"
# A4, in points.
_PAGE: Final = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
_SPECIAL: Final = re.compile(rb"([()\\])")


def chat_as_pdf(title: str, messages: Iterable[StoredMessage]) -> bytes:
    """Write a PDF with these messages, in this order."""
    lines = [*_wrapped(title), b"", *(line for message in messages for line in _lines_of(message))]
    starts = range(0, len(lines), _LINES_ON_A_PAGE)
    return _document([_content(lines[start : start + _LINES_ON_A_PAGE]) for start in starts])


def _lines_of(message: StoredMessage) -> Iterator[bytes]:
    sender = message.sender
    moment = message.created_at.astimezone(UTC)
    yield from _wrapped(f"{moment:%Y-%m-%d %H:%M:%S} UTC - {sender.first_name} {sender.last_name}")
    for paragraph in message.body.splitlines():
        yield from _wrapped(paragraph)
    for file in message.files:
        yield from _wrapped(f"[{file.name}]")
    yield b""


def _wrapped(text: str) -> list[bytes]:
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return [line.encode("cp1252", "replace") for line in textwrap.wrap(printable, _LONGEST_LINE)] or [b""]


def _content(lines: Sequence[bytes]) -> bytes:
    shown = b"\n".join(b"(%b) Tj T*" % _SPECIAL.sub(rb"\\\1", line) for line in lines)
    stream = b"%b\n%b\nET" % (_BEGIN_TEXT, shown)
    return b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream)


def _document(contents: Sequence[bytes]) -> bytes:
    """Put the objects one after the other, and after them a table that says where each begins."""
    # 1 is the catalog, 2 the list of pages, 3 the font; after those, each page is followed by its content.
    pages = range(4, 4 + 2 * len(contents), 2)
    kids = " ".join(f"{number} 0 R" for number in pages)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        _FONT,
    ]
    for number, content in zip(pages, contents, strict=True):
        objects += [f"{_PAGE} /Contents {number + 1} 0 R >>".encode(), content]
    document = bytearray(b"%PDF-1.4\n")
    table = bytearray(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    for number, described in enumerate(objects, start=1):
        table += b"%010d 00000 n \n" % len(document)
        document += b"%d 0 obj\n%b\nendobj\n" % (number, described)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(document + table + trailer + b"startxref\n%d\n%%%%EOF\n" % len(document))
