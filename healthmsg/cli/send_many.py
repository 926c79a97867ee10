"""`healthmsg send-many`: read and check everything, ask, send, and print how it ended."""

import asyncio
import os
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, Final, TypeVar

import typer
from attrs import evolve, frozen
from rich.console import Console

from healthmsg.cli.files import JournalLocation, require_journal_packages
from healthmsg.cli.problems import ExitCode, RefusedError, error_text, exit_on_error, require_terminal
from healthmsg.cli.recipients.encodings import Decoded
from healthmsg.cli.recipients.input import read_input
from healthmsg.cli.recipients.messages import Messages
from healthmsg.cli.recipients.reading import Recipients
from healthmsg.cli.sending.options import Job, Options
from healthmsg.cli.sending.preview import (
    Files,
    Plan,
    Source,
    confirm_plan,
    make_forecast,
    preview,
    refuse_doubtful,
    show_plan,
)
from healthmsg.cli.sending.results import (
    Ending,
    Remaining,
    Results,
    count_entries,
    find_remaining,
    is_all_delivered,
    print_summary,
)
from healthmsg.cli.sending.running import run
from healthmsg.cli.terminal import ignoring_hangup, shell_join, without_blocking_output
from healthmsg.errors import JournalGoneError
from healthmsg.models import Outcome

T = TypeVar("T")
_BOTH_OR_NOT: Final = "Give --send-again to send them this one too, or --skip-sent to leave them out"


def send_many(**options: Any) -> None:
    """Send a message to each recipient of a file.

    Everything is checked before the first is sent. HEALTHMSG_TOKEN is the access token,
    HEALTHMSG_ENVIRONMENT is kpn or alterdesk (or else HEALTHMSG_API_URL the URL of a sandbox).

    Exit status: 0 all were delivered, 1 not all, 2 refused, 130 interrupted.
    """
    raise typer.Exit(_Command(Console(), Options(**options)).run())


# By this, typer knows the arguments and options: they are the fields of `Options`.
send_many.__signature__ = signature(Options)  # type: ignore[attr-defined]


@frozen
class _Ready:
    """A job that was checked and agreed to."""

    job: Job
    total: int
    results: Results
    had_journal: bool
    """Whether there may have been messages in the journal before."""


class _Command:
    def __init__(self, console: Console, options: Options) -> None:
        self._console = console
        self._options = options
        self._template_file: Decoded | None = None

    def run(self) -> ExitCode:
        with exit_on_error("Nothing was sent."):
            ready = self._prepare()
        if isinstance(ready, ExitCode):
            return ready
        with ignoring_hangup():
            with without_blocking_output():
                ending = self._send(ready)
            return self._finish(ready, ending)

    def _prepare(self) -> _Ready | ExitCode:
        """Do everything before sending, and ask; return a code if there is nothing to send then."""
        options = self._options
        options.check()
        job, recipients = self._read_input()
        options.service.check()
        name = "" if options.recipients is None else options.recipients.name
        files = Files(recipients, name, self._template_file)
        source = Source(options.service.environment, files)
        if options.dry_run:
            is_right = asyncio.run(preview(self._console, job, source))
            return ExitCode.DONE if is_right else ExitCode.FAILED
        if not options.yes:
            require_terminal()
        elif not options.accept_doubtful:
            refuse_doubtful(job.doubts)
        results = self._results(job, recipients)
        results.check_folder()
        forecast = asyncio.run(make_forecast(job))
        if forecast.delimiter:
            results.delimiter = forecast.delimiter
        plan = Plan(job, forecast, source, str(results.path))
        show_plan(self._console, plan)
        others = forecast.other_texts
        if options.yes and others is not None and not (options.send_again or options.skip_sent):
            raise RefusedError(f"{others.sentence} {_BOTH_OR_NOT}")
        if not options.yes and not confirm_plan(self._console, plan):
            self._console.print("Nothing was sent.")
            return ExitCode.FAILED
        if others is None and not options.send_again:
            # There were none until now, so sending to them was not agreed to.
            job = evolve(job, skips_sent=True)
        total = forecast.to_send if job.messages is None else len(job.messages.all)
        results.create()
        return _Ready(job, total, results, job.journal is not None and job.journal.may_exist)

    def _read_input(self) -> tuple[Job, Recipients | None]:
        """Read and check everything that was given."""
        options = self._options
        recipients = messages = None
        if options.recipients is not None:
            recipients, messages = self._messages(options.recipients)
        journal = self._journal()
        if journal is not None:
            require_journal_packages()
            _ = journal.may_exist  # refuses what no file can be called
        return Job(options, messages, journal, options.skip_sent), recipients

    def _messages(self, path: Path) -> tuple[Recipients, Messages]:
        read = read_input(path, self._options)
        self._template_file = read.template_file
        return read.recipients, read.messages

    def _journal(self) -> JournalLocation | None:
        options = self._options
        if options.no_journal:
            return None
        if options.journal is not None:
            return JournalLocation.parse(options.journal)
        return None if options.recipients is None else JournalLocation.for_recipients(options.recipients)

    def _results(self, job: Job, recipients: Recipients | None) -> Results:
        options = self._options
        delimiter = "," if recipients is None else recipients.delimiter
        if options.results is not None:
            if os.path.exists(options.results):  # noqa: PTH110 - unlike Path.exists, it never fails
                raise RefusedError(f"{options.results} exists already, and is not overwritten")
            return Results(options.results, delimiter)
        journal = None if job.journal is None else job.journal.path
        return Results.for_file(options.recipients or journal or Path("healthmsg"), delimiter)

    def _send(self, ready: _Ready) -> Ending:
        """Send, and write the results. An error is recorded: it does not undo what was sent."""
        ending = Ending()
        runner = asyncio.Runner()
        try:
            runner.run(run(self._console, ready.job, ready.total, ready.results, ending))
        except asyncio.CancelledError:  # interrupted before it had begun
            ending.is_interrupted = True
        except KeyboardInterrupt:
            ending.is_interrupted = ending.is_abandoned = True
            self._console.show_cursor()
        except Exception as error:  # noqa: BLE001 - also after a bug of ours, what was sent is reported
            ending.error = ending.error or error
        ready.results.finish(ready.job, ending.tally.seen)
        if not ending.is_abandoned:
            _or_warn(ending, runner.close, None)
        return ending

    def _finish(self, ready: _Ready, ending: Ending) -> ExitCode:
        """Print how it ended."""
        without_result = ready.total - _count_results(ready, ending)
        unknown = ending.tally.outcomes[Outcome.UNKNOWN]
        is_abandoned = ending.is_abandoned
        ending.remaining = _or_warn(
            ending,
            lambda: asyncio.run(
                find_remaining(ready.job, without_result, unknown, is_abandoned=is_abandoned)
            ),
            Remaining(without_result=without_result),
        )
        code = _exit_code(ready, ending)
        if code is ExitCode.DONE and ending.error is not None:
            ending.warnings.append(f"everything was delivered; after that: {error_text(ending.error)}")
            ending.error = None
        ending.is_interrupted = ending.is_interrupted and code is not ExitCode.DONE
        # With the journal gone, the same command would make a new one, which does not know what was sent.
        is_gone = isinstance(ending.error, JournalGoneError)
        command = None if is_gone else self._next_command(ready, ending)
        _or_warn(
            ending, lambda: print_summary(self._console, ready.job, ready.results, ending, command), None
        )
        if ending.is_abandoned:
            # As a kill would, which the journal is made for: an orderly end would wait for what hangs.
            sys.stdout.flush()
            os._exit(code)
        return code

    def _next_command(self, ready: _Ready, ending: Ending) -> str | None:
        """Return the command that goes on with a run that ended early.

        The journal alone is enough only if it certainly has all the messages: they are entered while the
        first are being sent.
        """
        job = ready.job
        if job.journal is None:
            return None
        if job.messages is None:
            return self._options.command
        journal = job.journal
        is_new = not ready.had_journal and (ending.is_early or ending.tally.failed > 0)
        entered = _or_warn(ending, lambda: asyncio.run(count_entries(journal)), 0) if is_new else 0
        if entered == len(job.messages.all):
            return self._options.command_to_resume(journal)
        return self._options.command


def _count_results(ready: _Ready, ending: Ending) -> int:
    """Return how many messages have a result."""
    return ending.tally.outcomes.total() if ready.job.messages is None else len(ending.tally.seen)


def _exit_code(ready: _Ready, ending: Ending) -> ExitCode:
    """Return the exit status by what was sent, whatever else has happened."""
    is_done = not ending.tally.failed and _count_results(ready, ending) >= ready.total
    if ready.job.messages is None and ready.job.journal is not None and not ending.is_early:
        journal = ready.job.journal
        is_all = _or_warn(ending, lambda: asyncio.run(is_all_delivered(journal)), is_done)
        if is_done and not is_all:
            command = shell_join(("healthmsg", "journal", "show", journal.argument))
            ending.warnings.append(f"the journal has others that were not delivered: {command}")
        is_done = is_all
    if is_done:
        return ExitCode.DONE
    return ExitCode.INTERRUPTED if ending.is_interrupted else ExitCode.FAILED


def _or_warn(ending: Ending, step: Callable[[], T], default: T) -> T:
    """Do something that does not change what was sent; if it fails, that is a warning."""
    try:
        return step()
    except KeyboardInterrupt:
        problem = "interrupted"
    except Exception as error:  # noqa: BLE001 - the exit status is that of what was sent
        problem = error_text(error)
    ending.warnings.append(problem)
    return default
