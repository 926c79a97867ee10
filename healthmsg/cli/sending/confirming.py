"""What the user sees before anything is sent, and is asked."""

from collections.abc import Sequence

from attrs import frozen
from rich.console import Console
from rich.table import Table

from healthmsg.cli.ending import confirmed
from healthmsg.cli.recipients import Problem
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.messages import Messages
from healthmsg.cli.sending.options import Options
from healthmsg.cli.sending.other_texts import show_differences
from healthmsg.cli.sending.outlook import Outlook, duration
from healthmsg.cli.sending.preview import Source, grid, show_doubts, show_examples, show_warnings
from healthmsg.cli.sending.repeats import same_recipient

_MOST_LINES = 5


@frozen
class Plan:
    """All there is to tell."""

    job: Job
    outlook: Outlook
    source: Source
    results: str
    options: Options

    def facts(self) -> Table:
        """Return them, but nothing of a patient."""
        return grid(self._facts())

    @property
    def doubts(self) -> Sequence[Problem]:
        """What may be a mistake in the messages."""
        return () if self.job.messages is None else self.job.messages.doubts

    def _facts(self) -> list[tuple[str, str]]:
        facts = list(self.source.of_file())
        if self.job.messages is not None:
            facts.append(("Messages", _numbers(self.job.messages)))
        if self.outlook.before:
            facts.append(("In the journal", self.outlook.before))
        facts += [
            ("To be sent", f"{self.outlook.to_send:,}"),
            ("Duration", duration(self.outlook.seconds)),
            self.source.service,
            ("Journal", "none: a run that breaks off cannot be gone on with"),
            ("Results", self.results),
        ]
        if self.job.journal is not None:
            facts[-2] = ("Journal", self.job.journal.shown)
        return facts

    def warnings(self) -> list[str]:
        """Return what may be a mistake."""
        found = self.source.warnings(self.job)
        if self.job.messages is not None and self.job.messages.repeated:
            repeated = self.job.messages.repeated
            found.append(
                f"Messages that repeat another to the same recipient: {len(repeated):,} ({_lines(repeated)})."
            )
        if self.outlook.other_texts is not None:
            does = "They are left out." if self.outlook.other_texts.are_left_out else "They would get both."
            found.append(f"{self.outlook.other_texts.told} {does}")
        if self.outlook.superseded:
            found.append(
                f"Texts in the journal that a later run replaced by others: {self.outlook.superseded:,}, left"
                " out. --superseded sends them."
            )
        return found


def _numbers(messages: Messages) -> str:
    recipients = len({same_recipient(message.to) for message in messages.all})
    with_files = sum(bool(message.files) for message in messages.all)
    files = f", {with_files:,} with files" if with_files else ""
    return f"{len(messages.all):,} to {recipients:,} recipients{files}"


def _lines(repeated: Sequence[tuple[int, int]]) -> str:
    shown = [f"line {line} that of line {before}" for line, before in repeated[:_MOST_LINES]]
    if len(repeated) > _MOST_LINES:
        shown.append("…")
    return ", ".join(shown)


def show(console: Console, plan: Plan) -> None:
    """Show what is going to happen."""
    console.print(plan.facts())
    show_warnings(console, plan.warnings())
    show_doubts(console, plan.doubts)
    if plan.outlook.other_texts is not None:
        show_differences(console, plan.outlook.other_texts)


def ask(console: Console, plan: Plan) -> bool:
    """Show the first messages as they are going to be sent, and ask whether to begin."""
    show_examples(console, plan.outlook.examples)
    others = plan.outlook.other_texts
    also = ""
    if others is not None and not others.are_left_out:
        also = f", also to {others.recipients:,} who already got another text"
    if plan.doubts and not plan.options.accept_doubtful:
        also += f", though {len(plan.doubts):,} of the values above may be a mistake"
    return confirmed(console, f"Send {plan.outlook.to_send:,} messages{also}?")
