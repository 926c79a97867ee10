"""Files: attachments, a chat as a PDF, and the downloads that their links lead to."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import quote

from aiohttp import web

from healthmsg.sandbox.call import ApiCall, ApiError, Call, bad_request, json_answer, not_found
from healthmsg.sandbox.content import PartOfFile
from healthmsg.sandbox.records import StoredMessage
from healthmsg.sandbox.routing import Table

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


async def upload_files(call: ApiCall) -> web.Response:
    """POST {chat}/attachments [V]: nothing is kept unless the whole form arrived."""
    call.check_chat_to_write_in()
    form = await call.form(files_part="files", text_part="message")
    # Again: the chat may have been closed while the files came in.
    chat = call.chat_to_write_in()
    message = call.state.store.post(chat, call.user, form.text, files=form.files)
    call.state.uploads += len(form.files)
    return json_answer({"id": message.id}, status=201)


async def link_to_attachment(call: ApiCall) -> web.Response:
    """GET {chat}/attachments/{attachment_id} [V]; that `headers=false` changes nothing is assumed [A]."""
    for message in call.chat().messages:
        for file in message.files:
            if file.id == call.ids["attachment_id"]:
                return call.link_to(file)
    raise not_found("attachment")


async def link_to_pdf(call: ApiCall) -> web.Response:
    """GET {chat}/pdf [V].

    That both dates are included, and that `headers=false` changes nothing, is assumed [A].
    """
    chat = call.chat()
    start, end = _moment(call, "start_date", _EARLIEST), _moment(call, "end_date", _LATEST)
    if start > end:
        raise bad_request("start_date is after end_date.")
    title = chat.subject or " - ".join(f"{person.first_name} {person.last_name}" for person in chat.members)
    content = chat_as_pdf(title, [message for message in chat.messages if start <= message.created_at <= end])
    return call.link_to(call.state.store.new_file("chat.pdf", "application/pdf", content))


def _moment(call: ApiCall, name: str, default: datetime) -> datetime:
    """Read a date and time: ISO 8601, or in the form that the vendor's client writes, `…Z+00:00` [V].

    No offset means UTC [A].
    """
    text = call.request.query.get(name)
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text.removesuffix("+00:00") if text.endswith("Z+00:00") else text)
    except ValueError:
        raise bad_request(f"{name} must be a date and time such as 2026-01-02T03:04:05Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


TABLE: Final[Table[ApiCall]] = (
    ("POST", "{chat}/attachments", upload_files),
    ("GET", "{chat}/attachments/{attachment_id}", link_to_attachment),
    ("GET", "{chat}/pdf", link_to_pdf),
)


# --- The files themselves, outside the API's base: opened by a cookie, never by a token.


async def download(call: Call) -> web.Response:
    """GET files/{key}: the file that a link leads to; 403 without the cookie that came with the link [V].

    That a part of it can be requested, as RFC 9110 says, is assumed [A].
    """
    offer = call.state.download(call.ids["key"])
    if offer is None:
        raise not_found("file")
    if not offer.opened_by(call.request.headers.get("Cookie", "")):
        raise ApiError(403, "cookie_required", "This link opens only with the cookie that came with it.")
    content, mime_type = offer.file.content, offer.file.mime_type
    name = quote(offer.file.name.encode(errors="replace"), safe="")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "Content-Type": mime_type}
    response = web.Response(headers=headers)
    start, end = 0, content.bytes.size
    if call.state.options.ranges:
        response.headers["Accept-Ranges"] = "bytes"
        response.etag = content.etag
        response.headers["Last-Modified"] = format_datetime(content.since.astimezone(UTC), usegmt=True)
        part = _requested_part(call.request, response.headers, content.bytes.size)
        if part is not None:
            start, end = part
            is_beyond = start >= end
            response.set_status(416 if is_beyond else 206)
            described = "*" if is_beyond else f"{start}-{end - 1}"
            response.headers["Content-Range"] = f"bytes {described}/{content.bytes.size}"
    if start < end:
        response.body = PartOfFile(content.bytes, start, end, mime_type)
    return response


def _requested_part(
    request: web.BaseRequest, headers: Mapping[str, str], size: int
) -> tuple[int, int] | None:
    """Return the one part that is requested, empty if it is beyond the end.

    `None`: all, also when the header cannot be understood.
    """
    if request.method != "GET" or "Range" not in request.headers:
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition not in {headers["ETag"], headers["Last-Modified"]}:
        return None
    try:
        part = request.http_range
    except ValueError:
        return None
    start, end, _ = part.indices(size)
    is_beyond = part.start is not None and part.start >= size
    return (size, size) if is_beyond else (start, end)


async def redirect_on(call: Call) -> web.Response:
    """GET files/loop/{turn}: a redirect to the next turn, without end."""
    turn = int(call.ids["turn"]) + 1
    return web.Response(status=302, headers={"Location": f"{call.state.files_origin}/files/loop/{turn}"})


DOWNLOADS: Final[Table[Call]] = (
    ("GET", "files/{key}", download),
    ("HEAD", "files/{key}", download),
    ("GET", "files/loop/{turn}", redirect_on),
)


# --- The PDF: plain pages of text. Characters that Windows-1252 does not have become question marks.

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
