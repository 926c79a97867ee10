"""Who already got another text from the journal, and how that differs from the new one."""

from collections.abc import Collection, Sequence
from typing import Final

from attrs import field, frozen
from rich.console import Console
from rich.text import Text

from healthmsg.bulk.journal import open_journal
from healthmsg.cli.sending.job import Job

_MOST_SHOWN: Final = 3
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
    async with open_journal(job.journal.target, is_reading=True) as journal:
        async for row in journal.rows():
            if row.body is None or row.chat not in new or row.body in [body for _, body in new[row.chat]]:
                continue
            line, body = new[row.chat][0]
            found = known if row.chat in recipients else others
            if len(found) < _MOST_SHOWN:
                found.append(_difference(f"line {line}", row.body, body))
            if len(known) == _MOST_SHOWN:
                break
    return OtherTexts(len(recipients), (known or others)[:_MOST_SHOWN], job.skips_sent)


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
