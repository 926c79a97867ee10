"""`--dry-run`: what would go wrong, and nothing is sent."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from healthmsg.bulk.dry_run import DryRun, DryRunReport
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.outlook import duration
from healthmsg.client import Client

_MOST_SHOWN = 20


async def dry_run(console: Console, job: Job, *, check_chats: bool) -> bool:
    """Look at everything without sending, and tell whether nothing is wrong."""
    async with Client.from_env() as client:
        dry = client.send_many(
            job.outgoing(client),
            journal=None if job.journal is None else job.journal.target,
            retry_failed=job.retry_failed,
            dry_run=True,
            check_chats=check_chats,
        )
        await _show_problems(console, job, dry)
        report = await dry.report()
    figures = Table.grid(padding=(0, 2))
    figures.add_column(justify="right", style="bold")
    figures.add_column()
    for number, what in _figures(report, check_chats=check_chats):
        figures.add_row(f"{number:,}", what)
    figures.add_row(f"{report.calls:,}", f"calls, which take {duration(report.seconds)}")
    console.print(figures)
    console.print("Nothing was sent.")
    return not (report.invalid or report.unknown_chats)


async def _show_problems(console: Console, job: Job, dry: DryRun) -> None:
    found = 0
    async for problem in dry:
        found += 1
        message = job.message(problem.index)
        if found <= _MOST_SHOWN and message is not None:
            said = f"line {message.line}: {problem.kind.value}: {problem.error}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    if found > _MOST_SHOWN:
        console.print(f"… and {found - _MOST_SHOWN:,} more", highlight=False)


def _figures(report: DryRunReport, *, check_chats: bool) -> Iterator[tuple[int, str]]:
    yield report.messages, "messages"
    yield report.to_send, "would be sent"
    yield report.invalid, "cannot be sent"
    yield report.duplicates, "repeat another one"
    if check_chats:
        yield report.unknown_chats, "recipients that the service does not know"
    yield report.delivered_before, "were delivered before"
    yield report.failed_before, "failed before"
    yield report.in_doubt, "may have been sent before"
