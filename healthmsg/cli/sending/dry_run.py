"""`--dry-run`: what would go wrong, and nothing is sent."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from healthmsg.bulk import Preview, PreviewReport, ProblemKind
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.options import Options
from healthmsg.cli.sending.other_texts import find_other_texts, show_differences
from healthmsg.cli.sending.outlook import duration, find_examples
from healthmsg.cli.sending.preview import Source, grid, show_doubts, show_examples, show_warnings

_MOST_SHOWN = 20
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
        dry = job.preview(client, check_chats=check_chats)
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


async def _show_problems(console: Console, job: Job, dry: Preview) -> list[int]:
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


def _figures(report: PreviewReport, job: Job, *, check_chats: bool) -> Iterator[tuple[int, str]]:
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
