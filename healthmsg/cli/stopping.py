"""Ending a command that runs until it is stopped: a first signal lets it finish, a second one not."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Final

from attrs import define, field

from healthmsg import aio
from healthmsg.cli.problems import ExitCode

_OF_SIGNALS: Final = 128
"""Added to a signal's number, this is the exit status of a process that it ended."""


def flush() -> None:
    """Write out what was printed, before the process ends at once."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def on_signals(act: Callable[[int], object]) -> AbstractContextManager[None]:
    """Within, have this called in the event loop for each SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()

    def in_loop(number: int) -> None:
        loop.call_soon_threadsafe(act, number)

    return aio.on_signals(in_loop)


@define(eq=False)
class Stopping:
    """What the signals do to one run of such a command."""

    stop: Callable[[], object]
    """What the first one does."""
    end_at_once: Callable[[int], object] = os._exit
    number: int = field(default=0, init=False)
    """That of the first signal; 0: none came."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of a run that has ended without a failure."""
        return ExitCode.INTERRUPTED if self.number == signal.SIGINT else ExitCode.DONE

    async def run(self, task: "asyncio.Task[None]") -> None:
        """Wait for a task, and raise what it raised; of one that was cancelled after a signal, nothing."""
        with on_signals(self.on_signal):
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        elif not self.number:
            raise asyncio.CancelledError

    def on_signal(self, number: int) -> None:
        """Stop; or end the process at once, as a kill would, if this is not the first signal."""
        if self.number:
            flush()
            # What was in hand is taken up again by the next start: nothing is released or waited for.
            self.end_at_once(_OF_SIGNALS + number)
            return
        self.number = number
        self.stop()
