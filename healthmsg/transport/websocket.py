"""A WebSocket over the client's connections: its proxy, its TLS settings, its user agent.

aiohttp's own keeping alive and closing are not used: its wait for a pong is half of its heartbeat, closing
begins its wait again with each message that comes, and a pong that is missed while nothing is read drops what
was received.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

import aiohttp
from yarl import URL

from healthmsg.errors import ConnectError
from healthmsg.transport.connections import Connections, why_not_connected

_CALL: Final = "gateway"
# Seconds for making the connection and its upgrade to a WebSocket.
_OPENING: Final = 5.0
# Seconds that the other side has to answer that the connection is being closed.
_CLOSING: Final = 2.0
# Bytes. What is larger ends the connection.
_LARGEST_FRAME: Final = 4 * 1024 * 1024
_TEXT: Final = frozenset({aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY})


class SocketClosedError(Exception):
    """The other side closed the connection, or it broke. The text says how, with nothing private in it."""


class Pong:
    """The answer to a ping."""


class Ping:
    """A ping of the other side, to be answered with `pong`."""

    def __init__(self, data: bytes) -> None:
        self.data: bytes = data


class WebSocket:
    """One connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes | Ping | Pong:
        """Return what came next.

        Raises:
            SocketClosedError: nothing comes any more.
        """
        message = await self._socket.receive()
        if message.type in _TEXT:
            received: str | bytes = message.data
            return received
        if message.type is aiohttp.WSMsgType.PONG:
            return Pong()
        if message.type is aiohttp.WSMsgType.PING:
            return Ping(bytes(message.data))
        code = self._socket.close_code
        raise SocketClosedError("it was closed" if code is None else f"it was closed with code {code}")

    async def send(self, text: str) -> None:
        """Send a text.

        Raises:
            SocketClosedError: it cannot be sent any more.
        """
        await self._sent(self._socket.send_str(text))

    async def ping(self) -> None:
        """Ask for a pong; see `send`."""
        await self._sent(self._socket.ping())

    async def pong(self, data: bytes) -> None:
        """Answer a ping; see `send`."""
        await self._sent(self._socket.pong(data))

    @staticmethod
    async def _sent(sending: Any) -> None:
        try:
            await sending
        except (aiohttp.ClientError, OSError):
            pass
        else:
            return
        raise SocketClosedError("it was closed")

    async def close(self) -> None:
        """Say goodbye, and end the connection, after two seconds whatever the other side does."""
        try:
            with suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(_CLOSING):
                    await self._socket.close()
        finally:
            self.abort()

    def abort(self) -> None:
        """End the connection at once. A `receive` that waits raises `SocketClosedError`."""
        # aiohttp has no public way to get at it.
        response = getattr(self._socket, "_response", None)
        connection = getattr(response, "connection", None)
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()
        elif response is not None:
            response.close()


async def open_socket(connections: Connections, url: str) -> WebSocket:
    """Make a connection, within 5 seconds.

    The upgrade has no `Authorization` header [V]: the token is in the first frame.

    Raises:
        ConnectError: none could be made.
        ClientClosedError: the client was closed.
    """
    session = connections.open()
    target = URL(url)
    try:
        async with asyncio.timeout(_OPENING):
            proxy = None
            if connections.environment is not None:
                proxy = await connections.environment.proxy_for(_http_scheme(target), target.authority)
            return WebSocket(await _upgraded(session, target, proxy))
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        problem = _problem(error, target)
    raise ConnectError(_CALL, problem, host=target.host, port=target.port)


async def _upgraded(
    session: aiohttp.ClientSession, url: URL, proxy: URL | None
) -> aiohttp.ClientWebSocketResponse:
    # `heartbeat=None` leaves keeping alive to the gateway's protocol.
    return await session.ws_connect(
        url,
        proxy=proxy,
        autoclose=False,
        autoping=False,
        heartbeat=None,
        compress=0,
        max_msg_size=_LARGEST_FRAME,
        timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSING),
    )


def _http_scheme(url: URL) -> str:
    return "https" if url.scheme == "wss" else "http"


def _problem(error: BaseException, url: URL) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"the gateway answered {error.status} and not with a WebSocket"
    if isinstance(error, TimeoutError):
        return "making a connection to the gateway took longer than 5 seconds"
    return why_not_connected(error, url.host, url.port) or "the connection to the gateway was lost"
