"""Why no connection was made, in words: where to, and what kept it from being made."""

import os
import socket
from typing import Final

import aiohttp
from yarl import URL

from healthmsg.errors import ConnectError, ProxyAuthenticationError
from healthmsg.pipeline.exchange import Request
from healthmsg.pipeline.tls import why_not_trusted

_WANTS_CREDENTIALS: Final = 407
_FAILED: Final = "no connection to {} could be made"
_OF_NAMES: Final = {
    socket.EAI_NONAME: "there is no such host",
    socket.EAI_AGAIN: "the name server does not answer",
    socket.EAI_FAIL: "the name server failed",
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): "there is no such host",
}
# `first` is what the connection is made to: the proxy, where there is one.
_WORDS: Final = (
    (UnicodeError, "the host's name cannot be one"),
    (aiohttp.InvalidURL, "the URL is not valid"),
    (aiohttp.ClientHttpProxyError, "{proxy} made no connection to {where}: it answered {status}"),
    (aiohttp.ClientConnectorDNSError, "the name of {first} could not be resolved{reason}"),
    (aiohttp.ClientSSLError, "no trusted TLS connection could be made to {where}"),
    (aiohttp.ConnectionTimeoutError, "making a connection to {first} took too long"),
    (aiohttp.ClientConnectorError, "no connection to {first} could be made{reason}"),
)


def connect_error(
    request: Request, error: aiohttp.ClientError | OSError | UnicodeError, *, tells_when_it_leaves: bool
) -> ConnectError | None:
    """Return the error for a call that got no connection; `None` if it may have left."""
    if request.has_left:  # and a middleware of the program's has made the call once more
        return None
    host, port = _target(request)
    problem = _problem(error, _named(host, port), request.proxy)
    if problem is None:
        if request.has_left is not False or not tells_when_it_leaves:
            return None
        # The time for the whole try was up, or the pool was closed, before that.
        took_too_long = isinstance(error, TimeoutError)
        to = _named(host, port)
        if request.proxy is not None:
            to += f" through the proxy {_named(request.proxy.host, request.proxy.port)}"
        problem = f"making a connection to {to} took too long" if took_too_long else _FAILED.format(to)
    is_407 = isinstance(error, aiohttp.ClientHttpProxyError) and error.status == _WANTS_CREDENTIALS
    return (ProxyAuthenticationError if is_407 else ConnectError)(request.call, problem, host=host, port=port)


def slow_proxy_settings(request: Request) -> ConnectError:
    """Return the error for a call that waited too long to learn which proxy to take."""
    host, port = _target(request)
    problem = f"making a connection to {_named(host, port)} took too long: the system's proxy settings did"
    return ConnectError(request.call, problem, host=host, port=port)


def _problem(
    error: aiohttp.ClientError | OSError | UnicodeError, where: str, proxy: URL | None
) -> str | None:
    through = "the proxy" if proxy is None else f"the proxy {_named(proxy.host, proxy.port)}"
    first = where if proxy is None else through
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return f"{first} refused the connection"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            status, reason = getattr(error, "status", None), _reason(error)
            problem = words.format(where=where, proxy=through, first=first, status=status, reason=reason)
            if isinstance(error, aiohttp.ClientSSLError):
                problem += f": {why_not_trusted(error.os_error)}"
            return problem
    return None


def _reason(error: Exception) -> str:
    """Return what the error's number stands for: its words may have addresses in them."""
    reason = getattr(error, "os_error", None)
    if isinstance(reason, socket.gaierror):
        words = _OF_NAMES.get(reason.errno or 0)
    elif isinstance(reason, OSError) and reason.errno:
        words = os.strerror(reason.errno)
    else:
        words = None
    return f" ({words})" if words else ""


def _target(request: Request) -> tuple[str | None, int | None]:
    """Return where the call goes, unless an answer named the place: that may tell which file it is about."""
    url = request.url
    if url is None or (request.is_absolute and request.streamed):
        return None, None
    return url.host, url.port


def _named(host: str | None, port: int | None) -> str:
    if host is None:
        return "the host"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
