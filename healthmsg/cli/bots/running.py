"""Running a bot in this process until it is stopped."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

from attrs import define, field, frozen

from healthmsg import aio
from healthmsg.bot.surface import BotSurface, Handled
from healthmsg.cli.bots.lines import clock_time, line_of
from healthmsg.cli.problems import ExitCode
from healthmsg.cli.stopping import Stopping, flush
from healthmsg.cli.terminal import without_blocking_output
from healthmsg.errors import HealthmsgError

_RUNS: Final = "The bot runs. SIGTERM or Ctrl-C: finish what was begun, and end; twice: end at once."
_STANDS_BY: Final = (
    "The bot stands by: another process has its store. It takes over within 15 seconds of that one's end."
)
_STANDS_BY_AFTER: Final = 1.0
"""Seconds."""
_ENDS_WITHIN: Final = 2.0
"""Seconds that what was left behind by the bot has to end."""

Say = Callable[[str], object]


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
    _stopping: Stopping = field(init=False, repr=False)
    _task: "asyncio.Task[None] | None" = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._stopping = Stopping(self._stop, self.end_at_once)

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
        await self._stopping.run(self._task)
        return self._stopping.exit_code

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
        flush()
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

    def _stop(self) -> None:
        if self._is_running:
            self._say("Stopping: what was begun is being finished.")
            self.bot.stop()
        elif self._task is not None:
            self._task.cancel()
