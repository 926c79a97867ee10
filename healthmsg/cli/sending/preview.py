"""What was read and where it goes, as a run and a dry run show it: to compare with what was meant."""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import field, frozen
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from healthmsg.cli.recipients import Problem, Recipients, RefusedError
from healthmsg.cli.recipients.encodings import Decoded
from healthmsg.cli.sending.job import Job
from healthmsg.cli.service import named
from healthmsg.cli.terminal import shown
from healthmsg.environment import Environment

_MOST_SHOWN: Final = 20
_DOUBTFUL: Final = (
    "That may be a mistake, or meant. Look at it in the file; if it is meant, --accept-doubtful sends it."
)


@frozen
class Source:
    """Where the messages come from, and where they go."""

    environment: Environment
    recipients: Recipients | None
    name: str
    """Of the file of recipients."""
    template: Decoded | None = None
    """The file of the text, if there is one."""

    def of_file(self) -> Iterator[tuple[str, str]]:
        """Yield what there is to say of the files."""
        if self.recipients is None:
            return
        yield "Recipients", f"{self.name} ({self.recipients.form})"
        if self.recipients.empty_rows:
            yield "Empty rows", f"{self.recipients.empty_rows:,}, passed over"
        if self.template is not None:
            yield "Template", self.template.encoding

    @property
    def service(self) -> tuple[str, str]:
        """Return what is said of the service."""
        return "Service", named(self.environment)

    def warnings(self, job: Job) -> list[str]:
        """Return what may be a mistake in the file as a whole."""
        found = []
        if any(file is not None and file.is_guess for file in (self.recipients, self.template)):
            found.append(
                "The file does not say in which encoding it is. Look at letters such as é in the messages;"
                " if they are wrong, save it as UTF-8 or give --encoding."
            )
        return [*found, *(job.messages.notes if job.messages is not None else ())]


@frozen
class Example:
    """One of the messages, for the user to see."""

    title: str = field(repr=False)
    body: str = field(repr=False)
    delimiter: str = ""
    """Of the file that it is from, if that is known."""


def grid(facts: Sequence[tuple[str, str]]) -> Table:
    """Return them as a table."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(shown(value)))
    return table


def show_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Show what may be a mistake, on a line each."""
    for warning in warnings:
        console.print(f"[yellow]Note:[/] {escape(warning)}", highlight=False, soft_wrap=True)


def show_examples(console: Console, examples: Sequence[Example]) -> None:
    """Show the first messages as they are going to be sent."""
    for example in examples:
        console.print(Panel(Text(example.body), title=Text(example.title), title_align="left", expand=False))


def show_doubts(console: Console, doubts: Sequence[Problem]) -> None:
    """Show what may be a mistake, each with its line; the value itself only on a terminal."""
    if not doubts:
        return
    console.print(f"[yellow]May be a mistake:[/] {len(doubts):,}", highlight=False)
    # Not what rich calls a terminal: FORCE_COLOR makes one of a log.
    with_values = console.file.isatty()
    for doubt in doubts[:_MOST_SHOWN]:
        value = f": {shown(doubt.value)}" if with_values and doubt.value else ""
        console.print(Text(f"  {doubt}{value}"), soft_wrap=True)
    if len(doubts) > _MOST_SHOWN:
        console.print(f"  … and {len(doubts) - _MOST_SHOWN:,} more", highlight=False)


def refuse_doubtful(job: Job) -> None:
    """Refuse what may be a mistake, where there is no one to ask.

    Raises:
        RefusedError: there is something, with all of it.
    """
    if job.messages is not None and job.messages.doubts:
        raise RefusedError(*job.messages.doubts, advice=_DOUBTFUL)
