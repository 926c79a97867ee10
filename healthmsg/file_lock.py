"""A lock between processes: on a file, for as long as it is open. It ends with the process at the latest."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_OWNER_ONLY: Final = 0o600
# Seconds between two tries; the wait grows from the first to the last.
_FIRST_WAIT: Final = 0.01
_LONGEST_WAIT: Final = 0.25


@contextmanager
def locked(path: Path, patience: float) -> Iterator[None]:
    """Keep other threads and processes out for a moment. Blocks, for at most `patience` seconds.

    Raises:
        TimeoutError: others held it all that time.
        OSError: the folder does not let us.
    """
    give_up_at, wait = time.monotonic() + patience, _FIRST_WAIT
    while (descriptor := try_to_lock(path)) is None:
        if time.monotonic() > give_up_at:
            raise TimeoutError
        time.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)
    try:
        yield
    finally:
        os.close(descriptor)


@asynccontextmanager
async def locked_for_long(path: Path) -> AsyncIterator[None]:
    """Keep other tasks, threads and processes out, and remove the file afterwards. Can be cancelled.

    A process that ends, however it does, lets go of it; its file may stay behind, and is no lock.

    Raises:
        OSError: the folder does not let us.
    """
    wait = _FIRST_WAIT
    while (descriptor := await _try_in_thread(path)) is None:
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)
    try:
        yield
    finally:
        # Shielded: the thread goes on when this task is cancelled, and nothing may close it twice.
        await asyncio.shield(asyncio.to_thread(remove_and_unlock, path, descriptor))


async def _try_in_thread(path: Path) -> int | None:
    """Try once, in a thread, since the file may be on another machine."""
    attempt = asyncio.ensure_future(asyncio.to_thread(try_to_lock, path))
    try:
        return await asyncio.shield(attempt)
    except asyncio.CancelledError:
        # The thread goes on, and may get a lock that no one would release.
        attempt.add_done_callback(_close_unused)
        raise


def _close_unused(attempt: "asyncio.Future[int | None]") -> None:
    if attempt.cancelled() or attempt.exception() is not None:
        return
    descriptor = attempt.result()
    if descriptor is not None:
        os.close(descriptor)


def try_to_lock(path: Path) -> int | None:
    """Return the descriptor of the locked file; None if it is locked already.

    Raises:
        OSError: the folder does not let us, or a link stands in the file's place.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), _OWNER_ONLY)
    is_ours = False
    try:
        # Who had the lock before may have removed the file: then others lock its successor.
        is_ours = _lock(descriptor) and _is_at(path, descriptor)
    finally:
        if not is_ours:
            os.close(descriptor)
    return descriptor if is_ours else None


def _lock(descriptor: int) -> bool:
    with suppress(BlockingIOError, PermissionError):
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def remove_and_unlock(path: Path, descriptor: int) -> None:
    """Let go of a locked file."""
    if sys.platform != "win32":  # where an open file cannot be removed
        with suppress(OSError):
            path.unlink()
    os.close(descriptor)
