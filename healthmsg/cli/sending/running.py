"""Sending, until everything is done or somebody stops it."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from attrs import Factory, define
from rich.console import Console

from healthmsg.bulk import SendMany, SendResult
from healthmsg.cli.ending import say
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.progress import Watch, log_without_waits, make_progress
from healthmsg.cli.sending.remaining import Remaining
from healthmsg.cli.sending.results import Results
from healthmsg.cli.sending.tally import Tally
from healthmsg.errors import HealthmsgError


class ResultsError(Exception):
    """The results of a run without a journal cannot be written: nothing more is sent."""


@define
class Ending:
    """How a run ended."""

    tally: Tally = Factory(Tally)
    error: Exception | None = None
    """What broke it off."""
    is_interrupted: bool = False
    is_abandoned: bool = False
    """Whether nobody waited for what was under way."""
    warnings: list[str] = Factory(list)
    """What went wrong afterwards: it changes nothing of what was sent."""
    remaining: Remaining = Remaining()

    @property
    def is_early(self) -> bool:
        """Whether there may be messages that it did not come to."""
        return self.error is not None or self.is_interrupted


async def run(console: Console, job: Job, total: int, results: Results, ending: Ending) -> None:
    """Send, and note in `ending` what becomes of it, also when this is interrupted or breaks off.

    The first Ctrl-C begins nothing more, and waits for what is under way.

    Raises:
        KeyboardInterrupt: at the second one.
    """
    _listen_for_ctrl_c(ending)
    async with job.service.client() as client:
        sending = job.send(client)
        watch = Watch(sending, says_lines=not console.is_terminal)
        with log_without_waits(), make_progress(console, lambda: watch.wait) as progress:
            bar = progress.add_task(str(ending.tally), total=total)

            def note(result: SendResult) -> None:
                watch.note_result()
                ending.tally.add(result)
                results.add(result, job.message(result.index))
                progress.update(bar, advance=1, description=str(ending.tally))
                if results.problem is not None and job.journal is None:
                    # Nothing else says what was sent.
                    raise ResultsError(results.problem)

            watching = asyncio.create_task(watch.look())
            try:
                async with sending:
                    await _read(sending, note, console, ending)
            finally:
                watching.cancel()
                await asyncio.wait([watching])


def _listen_for_ctrl_c(ending: Ending) -> None:
    """Not as asyncio would: the second would be raised in whatever runs just then, which would wait."""
    running = asyncio.current_task()

    def pressed() -> None:
        if ending.is_interrupted or running is None:
            raise KeyboardInterrupt
        ending.is_interrupted = True
        running.cancel()

    # Windows has no such handlers, and they are for the main thread only.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, pressed)


async def _read(
    sending: SendMany, note: Callable[[SendResult], None], console: Console, ending: Ending
) -> None:
    """Read the results; what is under way when it is stopped still has some."""
    try:
        async for result in sending:
            note(result)
    except asyncio.CancelledError:
        ending.is_interrupted = True
        say(console, "Stopping: what is under way is waited for. Ctrl-C again ends at once.")
        _stay(asyncio.current_task())
    except (HealthmsgError, ResultsError) as error:
        ending.error = error
    sending.stop()
    await _read_what_is_left(sending, note, ending)


async def _read_what_is_left(sending: SendMany, note: Callable[[SendResult], None], ending: Ending) -> None:
    """Read the results of what was under way when the run ended."""
    while True:
        try:
            async for result in sending:
                note(result)
        except ResultsError as error:  # that one is counted, and there may be more
            ending.error = ending.error or error
        except HealthmsgError as error:
            ending.error = ending.error or error
            return
        else:
            return


def _stay(task: "asyncio.Task[None] | None") -> None:
    """Go on in spite of having been cancelled, to tell how it stands."""
    if task is not None:
        task.uncancel()
