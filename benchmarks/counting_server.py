"""A server in a process of its own that answers every call at once and remembers when each arrived.

It is a bare asyncio protocol, so that it is not what limits a benchmark. `python counting_server.py LOW HIGH`
prints its URL; each call takes LOW to HIGH seconds on the way there, and as long again on the way back.
`GET /arrivals` answers the moments of arrival so far, and forgets them.
"""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

ANSWER = b'{"id":"0a0b7e3c-9d3c-4c53-8b7e-2f6a6d2a1c11"}'
HEADERS = (
    "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\napi-version: 1.0\r\n"
    "sunset: n/a\r\nquota-interval: 1\r\nquota-time-unit: day\r\nquota-limit: 1000000\r\n"
    "quota-used: 12345\r\nquota-reset-UTC: 2026-12-01T00:00:00Z\r\nContent-Length: {length}\r\n\r\n"
)


class CountingProtocol(asyncio.Protocol):
    """One connection; calls on it come one after the other."""

    def __init__(self, arrivals: list[float], low: float, high: float) -> None:
        self._arrivals = arrivals
        self._delays = (low, high)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take whole calls out of what has come."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            _, _, length = head.lower().partition(b"content-length:")
            size = int(length.split(b"\r\n")[0]) if length else 0
            if len(rest) < size:
                return
            self._received = rest[size:]
            if head.startswith(b"GET /arrivals"):
                self._answer("200 OK", json.dumps(self._arrivals).encode())
                self._arrivals.clear()
            else:
                self._later(self._arrive)

    def _later(self, then: partial[None] | object) -> None:
        delay = random.uniform(*self._delays)
        self._loop.call_later(delay, then) if delay else then()  # type: ignore[arg-type, operator]

    def _arrive(self) -> None:
        self._arrivals.append(self._loop.time())
        self._later(partial(self._answer, "201 Created", ANSWER))

    def _answer(self, status: str, body: bytes) -> None:
        self._transport.write(HEADERS.format(status=status, length=len(body)).encode() + body)


@contextmanager
def counting_server(low: float = 0.0, high: float = 0.0) -> Iterator[str]:
    """Run the server in another process, and give its URL."""
    command = [sys.executable, __file__, str(low), str(high)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def serve(low: float, high: float) -> None:
    """Serve until the process is ended."""
    arrivals: list[float] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: CountingProtocol(arrivals, low, high), "127.0.0.1", 0
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), float(sys.argv[2])))
