"""The files themselves, outside the API's base: opened by a cookie, never by a token."""

from typing import Final
from urllib.parse import quote

from aiohttp import web

from healthmsg.sandbox.answers import ApiError, not_found
from healthmsg.sandbox.call import Call
from healthmsg.sandbox.routing import Table


async def download(call: Call) -> web.Response:
    """Give the file that a link leads to; 403 without the cookie that came with the link [V]."""
    offer = call.state.download(call.ids["key"])
    if offer is None:
        raise not_found("file")
    if not offer.opened_by(call.request.headers.get("Cookie", "")):
        raise ApiError(403, "cookie_required", "This link opens only with the cookie that came with it.")
    disposition = f"attachment; filename*=UTF-8''{quote(offer.file.name, safe='')}"
    return web.Response(
        body=offer.file.content,
        headers={"Content-Type": offer.file.mime_type, "Content-Disposition": disposition},
    )


TABLE: Final[Table[Call]] = (("GET", "files/{key}", download),)
