"""The wire step: the only place that speaks HTTP. aiohttp's exceptions end here.

They carry headers and bodies, so none is chained to ours: each is translated, and ours is raised outside
the `except` block.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http.cookies import SimpleCookie
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from aiohttp import hdrs
from attrs import field, frozen
from yarl import URL

from healthmsg.errors import (
    CallError,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    WrongEventLoopError,
)
from healthmsg.pipeline.body import UploadBody
from healthmsg.pipeline.deadline import Deadline
from healthmsg.pipeline.exchange import Content, Multipart, Request, Response
from healthmsg.settings import positive
from healthmsg.version import __version__

_USER_AGENT: Final = f"healthmsg/{__version__}"
# Bytes per second: an upload gets this much more time for its size.
_SLOWEST_UPLOAD: Final = 50_000
# A server that hangs must not eat up all file descriptors of the process.
_MOST_CONNECTIONS: Final = 256
_CHUNK: Final = 256 * 1024
# Bytes; aiohttp would write more at one go, and warns of it.
_LARGE: Final = 512 * 1024
_WHOLE_OR_PART: Final = frozenset({200, 206})


@frozen
class Timeout:
    """How long one try of a call may take, in seconds.

    `connect` bounds making a connection, `read` the wait between two pieces of the answer, `total` the whole
    try without the wait for the limit. An upload's `total` grows by a second for each 50 kB.

    Raises:
        ConfigurationError: a number that cannot be a time.
    """

    total: float = field(default=60.0, validator=positive)
    connect: float = field(default=10.0, validator=positive)
    read: float = field(default=60.0, validator=positive)


# Should an aiohttp ever send in another way, silence would mean nothing, and a call that left be made again.
_TELLS_WHEN_IT_LEAVES: Final = hasattr(aiohttp.ClientRequest, "send")


class _NoCookies(aiohttp.DummyCookieJar):
    """Neither stores nor sends cookies, and makes no new empty set of them for each call."""

    _none: SimpleCookie = SimpleCookie()

    def filter_cookies(self, request_url: URL) -> SimpleCookie:  # noqa: ARG002 - aiohttp's
        return self._none


class _OutgoingRequest(aiohttp.ClientRequest):
    """Tells when it leaves, which is after the connection was made."""

    carries: Request | None = None

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        if self.carries is not None:
            self.carries.has_left = True
            if self.carries.slot is not None:
                self.carries.slot.sent()
        return await super().send(conn)


class Wire:
    """Carries requests out over one connection pool.

    A session that is passed in stays open, and only its pool, proxy, tracing and middlewares are used: none
    of its cookies, headers or credentials, and it stores no cookie of ours.
    """

    def __init__(
        self,
        api_url: str,
        *,
        timeout: Timeout,
        session: aiohttp.ClientSession | None = None,
        api_version: str | None = None,
    ) -> None:
        self._api_url = api_url
        self._timeout = timeout
        self._deadline = Deadline(timeout.total)
        read = timeout.read if timeout.read < timeout.total else None
        self._aiohttp_timeout = aiohttp.ClientTimeout(sock_connect=timeout.connect, sock_read=read)
        self._given = session
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._middlewares: tuple[Any, ...] = ()
        self._headers: dict[str, str] = {hdrs.ACCEPT: "application/json", hdrs.USER_AGENT: _USER_AGENT}
        if api_version is not None:
            self._headers["api-version"] = api_version  # the header's name is assumed [A]

    async def __call__(self, request: Request) -> Response:
        """Send, and read the whole answer unless it is to be streamed."""
        task = asyncio.current_task()
        if request.streamed or isinstance(request.body, Multipart) or task is None:
            return await self._exchange(request, self._timeout_of(request))
        cancelled_before = task.cancelling()
        self._deadline.begin(task)
        try:
            return await self._exchange(request, self._aiohttp_timeout)
        except asyncio.CancelledError:
            if not self._deadline.end(task) or task.uncancel() > cancelled_before:
                raise
        finally:
            if self._deadline.end(task):  # struck, but something else went wrong first
                task.uncancel()
        raise _translated(request, TimeoutError())

    async def _exchange(self, request: Request, limits: aiohttp.ClientTimeout) -> Response:
        session = self._session or self._open()
        request.has_left = None
        upload: UploadBody | None = None
        headers: Mapping[str, str] | None = None
        data: bytes | BytesIO | aiohttp.MultipartWriter | None = None
        if isinstance(request.body, Content):
            headers = {hdrs.CONTENT_TYPE: request.body.content_type}
            data = request.body.data
            if len(data) > _LARGE:
                data = BytesIO(data)
        elif request.body is not None:
            upload = UploadBody(request.body, request.slot)
            data = upload.payload()
        try:
            answer = await session.request(
                request.method,
                self._url(request),
                headers=headers,
                data=data,
                timeout=limits,
                allow_redirects=False,
                middlewares=(_guard(request), *self._middlewares),
            )
            return await _response(request, answer)
        except CallError as error:
            failure: Exception = error
        except (aiohttp.ClientError, OSError) as error:
            failure = _translated(request, error)
        except RuntimeError as error:
            # aiohttp's only way to say that a session was closed meanwhile.
            failure = ClientClosedError() if session.closed else error
        raise (upload and upload.failure(request.call)) or failure

    async def close(self) -> None:
        """Close the connections; of a session that was passed in, none."""
        self._deadline.close()
        self._closed = True  # a call that waits for its turn or its next try must not open a session again
        session, self._session = self._session, None
        if session is None:
            return
        if self._given is None:
            await session.close()
        else:
            session.detach()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ClientClosedError
        options: dict[str, Any] = {
            "cookie_jar": _NoCookies(),
            "request_class": _OutgoingRequest,
            "timeout": self._aiohttp_timeout,
            "headers": self._headers,
        }
        if self._given is None:
            connector = aiohttp.TCPConnector(limit=_MOST_CONNECTIONS)
            self._session = aiohttp.ClientSession(connector=connector, **options)
        else:
            self._session = self._beside(self._given, options)
        return self._session

    def _beside(self, given: aiohttp.ClientSession, options: dict[str, Any]) -> aiohttp.ClientSession:
        """Make a session that shares a given one's pool, and none of what would change our calls."""
        if given.closed:
            raise ConfigurationError("the session that was passed in is closed")
        connector = given.connector
        # aiohttp has no public way to ask a session for these three; `loop` warns that it is deprecated.
        if connector is None or getattr(given, "_loop", None) is not asyncio.get_running_loop():
            raise WrongEventLoopError
        self._middlewares = tuple(getattr(given, "_middlewares", ()))
        proxy = getattr(given, "_default_proxy", None)
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            trust_env=given.trust_env,
            trace_configs=given.trace_configs,
            proxy=proxy,
            **options,
        )

    def _url(self, request: Request) -> URL:
        url = request.path if request.is_absolute else f"{self._api_url}/{request.path}"
        if request.query:
            url = f"{url}?{urlencode(request.query)}"
        try:
            return URL(url, encoded=True)
        except ValueError:
            pass
        raise ConnectError(request.call, "the URL is not valid")

    def _timeout_of(self, request: Request) -> aiohttp.ClientTimeout:
        total: float | None = self._timeout.total
        if isinstance(request.body, Multipart):
            total = self._timeout.total + sum(file.size for file in request.body.files) / _SLOWEST_UPLOAD
        elif request.streamed:  # a download of any size; a standstill is what `read` is for
            total = None
        return aiohttp.ClientTimeout(total, sock_connect=self._timeout.connect, sock_read=self._timeout.read)


def _guard(request: Request) -> Callable[..., Awaitable[aiohttp.ClientResponse]]:
    """Make the outermost middleware of one call.

    It decides which credentials go along, whatever a session, a netrc file or a proxy setting had put there.
    And it keeps aiohttp from sending GET, PUT and DELETE again by itself when a kept-alive connection breaks,
    which it does for its own exceptions only.
    """

    async def guard(outgoing: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        headers, slot = outgoing.headers, request.slot
        headers.popall(hdrs.AUTHORIZATION, None)
        headers.popall(hdrs.COOKIE, None)
        if request.token is not None:
            headers[hdrs.AUTHORIZATION] = f"Bearer {request.token}"
        if request.cookie is not None:
            headers[hdrs.COOKIE] = request.cookie
        if isinstance(outgoing, _OutgoingRequest):
            outgoing.carries = request
            request.has_left = False
        try:
            answer: aiohttp.ClientResponse = await handler(outgoing)
        except (aiohttp.ClientError, OSError) as error:
            failure = _translated(request, error)
        else:
            if slot is not None:
                slot.answered()
            return answer
        raise failure

    return guard


async def _response(request: Request, answer: aiohttp.ClientResponse) -> Response:
    cookies = tuple(answer.headers.getall(hdrs.SET_COOKIE)) if hdrs.SET_COOKIE in answer.headers else ()
    if request.streamed and answer.status in _WHOLE_OR_PART:
        stream = _AnswerStream(request, answer)
        return Response(request.call, answer.status, answer.headers, b"", cookies, stream)
    return Response(request.call, answer.status, answer.headers, await answer.read(), cookies)


class _AnswerStream:
    """An answer's body, piece by piece."""

    def __init__(self, request: Request, answer: aiohttp.ClientResponse) -> None:
        self._request = request
        self._answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.content.iter_chunked(_CHUNK):
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            failure = _translated(self._request, error)
        else:
            return
        raise failure

    def close(self) -> None:
        self._answer.close()


_NOT_CONNECTED: Final = (
    (aiohttp.ClientConnectorDNSError, "the host's name could not be resolved"),
    (aiohttp.ClientSSLError, "no trusted TLS connection could be made"),
    (aiohttp.ConnectionTimeoutError, "making a connection took too long"),
    (aiohttp.ClientConnectorError, "no connection could be made"),
    (aiohttp.ClientHttpProxyError, "the proxy made no connection"),
    (aiohttp.InvalidURL, "the URL is not valid"),
)


def _translated(request: Request, error: aiohttp.ClientError | OSError) -> CallError:
    for kind, problem in _NOT_CONNECTED:
        if isinstance(error, kind):
            return ConnectError(request.call, problem)
    if (
        request.has_left is False and _TELLS_WHEN_IT_LEAVES
    ):  # the time for the whole try was up, or the pool was closed, before that
        took_too_long = isinstance(error, TimeoutError)
        problem = "making a connection took too long" if took_too_long else "no connection could be made"
        return ConnectError(request.call, problem)
    outcome = request.outcome_unheard
    if isinstance(error, TimeoutError):
        return CallTimeoutError(request.call, "no complete answer came in time", outcome=outcome)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ConnectionLostError(request.call, "the answer was cut short", outcome=outcome)
    if isinstance(error, aiohttp.ClientResponseError):
        return ConnectionLostError(request.call, "the answer was not HTTP", outcome=outcome)
    return ConnectionLostError(request.call, "the connection was lost", outcome=outcome)
