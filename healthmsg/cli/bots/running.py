"""Running a bot in this process until it is stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Final

from attrs import define, field, frozen

from healthmsg import aio
from healthmsg.bot.surface import BotSurface, Handled
from healthmsg.cli.bots.lines import clock_time, line_of
from healthmsg.cli.problems import ExitCode
from healthmsg.cli.terminal import without_blocking_output
from healthmsg.errors import HealthmsgError

_OF_SIGNALS: Final = 128
"""Added to a signal's number, this is the exit status of a process that it ended."""

_RUNS: Final = "The bot runs. SIGTERM or Ctrl-C: finish what was begun, and end; twice: end at once."
_STANDS_BY: Final = (
    "The bot stands by: another process has its store. It takes over within 15 seconds of that one's end."
)
_STANDS_BY_AFTER: Final = 1.0
"""Seconds."""
_ENDS_WITHIN: Final = 2.0
"""Seconds that what was left behind by the bot has to end."""

Say = Callable[[str], object]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


async def _are_left() -> bool:
    """Cancel what still runs when the bot has ended, as `asyncio.run` does; return whether it goes on."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if not tasks:
        return False
    _, left = await asyncio.wait(tasks, timeout=_ENDS_WITHIN)
    return bool(left)


@frozen
class ControlAt:
    """Where the control surface is to be."""

    port: int
    token: str = field(repr=False)


def on_signals(act: Callable[[int], object]) -> AbstractContextManager[None]:
    """Within, have this called in the event loop for each SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()

    def in_loop(number: int) -> None:
        loop.call_soon_threadsafe(act, number)

    return aio.on_signals(in_loop)


@define(eq=False)
class Run:
    """One run of a bot."""

    bot: BotSurface
    say: Say
    control: ControlAt | None = None
    is_quiet: bool = False
    """Whether events have no lines."""
    end_at_once: Callable[[int], object] = os._exit
    _is_running: bool = field(default=False, init=False)
    _signal: int = field(default=0, init=False)
    _task: "asyncio.Task[None] | None" = field(default=None, init=False)

    def main(self) -> int:
        """Run, and return the exit status.

        Raises:
            HealthmsgError: it cannot begin, or cannot go on.
            OSError: the same.
        """
        with without_blocking_output():
            return asyncio.run(self._main())

    async def run(self) -> int:
        """Run until it is stopped. A second signal ends the process at once, as a kill would."""
        self._task = asyncio.ensure_future(self._run())
        with on_signals(self._on_signal):
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()
        elif not self._signal:
            raise asyncio.CancelledError
        return ExitCode.INTERRUPTED if self._signal == signal.SIGINT else ExitCode.DONE

    async def _main(self) -> int:
        """Run, and end the process at once if something is left that would keep it from ending."""
        code: int = ExitCode.FAILED
        try:
            code = await self.run()
        except Exception as error:
            if await _are_left():
                self._say(
                    f"It broke off: {error if isinstance(error, HealthmsgError) else type(error).__name__}"
                )
                self._end_without_what_is_left(code)
            raise
        if await _are_left():
            self._end_without_what_is_left(code)
        return code

    def _end_without_what_is_left(self, code: int) -> None:
        self._say("Something does not end though it was cancelled: the process ends without it.")
        _flush()
        self.end_at_once(code)

    async def _run(self) -> None:
        if not self.is_quiet:
            self.bot.watch(self._handled)
        async with AsyncExitStack() as stack:
            # The surface first: it says that it is not ready, while another process has the store.
            if self.control is not None:
                from healthmsg.bot.control import Control  # noqa: PLC0415 - aiohttp's server, for those who want it

                control = Control(self.bot, self.control.token, self.control.port)
                await stack.enter_async_context(control)
                self._say(f"Controlled on 127.0.0.1:{control.port}.")
            await stack.enter_async_context(self.bot)
            self._is_running = True
            saying = aio.start(self._say_when_it_begins())
            try:
                await self.bot.run(signals=False)
            finally:
                saying.cancel()
                await asyncio.wait([saying])
        self._say("Ended.")

    async def _say_when_it_begins(self) -> None:
        try:
            async with asyncio.timeout(_STANDS_BY_AFTER):
                await self.bot.begun()
        except TimeoutError:
            if self.bot.stands_by:
                self._say(_STANDS_BY)
            await self.bot.begun()
        self._say(_RUNS)

    def _handled(self, handled: Handled) -> None:
        if not (handled.is_own and handled.ended == "ignored"):  # each of its replies comes back
            self.say(line_of(handled))

    def _say(self, text: str) -> None:
        self.say(f"{clock_time(datetime.now(UTC))}  {text}")

    def _on_signal(self, number: int) -> None:
        if self._signal:
            _flush()
            # What was in hand is handled again at the next start: nothing is released or waited for.
            self.end_at_once(_OF_SIGNALS + number)
            return
        self._signal = number
        if self._is_running:
            self._say("Stopping: what was begun is being finished.")
            self.bot.stop()
        elif self._task is not None:
            self._task.cancel()
