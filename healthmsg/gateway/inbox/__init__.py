"""Where events wait until they are handled."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from healthmsg.aio import start
from healthmsg.database.target import Target
from healthmsg.errors import ConfigurationError
from healthmsg.gateway.inbox.base import Change, ChatRecord, Inbox, OpenQuestion, Start
from healthmsg.gateway.inbox.memory import MemoryInbox

__all__ = ["Change", "ChatRecord", "Inbox", "MemoryInbox", "OpenQuestion", "Start", "open_inbox"]


def open_inbox(store: str | os.PathLike[str] | None) -> AbstractAsyncContextManager[Inbox]:
    """Return a context manager that opens an inbox: `inbox.db`, `postgresql+asyncpg://…`, or one in memory.

    A store is a journal's: see `open_journal` for its options.

    Raises:
        ConfigurationError: it is neither a file nor a PostgreSQL database; or, on entering, the extra that it
            needs is not installed.
        JournalError: on entering: it cannot be used; says why.
    """
    return _in_memory() if store is None else _lasting(store)


@asynccontextmanager
async def _in_memory() -> AsyncIterator[Inbox]:
    yield MemoryInbox()


@asynccontextmanager
async def _lasting(store: str | os.PathLike[str]) -> AsyncIterator[Inbox]:
    target = Target.parse(store)
    # Importing what the extra brings takes a quarter of a second.
    missing = await asyncio.to_thread(target.import_for, "healthmsg.gateway.inbox.sql")
    if missing is not None:
        extra = target.extra_for(missing)
        raise ConfigurationError(f'a store of events needs {missing}: pip install "healthmsg[{extra}]"')
    from healthmsg.gateway.inbox.sql import SqlInbox  # noqa: PLC0415 - needs an extra

    inbox = await SqlInbox.open(target)
    try:
        yield inbox
    finally:
        closing = start(inbox.close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise
