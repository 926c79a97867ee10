"""What a run is going to do, as far as that can be known before."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import frozen

from healthmsg.bulk import Preview, PreviewReport, ProblemKind
from healthmsg.bulk.journal import State, open_journal
from healthmsg.cli.recipients import Problems
from healthmsg.cli.sending.job import Job
from healthmsg.cli.sending.journal_place import JournalPlace
from healthmsg.cli.sending.messages import Label
from healthmsg.cli.sending.other_texts import OtherTexts, find_other_texts
from healthmsg.cli.sending.preview import Example

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

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
        dry = job.preview(client)
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
    states = [State.WAITING, State.PARKED, *([State.NOT_SENT] if job.retry_failed else ())]
    async with open_journal(job.journal.target, is_reading=True) as journal:
        found = [one for state in states for one in await _first(journal, state, job.superseded)]
    return found[:_EXAMPLES]


def _before(report: PreviewReport) -> str:
    if not (report.delivered_before or report.failed_before or report.in_doubt):
        return ""
    return (
        f"delivered {report.delivered_before:,}, not sent or unknown {report.failed_before:,},"
        f" to be looked for {report.in_doubt:,}"
    )


async def _refuse_invalid(job: Job, dry: Preview) -> list[int]:
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
        dry = job.preview(client)
        report = await dry.report()
    async with open_journal(job.journal.target, is_reading=True) as journal:
        counts = await journal.counts()
    examples = await find_examples(job)
    before = ", ".join(f"{state.value} {count:,}" for state, count in counts.items() if count)
    # Of those in doubt it is found out first whether they were.
    to_send = report.to_send + report.in_doubt
    delimiter = next(filter(None, (example.delimiter for example in examples)), "")
    return Outlook(
        to_send, report.seconds, examples, before, delimiter=delimiter, superseded=report.superseded
    )


async def _first(journal: "SqlJournal", state: State, superseded: bool) -> list[Example]:
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
    async with open_journal(place.target, is_reading=True) as journal:
        return sum((await journal.counts()).values())


async def is_all_delivered(place: JournalPlace) -> bool:
    """Tell whether everything that is in a journal was delivered, or replaced by another text."""
    async with open_journal(place.target, is_reading=True) as journal:
        counts = await journal.counts()
        for state, count in (await journal.count_superseded()).items():
            counts[state] -= count
    return not any(count for state, count in counts.items() if state is not State.DELIVERED)
