"""The files themselves, outside the API's base: opened by a cookie, never by a token."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import quote

from aiohttp import web

from healthmsg.sandbox.answers import ApiError, not_found
from healthmsg.sandbox.call import Call
from healthmsg.sandbox.content import Content, part_of_file
from healthmsg.sandbox.records import File
from healthmsg.sandbox.routing import Table


async def download(call: Call) -> web.Response:
    """Give the file that a link leads to; 403 without the cookie that came with the link [V].

    That a part of it can be asked for, as RFC 9110 says, is assumed [A].
    """
    offer = call.state.download(call.ids["key"])
    if offer is None:
        raise not_found("file")
    if not offer.opened_by(call.request.headers.get("Cookie", "")):
        raise ApiError(403, "cookie_required", "This link opens only with the cookie that came with it.")
    file, size = offer.file, offer.file.content.bytes.size
    wanted = _wanted_part(call.request, file.content) if call.state.settings.ranges else None
    headers = _headers(file, has_ranges=call.state.settings.ranges)
    if wanted is None:
        return _answer(file, 0, size, headers)
    start, end = wanted
    if start >= end:
        return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return _answer(file, start, end, headers, status=206)


async def loop(call: Call) -> web.Response:
    """Lead on to the same again."""
    origin = call.state.files_origin
    return web.Response(status=302, headers={"Location": f"{origin}/files/loop/{int(call.ids['turn']) + 1}"})


def _answer(file: File, start: int, end: int, headers: Mapping[str, str], status: int = 200) -> web.Response:
    body = part_of_file(file.content.bytes, start, end, file.mime_type)
    return web.Response(body=body, status=status, headers={**headers, "Content-Type": file.mime_type})


def _headers(file: File, *, has_ranges: bool) -> dict[str, str]:
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(_encodable(file.name), safe='')}"}
    if has_ranges:
        headers |= {
            "Accept-Ranges": "bytes",
            "ETag": file.content.etag,
            "Last-Modified": _http_date(file.content.since),
        }
    return headers


def _wanted_part(request: web.BaseRequest, content: Content) -> tuple[int, int] | None:
    """Give the one part that is asked for; `None`: all, also when the header cannot be understood."""
    if request.method != "GET" or "Range" not in request.headers:
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition not in {content.etag, _http_date(content.since)}:
        return None
    try:
        part = request.http_range
    except ValueError:
        return None
    size = content.bytes.size
    start, end, _ = part.indices(size)
    is_beyond = part.start is not None and part.start >= size
    return (size, size) if is_beyond else (start, end)


def _http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC).replace(microsecond=0), usegmt=True)


def _encodable(name: str) -> str:
    return name.encode(errors="replace").decode()


TABLE: Final[Table[Call]] = (
    ("GET", "files/{key}", download),
    ("HEAD", "files/{key}", download),
    ("GET", "files/loop/{turn}", loop),
)
