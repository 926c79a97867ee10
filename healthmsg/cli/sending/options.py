"""What is to be done."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from attrs import fields, frozen

from healthmsg.bulk import Outgoing, SendManyOptions
from healthmsg.bulk.hold import STOP_AFTER
from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli.files import JOURNAL_VARIABLE, JournalPlace
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.recipients.messages import Message, Messages
from healthmsg.cli.service import Service, without_password
from healthmsg.cli.terminal import quoted
from healthmsg.client import Client


@frozen
class Job:
    """A run: these messages, or without them all that the journal still holds."""

    messages: Messages | None
    journal: JournalPlace | None
    is_exact: bool
    """Whether diacritics in auxiliary ids are meant."""
    retry_failed: bool
    settle: float
    stop_after: float
    skips_sent: bool = False
    """Whether those are left out who already got another text from the journal."""
    superseded: bool = False
    """Whether the journal's texts are sent too that a later run replaced by others."""
    service: Service = Service()

    def send_options(self) -> SendManyOptions:
        """Return the options of the client."""
        options = SendManyOptions(
            settle=self.settle,
            retry_failed=self.retry_failed,
            stop_after=self.stop_after,
            superseded=self.superseded,
        )
        if self.journal is not None:
            options["journal"] = self.journal.target
            if self.messages is not None:
                options["other_text"] = "skip" if self.skips_sent else "send"
        return options

    def outgoing(self, client: Client) -> Iterator[Outgoing] | None:
        """Give the messages as the client takes them."""
        return None if self.messages is None else self.messages.outgoing(client, is_exact=self.is_exact)

    def message(self, index: int | None) -> Message | None:
        """Give the message of a result."""
        return None if self.messages is None or index is None else self.messages.all[index]


_WHO_GOT_WHAT: Final = "--send-again and --skip-sent need a journal, which knows who got what"
_OF_ONE_RUN: Final = {"yes", "results", "dry_run", "check_chats", "texts"}

RecipientsFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="RECIPIENTS",
        help="CSV or JSON Lines. Columns: to, or aux_id, user_id or groupchat_id; files; key; body; and any"
        " others for the template.",
    ),
]
TemplateText = Annotated[
    str | None, typer.Option("--template", help='The text: "Beste {first_name}, …". Braces: {{ and }}.')
]
TemplateFile = Annotated[Path | None, typer.Option("--template-file", help="A file with the text.")]
JournalTarget = Annotated[
    str | None,
    typer.Option(
        "--journal",
        envvar=JOURNAL_VARIABLE,
        help="A file, or postgresql://…; without it, a file beside the recipients.",
    ),
]
NoJournal = Annotated[
    bool, typer.Option("--no-journal", help="Keep none: what breaks off cannot be gone on with.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Send all that the journal still holds.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before sending.")]
ResultsFile = Annotated[
    Path | None, typer.Option("--results", help="Where the results go; never overwritten.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would go wrong, and send nothing.")]
CheckChats = Annotated[
    bool, typer.Option("--check-chats", help="With --dry-run: ask the service for each chat.")
]
AllowRepeats = Annotated[
    bool, typer.Option("--allow-repeats", help="Send a message also to who gets the same one already.")
]
AllowEmpty = Annotated[bool, typer.Option("--allow-empty", help="Fields of the template may be empty.")]
AcceptDoubtful = Annotated[
    bool,
    typer.Option("--accept-doubtful", help="Values that may be a mistake, such as the name Null, are meant."),
]
Texts = Annotated[
    bool,
    typer.Option(
        "--texts", help="With --dry-run: show the first texts, also where the output is no terminal."
    ),
]
ExactAuxIds = Annotated[
    bool, typer.Option("--exact-aux-ids", help="Diacritics in auxiliary ids are meant as they are.")
]
Encoding = Annotated[str | None, typer.Option(help="Of the files, should it be found out wrongly: cp1252, …")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")]
SendAgain = Annotated[
    bool,
    typer.Option("--send-again", help="Send also to those who already got another text from this journal."),
]
SkipSent = Annotated[
    bool, typer.Option("--skip-sent", help="Leave out those who already got another text from this journal.")
]
Superseded = Annotated[
    bool,
    typer.Option("--superseded", help="With --resume: also the texts that a later run replaced by others."),
]
Settle = Annotated[
    float, typer.Option(min=0, help="Seconds after which a message that was on its way cannot arrive.")
]
StopAfter = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for a service that does not answer before giving up.")
]


@frozen
class Options:
    """What was asked for."""

    recipients: Path | None = None
    template: str | None = None
    template_file: Path | None = None
    resume: bool = False
    journal: str | None = None
    no_journal: bool = False
    yes: bool = False
    results: Path | None = None
    dry_run: bool = False
    check_chats: bool = False
    texts: bool = False
    allow_repeats: bool = False
    allow_empty: bool = False
    accept_doubtful: bool = False
    exact_aux_ids: bool = False
    encoding: str | None = None
    retry_failed: bool = False
    send_again: bool = False
    skip_sent: bool = False
    superseded: bool = False
    settle: float = SETTLE
    stop_after: float = STOP_AFTER
    proxy: str | None = None
    ca: Path | None = None
    no_x509_strict: bool = False

    @property
    def service(self) -> Service:
        """The way to the service."""
        return Service(self.proxy, self.ca, self.no_x509_strict)

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            RefusedError: with all of it.
        """
        problems = [problem for is_wrong, problem in self._rules() if is_wrong]
        if problems:
            raise RefusedError(*problems)

    @property
    def command(self) -> str:
        """Return the command that does the same again, for a shell; passwords are left out."""
        words = ["healthmsg", "send-many"]
        for option in fields(Options):
            value = getattr(self, option.name)
            if option.name in _OF_ONE_RUN or value == option.default:
                continue
            name = "" if option.name == "recipients" else f"--{option.name.replace('_', '-')}"
            if value is True:
                words.append(name)
            elif option.name == "journal":
                words += [name, _journal_as_word(value)]
            elif option.name == "proxy":
                words += [name, quoted(without_password(value))]
            else:
                words += _as_words(name, value)
        return " ".join(words)

    def command_to_resume(self, journal: JournalPlace) -> str:
        """Return the command that sends what the journal still holds."""
        target = str(journal.target) if journal.path is None else journal.shown
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
            (
                self.resume and self.recipients is not None,
                "--resume takes its messages from the journal",
            ),
            (self.resume and has_text, "--resume sends the texts that are in the journal"),
            (self.resume and self.check_chats, "--check-chats is for a file of recipients"),
            (self.resume and self.accept_doubtful, "--accept-doubtful is for a file of recipients"),
            (
                self.resume and (self.send_again or self.skip_sent),
                "--send-again and --skip-sent are for a file of recipients",
            ),
            (self.superseded and not self.resume, "--superseded goes with --resume"),
            (self.send_again and self.skip_sent, "--send-again and --skip-sent: one of them"),
            (self.no_journal and (self.send_again or self.skip_sent), _WHO_GOT_WHAT),
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


def _as_words(name: str, value: object) -> list[str]:
    """Return an option and its value, or a value alone, so that nothing of it is taken for an option."""
    text = str(value)
    if text.startswith("-") and isinstance(value, Path):
        text = f"./{text}"
    if text.startswith("-"):
        return [quoted(f"{name}={text}")]
    return [*filter(None, [name]), quoted(text)]


def _journal_as_word(target: str) -> str:
    word = JournalPlace.parse(target).word
    return quoted(f"./{word}" if word.startswith("-") else word)
