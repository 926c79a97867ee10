"""A server in a process of its own that gives a file of so many bytes, as fast as it can.

Plain blocking sockets, one thread a connection. As the service does, it answers the call for an attachment
with a link to the file. `byte_source.py BYTES` prints its URL.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Bytes.
AT_ONCE: Final = 1024 * 1024
CHUNK: Final = bytes(range(256)) * (AT_ONCE // 256)


def serve(connection: socket.socket, size: int) -> None:
    """Answer the calls of one connection."""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := _head(connection):
            if head.startswith(b"GET /v1/me "):
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"id":"u1"}')
                continue
            if not head.startswith(b"GET /files/"):
                connection.sendall(
                    b"HTTP/1.1 302 Found\r\nLocation: /files/1\r\nSet-Cookie: download=1\r\n"
                    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                )
                continue
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for start in range(0, size, AT_ONCE):
                connection.sendall(CHUNK[: size - start])


def _head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
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
            threading.Thread(target=serve, args=(connection, int(sys.argv[1])), daemon=True).start()


@contextmanager
def byte_source(size: int) -> Iterator[str]:
    """Run it in a process of its own, and give its URL."""
    command = [sys.executable, __file__, str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        try:
            assert process.stdout is not None  # noqa: S101 - asked for above
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
