"""One WebSocket from its birth to its end: one task reads, one writes, and the task that runs it watches."""

import asyncio
from collections.abc import Callable
from typing import Final

from healthmsg.aio import start
from healthmsg.clock import SleepWatch
from healthmsg.errors import ConnectionLostError
from healthmsg.gateway.protocol import Ended, GatewayProtocol, Happening
from healthmsg.transport.websocket import Opcode, Socket

# Seconds between two looks at whether the machine has slept.
_LOOK: Final = 1.0
# An event loop may wake up a little too early: this would spin until the moment has come.
SHORTEST: Final = 0.001
# Seconds that the machine has slept, after which the other side has given the connection up.
_SLEEP: Final = 10.0
# Seconds for the other side to answer our CLOSE: closing may take five in all.
_CLOSE: Final = 3.0
# Seconds to read what had come before the connection broke.
_REST: Final = 1.0
_NORMAL_CLOSURE: Final = (1000).to_bytes(2, "big")
_LOST: Final = "the connection was lost"


class Line:
    """Moves what a protocol says over one socket. `report` gets all that happens but the end; it is quick."""

    def __init__(
        self, socket: Socket, protocol: GatewayProtocol, report: Callable[[Happening], None]
    ) -> None:
        self._socket = socket
        self._protocol = protocol
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._sleep = SleepWatch()
        self._is_closed_by_peer = False

    async def run(self, is_closing: Callable[[], bool]) -> Ended:
        """Keep the connection until it ends, and return why it did.

        When cancelled it ends the connection: at once, or with a CLOSE when `is_closing` says so.
        """
        reader, writer = start(self._read()), start(self._write())
        ended: Ended | None = None
        try:
            ended = await self._watch(reader, writer)
            return ended
        finally:
            try:
                reader.cancel()
                writer.cancel()
                await asyncio.wait({reader, writer})
                if ended.is_open if ended is not None else is_closing():
                    await self._part()
            finally:
                self._socket.abort()

    def wake(self) -> None:
        """Have the writer look whether there is something to send."""
        self._wake.set()

    async def _watch(self, reader: "asyncio.Task[Ended]", writer: "asyncio.Task[None]") -> Ended:
        while not (reader.done() or writer.done()):
            now = self._loop.time()
            if self._sleep.slept() >= _SLEEP:
                return Ended("the machine has slept")
            ended = self._protocol.tick(now)
            if ended is not None:
                return ended
            self._wake.set()
            patience = min(_LOOK, max(SHORTEST, self._protocol.next_tick() - now))
            await asyncio.wait({reader, writer}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not reader.done():
            # What came before the end, an error for instance, says why it came.
            await asyncio.wait({reader}, timeout=_REST)
        if writer.done() and not writer.cancelled():
            writer.result()
        return reader.result() if reader.done() else self._protocol.ended(_LOST)

    async def _read(self) -> Ended:
        """Read until the end. Nothing is waited for but the next frame."""
        socket, protocol = self._socket, self._protocol
        while True:
            try:
                opcode, data = await socket.receive()
            except ConnectionLostError:
                return protocol.ended(_LOST)
            happening = protocol.received(opcode, data)
            if isinstance(happening, Ended):
                self._is_closed_by_peer = opcode is Opcode.CLOSE
                return happening
            if happening is not None:
                self._report(happening)
            elif opcode is Opcode.PING:
                self._wake.set()

    async def _write(self) -> None:
        """Write until the connection is lost, of which the reader knows more."""
        while True:
            frame = self._protocol.next_frame(self._loop.time())
            if frame is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                await self._socket.send(*frame)
            except ConnectionLostError:
                return

    async def _part(self) -> None:
        """Send a CLOSE and wait for the answer, within a time that nothing prolongs."""
        try:
            async with asyncio.timeout(_CLOSE):
                await self._socket.send(Opcode.CLOSE, _NORMAL_CLOSURE)
                while not self._is_closed_by_peer:
                    self._is_closed_by_peer = (await self._socket.receive())[0] is Opcode.CLOSE
        except (ConnectionLostError, TimeoutError):
            pass
