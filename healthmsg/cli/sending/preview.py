"""What is shown before anything is sent: what was read, what is going to happen, and what may be wrong."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from healthmsg.bulk import Preview, PreviewReport, ProblemKind
from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.labels import LineLabel
from healthmsg.cli.problems import MOST_SHOWN, Problem, Problems, RefusedError, confirm, print_text
from healthmsg.cli.recipients.encodings import Decoded
from healthmsg.cli.recipients.messages import Messages, recipient_key
from healthmsg.cli.recipients.reading import Recipients
from healthmsg.cli.sending.options import Job
from healthmsg.cli.service import describe
from healthmsg.cli.terminal import printable
from healthmsg.environment import Environment

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

_EXAMPLES: Final = 3
_MOST_LINES: Final = 5
_MOST_DIFFERENCES: Final = 3
# Characters before the first difference, and after it.
_BEFORE, _AFTER = 20, 40
_DOUBTFUL: Final = (
    "That may be a mistake, or meant. Look at it in the file; if it is meant, --accept-doubtful sends it."
)
_OTHER_TEXT: Final = "this recipient already got, or may have got, another text from this journal"


@frozen
class Files:
    """Where messages come from."""

    recipients: Recipients | None
    name: str
    """The name of the file of recipients."""
    template: Decoded | None = None
    """The file of the text, if there is one."""

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield facts about the files."""
        if self.recipients is None:
            return
        yield "Recipients", f"{self.name} ({self.recipients.form})"
        if self.recipients.empty_rows:
            yield "Empty rows", f"{self.recipients.empty_rows:,}, passed over"
        if self.template is not None:
            yield "Template", self.template.encoding

    def warnings(self, messages: Messages | None) -> list[str]:
        """Return what may be a mistake in a file as a whole."""
        found = []
        if any(file is not None and file.is_guess for file in (self.recipients, self.template)):
            found.append(
                "The file does not say in which encoding it is. Look at letters such as é in the messages;"
                " if they are wrong, save it as UTF-8 or give --encoding."
            )
        return [*found, *(messages.notes if messages is not None else ())]


@frozen
class Source:
    """Where the messages come from, and where they go."""

    environment: Environment
    files: Files


@frozen
class Example:
    """One of the messages, for the user to see."""

    title: str = field(repr=False)
    body: str = field(repr=False)
    delimiter: str = ""
    """That of its file, if it is known."""


def grid(facts: Sequence[tuple[str, str]]) -> Table:
    """Return facts as a table."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(printable(value)))
    return table


def show_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Show each warning on a line."""
    for warning in warnings:
        console.print(f"[yellow]Note:[/] {escape(warning)}", highlight=False, soft_wrap=True)


def show_examples(console: Console, examples: Sequence[Example]) -> None:
    """Show messages as they are going to be sent."""
    for example in examples:
        console.print(Panel(Text(example.body), title=Text(example.title), title_align="left", expand=False))


def show_doubts(console: Console, doubts: Sequence[Problem]) -> None:
    """Show what may be a mistake, each with its line; the value itself only on a terminal."""
    if not doubts:
        return
    console.print(f"[yellow]May be a mistake:[/] {len(doubts):,}", highlight=False)
    # By the file itself: with FORCE_COLOR, rich takes a log for a terminal.
    with_values = console.file.isatty()
    for doubt in doubts[:MOST_SHOWN]:
        value = f": {printable(doubt.value)}" if with_values and doubt.value else ""
        print_text(console, f"  {doubt}{value}")
    if len(doubts) > MOST_SHOWN:
        print_text(console, f"  … and {len(doubts) - MOST_SHOWN:,} more")


def refuse_doubtful(doubts: Sequence[Problem]) -> None:
    """Refuse what may be a mistake, where a person cannot be asked.

    Raises:
        RefusedError: there is something, with all of it.
    """
    if doubts:
        raise RefusedError(*doubts, advice=_DOUBTFUL)


@frozen
class Difference:
    """Where an old text begins to differ from the new one for the same recipient."""

    title: str = field(repr=False)
    old: str = field(repr=False)
    new: str = field(repr=False)


@frozen
class OtherTexts:
    """How many recipients already got another text, and where texts differ, as far as that is known."""

    recipients: int
    differences: Sequence[Difference] = field(repr=False)
    are_left_out: bool

    @property
    def sentence(self) -> str:
        """One sentence about it, without a name."""
        who = "1 of these recipients" if self.recipients == 1 else f"{self.recipients:,} of these recipients"
        return f"{who} already got, or may have got, another text from this journal."


async def find_other_texts(job: Job, indexes: Collection[int]) -> OtherTexts | None:
    """Return how the texts differ. `indexes` are those of the messages to these recipients.

    The text of a delivered message is usually no longer in the journal. Then a text that still waits, and
    that these messages replace, shows what was changed.
    """
    if not indexes or job.messages is None or job.journal is None:
        return None
    messages = job.messages.all
    recipients = {messages[index].to for index in indexes}
    new: dict[str, list[tuple[int, str]]] = {}
    for message in messages:
        new.setdefault(message.to, []).append((message.line, message.body))
    known, others = list[Difference](), list[Difference]()
    async with open_journal(job.journal.target, is_reading=True) as journal:
        async for row in journal.rows():
            if row.body is None or row.to not in new or row.body in [body for _, body in new[row.to]]:
                continue
            line, body = new[row.to][0]
            found = known if row.to in recipients else others
            if len(found) < _MOST_DIFFERENCES:
                found.append(_difference(f"line {line}", row.body, body))
            if len(known) == _MOST_DIFFERENCES:
                break
    return OtherTexts(len(recipients), (known or others)[:_MOST_DIFFERENCES], job.skips_sent)


def _difference(title: str, old: str, new: str) -> Difference:
    differing = (n for n, (one, other) in enumerate(zip(old, new, strict=False)) if one != other)
    start = max(next(differing, min(len(old), len(new))) - _BEFORE, 0)
    return Difference(title, _cut(old, start), _cut(new, start))


def _cut(text: str, start: int) -> str:
    end = start + _BEFORE + _AFTER
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def show_differences(console: Console, found: OtherTexts) -> None:
    """Show where the texts differ, but only on a terminal: they are private, and other output may be kept."""
    if not console.file.isatty():
        return
    if not found.differences:
        console.print("What they got is no longer in the journal.")
    for one in found.differences:
        print_text(console, f"  {one.title}\n    before: {one.old}\n    now:    {one.new}")


@frozen
class Forecast:
    """What a run is going to do, as far as that can be known before."""

    to_send: int
    seconds: float
    """Duration at the limit, if all goes well."""
    examples: Sequence[Example]
    before: str = ""
    """What earlier runs have done, if there were any."""
    other_texts: OtherTexts | None = None
    """Who already got another text from the journal."""
    delimiter: str = ""
    """That of the file of the journal's messages, if it is known."""
    superseded: int = 0
    """Texts in the journal that a later run replaced by others, and that are left out."""


async def make_forecast(job: Job) -> Forecast:
    """Return what is going to be sent. No message is.

    Raises:
        RefusedError: some of the messages cannot be sent.
        JournalError: the journal cannot be used, or is in use.
    """
    if job.messages is None:
        return await _forecast_of_journal(job)
    async with job.options.service.client() as client:
        found = job.preview(client)
        indexes = await _refuse_invalid(job, found)
        report = await found.report()
    other_texts = await find_other_texts(job, indexes)
    return Forecast(report.to_send, report.seconds, await _find_examples(job), _before(report), other_texts)


async def _refuse_invalid(job: Job, preview: Preview) -> list[int]:
    """Refuse what only the journal shows to be wrong, such as a key that it has with another text.

    Return the indexes of the messages whose recipients already got another text.
    """
    problems, indexes = Problems(), list[int]()
    async for problem in preview:
        if problem.kind is ProblemKind.INVALID:
            message = job.message(problem.index)
            problems.add(str(problem.error), None if message is None else message.line)
        elif problem.kind is ProblemKind.OTHER_TEXT:
            indexes.append(problem.index)
    problems.refuse_if_any()
    return indexes


async def _forecast_of_journal(job: Job) -> Forecast:
    if job.journal is None:
        return Forecast(0, 0, ())
    async with job.options.service.client() as client:
        report = await job.preview(client).report()
    async with open_journal(job.journal.target, is_reading=True) as journal:
        counts = await journal.counts(of_runs=True)
    examples = await _find_examples(job)
    return Forecast(
        # Those in doubt are looked for first, and sent if they did not arrive.
        report.to_send + report.in_doubt,
        report.seconds,
        examples,
        ", ".join(f"{state.value} {count:,}" for state, count in counts.items() if count),
        delimiter=next(filter(None, (example.delimiter for example in examples)), ""),
        superseded=report.superseded,
    )


def _before(report: PreviewReport) -> str:
    if not (report.delivered_before or report.failed_before or report.in_doubt):
        return ""
    return (
        f"delivered {report.delivered_before:,}, not sent or unknown {report.failed_before:,},"
        f" to be looked for {report.in_doubt:,}"
    )


def examples_of(messages: Messages) -> list[Example]:
    """Return the first messages."""
    first = messages.all[:_EXAMPLES]
    return [Example(f"line {message.line}, to {message.to}", message.body) for message in first]


async def _find_examples(job: Job) -> list[Example]:
    """Return the first messages that are to be sent.

    Raises:
        JournalError: the journal cannot be used.
    """
    if job.messages is not None:
        return examples_of(job.messages)
    if job.journal is None:
        return []
    options = job.options
    states = [State.WAITING, State.PARKED, *([State.NOT_SENT] if options.retry_failed else ())]
    async with open_journal(job.journal.target, is_reading=True) as journal:
        found = [one for state in states for one in await _first(journal, state, options.superseded)]
    return found[:_EXAMPLES]


async def _first(journal: "SqlJournal", state: State, superseded: bool) -> list[Example]:
    found = list[Example]()
    async for row in journal.rows(state):
        if superseded or not row.is_superseded:
            label = LineLabel.parse(row.label)
            title = f"to {row.to}" if label is None else f"line {label.line}, to {row.to}"
            found.append(Example(title, row.body or "", "" if label is None else label.delimiter))
        if len(found) == _EXAMPLES:
            break
    return found


def duration(seconds: float) -> str:
    """Return about how long something takes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "hour"), (minutes, "minute"))
    return " ".join(["about", *(f"{n} {unit}{'s' if n > 1 else ''}" for n, unit in parts if n)])


@frozen
class Plan:
    """All that is shown before a person agrees to it."""

    job: Job
    forecast: Forecast
    source: Source
    results: str

    def facts(self) -> list[tuple[str, str]]:
        """Return the facts, without anything of a patient."""
        facts = list(self.source.files.facts())
        if self.job.messages is not None:
            facts.append(("Messages", numbers(self.job.messages)))
        facts += self.job.question_facts
        if self.forecast.before:
            facts.append(("In the journal", self.forecast.before))
        journal = self.job.journal
        return [
            *facts,
            ("To be sent", f"{self.forecast.to_send:,}"),
            ("Duration", duration(self.forecast.seconds)),
            ("Service", describe(self.source.environment)),
            ("Journal", "none: a run that breaks off cannot be resumed" if journal is None else journal.text),
            ("Results", self.results),
        ]

    def warnings(self) -> list[str]:
        """Return what may be a mistake."""
        found = self.source.files.warnings(self.job.messages)
        if self.job.messages is not None and self.job.messages.repeated:
            found.append(warning_of_repeats(self.job.messages))
        if self.forecast.other_texts is not None:
            does = "They are left out." if self.forecast.other_texts.are_left_out else "They would get both."
            found.append(f"{self.forecast.other_texts.sentence} {does}")
        if self.forecast.superseded:
            found.append(
                f"Texts in the journal that a later run replaced by others: {self.forecast.superseded:,},"
                " left out. --superseded sends them."
            )
        return found


def warning_of_repeats(messages: Messages) -> str:
    """Return the warning about messages that repeat another."""
    repeated = messages.repeated
    lines = [f"line {line} that of line {before}" for line, before in repeated[:_MOST_LINES]]
    shown = ", ".join([*lines, "…"] if len(repeated) > _MOST_LINES else lines)
    return f"Messages that repeat another to the same recipient: {len(repeated):,} ({shown})."


def numbers(messages: Messages) -> str:
    """Return how many there are, to how many recipients."""
    recipients = len({recipient_key(message.to) for message in messages.all})
    with_files = sum(bool(message.files) for message in messages.all)
    files = f", {with_files:,} with files" if with_files else ""
    return f"{len(messages.all):,} to {recipients:,} recipients{files}"


def show_plan(console: Console, plan: Plan) -> None:
    """Show what is going to happen."""
    console.print(grid(plan.facts()))
    show_warnings(console, plan.warnings())
    show_doubts(console, plan.job.doubts)
    if plan.forecast.other_texts is not None:
        show_differences(console, plan.forecast.other_texts)


def confirm_plan(console: Console, plan: Plan) -> bool:
    """Show the first messages as they are going to be sent, and ask whether to begin."""
    show_examples(console, plan.forecast.examples)
    others = plan.forecast.other_texts
    also = ""
    if others is not None and not others.are_left_out:
        also = f", also to {others.recipients:,} who already got another text"
    if plan.job.doubts and not plan.job.options.accept_doubtful:
        also += f", though {len(plan.job.doubts):,} of the values above may be a mistake"
    return confirm(console, f"Send {plan.forecast.to_send:,} messages{also}?")


async def preview(console: Console, job: Job, source: Source) -> bool:
    """Check everything without sending, and return whether nothing is wrong.

    Raises:
        RefusedError: there is nothing to check.
    """
    if job.messages is None and job.journal is not None and not job.journal.may_exist:
        raise RefusedError("there is no such journal")
    options = job.options
    await _show_source(console, job, source)
    async with job.options.service.client() as client:
        found = job.preview(client)
        indexes = await _show_problems(console, job, found)
        report = await found.report()
    other_texts = await find_other_texts(job, indexes)
    figures = Table.grid(padding=(0, 2))
    figures.add_column(justify="right", style="bold")
    figures.add_column()
    for number, what in _figures(report, job):
        figures.add_row(f"{number:,}", what)
    figures.add_row(f"{report.calls:,}", f"calls, which take {duration(report.seconds)}")
    console.print(figures)
    if other_texts is not None:
        print_text(console, other_texts.sentence)
        show_differences(console, other_texts)
    console.print("Nothing was sent.")
    is_open = other_texts is not None and not (options.send_again or job.skips_sent)
    has_doubts = job.doubts and not options.accept_doubtful
    return not (report.invalid or report.unknown_chats or is_open or has_doubts)


async def _show_source(console: Console, job: Job, source: Source) -> None:
    """Show what was read and where it would go; texts only on a terminal, as other output may be kept."""
    console.print(
        grid([*source.files.facts(), *job.question_facts, ("Service", describe(source.environment))])
    )
    if job.options.texts or console.file.isatty():
        show_examples(console, await _find_examples(job))
    else:
        console.print("The first texts are shown on a terminal, or with --texts.")
    show_warnings(console, source.files.warnings(job.messages))
    show_doubts(console, job.doubts)


async def _show_problems(console: Console, job: Job, preview: Preview) -> list[int]:
    """Show the problems, and return the indexes of messages whose recipients already got another text."""
    found, indexes = 0, list[int]()
    async for problem in preview:
        if problem.kind is ProblemKind.OTHER_TEXT:
            indexes.append(problem.index)
        found += 1
        message = job.message(problem.index)
        if found <= MOST_SHOWN and message is not None:
            # The library's own text names an option that the command does not have.
            why = _OTHER_TEXT if problem.kind is ProblemKind.OTHER_TEXT else str(problem.error)
            print_text(console, f"line {message.line}: {problem.kind.value}: {why}")
    if found > MOST_SHOWN:
        print_text(console, f"… and {found - MOST_SHOWN:,} more")
    return indexes


def _figures(report: PreviewReport, job: Job) -> Iterator[tuple[int, str]]:
    yield report.messages, "messages" if job.messages is not None else "messages in the journal"
    yield report.to_send, "would be sent"
    if job.messages is not None:
        yield report.invalid, "cannot be sent"
        yield report.duplicates, "repeat another one"
    else:
        yield report.superseded, "were replaced by another text, and are left out"
    if job.journal is not None and job.messages is not None:
        yield report.other_text, "are for recipients who already got another text"
    if job.options.check_chats:
        yield report.unknown_chats, "recipients that the service does not know"
    yield report.delivered_before, "were delivered before"
    yield report.failed_before, "were not sent before, or are unknown"
    yield report.in_doubt, "may have been sent before, and would be looked for"
