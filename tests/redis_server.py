"""A Redis of the tests' own, where one is installed: on a socket, in a folder that is removed."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

_PREFIXES = count()


class RedisServer:
    """One server, which can be stopped and started again: without its memory."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._folder}/redis"

    def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the installed one
            [
                *(self._program, "--port", "0", "--unixsocket", f"{self._folder}/redis"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
            ],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(500):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{self._folder}/redis")
                return
            time.sleep(0.01)
        pytest.fail("Redis did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        (self._folder / "redis").unlink(missing_ok=True)


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run a Redis of its own."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no Redis is installed")
    # Not in pytest's own folder: the name of a socket may have some 100 characters only.
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Return the URL of a Redis that all tests share: each has names of its own there."""
    with running_redis() as server:
        yield server.url


@pytest.fixture
def redis_prefix() -> str:
    """Return what the names of one test's keys begin with."""
    return f"test{next(_PREFIXES)}"


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Return a Redis for one test alone, which may stop it."""
    with running_redis() as server:
        yield server
