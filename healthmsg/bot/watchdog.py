"""Names in the log what blocks the event loop, while it does: then no other chat is served either."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, TracebackType
from typing import Final, Self

from healthmsg.bot.origin import Origin
from healthmsg.log import log

# Seconds.
LIMIT: Final = 5.0
_LOOKS_A_LIMIT: Final = 10
_LONGEST_END: Final = 2.0


class Watchdog:
    """A thread that asks the event loop for a sign of life, and says what runs when there is none.

    Use it as `async with Watchdog(dispatcher.origins):`. After `limit` seconds without a sign it logs one
    warning, with the handler's name, file and line, and where it stands; and another one when the loop goes
    on.
    """

    def __init__(self, origins: Mapping[CodeType, Origin], *, limit: float = LIMIT) -> None:
        self._origins = origins
        self._limit = limit
        self._end = threading.Event()
        self._sign = threading.Event()
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        loop, own = asyncio.get_running_loop(), threading.get_ident()
        self._thread = threading.Thread(
            target=self._watch,
            args=(loop.call_soon_threadsafe, own),
            name="healthmsg watchdog",
            daemon=True,
        )
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._sign.set()
        if self._thread is not None:
            # It waits for nothing any more; it may be writing to the log.
            await asyncio.to_thread(self._thread.join, _LONGEST_END)

    def _watch(self, in_loop: Callable[[Callable[[], None]], object], thread: int) -> None:
        while not self._end.wait(self._limit / _LOOKS_A_LIMIT):
            self._sign.clear()
            try:
                in_loop(self._sign.set)
            except RuntimeError:  # the loop is closed
                return
            if self._end.is_set() or self._sign.wait(self._limit):
                continue
            since = time.monotonic() - self._limit
            self._name(sys._current_frames().get(thread))  # noqa: SLF001 - the documented way to see a thread
            self._sign.wait()
            if not self._end.is_set():
                blocked = time.monotonic() - since
                log(logging.WARNING, "the event loop goes on, after %(blocked).0f s", blocked=blocked)

    def _name(self, frame: FrameType | None) -> None:
        place = "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        while frame is not None and frame.f_code not in self._origins:
            frame = frame.f_back
        if frame is None:
            what = "something"
        else:
            what = str(self._origins[frame.f_code])
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        log(
            logging.WARNING,
            "%(handler)s has blocked the event loop for %(seconds).0f s, at %(place)s: no chat is served. Use"
            " async libraries, or asyncio.to_thread for what blocks.",
            handler=what,
            seconds=self._limit,
            place=place,
        )
