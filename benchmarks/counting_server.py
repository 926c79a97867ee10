"""A server in a process of its own that answers every call and remembers when each arrived.

It is a bare asyncio protocol, so that it is not what limits a benchmark. `python counting_server.py` prints
its URL; an argument gives `Service` as JSON. `GET /arrivals` answers the moments of arrival so far, of all
calls and of those that were let in, and forgets them. `GET /stalls` answers when it stood still, and for how
long: what arrived meanwhile was noted too late. An upload arrives when it is complete.
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from attrs import asdict, define, field, frozen

from healthmsg.sandbox.limits import FixedWindow, RateLimitPolicy, SlidingWindow, SpikeArrest, TokenBucket

ANSWER = b'{"id":"0a0b7e3c-9d3c-4c53-8b7e-%012d"}'
HEADERS = (
    "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\napi-version: 1.0\r\n"
    "sunset: n/a\r\nquota-interval: 1\r\nquota-time-unit: day\r\nquota-limit: 1000000\r\n"
    "quota-used: 12345\r\nquota-reset-UTC: 2026-12-01T00:00:00Z\r\nContent-Length: {length}\r\n\r\n"
)
# Seconds: how often it is looked whether the event loop runs, and how late that may be.
_EVERY, _STALL = 0.02, 0.03
REALTIME = "BENCHMARK_REALTIME"
"""The environment variable by which what is measured goes before all else on a busy machine."""
POLICIES: dict[str, Callable[[], RateLimitPolicy]] = {
    "fixed": FixedWindow,
    "sliding": SlidingWindow,
    "bucket": TokenBucket,
    "spike": SpikeArrest,
}
# Small, so that an upload has arrived soon after it has left.
BUFFER = 16 * 1024


@frozen
class Service:
    """How a call fares. Times are in seconds."""

    least_way: float = 0.0
    longest_way: float = 0.0
    """A call's way there takes something in between."""
    jitter_back: bool = False
    """Whether an answer's way back does too; else it takes no time."""
    answer: float = 0.0
    """How long an answer takes besides."""
    enforces: str = ""
    """The policy by which calls are refused, if any. A 429 does not say how long to wait."""
    bytes_per_second: int = 0
    """How fast an upload is read, if that is limited."""


@define
class Log:
    """When calls arrived."""

    policy: RateLimitPolicy | None
    arrived: list[float] = field(factory=list)
    let_in: list[float] = field(factory=list)
    stalls: list[tuple[float, float]] = field(factory=list)
    numbers: Iterator[int] = field(factory=count)


class CountingProtocol(asyncio.Protocol):
    """One connection; calls on it come one after the other."""

    def __init__(self, service: Service, log: Log) -> None:
        self._service = service
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = b""
        self._head: bytes | None = None
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is TCP
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take whole calls out of what has come."""
        if self._missing and self._service.bytes_per_second:
            self._transport.pause_reading()
            self._loop.call_later(len(data) / self._service.bytes_per_second, self._read_on)
        self._received += data
        while self._take_call():
            pass

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _take_call(self) -> bool:
        if self._head is None:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return False
            self._head, self._received = head, rest
            _, _, length = head.lower().partition(b"content-length:")
            self._missing = int(length.split(b"\r\n")[0]) if length else 0
        taken = min(self._missing, len(self._received))
        self._missing -= taken
        self._received = self._received[taken:]
        if self._missing:
            return False
        head, self._head = self._head, None
        if head.startswith(b"GET /arrivals"):
            self._answer("200 OK", json.dumps([self._log.arrived, self._log.let_in]).encode())
            self._log.arrived.clear()
            self._log.let_in.clear()
        elif head.startswith(b"GET /stalls"):
            self._answer("200 OK", json.dumps(self._log.stalls).encode())
        else:
            self._later(self._jitter(), self._arrive)
        return True

    def _jitter(self) -> float:
        return random.uniform(self._service.least_way, self._service.longest_way)

    def _later(self, delay: float, then: Callable[..., None], *arguments: object) -> None:
        if delay:
            self._loop.call_later(delay, then, *arguments)
        else:
            then(*arguments)

    def _arrive(self) -> None:
        now = self._loop.time()
        self._log.arrived.append(now)
        status = "201 Created"
        if self._log.policy is not None and self._log.policy.admit(now) is not None:
            status = "429 Too Many Requests"
        else:
            self._log.let_in.append(now)
        way_back = self._jitter() if self._service.jitter_back else 0.0
        answer = ANSWER % next(self._log.numbers)
        self._later(self._service.answer + way_back, self._answer, status, answer)

    def _answer(self, status: str, body: bytes) -> None:
        self._transport.write(HEADERS.format(status=status, length=len(body)).encode() + body)


@contextmanager
def counting_server(service: Service | None = None) -> Iterator[str]:
    """Run the server in another process, and give its URL."""
    command = [sys.executable, __file__, json.dumps(asdict(service or Service()))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def go_first(process: int = 0) -> None:
    """Let a process, or this one, run as soon as it can, if that is asked for; only root may, on Linux."""
    if os.environ.get(REALTIME) and sys.platform == "linux":
        os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(1))


async def note_stalls(stalls: list[tuple[float, float]]) -> None:
    """Note when the event loop stands still, and for how long."""
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(_EVERY)
        late = loop.time() - before - _EVERY
        if late > _STALL:
            stalls.append((before, late))


async def serve(service: Service) -> None:
    """Serve until the process is ended."""
    log = Log(POLICIES[service.enforces]() if service.enforces else None)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    if service.bytes_per_second:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    server = await asyncio.get_running_loop().create_server(
        lambda: CountingProtocol(service, log), sock=listening
    )
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    await asyncio.gather(server.serve_forever(), note_stalls(log.stalls))


if __name__ == "__main__":
    go_first()
    asyncio.run(serve(Service(**json.loads(sys.argv[1]))))
