"""How fast a run goes."""

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

from healthmsg.bulk import SendMany, SendResult
from healthmsg.cli.problems import say
from healthmsg.cli.sending.options import Job
from healthmsg.cli.sending.results import Ending, Results, ResultsError
from healthmsg.errors import (
    AuthorizationError,
    ConnectError,
    DeliveryUnknownError,
    ForbiddenError,
    HealthmsgError,
    JournalError,
    QuotaExceededError,
    RateLimitedError,
    StatusError,
    TokenRenewalError,
)


class Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        """Show it, and 0 before there is any."""
        return Text(f"{task.speed or 0:5.1f}/s", style="cyan")


# Seconds between two looks at what a run waits for.
_BETWEEN_LOOKS: Final = 0.25
# Seconds without a result after which finding out is what the run waits for.
_STANDS_STILL: Final = 1.5
# Seconds. Where lines are printed, short waits are left out, and long ones repeated, but ever less.
_WORTH_A_LINE: Final = 2.0
_BETWEEN_LINES: Final = 60.0
_LONGEST_SILENCE: Final = 900.0
# Seconds between lines about different things.
_BREATH: Final = 10.0
# What the log says of the same, in its own words.
_SAID_OTHERWISE: Final = ("sending is held up", "the journal waits", "%(call)s -> %(status)d")


@frozen
class Wait:
    """What a run waits for."""

    what: str
    """The same as long as it is the same wait."""
    text: str


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (QuotaExceededError, "this user's quota is used up, trying again"),
    (RateLimitedError, "the service asks for fewer calls (429), trying again"),
    (TokenRenewalError, "the token cannot be renewed, trying again"),
    (AuthorizationError, "the token is not accepted, waiting for another one"),
    (ForbiddenError, "the service refuses every message (403), trying again"),
    (DeliveryUnknownError, "no message gets a clear answer, trying again"),
)


def wait_for(error: Exception | None, *, in_doubt: int = 0, seconds: float = 0.0) -> Wait | None:
    """Say what a run waits for: what holds it up, or else what became of messages in doubt."""
    if isinstance(error, ConnectError):
        problem = f" ({error.problem})" if error.problem else ""
        return Wait("connect", f"cannot connect, trying again{problem}")
    if isinstance(error, JournalError):
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
    """Decides which waits are worth a line, where no progress is shown."""

    _wait: str | None = None
    _since: float = 0.0
    _next_line: float = -math.inf
    _silence: float = _BETWEEN_LINES
    _has_told: bool = False

    def line(self, now: float, wait: Wait | None) -> str | None:
        """Return what to print at that moment, if anything."""
        if wait is None:
            has_told, self._has_told, self._wait = self._has_told, False, None
            return "going on" if has_told else None
        if wait.what != self._wait:
            self._wait, self._since, self._silence = wait.what, now, _BETWEEN_LINES
            self._next_line = max(now + _WORTH_A_LINE, min(self._next_line, now + _BREATH))
        if now < self._next_line:
            return None
        lasting = now - self._since
        self._next_line, self._has_told = now + self._silence, True
        self._silence = min(self._silence * 2, _LONGEST_SILENCE)
        return wait.text if lasting < _BETWEEN_LINES else f"{wait.text}, for {lasting / 60:.0f} min now"


class _Unless(ProgressColumn):
    """Another column, as long as the run does not wait."""

    def __init__(self, column: ProgressColumn, waiting: Callable[[], Wait | None]) -> None:
        super().__init__()
        self._column = column
        self._waiting = waiting

    def render(self, task: Task) -> Text:
        """Show it, or nothing."""
        shown = self._column(task) if self._waiting() is None else ""
        return shown if isinstance(shown, Text) else Text(str(shown))


class _Waiting(ProgressColumn):
    """What the run waits for, in the place of all that stands still meanwhile."""

    def __init__(self, waiting: Callable[[], Wait | None]) -> None:
        super().__init__()
        self._waiting = waiting

    def render(self, _: Task) -> Text:
        """Show it."""
        wait = self._waiting()
        return Text("" if wait is None else wait.text, style="yellow", no_wrap=True, overflow="ellipsis")


def make_progress(console: Console, waiting: Callable[[], Wait | None]) -> Progress:
    """Make a bar with numbers, or with what the run waits for. Off a terminal, nothing is shown."""
    columns = (Rate(), TextColumn("{task.description}"), TimeRemainingColumn(elapsed_when_finished=True))
    return Progress(
        BarColumn(bar_width=6),
        MofNCompleteColumn(),
        *(_Unless(column, waiting) for column in columns),
        _Waiting(waiting),
        console=console,
        disable=not console.is_terminal,
    )


@define
class Watch:
    """Looks again and again at what a run waits for, and says so in lines where no progress is shown."""

    _sending: SendMany
    _says_lines: bool
    wait: Wait | None = field(default=None, init=False)
    """What it waits for just now."""
    _last_result: float = field(default=-math.inf, init=False)
    _announcements: Announcements = field(factory=Announcements, init=False)

    def note_result(self) -> None:
        """Note that the run goes on."""
        self._last_result = asyncio.get_running_loop().time()

    async def look(self) -> None:
        """Look, until this is cancelled."""
        loop, lines = asyncio.get_running_loop(), Console(stderr=True)
        self._last_result = loop.time()
        while True:
            run, now = self._sending, loop.time()
            stands_still = now - self._last_result > _STANDS_STILL
            in_doubt = run.in_doubt if stands_still else 0
            self.wait = wait_for(run.paused_by, in_doubt=in_doubt, seconds=run.settled_in)
            if self._says_lines and (line := self._announcements.line(now, self.wait)) is not None:
                say(lines, f"{line[0].upper()}{line[1:]}.")
            await asyncio.sleep(_BETWEEN_LOOKS)


@contextmanager
def log_without_waits() -> Iterator[None]:
    """Within, keep out of the log what is said here anyway, in words that are for people."""
    logger = logging.getLogger("healthmsg")

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_SAID_OTHERWISE)

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


async def run(console: Console, job: Job, total: int, results: Results, ending: Ending) -> None:
    """Send, and note in `ending` what becomes of it, also when this is interrupted or breaks off.

    The first Ctrl-C begins nothing more, and waits for what is under way.

    Raises:
        KeyboardInterrupt: at the second one.
    """
    _listen_for_ctrl_c(ending)
    async with job.service.client() as client:
        sending = client.send_many(job.outgoing(client), **job.send_options())
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
