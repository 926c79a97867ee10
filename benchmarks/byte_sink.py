"""A server in a process of its own that counts the bytes of uploads and does nothing else with them.

Plain blocking sockets, one thread a connection; where the system can throw bytes away without copying
(Linux), it does. So it costs the uploader as little as a server on the same machine can. `byte_sink.py`
prints its URL. Each call is answered when as many bytes came as its `Content-Length` says.
"""

import itertools
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BODY: Final = b'{"id":"m%011d"}'
ANSWER: Final = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY % 0),
    BODY,
)
NUMBERS: Final = itertools.count()
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
THROW_AWAY: Final = socket.MSG_TRUNC if sys.platform == "linux" else 0
# Bytes.
AT_ONCE: Final = 1024 * 1024


def swallow(connection: socket.socket) -> None:
    """Answer the calls of one connection."""
    buffer = memoryview(bytearray(AT_ONCE))
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := _head(connection):
            found = LENGTH.search(head)
            left = int(found[1]) if found else 0
            left -= len(head.partition(b"\r\n\r\n")[2])
            while left > 0:
                count = connection.recv_into(buffer, min(left, AT_ONCE), THROW_AWAY)
                if not count:
                    return
                left -= count
            connection.sendall(ANSWER % next(NUMBERS))


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(4096)
        if not more:
            return b""
        head += more
    return head


def main() -> None:
    """Serve until the process is ended."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=swallow, args=(connection,), daemon=True).start()


@contextmanager
def byte_sink() -> Iterator[str]:
    """Run it in a process of its own, and give its URL."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
