"""Journals in both databases: a PostgreSQL of the tests' own is started, where one is installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import asyncpg
import pytest

_NUMBERS = count()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Count what needs PostgreSQL as slow: a server is started for it."""
    if isinstance(item, pytest.Function) and "postgresql" in item.fixturenames:
        item.add_marker(pytest.mark.slow)


def _programs() -> Path | None:
    """Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.append(Path(on_path).resolve())
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Start PostgreSQL on a socket of its own, and return the folder with the socket."""
    with running_postgresql() as folder:
        yield folder


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Run PostgreSQL on a socket of its own, and return the folder with the socket."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed")
    # Not in pytest's own folder: the name of a socket may have some 100 characters only.
    folder = Path(tempfile.mkdtemp(prefix="healthmsg-"))
    # initdb refuses root.
    user: str | None = None
    if os.geteuid() == 0:
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    subprocess.run(  # noqa: S603 - the installed one
        [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ],
        check=True,
        user=user,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    server = subprocess.Popen(  # noqa: S603 - the installed one
        [
            *(str(programs / "postgres"), "-D", str(data), "-k", str(folder)),
            *("-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=50"),
        ],
        user=user,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(programs, folder)
        yield str(folder)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder)


def _wait_until_it_answers(programs: Path, folder: Path) -> None:
    ready = [str(programs / "pg_isready"), "-q", "-h", str(folder), "-U", "postgres"]
    for _ in range(300):
        if subprocess.run(ready, check=False).returncode == 0:  # noqa: S603 - the installed one
            return
        time.sleep(0.1)
    pytest.fail("PostgreSQL did not start")


@pytest.fixture
def pgbouncer(postgresql: str) -> Iterator[Callable[[str, int, str], str]]:
    """Return what starts PgBouncer, by pool mode, size and reset query, and returns the host of its URLs."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("no PgBouncer is installed")
    with ExitStack() as stack:
        yield lambda mode, size, reset: stack.enter_context(
            _running_pgbouncer(program, postgresql, mode, size, reset)
        )


@contextmanager
def _running_pgbouncer(program: str, postgresql: str, mode: str, size: int, reset: str) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="bouncer-"))
    user: str | None = None
    if os.geteuid() == 0:
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    settings = {
        "pool_mode": mode,
        "default_pool_size": size,
        "server_reset_query": reset,
        "auth_type": "any",
        "listen_addr": "",
        "listen_port": 6432,
        "unix_socket_dir": folder,
        "server_round_robin": 1,
        "logfile": folder / "log",
        "query_wait_timeout": 20,
    }
    lines = ["[databases]", f"* = host={postgresql} user=postgres", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in settings.items()]
    config = folder / "pgbouncer.ini"
    config.write_text("\n".join(lines))
    server = subprocess.Popen(  # noqa: S603 - the installed one
        [program, "-q", str(config)], user=user, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            if (folder / ".s.PGSQL.6432").exists():
                break
            time.sleep(0.1)
        else:
            pytest.fail("PgBouncer did not start")
        yield f"{folder}&port=6432"
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture
async def database(postgresql: str) -> AsyncIterator[str]:
    """Make a database, and return its URL."""
    async with new_database(postgresql) as url:
        yield url


@asynccontextmanager
async def new_database(folder: str) -> AsyncIterator[str]:
    """Make a database, and return its URL."""
    name = f"journal{next(_NUMBERS)}"
    connection = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        yield f"postgresql+asyncpg://postgres@/{name}?host={folder}"
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recall.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def target(request: pytest.FixtureRequest, file: Path) -> str:
    """Return the address of a new journal, in each of the databases."""
    if request.param == "sqlite":
        return str(file)
    url: str = request.getfixturevalue("database")
    return url
