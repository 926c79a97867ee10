"""`healthmsg bot run --reload`: a new process for each change of the bot's files."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from attrs import define, field

from healthmsg.aio import start
from healthmsg.cli.problems import ExitCode, RefusedError
from healthmsg.cli.stopping import on_signals

# Seconds that a process has to finish what it began, before it is ended at once.
_DRAIN_WITHIN: Final = 30.0

Changes = Callable[[], AsyncIterator[object]]


def changes_in(folder: Path) -> Changes:
    """Return what tells of changes to the Python files in a folder and those below it.

    Raises:
        RefusedError: the package for it is not installed.
    """
    if find_spec("watchfiles") is None:
        raise RefusedError("--reload needs watchfiles: pip install 'healthmsg[reload]'")

    def watch() -> AsyncIterator[object]:
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - of an extra

        return awatch(folder, watch_filter=PythonFilter())

    return watch


@define(eq=False)
class Reloader:
    """Runs a command, and runs it again when something has changed."""

    command: Sequence[str]
    changes: Changes
    say: Callable[[str], object]
    drain_within: float = _DRAIN_WITHIN
    _process: "asyncio.subprocess.Process | None" = field(default=None, init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)
    _signal: int = field(default=0, init=False)
    _stopped: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def run(self) -> int:
        """Run until a signal ends it, or the command ends by itself without a failure."""
        watching = start(self._watch(), name="healthmsg reload")
        try:
            with on_signals(self._on_signal):
                return await self._run()
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def _run(self) -> int:
        while True:
            self._changed.clear()
            code = await self._run_once()
            if self._stopped.is_set():
                return ExitCode.INTERRUPTED if self._signal == signal.SIGINT else ExitCode.DONE
            if code == 0:
                return ExitCode.DONE
            if code is not None:
                self.say(f"It ended with exit status {code}: waiting for a change.")
                await self._first(self._changed.wait(), self._stopped.wait())
                if self._stopped.is_set():
                    return code
            self.say("Changed: starting again.")

    async def _run_once(self) -> int | None:
        """Run the command once; return its exit status if it ended by itself, else `None`."""
        # In a session of its own: Ctrl-C reaches this process alone, which passes it on once.
        self._process = process = await asyncio.create_subprocess_exec(
            *self.command, start_new_session=sys.platform != "win32"
        )
        await self._first(process.wait(), self._changed.wait(), self._stopped.wait())
        if process.returncode is not None:
            return process.returncode
        self._terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_within):
                await process.wait()
        if process.returncode is None:
            self._terminate()  # the second one: it ends at once
            await process.wait()
        return None

    def _terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def _on_signal(self, number: int) -> None:
        if self._signal:
            self._terminate()
        self._signal = number
        self._stopped.set()

    async def _watch(self) -> None:
        async for _ in self.changes():
            self._changed.set()

    @staticmethod
    async def _first(*waits: Coroutine[Any, Any, object]) -> None:
        tasks = [asyncio.ensure_future(one) for one in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
