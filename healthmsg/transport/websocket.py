"""A WebSocket, which is aiohttp's, behind the little that the gateway needs of one.

aiohttp is left what it does well: framing, TLS, proxies. Pings, closing and all that has to do with time is
the gateway's own: aiohttp's wait for a pong is fixed at half the time between two pings, a missed one throws
away what was received, and its `close` waits again with each message that still comes.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final, Protocol

import aiohttp

from healthmsg.errors import ConnectionLostError, Outcome
from healthmsg.transport.http import Wire

UPGRADE_SECONDS: Final = 5.0
"""Seconds that opening one may take, TLS and a proxy included, as the vendor's adapter has it [V]."""
_LARGEST_FRAME: Final = 8 * 1024 * 1024
"""Bytes. A larger frame ends the connection."""


class Opcode(IntEnum):
    """What a frame is; the numbers are RFC 6455's."""

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Socket(Protocol):
    """One open WebSocket. One task at a time may receive, and one send."""

    async def receive(self) -> tuple[Opcode, bytes]:
        """Return the next frame, put together if it came in parts. Nothing is answered by itself.

        Raises:
            ConnectionLostError: it broke, or what came is no WebSocket's frame.
        """

    async def send(self, opcode: Opcode, data: bytes) -> None:
        """Send a frame, and wait while the other side takes nothing.

        Raises:
            ConnectionLostError: it broke.
        """

    def abort(self) -> None:
        """End the connection at once. What waits to be sent is dropped."""


OpenSocket = Callable[[str], Awaitable[Socket]]
"""Opens a WebSocket to a `wss://` URL, or raises a `CallError`."""

_OPCODES: Final[dict[object, Opcode]] = {
    aiohttp.WSMsgType.TEXT: Opcode.TEXT,
    aiohttp.WSMsgType.BINARY: Opcode.BINARY,
    aiohttp.WSMsgType.CLOSE: Opcode.CLOSE,
    aiohttp.WSMsgType.PING: Opcode.PING,
    aiohttp.WSMsgType.PONG: Opcode.PONG,
}
_NORMAL_CLOSURE: Final = 1000


def sockets_of(wire: Wire) -> OpenSocket:
    """Return what opens WebSockets over the connections, proxies and certificates of a wire."""

    async def open_socket(url: str) -> Socket:
        return _Socket(await wire.upgrade(url, seconds=UPGRADE_SECONDS, most=_LARGEST_FRAME))

    return open_socket


class _Socket:
    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[bool]") -> None:
        self._socket = socket
        # aiohttp has no public way to get at these, nor to end a connection whose other side does not read.
        self._answer: aiohttp.ClientResponse = socket._response  # noqa: SLF001 - see above
        connection = self._answer.connection
        self._transport: Any = None if connection is None else connection.transport

    async def receive(self) -> tuple[Opcode, bytes]:
        received = await self._socket.receive()
        opcode = _OPCODES.get(received.type)
        if opcode is None:
            raise _lost()
        data = received.data
        if opcode is Opcode.CLOSE:
            data = int(data or _NORMAL_CLOSURE).to_bytes(2, "big")
        return opcode, data

    async def send(self, opcode: Opcode, data: bytes) -> None:
        with suppress(aiohttp.ClientError, OSError):
            await self._socket.send_frame(data, aiohttp.WSMsgType(opcode))
            return
        raise _lost()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._answer.close()


def _lost() -> ConnectionLostError:
    return ConnectionLostError("GET gateway", "the connection was lost", outcome=Outcome.NOT_SENT)
