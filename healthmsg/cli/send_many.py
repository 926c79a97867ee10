"""`healthmsg send-many`."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import typer
from attrs import evolve, frozen
from rich.console import Console

from healthmsg.bulk.hold import STOP_AFTER
from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli import service
from healthmsg.cli.files import JournalPlace, require_extra
from healthmsg.cli.problems import ExitCode, RefusedError, problems_told, require_somebody
from healthmsg.cli.recipients.encodings import Decoded
from healthmsg.cli.recipients.messages import Messages, make_messages
from healthmsg.cli.recipients.reading import Recipients, read_recipients, read_text_file
from healthmsg.cli.recipients.template import Template
from healthmsg.cli.sending import options as option
from healthmsg.cli.sending.options import Job, Options
from healthmsg.cli.sending.preview import (
    Plan,
    Source,
    ask,
    count_in,
    is_all_delivered,
    look_ahead,
    refuse_doubtful,
    show,
)
from healthmsg.cli.sending.preview import dry_run as look_only
from healthmsg.cli.sending.results import Ending, Remaining, Results, find_remaining, said, tell
from healthmsg.cli.sending.running import run
from healthmsg.cli.terminal import joined, not_waiting_for_readers, outliving_terminal
from healthmsg.errors import HealthmsgError, JournalGoneError
from healthmsg.models import Outcome

T = TypeVar("T")


def send_many(
    recipients: option.RecipientsFile = None,
    template: option.TemplateText = None,
    template_file: option.TemplateFile = None,
    journal: option.JournalTarget = None,
    no_journal: option.NoJournal = False,
    resume: option.Resume = False,
    yes: option.Yes = False,
    results: option.ResultsFile = None,
    dry_run: option.DryRun = False,
    check_chats: option.CheckChats = False,
    texts: option.Texts = False,
    allow_repeats: option.AllowRepeats = False,
    allow_empty: option.AllowEmpty = False,
    accept_doubtful: option.AcceptDoubtful = False,
    exact_aux_ids: option.ExactAuxIds = False,
    encoding: option.Encoding = None,
    retry_failed: option.RetryFailed = False,
    send_again: option.SendAgain = False,
    skip_sent: option.SkipSent = False,
    superseded: option.Superseded = False,
    settle: option.Settle = SETTLE,
    stop_after: option.StopAfter = STOP_AFTER,
    proxy: service.Proxy = None,
    ca: service.Ca = None,
    no_x509_strict: service.NoX509Strict = False,
) -> None:
    """Send a message to each recipient of a file.

    Everything is checked before the first is sent. HEALTHMSG_TOKEN is the access token,
    HEALTHMSG_ENVIRONMENT is kpn or alterdesk (or else HEALTHMSG_API_URL the URL of a sandbox).

    Exit status: 0 all were delivered, 1 not all, 2 refused, 130 interrupted.
    """
    options = Options(**locals())  # the names are the same
    raise typer.Exit(_Command(Console(), options).carry_out())


@frozen
class _Ready:
    """What was asked for, read, checked and agreed to."""

    job: Job
    total: int
    results: Results
    had_journal: bool
    """Whether there may have been messages in the journal before."""


_BOTH_OR_NOT: Final = "Give --send-again to send them this one too, or --skip-sent to leave them out"


class _Command:
    def __init__(self, console: Console, options: Options) -> None:
        self._console = console
        self._options = options
        self._template_file: Decoded | None = None

    def carry_out(self) -> ExitCode:
        with problems_told("Nothing was sent."):
            ready = self._get_ready()
        if isinstance(ready, ExitCode):
            return ready
        with outliving_terminal():
            with not_waiting_for_readers():
                ending = self._send(ready)
            return self._finish(ready, ending)

    def _get_ready(self) -> _Ready | ExitCode:
        """Do everything but send, and ask; give a code if there is nothing to send then."""
        options = self._options
        options.check()
        job, recipients = self._prepare()
        options.service.check()
        name = "" if options.recipients is None else options.recipients.name
        source = Source(options.service.environment, recipients, name, self._template_file)
        if options.dry_run:
            looking = look_only(self._console, job, source, options)
            return ExitCode.DONE if asyncio.run(looking) else ExitCode.FAILED
        if not options.yes:
            require_somebody()
        elif not options.accept_doubtful:
            refuse_doubtful(job)
        results = self._results(job, recipients)
        results.check_folder()
        outlook = asyncio.run(look_ahead(job))
        if outlook.delimiter:
            results.like_those_of(outlook.delimiter)
        plan = Plan(job, outlook, source, str(results.path), options)
        show(self._console, plan)
        if options.yes and outlook.other_texts is not None and not (options.send_again or options.skip_sent):
            raise RefusedError(f"{outlook.other_texts.told} {_BOTH_OR_NOT}")
        if not options.yes and not ask(self._console, plan):
            self._console.print("Nothing was sent.")
            return ExitCode.FAILED
        if outlook.other_texts is None and not options.send_again:
            # Not agreed to: there were none, until now.
            job = evolve(job, skips_sent=True)
        total = outlook.to_send if job.messages is None else len(job.messages.all)
        results.create()
        had_journal = job.journal is not None and job.journal.may_exist
        return _Ready(job, total, results, had_journal)

    def _prepare(self) -> tuple[Job, Recipients | None]:
        """Read and check everything that was given."""
        options = self._options
        recipients = messages = None
        if options.recipients is not None:
            recipients, messages = self._messages(options.recipients)
        place = self._journal()
        if place is not None:
            require_extra()
            _ = place.may_exist  # refuses what can be no file's name
        job = Job(
            messages,
            place,
            options.exact_aux_ids,
            options.retry_failed,
            options.settle,
            options.stop_after,
            options.skip_sent,
            options.superseded,
            options.service,
        )
        return job, recipients

    def _messages(self, path: Path) -> tuple[Recipients, Messages]:
        options = self._options
        template = self._template()
        recipients = read_recipients(path, options.encoding)
        messages = make_messages(
            recipients,
            template,
            path.parent,
            allow_empty=options.allow_empty,
            allow_repeats=options.allow_repeats,
            is_exact=options.exact_aux_ids,
        )
        return recipients, messages

    def _template(self) -> Template | None:
        options = self._options
        if options.template_file is not None:
            # What ends the last line is the editor's, not the message's.
            self._template_file = read_text_file(options.template_file, options.encoding)
            return Template.parse(self._template_file.text.rstrip("\r\n"))
        return None if options.template is None else Template.parse(options.template)

    def _journal(self) -> JournalPlace | None:
        options = self._options
        if options.no_journal:
            return None
        if options.journal is not None:
            return JournalPlace.parse(options.journal)
        return None if options.recipients is None else JournalPlace.beside(options.recipients)

    def _results(self, job: Job, recipients: Recipients | None) -> Results:
        options = self._options
        delimiter = "," if recipients is None else recipients.delimiter
        if options.results is not None:
            if os.path.exists(options.results):  # noqa: PTH110 - unlike that of a path, it never fails
                raise RefusedError(f"{options.results} exists already, and is not overwritten")
            return Results(options.results, delimiter)
        journal = None if job.journal is None else job.journal.path
        return Results.beside(options.recipients or journal or Path("healthmsg"), delimiter)

    def _send(self, ready: _Ready) -> Ending:
        """Send, and write the results down. What goes wrong is noted: it does not undo what was sent."""
        ending = Ending()
        runner = asyncio.Runner()
        try:
            runner.run(run(self._console, ready.job, ready.total, ready.results, ending))
        except asyncio.CancelledError:  # interrupted before it had begun
            ending.is_interrupted = True
        except KeyboardInterrupt:
            ending.is_interrupted = ending.is_abandoned = True
            self._console.show_cursor()
        except Exception as error:  # noqa: BLE001 - also after a mistake of ours it is to be told what was sent
            ending.error = ending.error or error
        ready.results.finish(ready.job, ending.tally.seen)
        if not ending.is_abandoned:
            _afterwards(ending, runner.close, None)
        return ending

    def _finish(self, ready: _Ready, ending: Ending) -> ExitCode:
        """Tell how it ended."""
        without_result = ready.total - _count(ready, ending)
        unknown = ending.tally.outcomes[Outcome.UNKNOWN]
        is_abandoned = ending.is_abandoned
        ending.remaining = _afterwards(
            ending,
            lambda: asyncio.run(
                find_remaining(ready.job, without_result, unknown, is_abandoned=is_abandoned)
            ),
            Remaining(without_result=without_result),
        )
        code = _code(ready, ending)
        if code is ExitCode.DONE and ending.error is not None:
            ending.warnings.append(f"everything was delivered; after that: {said(ending.error)}")
            ending.error = None
        ending.is_interrupted = ending.is_interrupted and code is not ExitCode.DONE
        # After that error, the same command would make a new journal, which does not know what was sent.
        is_gone = isinstance(ending.error, JournalGoneError)
        going_on = None if is_gone else self._how_to_go_on(ready, ending)
        _afterwards(ending, lambda: tell(self._console, ready.job, ready.results, ending, going_on), None)
        if ending.is_abandoned:
            # As a kill would, which the journal is made for: ending it in order would wait for what hangs.
            sys.stdout.flush()
            os._exit(code)
        return code

    def _how_to_go_on(self, ready: _Ready, ending: Ending) -> str | None:
        """Return the command that goes on with a run that ended early.

        The journal alone will do only if it certainly has all the messages: they are entered while the first
        are being sent.
        """
        job = ready.job
        if job.journal is None:
            return None
        if job.messages is None:
            return self._options.command
        journal = job.journal
        is_new = not ready.had_journal and (ending.is_early or ending.tally.failed > 0)
        entered = _afterwards(ending, lambda: asyncio.run(count_in(journal)), 0) if is_new else 0
        if entered == len(job.messages.all):
            return self._options.command_to_resume(journal)
        return self._options.command


def _count(ready: _Ready, ending: Ending) -> int:
    """Count the messages that have a result, each once."""
    return ending.tally.results if ready.job.messages is None else len(ending.tally.seen)


def _code(ready: _Ready, ending: Ending) -> ExitCode:
    """Return what was sent, whatever else has happened."""
    is_done = not ending.tally.failed and _count(ready, ending) >= ready.total
    if ready.job.messages is None and ready.job.journal is not None and not ending.is_early:
        journal = ready.job.journal
        is_all = _afterwards(ending, lambda: asyncio.run(is_all_delivered(journal)), is_done)
        if is_done and not is_all:
            show_it = joined(("healthmsg", "journal", "show", journal.word))
            ending.warnings.append(f"the journal has others that were not delivered: {show_it}")
        is_done = is_all
    if is_done:
        return ExitCode.DONE
    return ExitCode.INTERRUPTED if ending.is_interrupted else ExitCode.FAILED


def _afterwards(ending: Ending, step: Callable[[], T], otherwise: T) -> T:
    """Do something that does not change what was sent, even if it fails."""
    try:
        return step()
    except (HealthmsgError, RefusedError, OSError) as error:
        problem = said(error)
    except KeyboardInterrupt:
        problem = "interrupted"
    except Exception as error:  # noqa: BLE001 - as above: the exit status is that of what was sent
        problem = said(error)
    ending.warnings.append(problem)
    return otherwise
