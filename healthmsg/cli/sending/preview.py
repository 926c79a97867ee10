"""Who already got another text from the journal, and how that differs from the new one."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from attrs import field, frozen
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from healthmsg.bulk.dry_run import DryRun, DryRunReport, ProblemKind
from healthmsg.bulk.journal import Journal, State
from healthmsg.cli.files import JournalPlace
from healthmsg.cli.problems import Problem, Problems, RefusedError, confirmed
from healthmsg.cli.recipients.encodings import Decoded
from healthmsg.cli.recipients.messages import Label, Messages, same_recipient
from healthmsg.cli.recipients.reading import Recipients
from healthmsg.cli.sending.options import Job, Options
from healthmsg.cli.service import named
from healthmsg.cli.terminal import shown
from healthmsg.environment import Environment

_MOST_DIFFERENCES: Final = 3
# Characters before the first difference, and after it.
_BEFORE, _AFTER = 20, 40


@frozen
class Difference:
    """Where an old text begins to differ from the new one for the same recipient."""

    title: str = field(repr=False)
    old: str = field(repr=False)
    new: str = field(repr=False)


@frozen
class OtherTexts:
    """How many recipients already got another text, and where the texts differ, as far as that is known."""

    recipients: int
    differences: Sequence[Difference] = field(repr=False)
    are_left_out: bool

    @property
    def told(self) -> str:
        """Say it in one sentence that names nobody."""
        who = "1 of these recipients" if self.recipients == 1 else f"{self.recipients:,} of these recipients"
        return f"{who} already got, or may have got, another text from this journal."


async def find_other_texts(job: Job, written: Collection[int]) -> OtherTexts | None:
    """Return what there is to tell; `written` are the numbers of the messages that it concerns.

    What a delivered message said is as a rule no longer in the journal. Then a text that waits, and that
    these messages replace, shows what was changed.
    """
    if not written or job.messages is None or job.journal is None:
        return None
    messages = job.messages.all
    recipients = {messages[index].to for index in written}
    new: dict[str, list[tuple[int, str]]] = {}
    for message in messages:
        new.setdefault(message.to, []).append((message.line, message.body))
    known, others = list[Difference](), list[Difference]()
    async with Journal.open(job.journal.target, is_reading=True) as journal:
        async for row in journal.rows():
            if row.body is None or row.chat not in new or row.body in [body for _, body in new[row.chat]]:
                continue
            line, body = new[row.chat][0]
            found = known if row.chat in recipients else others
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
    """Show where the texts differ; they are patients', so only on a terminal, never in what is kept."""
    # Not what rich calls a terminal: FORCE_COLOR makes one of a log.
    if not console.file.isatty():
        return
    if not found.differences:
        console.print("What they got is no longer in the journal.")
    for one in found.differences:
        console.print(Text(f"  {one.title}\n    before: {one.old}\n    now:    {one.new}"), soft_wrap=True)


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


_EXAMPLES: Final = 3


@frozen
class Outlook:
    """How many messages, and some of them."""

    to_send: int
    seconds: float
    """How long that takes at the limit, if all goes well."""
    examples: Sequence[Example]
    before: str = ""
    """What earlier runs have done, if there were any."""
    other_texts: OtherTexts | None = None
    """Who already got another text from the journal."""
    delimiter: str = ""
    """Of the file that the journal's messages are from, if that is known."""
    superseded: int = 0
    """Texts in the journal that a later run replaced by others, and that are left out."""


def duration(seconds: float) -> str:
    """Say about how long something takes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, minutes = divmod(minutes, 60)
    parts = (_count(hours, "hour"), _count(minutes, "minute"))
    return f"about {' '.join(filter(None, parts))}"


def _count(number: int, unit: str) -> str:
    return "" if not number else f"{number} {unit}{'s' if number > 1 else ''}"


async def look_ahead(job: Job) -> Outlook:
    """Find out what is going to be sent. No message is.

    Raises:
        RefusedError: some of the messages cannot be sent.
        JournalError: the journal cannot be used, or somebody is using it.
    """
    if job.messages is None:
        return await _of_journal(job)
    async with job.service.client() as client:
        dry = client.send_many(job.outgoing(client), **job.send_options(), dry_run=True)
        written = await _refuse_invalid(job, dry)
        report = await dry.report()
    other_texts = await find_other_texts(job, written)
    return Outlook(report.to_send, report.seconds, await find_examples(job), _before(report), other_texts)


async def find_examples(job: Job) -> list[Example]:
    """Return the first messages that are to be sent.

    Raises:
        JournalError: the journal cannot be used.
    """
    if job.messages is not None:
        first = job.messages.all[:_EXAMPLES]
        return [Example(f"line {message.line}, to {message.to}", message.body) for message in first]
    if job.journal is None:
        return []
    states = [State.WAITING, State.SET_ASIDE, *([State.NOT_SENT] if job.retry_failed else ())]
    async with Journal.open(job.journal.target, is_reading=True) as journal:
        found = [one for state in states for one in await _first(journal, state, job.superseded)]
    return found[:_EXAMPLES]


def _before(report: DryRunReport) -> str:
    if not (report.delivered_before or report.failed_before or report.in_doubt):
        return ""
    return (
        f"delivered {report.delivered_before:,}, not sent or unknown {report.failed_before:,},"
        f" to be looked for {report.in_doubt:,}"
    )


async def _refuse_invalid(job: Job, dry: DryRun) -> list[int]:
    """Refuse what the journal knows better, such as a key that it has with another text.

    Return the numbers of the messages whose recipients already got another one.
    """
    problems, written = Problems(), list[int]()
    async for problem in dry:
        if problem.kind is ProblemKind.INVALID:
            message = job.message(problem.index)
            problems.add(str(problem.error), None if message is None else message.line)
        elif problem.kind is ProblemKind.OTHER_TEXT:
            written.append(problem.index)
    problems.refuse_if_any()
    return written


async def _of_journal(job: Job) -> Outlook:
    if job.journal is None:
        return Outlook(0, 0, ())
    async with job.service.client() as client:
        dry = client.send_many(**job.send_options(), dry_run=True)
        report = await dry.report()
    async with Journal.open(job.journal.target, is_reading=True) as journal:
        counts = await journal.counts()
    examples = await find_examples(job)
    before = ", ".join(f"{state.value} {count:,}" for state, count in counts.items() if count)
    # Of those in doubt it is found out first whether they were.
    to_send = report.to_send + report.in_doubt
    delimiter = next(filter(None, (example.delimiter for example in examples)), "")
    return Outlook(
        to_send, report.seconds, examples, before, delimiter=delimiter, superseded=report.superseded
    )


async def _first(journal: Journal, state: State, superseded: bool) -> list[Example]:
    found = list[Example]()
    async for row in journal.rows(state):
        if superseded or not row.is_superseded:
            place = Label.parse(row.label)
            title = f"to {row.chat}" if place is None else f"line {place.line}, to {row.chat}"
            found.append(Example(title, row.body or "", "" if place is None else place.delimiter))
        if len(found) == _EXAMPLES:
            break
    return found


async def count_in(place: JournalPlace) -> int:
    """Count the messages in a journal."""
    async with Journal.open(place.target, is_reading=True) as journal:
        return sum((await journal.counts()).values())


async def is_all_delivered(place: JournalPlace) -> bool:
    """Tell whether everything that is in a journal was delivered, or replaced by another text."""
    async with Journal.open(place.target, is_reading=True) as journal:
        counts = await journal.counts()
        for state, count in (await journal.superseded()).items():
            counts[state] -= count
    return not any(count for state, count in counts.items() if state is not State.DELIVERED)


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


_OTHER_TEXT = "this recipient already got, or may have got, another text from this journal"


async def dry_run(console: Console, job: Job, source: Source, options: Options) -> bool:
    """Look at everything without sending, and return whether nothing is wrong.

    Raises:
        RefusedError: there is nothing to look at.
    """
    if job.messages is None and job.journal is not None and not job.journal.may_exist:
        raise RefusedError("there is no such journal")
    check_chats = options.check_chats
    await _show_source(console, job, source, with_texts=options.texts)
    async with job.service.client() as client:
        sending = job.send_options()
        sending["check_chats"] = check_chats
        dry = client.send_many(job.outgoing(client), **sending, dry_run=True)
        written = await _show_problems(console, job, dry)
        report = await dry.report()
    other_texts = await find_other_texts(job, written)
    figures = Table.grid(padding=(0, 2))
    figures.add_column(justify="right", style="bold")
    figures.add_column()
    for number, what in _figures(report, job, check_chats=check_chats):
        figures.add_row(f"{number:,}", what)
    figures.add_row(f"{report.calls:,}", f"calls, which take {duration(report.seconds)}")
    console.print(figures)
    if other_texts is not None:
        console.print(other_texts.told, highlight=False, soft_wrap=True)
        show_differences(console, other_texts)
    console.print("Nothing was sent.")
    is_open = other_texts is not None and not (options.send_again or job.skips_sent)
    has_doubts = job.messages is not None and job.messages.doubts and not options.accept_doubtful
    return not (report.invalid or report.unknown_chats or is_open or has_doubts)


async def _show_source(console: Console, job: Job, source: Source, *, with_texts: bool) -> None:
    """Show what was read and where it would go; the texts are patients', so not in what is kept."""
    console.print(grid([*source.of_file(), source.service]))
    if with_texts or console.file.isatty():
        show_examples(console, await find_examples(job))
    else:
        console.print("The first texts are shown on a terminal, or with --texts.")
    show_warnings(console, source.warnings(job))
    show_doubts(console, job.messages.doubts if job.messages is not None else ())


async def _show_problems(console: Console, job: Job, dry: DryRun) -> list[int]:
    """Show them, and return the numbers of the messages whose recipients already got another one."""
    found, written = 0, list[int]()
    async for problem in dry:
        if problem.kind is ProblemKind.OTHER_TEXT:
            written.append(problem.index)
        found += 1
        message = job.message(problem.index)
        if found <= _MOST_SHOWN and message is not None:
            # Of the library's own words for it, one is an option that there is not here.
            why = _OTHER_TEXT if problem.kind is ProblemKind.OTHER_TEXT else str(problem.error)
            said = f"line {message.line}: {problem.kind.value}: {why}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    if found > _MOST_SHOWN:
        console.print(f"… and {found - _MOST_SHOWN:,} more", highlight=False)
    return written


def _figures(report: DryRunReport, job: Job, *, check_chats: bool) -> Iterator[tuple[int, str]]:
    yield report.messages, "messages" if job.messages is not None else "messages in the journal"
    yield report.to_send, "would be sent"
    if job.messages is not None:
        yield report.invalid, "cannot be sent"
        yield report.duplicates, "repeat another one"
    else:
        yield report.superseded, "were replaced by another text, and are left out"
    if job.journal is not None and job.messages is not None:
        yield report.other_text, "are for recipients who already got another text"
    if check_chats:
        yield report.unknown_chats, "recipients that the service does not know"
    yield report.delivered_before, "were delivered before"
    yield report.failed_before, "were not sent before, or are unknown"
    yield report.in_doubt, "may have been sent before, and would be looked for"
