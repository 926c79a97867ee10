"""What the tests of uploading many share: files that wait, and a service that never reads."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from attrs import define

from healthmsg import Environment, UploadFile
from tests.waiting import until

PDF = b"%PDF-1.7 "


class Halting:
    """A file that gives its first half, and the other one on request."""

    def __init__(self, size: int = 64) -> None:
        self.half = b"x" * (size // 2)
        self.is_half_read = asyncio.Event()
        self.go_on = asyncio.Event()
        self.is_closed = False

    @property
    def file(self) -> UploadFile:
        return UploadFile(self.pieces(), "foto.png", size=2 * len(self.half))

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            yield self.half
            self.is_half_read.set()
            await self.go_on.wait()
            yield self.half
        finally:
            self.is_closed = True


class DeafService(asyncio.Protocol):
    """Takes a connection, and does not read from it before it is asked to."""

    connections: set["DeafService"]
    began: asyncio.Event

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()
        self.connections.add(self)
        self.began.set()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - Protocol
        self.connections.discard(self)


@define
class Deaf:
    environment: Environment
    began: asyncio.Event
    connections: set[DeafService]

    async def connections_are_gone(self) -> None:
        """Read what is there, which must come to an end."""
        for connection in self.connections:
            connection.transport.resume_reading()
        await until(lambda: not self.connections)


@asynccontextmanager
async def deaf_service() -> AsyncIterator[Deaf]:
    class Service(DeafService):
        connections: set[DeafService] = set()  # noqa: RUF012 - of this one service
        began = asyncio.Event()

    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environment = Environment("deaf", f"http://127.0.0.1:{port}/v1")
    try:
        yield Deaf(environment, Service.began, Service.connections)
    finally:
        for connection in Service.connections:
            connection.transport.abort()
        server.close()
        await server.wait_closed()


def open_files() -> set[str]:
    """Return what this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # what listed them
            found.add(str(descriptor.readlink()))
    return found


def upload_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("healthmsg")]
