"""Sending a request and reading its answer with aiohttp.

aiohttp's exceptions carry headers and bodies, so none is chained to ours: each is translated, and ours is
raised outside the `except` block.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from copy import copy
from functools import partial
from io import BytesIO
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
from aiohttp import hdrs
from attrs import define
from multidict import CIMultiDict
from yarl import URL

from healthmsg.errors import (
    CallError,
    CallTimeoutError,
    ClaimLostError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    InvalidResponseError,
    Outcome,
)
from healthmsg.network import Network
from healthmsg.pipeline.check import status_error
from healthmsg.pipeline.request import Content, Multipart, Request, Response
from healthmsg.transport.connections import Connections, connect_error, slow_proxy_settings
from healthmsg.transport.multipart import UploadBody
from healthmsg.transport.timeouts import Standstill, Timeout
from healthmsg.validation import is_loopback
from healthmsg.version import __version__

_USER_AGENT: Final = f"healthmsg/{__version__}"
# Bytes per second: an upload gets this much more time for its size.
_SLOWEST_UPLOAD: Final = 50_000
_CHUNK: Final = 1024 * 1024
# Bytes; aiohttp would write more at one go, and warns of it.
_LARGE: Final = 512 * 1024
# Bytes; without waiting for the network, which is what a time-out for writing is about.
_TAKEN_AT_ONCE: Final = 64 * 1024
_WHOLE_OR_PART: Final = frozenset({200, 206})
# The last is for a name that no host can have.
_FAILURES: Final = (aiohttp.ClientError, OSError, UnicodeError)
_SWITCHES_PROTOCOL: Final = 101
# Each of aiohttp's conveniences for WebSockets is a trap; see transport/websocket.py.
_BARE: Final[Mapping[str, Any]] = {
    "heartbeat": None,
    "autoping": False,
    "autoclose": False,
    "compress": 0,
    "decode_text": False,
}
_UPGRADES: Final = re.compile("^ws(s?)://")
# Bytes: of an answer that is no file, for a link and for the service's words.
_ENOUGH: Final = 64 * 1024
# The least status that stands for an error.
_REFUSED: Final = 400
# Bytes: of the service's words for an error, and of an answer that is a link or a token.
_LARGEST_SHORT_ANSWER: Final = 1024 * 1024
LARGEST_RESPONSE: Final = 64 * 1024 * 1024
"""Bytes."""

# If aiohttp had no `send`, nothing would say whether a call was sent: then none counts as unsent.
_NOTES_SENDING: Final = hasattr(aiohttp.ClientRequest, "send")


@define(eq=False)
class _Sending:
    """A request on its way into aiohttp."""

    request: Request | None
    """`None` afterwards: the context of a connection that was made for it lives as long as that."""
    write_timeout: float | None
    """Seconds; `None` for a body that the operating system takes at once."""
    is_made: bool = False
    """Whether aiohttp has made its own request of it, of which there is to be one."""
    is_upgrade: bool = False
    """Whether a WebSocket is to come of it. aiohttp would follow a redirect, and the token go elsewhere."""


# aiohttp has no other way to hand something on to the request that it makes.
_SENDING: Final[ContextVar[_Sending | None]] = ContextVar("_SENDING", default=None)


class _OutgoingRequest(aiohttp.ClientRequest):
    """Puts the credentials on, and notes when the call leaves, which is after the connection was made.

    It alone decides which credentials go along, whatever a session, a netrc file or a URL had put there, and
    that plain http, which is for this machine only, does not leave it by a proxy that is elsewhere.
    """

    carries: Request | None = None

    def __init__(self, method: str, url: URL, **options: Any) -> None:
        super().__init__(method, url, **options)
        sending = _SENDING.get()
        if sending is None or (request := sending.request) is None:
            return
        current = request.current
        is_ours = (url is current.url or url == current.url) and method == request.method
        if not (is_ours or sending.is_upgrade):
            return  # a middleware or a tracing hook of the program's makes a call of its own
        if sending.is_made:
            # When a kept-alive connection breaks, aiohttp sends GET, PUT and DELETE again by itself.
            raise aiohttp.ServerDisconnectedError
        sending.is_made = True
        self.carries = request
        self._put_credentials_on(request)
        # Few proxies let a WebSocket through that they can read.
        goes_alone = sending.is_upgrade or not is_loopback(self.proxy.host or "") if self.proxy else False
        if goes_alone and url.scheme == "http":
            self.proxy = None
        current.proxy = self.proxy
        current.has_left = False
        if sending.write_timeout is not None:
            self.write_bytes = partial(_write_in_time, self.write_bytes, sending.write_timeout)  # type: ignore[method-assign]

    def update_headers(self, headers: Any) -> None:
        # As aiohttp does, with Host first, but all the others in one go: this is half of the time.
        host = self.url.host_port_subcomponent
        self.headers = CIMultiDict(() if host is None else ((hdrs.HOST, host),))
        if headers:
            self.headers.update(headers)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add nothing: all that aiohttp would add is among the headers of our session."""

    def _put_credentials_on(self, request: Request) -> None:
        if request.current.token is None:
            self.headers.popall(hdrs.AUTHORIZATION, None)
        else:
            self.headers[hdrs.AUTHORIZATION] = f"Bearer {request.current.token}"
        if request.cookie is None:
            self.headers.popall(hdrs.COOKIE, None)
        else:
            self.headers[hdrs.COOKIE] = request.cookie

    def send(self, conn: Any) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        protocol = conn.protocol
        if protocol is not None and protocol.should_close:
            # An answer to no call is there already: it would be taken for this call's.
            raise aiohttp.ClientConnectionError
        request = self.carries
        if request is not None:
            if request.before_send is not None:
                _check_before_send(request, request.before_send)
                self.write_bytes = partial(_check_before_write, request, self.write_bytes)  # type: ignore[method-assign]
            current = request.current
            if current.slot is not None and not current.slot.sent():
                # The machine has slept, the store is away, or the connection took long to make: the slot is
                # another worker's by now. The connection is kept, so that the next try finds it made.
                conn.release()
                raise aiohttp.ClientConnectionError
            current.has_left = True
        return super().send(conn)


def _check_before_send(request: Request, before_send: Callable[[], None]) -> None:
    """Call `before_send` again, since the machine may have slept while the connection was made."""
    if not request.current.has_left:
        before_send()
        return
    # A middleware of the program repeats the call, so it may have been sent before.
    with suppress(ClaimLostError):
        before_send()
        return
    raise aiohttp.ClientConnectionError


async def _check_before_write(
    request: Request, write_bytes: Callable[..., Awaitable[None]], writer: Any, conn: Any, *rest: Any
) -> None:
    """Call `before_send` a last time: aiohttp writes in a task of its own, and the headers wait for it."""
    try:
        if request.before_send is not None:
            request.before_send()
    except ClaimLostError:
        request.current.has_left = False
        conn.protocol.set_exception(aiohttp.ClientConnectionError())
        return
    await write_bytes(writer, conn, *rest)


async def _write_in_time(
    write_bytes: Callable[..., Awaitable[None]], seconds: float, writer: Any, conn: Any, *rest: Any
) -> None:
    protocol = conn.protocol

    def time_out() -> None:  # as aiohttp itself does when nothing comes to be read
        protocol.set_exception(aiohttp.SocketTimeoutError("Timeout on writing data to socket"))

    # Should the connection break at the very end, aiohttp closes it, so that the wait for the answer fails.
    # It also raises here, in a task that is never awaited.
    with Standstill(writer, seconds, time_out), suppress(aiohttp.ClientConnectionError):
        await write_bytes(writer, conn, *rest)


class Wire:
    """Carries requests out over one connection pool, within the times of one `Timeout`."""

    def __init__(  # noqa: PLR0913 - a client has that many settings, by keyword
        self,
        api_url: str,
        *,
        timeout: Timeout | None = None,
        session: aiohttp.ClientSession | None = None,
        api_version: str | None = None,
        app_info: str | None = None,
        network: Network | None = None,
        max_response_size: int = LARGEST_RESPONSE,
    ) -> None:
        self._api_url = api_url
        self._most = max_response_size
        # The program first: RFC 9110 has the most significant product first.
        user_agent = _USER_AGENT if app_info is None else f"{app_info} {_USER_AGENT}"
        headers: dict[str, str] = {
            hdrs.ACCEPT: "application/json",
            hdrs.ACCEPT_ENCODING: aiohttp.ClientRequest.DEFAULT_HEADERS[hdrs.ACCEPT_ENCODING],
            hdrs.USER_AGENT: user_agent,
        }
        if api_version is not None:
            headers["api-version"] = api_version  # the header's name is assumed [A]
        self._connections = Connections(
            network or Network(), headers=headers, request_class=_OutgoingRequest, given=session
        )
        self._set_timeout(timeout or Timeout())

    def _set_timeout(self, timeout: Timeout) -> None:
        self.timeout = timeout
        self._deadline = self._connections.deadline(timeout.total)
        read = timeout.read if timeout.read < timeout.total else None
        connect = {"connect": timeout.connect, "sock_connect": timeout.connect}
        self._aiohttp_timeout = aiohttp.ClientTimeout(**connect, sock_read=read)
        self._patient_timeout = aiohttp.ClientTimeout(**connect, sock_read=timeout.read)
        """For transfers, whose size decides how long they take."""

    def with_timeout(self, timeout: Timeout) -> Self:
        """Return a wire over the same connections that allows calls other times."""
        other = copy(self)
        other._set_timeout(timeout)  # noqa: SLF001 - it is one of us
        return other

    async def __call__(self, request: Request) -> Response:
        """Send, and read the whole answer unless it is to be streamed."""
        task = asyncio.current_task()
        if isinstance(request.body, Multipart):
            return await self._transfer(request, self._time_for(request.body))
        if request.streamed or task is None:
            # Until the file begins; how long it then takes is its own affair.
            return await self._transfer(request, self.timeout.total)
        cancelled_before = task.cancelling()
        self._deadline.begin(task)
        try:
            return await self._exchange(request, self._aiohttp_timeout)
        except asyncio.CancelledError:
            if not self._deadline.end(task) or task.uncancel() > cancelled_before:
                raise
        finally:
            if self._deadline.end(task):  # the time was up, but something else went wrong first
                task.uncancel()
        return _took_too_long(request)

    async def _transfer(self, request: Request, total: float | None) -> Response:
        try:
            async with asyncio.timeout(total) as request.current.timeout:
                return await self._exchange(request, self._patient_timeout)
        except TimeoutError:
            pass
        return _took_too_long(request)

    def _time_for(self, form: Multipart) -> float | None:
        return None if form.size is None else self.timeout.total + form.size / _SLOWEST_UPLOAD

    async def _exchange(self, request: Request, limits: aiohttp.ClientTimeout) -> Response:
        connections, current, body = self._connections, request.current, request.body
        session = connections.session or connections.open()
        current.url = url = self._url(request)
        proxy = await self._proxy_for(request, url) if connections.environment else None
        current.has_left = current.heard = None
        payload, upload, is_small = None, None, True
        if isinstance(body, Content):
            payload, is_small = _payload_of(body), len(body.data) <= _TAKEN_AT_ONCE
        elif body is not None:
            upload, is_small = UploadBody(body, request), False
            payload = upload.payload()
        before = _SENDING.set(sending := _Sending(request, None if is_small else self.timeout.write))
        try:
            answer = await session.request(
                request.method,
                url,
                headers=request.headers,
                data=payload,
                timeout=limits,
                proxy=proxy,
                allow_redirects=False,
                read_bufsize=_CHUNK if request.streamed else None,
                middlewares=connections.middlewares,
            )
            at_once = is_small and not connections.is_traced
            return await _response(request, answer, self._most, at_once=at_once)
        except CallError as error:
            failure: Exception = error
        except _FAILURES as error:
            failure = _translated(request, error)
        except RuntimeError as error:
            # aiohttp's only way to say that a session was closed meanwhile.
            failure = ClientClosedError() if session.closed else error
        finally:
            sending.request = None
            _SENDING.reset(before)  # that of a call whose tracing hook made this one
        raise (upload and upload.failure()) or failure

    async def _proxy_for(self, request: Request, url: URL) -> URL | None:
        request.current.has_left = False  # it does not leave while the system looks its proxies up
        environment = self._connections.environment
        with suppress(TimeoutError):
            async with asyncio.timeout(self.timeout.connect):
                return None if environment is None else await environment.proxy_for(url.scheme, url.authority)
        raise slow_proxy_settings(request)

    async def upgrade(
        self, url: str, *, seconds: float, most: int
    ) -> "aiohttp.ClientWebSocketResponse[bool]":
        """Open a WebSocket, without a token [V], through the same proxies and with the same trust as a call.

        It waits for no slot of the limit. No message may be larger than `most` bytes.

        Raises:
            ConnectError, ConnectionLostError, CallTimeoutError: none was opened within `seconds`.
            StatusError: the service refused.
        """
        session = self._connections.open()
        request = Request("GET gateway", "GET", _UPGRADES.sub(r"http\1://", url, count=1))
        request.current.url = target = self._url(request)
        sending = _Sending(request, None, is_upgrade=True)
        before = _SENDING.set(sending)
        try:
            async with asyncio.timeout(seconds):
                proxy = await self._proxy_for(request, target)
                request.current.has_left = None
                opened: aiohttp.ClientWebSocketResponse[bool] = await session.ws_connect(
                    target, proxy=proxy, max_msg_size=most, **_BARE
                )
                return opened
        except CallError as error:
            failure: Exception = error
        except aiohttp.WSServerHandshakeError as error:
            failure = _refused_upgrade(request, error)
        except AssertionError:
            # aiohttp's way to say that the connection ended while a tracing hook saw the answer.
            failure = ConnectionLostError(request.call, "the connection was lost", outcome=Outcome.NOT_SENT)
        except _FAILURES as error:
            failure = _translated(request, error)
        except RuntimeError as error:
            failure = ClientClosedError() if session.closed else error
        finally:
            sending.request = None
            _SENDING.reset(before)
        raise failure

    async def close(self) -> None:
        """Close the connections; of a session that was passed in, none."""
        await self._connections.close()

    def abort(self) -> "asyncio.Task[None]":
        """Cut the connections, as the death of the process does; see `Connections.abort`."""
        return self._connections.abort()

    def _url(self, request: Request) -> URL:
        url = request.path if request.is_absolute else f"{self._api_url}/{request.path}"
        if request.query:
            url = f"{url}?{urlencode(request.query)}"
        try:
            return URL(url, encoded=True)
        except ValueError:
            pass
        raise ConnectError(request.call, "the URL is not valid")


def _refused_upgrade(request: Request, error: aiohttp.WSServerHandshakeError) -> CallError:
    if error.status < _REFUSED:
        return ConnectionLostError(request.call, "the answer was no WebSocket's", outcome=Outcome.NOT_SENT)
    return status_error(Response(request.call, error.status, error.headers or {}, b""), request)


def _payload_of(body: Content) -> aiohttp.Payload:
    """Return a body as aiohttp's own kind of it, which brings its `Content-Type` along."""
    if len(body.data) > _LARGE:
        return aiohttp.BytesIOPayload(BytesIO(body.data), content_type=body.content_type)
    return aiohttp.BytesPayload(body.data, content_type=body.content_type)


async def _response(
    request: Request, answer: aiohttp.ClientResponse, most: int, *, at_once: bool
) -> Response:
    current, headers, status = request.current, answer.headers, answer.status
    if current.slot is not None:
        current.slot.answered()
    cookies = tuple(headers.getall(hdrs.SET_COOKIE)) if hdrs.SET_COOKIE in headers else ()
    if request.streamed and status in _WHOLE_OR_PART:
        return Response(request.call, status, headers, b"", cookies, _AnswerStream(request, answer))
    current.heard = heard = Response(request.call, status, headers, b"", cookies)
    if status >= _REFUSED or request.answers_with_link or request.is_absolute:
        most = min(most, _LARGEST_SHORT_ANSWER)
    try:
        content = answer.content
        # Nearly every answer is there in one piece, with its headers. But an upload's writer is to end first,
        # and tracing hooks of the program's see an answer only as it is read.
        if at_once and content.is_eof() and content.exception() is None:
            heard.body = content.read_nowait()
        else:
            heard.body = await (_beginning(answer) if request.streamed else _whole(answer, most))
    except (aiohttp.ClientError, OSError):
        if not _status_suffices(request, heard):
            raise
    if len(heard.body) > most and not _status_suffices(request, heard):
        problem = f"it is larger than the client's max_response_size allows ({most} bytes)"
        raise InvalidResponseError(request.call, problem, outcome=request.outcome_unheard)
    if status == _SWITCHES_PROTOCOL:
        answer.close()  # aiohttp would keep the connection for the other protocol
    return heard


async def _whole(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Read an answer's body, or little more than `most` bytes of it: compressed, it can be any size."""
    size = answer.content_length
    if size is not None and size <= most and hdrs.CONTENT_ENCODING not in answer.headers:
        return await answer.read()
    pieces, size, is_read = [], 0, False
    try:
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                return b"".join(pieces)
            if size > _LARGEST_SHORT_ANSWER:
                await asyncio.sleep(0)  # what is decompressed comes without a wait for the network
        is_read = True
    finally:
        if not is_read:  # as `read` does: the connection would else keep its place in the pool
            answer.close()
    return b"".join(pieces)


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """Read what came instead of a file: the link's host can be any, and send without end."""
    body = b""
    try:
        while len(body) < _ENOUGH and (piece := await answer.content.read(_ENOUGH)):
            body += piece
    finally:
        answer.close()
    return body


def _took_too_long(request: Request) -> Response:
    """Return what was read of the answer all the same, if that is enough."""
    if request.current.heard is not None and _status_suffices(request, request.current.heard):
        return request.current.heard
    raise _translated(request, TimeoutError())


def _status_suffices(request: Request, heard: Response) -> bool:
    """Return whether an answer says what became of the call though its body was cut."""
    if heard.status >= _REFUSED:
        return not request.is_absolute  # only the body says why a token call was refused
    return not request.reads_answer


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


def _translated(request: Request, error: aiohttp.ClientError | OSError | UnicodeError) -> CallError:
    unconnected = connect_error(request, error, notes_sending=_NOTES_SENDING)
    if unconnected is not None:
        return unconnected
    outcome = request.outcome_unheard
    if isinstance(error, TimeoutError):
        return CallTimeoutError(request.call, "no complete answer came in time", outcome=outcome)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ConnectionLostError(request.call, "the answer was cut short", outcome=outcome)
    if isinstance(error, aiohttp.ClientResponseError):
        return ConnectionLostError(request.call, "the answer was not HTTP", outcome=outcome)
    return ConnectionLostError(request.call, "the connection was lost", outcome=outcome)
