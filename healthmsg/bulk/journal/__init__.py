"""The journal of bulk sending: it survives a power cut, and each message in it is sent once."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from healthmsg.aio import start
from healthmsg.bulk.journal.base import Claim, Decision, Entry, EntryStatus, JournalFile, JournalMessage
from healthmsg.bulk.journal.input_index import InputIndex, fingerprint_of, key_in, likeness_of, salt_of
from healthmsg.database.states import State
from healthmsg.database.target import Target
from healthmsg.errors import ConfigurationError

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

__all__ = [
    "LEASE",
    "Claim",
    "Decision",
    "Entry",
    "EntryStatus",
    "InputIndex",
    "JournalFile",
    "JournalMessage",
    "State",
    "fingerprint_of",
    "key_in",
    "likeness_of",
    "open_journal",
    "salt_of",
]

LEASE: Final = timedelta(seconds=60)


def open_journal(
    target: str | os.PathLike[str],
    *,
    lease: timedelta = LEASE,
    patience: float = 0.0,
    is_reading: bool = False,
) -> "AbstractAsyncContextManager[SqlJournal]":
    """Return a context manager that opens `recall.db`, `recall.db?keep_bodies=1` or `postgresql+asyncpg://…`.

    A `Path` is taken as is. `?accept_missing_wal=1` continues without the `-wal` file of a killed run;
    else a file that lacks it is refused. Then all that was to be sent is in doubt, and is looked for before
    it is sent; what was not sent before, and messages to users without a known conversation, become unknown.

    PgBouncer and similar poolers are refused, since they pass on a run's locks to others.
    `?pool_mode=session` at the end of the URL says that it keeps one connection for each session.

    `is_reading` opens it beside one who sends; then only what reads works. While the disk is full, or
    PostgreSQL is restarted, it is tried again for `patience` seconds. A sender's lease runs meanwhile: it
    waits for PostgreSQL for three quarters of that at most.

    Raises:
        ConfigurationError: it is neither a file nor a PostgreSQL database; or, on entering, the extra that it
            needs is not installed.
        JournalError: on entering: see `SqlJournal.open`.
    """
    if lease <= timedelta():
        raise ConfigurationError("the lease of a journal must be longer than nothing")
    return _opened(Target.parse(target), lease, patience, is_reading=is_reading)


@asynccontextmanager
async def _opened(
    target: Target, lease: timedelta, patience: float, *, is_reading: bool
) -> "AsyncIterator[SqlJournal]":
    # Importing what the extra brings takes a quarter of a second.
    missing = await asyncio.to_thread(target.import_for, "healthmsg.bulk.journal.store")
    if missing is not None:
        extra = target.extra_for(missing)
        raise ConfigurationError(f'a journal needs {missing}: pip install "healthmsg[{extra}]"')
    from healthmsg.bulk.journal.store import SqlJournal  # noqa: PLC0415

    journal = await SqlJournal.open(target, lease, patience, is_reading=is_reading)
    try:
        yield journal
    finally:
        # Cancelling does not cut it short: what has been asked for is about to be on the disk.
        closing = start(journal.close())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise
