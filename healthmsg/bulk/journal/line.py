"""The way to a journal's database: a thread of its own for SQLite, asyncpg for PostgreSQL."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine

T = TypeVar("T")


class Line(Protocol):
    """One connection, of which one thing at a time is asked."""

    async def start(self) -> object:
        """Connect."""

    async def run_sync(self, work: Callable[[Connection], T], /) -> T:
        """Do something with the connection."""

    async def close(self) -> None:
        """Disconnect."""


class SqliteLine:
    """A connection to an SQLite file.

    A whole transaction is done in its thread at one go, since each visit there costs both threads time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, "healthmsg journal")
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Connect."""
        self._connection = await self._in_thread(self._engine.connect)

    async def run_sync(self, work: Callable[[Connection], T], /) -> T:
        """Do something with the connection. Cancelling the wait for it does not end it."""
        assert self._connection is not None  # noqa: S101 - for mypy: it was started
        return await self._in_thread(partial(work, self._connection))

    async def close(self) -> None:
        """Disconnect, after what is being done."""
        if self._connection is not None:
            await self._in_thread(self._connection.close)
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def postgresql_line(url: URL, **options: Any) -> tuple[Line, Engine]:
    """Make a connection to PostgreSQL, and give the engine that events are listened for at."""
    # Whoever keeps a file does without: this takes six megabytes.
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    engine = create_async_engine(url, **options)
    return engine.connect(), engine.sync_engine
