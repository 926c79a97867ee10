"""Running a bot in this process until it is stopped."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from attrs import define, field, frozen

from healthmsg.bot.surface import BotSurface, Handled
from healthmsg.cli.bots.lines import clock_time, line_of
from healthmsg.cli.stopping import Stopping
from healthmsg.cli.terminal import without_blocking_output

Say = Callable[[str], object]


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
            return asyncio.run(self.run())

    async def run(self) -> int:
        """Run until it is stopped. A second signal ends the process at once, as a kill would."""
        self._task = asyncio.ensure_future(self._run())
        await self._stopping.run(self._task)
        return self._stopping.exit_code

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
            self._say("The bot runs. SIGTERM or Ctrl-C: finish what was begun, and end; twice: end at once.")
            await self.bot.run(signals=False)
        self._say("Ended.")

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
