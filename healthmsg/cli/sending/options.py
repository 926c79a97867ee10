"""The options of `healthmsg send-many`, and the job that they describe."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from attrs import fields, frozen

from healthmsg.bulk import Outgoing, Preview, SendMany
from healthmsg.bulk.circuit_breaker import STOP_AFTER
from healthmsg.bulk.models import OtherText
from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli.files import JOURNAL_VARIABLE, JournalLocation
from healthmsg.cli.problems import Problem, RefusedError
from healthmsg.cli.recipients.messages import Message, Messages
from healthmsg.cli.recipients.options import (
    RECIPIENTS_HELP,
    AcceptDoubtful,
    AllowEmpty,
    AllowRepeats,
    Buttons,
    Encoding,
    ExactAuxIds,
    Label,
    Text,
    TextFile,
)
from healthmsg.cli.recipients.question import Asked
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service, hide_password
from healthmsg.cli.terminal import shell_quote
from healthmsg.client import Client

_NEEDS_JOURNAL: Final = "--send-again and --skip-sent need a journal, which knows who got what"
# Left out of the command to go on with.
_OF_ONE_RUN: Final = {"yes", "results", "dry_run", "check_chats", "texts"}
Settle = Annotated[
    float, typer.Option(min=0, help="Seconds after which a message that was on its way cannot arrive.")
]


@frozen
class Options:
    """The arguments and options of the command. Each is declared here alone."""

    recipients: Annotated[
        Path | None,
        typer.Argument(
            metavar="RECIPIENTS",
            help=RECIPIENTS_HELP,
        ),
    ] = None
    template: Text = None
    template_file: TextFile = None
    option: Buttons = None
    label: Label = None
    resume: Annotated[bool, typer.Option("--resume", help="Send all that the journal still holds.")] = False
    journal: Annotated[
        str | None,
        typer.Option(
            "--journal",
            envvar=JOURNAL_VARIABLE,
            help="A file, or postgresql://…; without it, a file beside the recipients.",
        ),
    ] = None
    no_journal: Annotated[
        bool, typer.Option("--no-journal", help="Keep none: a run that breaks off cannot be resumed.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before sending.")] = False
    results: Annotated[
        Path | None, typer.Option("--results", help="Where the results go; never overwritten.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go wrong, and send nothing.")
    ] = False
    check_chats: Annotated[
        bool, typer.Option("--check-chats", help="With --dry-run: ask the service for each chat.")
    ] = False
    texts: Annotated[
        bool,
        typer.Option(
            "--texts", help="With --dry-run: show the first texts, also where the output is no terminal."
        ),
    ] = False
    allow_repeats: AllowRepeats = False
    allow_empty: AllowEmpty = False
    accept_doubtful: AcceptDoubtful = False
    exact_aux_ids: ExactAuxIds = False
    encoding: Encoding = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = (
        False
    )
    send_again: Annotated[
        bool,
        typer.Option(
            "--send-again", help="Send also to those who already got another text from this journal."
        ),
    ] = False
    skip_sent: Annotated[
        bool,
        typer.Option("--skip-sent", help="Leave out those who already got another text from this journal."),
    ] = False
    superseded: Annotated[
        bool,
        typer.Option(
            "--superseded", help="With --resume: also the texts that a later run replaced by others."
        ),
    ] = False
    settle: Settle = SETTLE
    stop_after: Annotated[
        float,
        typer.Option(min=0, help="Seconds to wait for a service that does not answer before giving up."),
    ] = STOP_AFTER
    proxy: Proxy = None
    ca: Ca = None
    no_x509_strict: NoX509Strict = False

    @property
    def service(self) -> Service:
        """The service, and the way there."""
        return Service(self.proxy, self.ca, self.no_x509_strict)

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            RefusedError: with all that do.
        """
        problems = [problem for is_wrong, problem in self._rules() if is_wrong]
        if problems:
            raise RefusedError(*problems)
        _ = self.asked

    @property
    def asked(self) -> Asked | None:
        """The question that goes with each message, if one does.

        Raises:
            RefusedError: it cannot be asked so.
        """
        return Asked.read(self.option, self.label) if self.option else None

    @property
    def command(self) -> str:
        """The command that does the same again, for a shell, without passwords."""
        words = ["healthmsg", "send-many"]
        for option in fields(Options):
            value = getattr(self, option.name)
            if option.name in _OF_ONE_RUN or value == option.default:
                continue
            name = "" if option.name == "recipients" else f"--{option.name.replace('_', '-')}"
            if value is True:
                words.append(name)
            elif isinstance(value, list):
                words += [word for one in value for word in _quote_option(name, one)]
            elif option.name == "journal":
                words += [name, _quote_journal(value)]
            elif option.name == "proxy":
                words += [name, shell_quote(hide_password(value))]
            else:
                words += _quote_option(name, value)
        return " ".join(words)

    def command_to_resume(self, journal: JournalLocation) -> str:
        """Return the command that sends what the journal still has to send."""
        target = str(journal.target) if journal.path is None else journal.text
        resuming = Options(
            journal=target,
            resume=True,
            settle=self.settle,
            stop_after=self.stop_after,
            proxy=self.proxy,
            ca=self.ca,
            no_x509_strict=self.no_x509_strict,
        )
        return resuming.command

    def _rules(self) -> list[tuple[bool, str]]:
        has_text = self.template is not None or self.template_file is not None
        return [
            (not self.resume and self.recipients is None, "give a file of recipients, or --resume"),
            (self.resume and self.recipients is not None, "--resume takes its messages from the journal"),
            (self.resume and has_text, "--resume sends the texts that are in the journal"),
            (self.resume and bool(self.option), "--resume asks the questions that are in the journal"),
            (self.label is not None and not self.option, "--label goes with --option"),
            (self.resume and self.check_chats, "--check-chats is for a file of recipients"),
            (self.resume and self.accept_doubtful, "--accept-doubtful is for a file of recipients"),
            (
                self.resume and (self.send_again or self.skip_sent),
                "--send-again and --skip-sent are for a file of recipients",
            ),
            (self.superseded and not self.resume, "--superseded goes with --resume"),
            (self.send_again and self.skip_sent, "--send-again and --skip-sent: one of them"),
            (self.no_journal and (self.send_again or self.skip_sent), _NEEDS_JOURNAL),
            (self.resume and (self.journal is None or self.no_journal), "--resume needs --journal"),
            (
                self.template is not None and self.template_file is not None,
                "--template and --template-file: one of them",
            ),
            (
                self.no_journal and self.journal not in {None, os.environ.get(JOURNAL_VARIABLE)},
                "--journal and --no-journal: one of them",
            ),
            (
                not (math.isfinite(self.settle) and math.isfinite(self.stop_after)),
                "--settle and --stop-after must be numbers of seconds",
            ),
            (self.check_chats and not self.dry_run, "--check-chats goes with --dry-run"),
            (self.texts and not self.dry_run, "--texts goes with --dry-run"),
            (self.retry_failed and self.no_journal, "--retry-failed needs a journal"),
        ]


def _quote_option(name: str, value: object) -> list[str]:
    """Return an option and its value, or a value alone, so that no value is taken for an option."""
    text = str(value)
    if text.startswith("-") and isinstance(value, Path):
        text = f"./{text}"
    if text.startswith("-"):
        return [shell_quote(f"{name}={text}")]
    return [*filter(None, [name]), shell_quote(text)]


def _quote_journal(target: str) -> str:
    word = JournalLocation.parse(target).argument
    return shell_quote(f"./{word}" if word.startswith("-") else word)


@frozen
class Job:
    """A run: these messages, or without them all that the journal still has to send."""

    options: Options
    messages: Messages | None = None
    journal: JournalLocation | None = None
    skips_sent: bool = False
    """Whether recipients are left out who already got another text from the journal."""

    @property
    def doubts(self) -> Sequence[Problem]:
        """What may be a mistake in the messages."""
        return () if self.messages is None else self.messages.doubts

    def send(self, client: Client) -> SendMany:
        """Return the run that sends the messages."""
        return client.send_many(
            self.outgoing(client),
            journal=None if self.journal is None else self.journal.target,
            settle=self.options.settle,
            retry_failed=self.options.retry_failed,
            stop_after=self.options.stop_after,
            other_text=self._other_text,
            superseded=self.options.superseded,
        )

    def preview(self, client: Client) -> Preview:
        """Return the preview of that run."""
        return client.preview_many(
            self.outgoing(client),
            journal=None if self.journal is None else self.journal.target,
            check_chats=self.options.check_chats,
            retry_failed=self.options.retry_failed,
            other_text=self._other_text,
            superseded=self.options.superseded,
        )

    @property
    def question_facts(self) -> Sequence[tuple[str, str]]:
        """What is shown of the question."""
        asked = None if self.messages is None else self.options.asked
        return () if asked is None else asked.facts()

    @property
    def _other_text(self) -> OtherText:
        return "skip" if self.skips_sent and self.journal and self.messages else "send"

    def outgoing(self, client: Client) -> Iterator[Outgoing] | None:
        """Return the messages for `Client.send_many`."""
        if self.messages is None:
            return None
        is_exact, asked = self.options.exact_aux_ids, self.options.asked
        return (message.outgoing(client, is_exact=is_exact, asked=asked) for message in self.messages.all)

    def message(self, index: int | None) -> Message | None:
        """Return the message of a result."""
        return None if self.messages is None or index is None else self.messages.all[index]
