"""What the user sees before anything is sent, and is asked."""

from collections.abc import Sequence

from attrs import frozen
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from healthmsg.cli.ending import confirmed
from healthmsg.cli.recipients import Recipients
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.messages import Messages
from healthmsg.cli.sending.other_texts import show_differences
from healthmsg.cli.sending.outlook import Outlook, duration
from healthmsg.cli.sending.repeats import same_recipient
from healthmsg.cli.service import named
from healthmsg.cli.terminal import shown
from healthmsg.environment import Environment

_MOST_LINES = 5


@frozen
class Plan:
    """All there is to tell."""

    job: Job
    outlook: Outlook
    environment: Environment
    recipients: Recipients | None
    name: str
    """Of the file of recipients."""
    results: str

    def facts(self) -> Table:
        """Give them, but nothing of a patient."""
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold")
        facts.add_column(overflow="fold")
        for name, value in self._facts():
            facts.add_row(name, Text(shown(value)))
        return facts

    def _facts(self) -> list[tuple[str, str]]:
        facts = []
        if self.recipients is not None:
            facts.append(("Recipients", f"{self.name} ({self.recipients.form})"))
        if self.recipients is not None and self.recipients.empty_rows:
            facts.append(("Empty rows", f"{self.recipients.empty_rows:,}, passed over"))
        if self.job.messages is not None:
            facts.append(("Messages", _numbers(self.job.messages)))
        if self.outlook.before:
            facts.append(("In the journal", self.outlook.before))
        facts += [
            ("To be sent", f"{self.outlook.to_send:,}"),
            ("Duration", duration(self.outlook.seconds)),
            ("Service", named(self.environment)),
            ("Journal", "none: a run that breaks off cannot be gone on with"),
            ("Results", self.results),
        ]
        if self.job.journal is not None:
            facts[-2] = ("Journal", self.job.journal.shown)
        return facts

    def warnings(self) -> list[str]:
        """Give what may be a mistake."""
        found = []
        if self.recipients is not None and self.recipients.is_guess:
            found.append(
                "The file does not say in which encoding it is. Look at letters such as é in the messages;"
                " if they are wrong, save it as UTF-8 or give --encoding."
            )
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
    for warning in plan.warnings():
        console.print(f"[yellow]Note:[/] {escape(warning)}", highlight=False, soft_wrap=True)
    if plan.outlook.other_texts is not None:
        show_differences(console, plan.outlook.other_texts)


def ask(console: Console, plan: Plan) -> bool:
    """Show the first messages as they are going to be sent, and ask whether to begin."""
    for example in plan.outlook.examples:
        console.print(Panel(Text(example.body), title=Text(example.title), title_align="left", expand=False))
    others = plan.outlook.other_texts
    also = ""
    if others is not None and not others.are_left_out:
        also = f", also to {others.recipients:,} who already got another text"
    return confirmed(console, f"Send {plan.outlook.to_send:,} messages{also}?")
