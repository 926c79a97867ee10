"""Sending, with its progress, until everything is done or the run is stopped."""

import asyncio
import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from attrs import define, field, frozen
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from healthmsg import errors
from healthmsg.bulk import SendMany, SendResult
from healthmsg.cli.problems import ResultsError, print_text
from healthmsg.cli.sending.options import Job
from healthmsg.cli.sending.results import Ending, Results
from healthmsg.errors import CampaignError, ConnectError, HealthmsgError, JournalError, StatusError

# All in seconds. How often it is checked what a run waits for.
_CHECK_INTERVAL: Final = 0.25
# Without a result for so long, a run waits to learn what became of messages.
_IDLE_AFTER: Final = 1.5
# Without a progress bar, shorter waits are not printed, and long ones are repeated, less and less often.
_SHORTEST_WAIT: Final = 2.0
_FIRST_REPEAT: Final = 60.0
_LONGEST_SILENCE: Final = 900.0
# Between lines about different waits.
_LINE_INTERVAL: Final = 10.0
# How the library logs the same waits.
_WAIT_LOGS: Final = (
    *("sending is paused", "the journal waits", "%(call)s -> %(status)d"),
    "To the recipients of all that is left",
)
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.QuotaExceededError, "this user's quota is used up, trying again"),
    (errors.RateLimitedError, "the service asks for fewer calls (429), trying again"),
    (errors.TokenRenewalError, "the token cannot be renewed, trying again"),
    (errors.AuthorizationError, "the token is not accepted, waiting for another one"),
    (errors.ForbiddenError, "the service refuses every message (403), trying again"),
    (errors.DeliveryUnknownError, "no message gets a clear answer, trying again"),
)


class Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, at first 0."""
        return Text(f"{task.speed or 0:5.1f}/s", style="cyan")


@frozen
class Wait:
    """What a run waits for."""

    what: str
    """Equal for as long as it is the same wait."""
    text: str


def wait_for(error: Exception | None, *, in_doubt: int = 0, seconds: float = 0.0) -> Wait | None:
    """Return what a run waits for: what pauses it, or to learn what became of messages in doubt."""
    if isinstance(error, ConnectError):
        problem = f" ({error.problem})" if error.problem else ""
        return Wait("connect", f"cannot connect, trying again{problem}")
    if isinstance(error, JournalError | CampaignError):
        return Wait(str(error), str(error).removesuffix("."))
    for kind, text in _REASONS:
        if isinstance(error, kind):
            return Wait(text, text)
    if error is not None:
        answer = f"answered {error.status}" if isinstance(error, StatusError) else "gave no answer"
        return Wait(answer, f"the service {answer}, trying again")
    if not in_doubt:
        return None
    messages = "1 message" if in_doubt == 1 else f"{in_doubt:,} messages"
    upto = f"up to {math.ceil(seconds)} s " if seconds > 0 else ""
    return Wait("in doubt", f"waiting {upto}to learn what became of {messages}")


@define
class Announcements:
    """Decides which waits are printed as a line, where there is no progress bar."""

    _wait: str | None = None
    _since: float = 0.0
    _next_line: float = -math.inf
    _silence: float = _FIRST_REPEAT
    _has_printed: bool = False

    def line(self, now: float, wait: Wait | None) -> str | None:
        """Return what to print at this time, if anything."""
        if wait is None:
            has_printed, self._has_printed, self._wait = self._has_printed, False, None
            return "going on" if has_printed else None
        if wait.what != self._wait:
            self._wait, self._since, self._silence = wait.what, now, _FIRST_REPEAT
            self._next_line = max(now + _SHORTEST_WAIT, min(self._next_line, now + _LINE_INTERVAL))
        if now < self._next_line:
            return None
        lasting = now - self._since
        self._next_line, self._has_printed = now + self._silence, True
        self._silence = min(self._silence * 2, _LONGEST_SILENCE)
        return wait.text if lasting < _FIRST_REPEAT else f"{wait.text}, for {lasting / 60:.0f} min now"


class _StateColumn(ProgressColumn):
    """Rate, outcomes and time left; or in their place what the run waits for."""

    def __init__(self, waiting: Callable[[], Wait | None]) -> None:
        super().__init__()
        self._waiting = waiting
        self._columns = (
            Rate(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )

    def render(self, task: Task) -> Text:
        """Return either."""
        if (wait := self._waiting()) is not None:
            return Text(wait.text, style="yellow", no_wrap=True, overflow="ellipsis")
        return Text(" ").join(column.render(task) for column in self._columns)


def make_progress(console: Console, waiting: Callable[[], Wait | None]) -> Progress:
    """Return a bar with numbers, or with what the run waits for. Without a terminal, nothing is shown."""
    columns = (BarColumn(bar_width=6), MofNCompleteColumn(), _StateColumn(waiting))
    return Progress(*columns, console=console, disable=not console.is_terminal)


@define
class Watch:
    """Checks what a run waits for, and prints it as lines where there is no progress bar."""

    _sending: SendMany
    _prints_lines: bool
    wait: Wait | None = field(default=None, init=False)
    """What the run waits for at present."""
    _last_result: float = field(default=-math.inf, init=False)
    _announcements: Announcements = field(factory=Announcements, init=False)

    def on_result(self) -> None:
        """Record the time of a result."""
        self._last_result = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Check until this is cancelled."""
        loop, lines = asyncio.get_running_loop(), Console(stderr=True)
        self._last_result = loop.time()
        while True:
            run, now = self._sending, loop.time()
            is_idle = now - self._last_result > _IDLE_AFTER
            in_doubt = run.in_doubt if is_idle else 0
            self.wait = wait_for(run.paused_by, in_doubt=in_doubt, seconds=run.settled_in)
            if self._prints_lines and (line := self._announcements.line(now, self.wait)) is not None:
                print_text(lines, f"{line[0].upper()}{line[1:]}.")
            await asyncio.sleep(_CHECK_INTERVAL)


@contextmanager
def hiding_wait_logs() -> Iterator[None]:
    """Within, leave waits out of the log: they are shown here, in words for people."""
    logger = logging.getLogger("healthmsg")

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_WAIT_LOGS)

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


async def run(console: Console, job: Job, total: int, results: Results, ending: Ending) -> None:
    """Send, and record in `ending` what becomes of it, also when this is interrupted or breaks off.

    After the first Ctrl-C, no more calls are begun, and those that are running are waited for.

    Raises:
        KeyboardInterrupt: at the second Ctrl-C.
    """
    _listen_for_ctrl_c(ending)
    async with job.options.service.client() as client:
        sending = job.send(client)
        watch = Watch(sending, prints_lines=not console.is_terminal)
        with hiding_wait_logs(), make_progress(console, lambda: watch.wait) as progress:
            bar = progress.add_task(str(ending.tally), total=total)

            def record(result: SendResult) -> None:
                watch.on_result()
                ending.tally.add(result)
                results.add(result, job.message(result.index))
                progress.update(bar, advance=1, description=str(ending.tally))
                if results.problem is not None and job.journal is None:
                    # There is no other record of what was sent.
                    raise ResultsError(results.problem)

            watching = asyncio.create_task(watch.run())
            try:
                async with sending:
                    await _read(sending, record, console, ending)
            finally:
                watching.cancel()
                await asyncio.wait([watching])


def _listen_for_ctrl_c(ending: Ending) -> None:
    """Cancel the task at the first Ctrl-C, and raise at the second.

    asyncio's own handler raises the second in any task that runs just then, which may wait instead of end.
    """
    running = asyncio.current_task()

    def pressed() -> None:
        if ending.is_interrupted or running is None:
            raise KeyboardInterrupt
        ending.is_interrupted = True
        running.cancel()

    # There are none on Windows, nor outside the main thread.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, pressed)


async def _read(
    sending: SendMany, record: Callable[[SendResult], None], console: Console, ending: Ending
) -> None:
    """Read the results, when it is stopped also those of the calls that are running."""
    try:
        async for result in sending:
            record(result)
    except asyncio.CancelledError:
        ending.is_interrupted = True
        print_text(console, "Stopping: what is under way is waited for. Ctrl-C again ends at once.")
        # Take the cancellation back, so that the results can still be read.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
    except (HealthmsgError, ResultsError) as error:
        ending.error = error
    sending.stop()
    await _read_rest(sending, record, ending)


async def _read_rest(sending: SendMany, record: Callable[[SendResult], None], ending: Ending) -> None:
    """Read the results of the calls that were running when the run ended."""
    while True:
        try:
            async for result in sending:
                record(result)
        except ResultsError as error:  # that result is counted, and there may be more
            ending.error = ending.error or error
        except HealthmsgError as error:
            ending.error = ending.error or error
            return
        else:
            return
