"""Stores that a fleet keeps its limit in, which can be restarted, and whose clock can be set meanwhile.

PostgreSQL and Redis run on sockets of their own, from where Debian's packages have put them.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import asyncpg
from counting_server import go_first
from other_clock import OtherClock

from tests.journal_databases import _programs as postgresql_programs


class Store(Protocol):
    """What holds the limit of a fleet."""

    url: str

    def stop(self) -> None:
        """End it at once, as an administrator would. Redis keeps its data only if it was asked to."""

    def start(self) -> None:
        """Start it, and wait until it answers."""

    def set_clock(self, ahead: int) -> None:
        """Set its wall clock to so many seconds before this machine's, if it was made for that."""

    async def cut(self) -> None:
        """End all connections of its users."""

    async def requests(self) -> int:
        """Return how many requests it has had since it was started; of PostgreSQL, transactions."""


class _Process:
    """A server in a folder of its own, which is removed at the end."""

    def __init__(self, *, other_clock: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fleet-"))
        # initdb refuses root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = OtherClock(self._folder) if other_clock else None
        self._environment = os.environ | (self._clock.environment if self._clock else {})

    def set_clock(self, ahead: int) -> None:
        """Set its clock; see `Store`."""
        if self._clock is not None:
            self._clock.set(ahead)

    def _run(self, *command: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the installed one
            command,
            user=self._user,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        go_first(self._process.pid)

    def _end(self, signal: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it; see `Store`."""
        self._end(2)

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it; see `Store`."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class Postgresql(_Process):
    """PostgreSQL, with a database of the name `fleet`."""

    def __init__(self, *, other_clock: bool = False) -> None:
        super().__init__(other_clock=other_clock)
        programs = postgresql_programs()
        if programs is None:
            raise SystemExit("PostgreSQL is not installed.")
        self._programs = programs
        self.folder = str(self._folder)
        self.url = f"postgresql+asyncpg://postgres@/fleet?host={self._folder}"
        data, program = str(self._folder / "data"), str(programs / "initdb")
        subprocess.run(  # noqa: S603 - the installed one
            [program, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
            check=True,
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        self._has_database = False

    def start(self) -> None:
        """Start it; see `Store`."""
        self._run(
            *(str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-k", self.folder),
            *("-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=80"),
        )
        connect = [str(self._programs / "psql"), "-h", self.folder, "-U", "postgres", "-d", "postgres", "-c"]
        for _ in range(2000):
            done = subprocess.run([*connect, "SELECT 1"], check=False, capture_output=True)  # noqa: S603
            if done.returncode == 0:
                break
            time.sleep(0.02)
        else:
            raise SystemExit("PostgreSQL did not start.")
        if not self._has_database:
            subprocess.run([*connect, "CREATE DATABASE fleet"], check=True, capture_output=True)  # noqa: S603
            self._has_database = True

    async def cut(self) -> None:
        """End all connections; see `Store`."""
        await self._ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'fleet'"
        )

    async def requests(self) -> int:
        """Return how many transactions there were; see `Store`."""
        return await self._ask(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'fleet'"
        )

    async def _ask(self, query: str) -> int:
        connection = await asyncpg.connect(host=self.folder, user="postgres", database="postgres")
        try:
            number: int = await connection.fetchval(query)
        finally:
            await connection.close()
        return number


class Redis(_Process):
    """Redis; what it knows is on the disk a second later, unless it is to forget."""

    def __init__(self, *, other_clock: bool = False, keeps_data: bool = True) -> None:
        super().__init__(other_clock=other_clock)
        self._socket = self._folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._keeps_data = keeps_data
        self._own = 0

    def start(self) -> None:
        """Start it; see `Store`."""
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit("Redis is not installed.")
        self._run(
            *(program, "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "777"),
            *("--save", "", "--appendonly", "yes" if self._keeps_data else "no"),
            *("--dir", str(self._folder)),
        )
        self._own = 0
        for _ in range(500):
            with suppress(OSError):
                self._ask("PING")
                return
            time.sleep(0.02)
        raise SystemExit("Redis did not start.")

    async def cut(self) -> None:
        """End all connections; see `Store`."""
        self._ask("CLIENT KILL TYPE normal")

    async def requests(self) -> int:
        """Return how many requests there were; see `Store`."""
        before = self._own
        _, _, rest = self._ask("INFO stats").partition("total_reads_processed:")
        return int(rest.split("\r\n")[0]) - before - 1

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\r\n".encode())
            answer = connection.recv(65536).decode()
        # The command, and the end of the connection.
        self._own += 2
        return answer
