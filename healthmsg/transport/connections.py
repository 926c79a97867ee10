"""The connections: one aiohttp session, made when it is first needed."""

import asyncio
import math
import os
import re
import socket
import ssl
from collections.abc import Coroutine, Mapping
from http.cookies import SimpleCookie
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from healthmsg.aio import start
from healthmsg.clock import machine_seconds
from healthmsg.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ProxyAuthenticationError,
    WrongEventLoopError,
)
from healthmsg.network import EnvironmentProxies, Network
from healthmsg.pipeline.request import Request
from healthmsg.transport.timeouts import Deadline

# A server that hangs must not eat up all file descriptors of the process.
_MOST_CONNECTIONS: Final = 256
# Seconds that the machine has slept, after which kept connections are not used again.
_SLEEP: Final = 10.0


class _NoCookies(aiohttp.DummyCookieJar):
    """Neither stores nor sends cookies, and makes no new empty set of them for each call."""

    _none: SimpleCookie = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> SimpleCookie:  # noqa: ARG002 - aiohttp's
        return self._none


class _Connector(aiohttp.TCPConnector):
    """Drops connections that were kept while the machine slept, since the other side has closed them.

    aiohttp drops what was not used for 15 seconds, by a clock that stands still meanwhile. A message
    that is sent over such a connection is not lost, but its outcome is unknown.
    """

    _ahead = math.inf
    """How far the machine's clock was ahead of the event loop's when it was looked at last."""

    def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> Coroutine[Any, Any, Any]:
        before, self._ahead = self._ahead, machine_seconds() - asyncio.get_running_loop().time()
        if self._ahead - before > _SLEEP:
            # aiohttp has no public way to get at these. It uses none that is closed.
            for kept in getattr(self, "_conns", {}).values():
                for protocol, _ in kept:
                    protocol.close()
        return super().connect(req, traces, timeout)


class Connections:
    """One pool for all calls of a client, however long each of them may take.

    After the machine has slept, calls make new connections, unless the pool is that of a session passed in.

    A session that is passed in stays open, and only its pool, proxy, tracing and middlewares are used: none
    of its cookies, headers or credentials, and it stores no cookie of ours.
    """

    def __init__(
        self,
        network: Network,
        *,
        headers: Mapping[str, str],
        request_class: type[aiohttp.ClientRequest],
        given: aiohttp.ClientSession | None,
    ) -> None:
        if given is not None and network.ssl is not None:
            raise ConfigurationError("a session that is passed in brings its own TLS settings: leave ssl out")
        self._network = network
        self._headers = headers
        self._request_class = request_class
        self._given = given
        self._closed = False
        # A proxy that was named comes before those of the environment.
        self.environment: EnvironmentProxies | None = (
            EnvironmentProxies() if network.trust_env and network.proxy is None else None
        )
        self.session: aiohttp.ClientSession | None = None
        self.middlewares: tuple[Any, ...] = ()
        self.is_traced: bool = False
        """Whether the session that was passed in has tracing hooks."""
        # All calls of one length share a timer, which goes with the last of them.
        self._deadlines: WeakValueDictionary[float, Deadline] = WeakValueDictionary()

    def open(self) -> aiohttp.ClientSession:
        """Return the session, made now if there is none yet."""
        if self._closed:
            raise ClientClosedError
        if self.session is None:
            self.session = self._make()
        return self.session

    def deadline(self, seconds: float) -> Deadline:
        """Return the time-out that all calls of this length share."""
        return self._deadlines.setdefault(seconds, Deadline(seconds))

    async def close(self) -> None:
        """Close the connections; of a session that was passed in, none."""
        for deadline in self._deadlines.values():
            deadline.close()
        self._closed = True  # a call that waits for its turn or its next try must not open a session again
        session, self.session = self.session, None
        if session is None:
            return
        if self._given is None:
            await session.close()
        else:
            session.detach()

    def abort(self) -> "asyncio.Task[None]":
        """Make no more connections from now on, and cut those there are in the next tick.

        So what the process began is left as it is when the process dies. The task ends when they are closed.
        """
        self._closed = True
        return start(self.close(), name="healthmsg connections aborted")

    def _make(self) -> aiohttp.ClientSession:
        network = self._network
        options: dict[str, Any] = {
            "cookie_jar": _NoCookies(),
            "request_class": self._request_class,
            "headers": self._headers,
            "proxy": network.proxy,
        }
        if self._given is not None:
            return self._beside(self._given, options)
        trusted = True if network.ssl is None else network.ssl
        connector = _Connector(limit=_MOST_CONNECTIONS, ssl=trusted)
        return aiohttp.ClientSession(connector=connector, **options)

    def _beside(self, given: aiohttp.ClientSession, options: dict[str, Any]) -> aiohttp.ClientSession:
        """Make a session that shares a given one's pool, and none of what would change our calls."""
        if given.closed:
            raise ConfigurationError("the session that was passed in is closed")
        connector = given.connector
        # aiohttp has no public way to ask a session for these, nor for its proxy, and `loop` warns.
        if connector is None or getattr(given, "_loop", None) is not asyncio.get_running_loop():
            raise WrongEventLoopError
        self.middlewares = tuple(getattr(given, "_middlewares", ()))
        self.is_traced = bool(given.trace_configs)
        if self._network.proxy is None:
            options["proxy"] = _proxy_of(given)
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            trust_env=given.trust_env,
            trace_configs=given.trace_configs,
            **options,
        )


def _proxy_of(given: aiohttp.ClientSession) -> URL | None:
    proxy, auth = getattr(given, "_default_proxy", None), getattr(given, "_default_proxy_auth", None)
    if proxy is None or auth is None:
        return proxy and URL(proxy)
    return URL(proxy).with_user(auth.login).with_password(auth.password)


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
    request: Request, error: aiohttp.ClientError | OSError | UnicodeError, *, notes_sending: bool
) -> ConnectError | None:
    """Return the error for a call that got no connection; `None` if it may have left."""
    if request.current.has_left:  # and a middleware of the program's has made the call once more
        return None
    host, port = _target(request)
    problem = _problem(error, _named(host, port), request.current.proxy)
    if problem is None:
        if request.current.has_left is not False or not notes_sending:
            return None
        # The time for the whole try was up, or the pool was closed, before that.
        took_too_long = isinstance(error, TimeoutError)
        to = _named(host, port)
        if request.current.proxy is not None:
            to += f" through the proxy {_named(request.current.proxy.host, request.current.proxy.port)}"
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
    """Return where the call goes, unless an answer named the place: that may identify the file."""
    url = request.current.url
    if url is None or (request.is_absolute and request.streamed):
        return None, None
    return url.host, url.port


def _named(host: str | None, port: int | None) -> str:
    if host is None:
        return "the host"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Where that is said, and how it is allowed.
_SEE: Final = 'README.md says in "Networks and time-outs" how to allow it, `--no-x509-strict` for commands'
_STRICTER: Final = f"Python 3.13 and later refuse it; {_SEE}"
_UNKNOWN_AUTHORITY: Final = (
    "unknown CA: the certificate comes from no authority that is trusted; `ssl`, or `--ca` for commands,"
    " names a file with others"
)
_WRONG_HOST: Final = "wrong host name: the certificate is for another host"
_NO_KEY_IDENTIFIER: Final = f"no key identifier in the certificate, or in its authority's: {_STRICTER}"
# The numbers are OpenSSL's, in x509_vfy.h.
_REASONS: Final = {
    **dict.fromkeys((2, 18, 19, 20, 21, 27), _UNKNOWN_AUTHORITY),
    9: "not valid yet: the certificate begins to hold later, by this machine's clock",
    10: "expired: the certificate holds no more, by this machine's clock",
    23: "revoked: the certificate's authority has taken it back",
    **dict.fromkeys((62, 64), _WRONG_HOST),
    **dict.fromkeys((85, 86), _NO_KEY_IDENTIFIER),
}
# The other things that the stricter way finds: from a CA without its mark to a version of the format.
_STRICT_ONLY: Final = range(79, 95)
_NO_TLS: Final = "the other side does not speak TLS"
_OTHER_VERSION: Final = "the two sides have no version of TLS in common"
_HANDSHAKES: Final = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _OTHER_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OTHER_VERSION,
}


def why_not_trusted(error: Exception) -> str:
    """Return the reason, without anything that a certificate or the other side says of itself."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error.verify_code, error.verify_message)
    reason = getattr(error, "reason", None)
    if not isinstance(reason, str) or not re.fullmatch("[A-Z0-9_]+", reason):
        return "the other side ended it"
    return _HANDSHAKES.get(reason) or reason.replace("_", " ").lower()


def _of_certificate(code: int, message: str) -> str:
    if code in _REASONS:
        return _REASONS[code]
    # One of OpenSSL's own sentences; only where the host's name is wrong, Python puts something into it.
    return f"{message}: {_STRICTER}" if code in _STRICT_ONLY else message
