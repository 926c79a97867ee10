"""Following the link to a file by hand.

The bearer token goes only below the API's own URL, and only until a redirect leads elsewhere: behind a shared
gateway, another path of the same host is another application. The cookie that came with the link goes only to
the link's own origin.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from healthmsg.api import Api
from healthmsg.codec import as_mapping
from healthmsg.environment import port_of
from healthmsg.errors import ConfigurationError, DownloadError, InvalidResponseError, UnauthorizedError
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.pipeline.request import Request, Response
from healthmsg.validation import is_printable, require_secure_url

_MOST_REDIRECTS: Final = 5
# No user name, and nothing that only some readers of URLs take for the end of the host.
_HOST_AND_PORT: Final = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")
# What stands in URLs as it is, and `%`, so that what is escaped stays escaped.
_LEFT_AS_IT_IS: Final = "%/:;=@!$&'()*+,~?[]"
# What some servers take for the end of a path's segment, or of a name in it.
_SEGMENT_ENDS: Final = re.compile(r"[/\\]")
_NAME_ENDS: Final = re.compile(r"[;\0\s]")


@hides_awaited_arguments  # the link and its cookie, which are worth as much as the file
async def fetch_file(api: Api, ask: Request, headers: Mapping[str, str]) -> Response:
    """Ask for the link, follow it to the file, and return the answer, which has a stream.

    Raises:
        DownloadError: the link or what it led to is not acceptable.
    """
    ask.query = {**(ask.query or {}), "headers": "false"}
    ask.answers_with_link = True
    response = await api.send(ask)
    url = _acceptable(ask.call, _link_of(ask.call, response), base=f"{api.url}/{ask.path}")
    cookie = _cookie_header(response.cookies)
    with_token = True
    for _ in range(_MOST_REDIRECTS + 1):
        with_token = with_token and is_below(url, api.url)
        response = await _fetch(api, ask.call, url, cookie, headers, with_token=with_token)
        if response.stream is not None:
            return response
        onwards = _acceptable(ask.call, _link_of(ask.call, response), base=url)
        if _origin(onwards) != _origin(url):
            cookie = None
        url = onwards
    raise DownloadError(ask.call, "the link led from one redirect to the next")


def is_below(url: str, base: str) -> bool:
    """Return whether every server reads *url* as one below *base*."""
    path, start = urlsplit(url).path, urlsplit(base).path.rstrip("/") + "/"
    if _origin(url) != _origin(base) or not path.startswith(start):
        return False
    while (plainer := unquote(path)) != path:
        path = plainer
    names = (_NAME_ENDS.split(segment, maxsplit=1)[0] for segment in _SEGMENT_ENDS.split(path))
    return not {".", ".."} & set(names)


async def _fetch(  # noqa: PLR0913 - what one request is made of
    api: Api, call: str, url: str, cookie: str | None, headers: Mapping[str, str], *, with_token: bool
) -> Response:
    request = Request(f"{call} (the file)", "GET", url, priority=api.priority)
    # Encoded, its size could not be checked, and a broken transfer not be continued.
    request.headers = {"Accept": "*/*", "Accept-Encoding": "identity", **headers}
    request.cookie = cookie
    request.streamed = request.answers_with_link = True
    if with_token:
        return await api.send(request)
    with suppress(UnauthorizedError):
        return await api.fetch(request)
    # Sent without the user's token, so to authorize again would not help.
    raise DownloadError(call, "where the link leads, the file is not given without a sign-in of its own")


def _link_of(call: str, response: Response) -> str:
    link: object = response.headers.get("Location")
    if link is None:
        with suppress(InvalidResponseError):
            link = as_mapping(response.json()).get("link")
    if not isinstance(link, str) or not link:
        raise DownloadError(call, "the answer has no link")
    return link


def _acceptable(call: str, link: str, *, base: str) -> str:
    try:
        parts = urlsplit(urljoin(base, link))
        path, query = (quote(part, safe=_LEFT_AS_IT_IS) for part in (parts.path, parts.query))
        url = parts._replace(path=path, query=query, fragment="").geturl()
        require_secure_url("the link", url)
        if urlsplit(base).scheme == "https" and parts.scheme != "https":
            raise ConfigurationError("a secure link leads to one that is not")
    except (ValueError, ConfigurationError):
        pass
    else:
        if _HOST_AND_PORT.fullmatch(parts.netloc):
            return url
    raise DownloadError(call, "the link is neither https nor on loopback")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, port_of(parts)


def _cookie_header(set_cookies: tuple[str, ...]) -> str | None:
    # Cut out and not parsed: the value goes back as it came.
    pairs = (set_cookie.partition(";")[0].strip() for set_cookie in set_cookies)
    sent = {pair.partition("=")[0]: pair for pair in pairs if "=" in pair and is_printable(pair)}
    return "; ".join(sent.values()) or None
