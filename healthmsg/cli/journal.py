"""`healthmsg journal`: what is in a journal."""

import asyncio
import csv
import os
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer
from attrs import define, frozen
from rich.console import Console
from rich.table import Table

from healthmsg.bulk import JournalReview
from healthmsg.bulk.journal import Row, State, open_journal
from healthmsg.cli.ending import ExitCode, confirmed, fail, problems_told, require_somebody, say
from healthmsg.cli.private_file import as_cells, create_private
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.sending.journal_place import JOURNAL_VARIABLE, JournalPlace, require_extra
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service, named
from healthmsg.cli.shell import EachOptionOnce
from healthmsg.cli.terminal import has_lost_output, shown
from healthmsg.cli.unknown import Telling
from healthmsg.cli.wording import reason_of, without_name
from healthmsg.codec import encode
from healthmsg.errors import ConfigurationError, HealthmsgError, Outcome

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

_COLUMNS: Final = (
    "position",
    "key",
    "to",
    "outcome",
    "message_id",
    "error",
    "attempts",
    "started_at",
    "updated_at",
    "superseded",
    "decided",
    "decided_by",
    "decided_at",
)
_AGE: Final = re.compile(r"(\d{1,4})\s*(d|days?|w|weeks?)")
_STATES: Final = ", ".join(["failed", *(state.value.replace(" ", "-") for state in State)])

journal: Final = typer.Typer(
    help="What is in a journal of bulk sending.", no_args_is_help=True, pretty_exceptions_show_locals=False
)
Target = Annotated[
    str,
    typer.Argument(metavar="JOURNAL", envvar=JOURNAL_VARIABLE, help="A file, or postgresql://…"),
]


@journal.command(cls=EachOptionOnce)
def show(
    target: Target,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Count the messages by what became of them. Works beside a run."""
    with problems_told():
        survey = asyncio.run(_survey(target))
    if as_json:
        say(Console(), survey.as_json())
    else:
        Console().print(survey.table(), highlight=False)
    if has_lost_output():
        fail("the output could not be written")


@journal.command(cls=EachOptionOnce)
def export(
    target: Target,
    to: Annotated[Path, typer.Option(help="The CSV file to make; never overwritten.")],
    state: Annotated[list[str] | None, typer.Option(help=f"Only these: {_STATES}. Can be repeated.")] = None,
    bodies: Annotated[bool, typer.Option("--bodies", help="With the texts, where they are kept.")] = False,
) -> None:
    """Write what is in a journal to a CSV file that only you can read. Works beside a run."""
    with problems_told():
        count = asyncio.run(_export(target, to, _states(state or []), bodies=bodies))
    say(Console(), f"{count:,} messages: {shown(str(to))}")


@journal.command(cls=EachOptionOnce)
def purge(
    target: Target,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Such as 90d or 12w.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete what was delivered, not sent or set aside longer ago than this, with the keys."""
    console = Console()
    with problems_told("Nothing was deleted."):
        age = _age(older_than)
        if not yes:
            require_somebody()
        before = _local(datetime.now(UTC) - age)
        survey = asyncio.run(_survey(target))
        console.print(
            f"Deletes what was delivered, not sent or set aside before {before}, out of {survey.settled:,}"
            " messages."
            " Their keys are forgotten: given the same recipients again, they would be sent again.",
            highlight=False,
        )
        if not yes and not confirmed(console, "Delete them?"):
            console.print("Nothing was deleted.")
            raise typer.Exit(ExitCode.FAILED)
    purging = _Purging()
    with problems_told(purging.said):
        asyncio.run(purging.run(target, age))
    say(console, purging.said())


@journal.command(cls=EachOptionOnce)
def unknown(
    target: Target,
    texts: Annotated[bool, typer.Option("--texts", help="With the texts, which are patients'.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Only what the journal knows.")] = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """Show what may have been sent: when, why it cannot be proven, and what of yours the chat has then.

    The chats are read with HEALTHMSG_TOKEN and HEALTHMSG_ENVIRONMENT. Works beside a run.
    """
    console = Console()
    with problems_told():
        service = None if offline else Service(proxy, ca, no_x509_strict)
        if service is not None:
            service.check_way()
        count = asyncio.run(_tell_unknown(console, target, service, with_texts=texts))
    if count:
        console.print(
            "Settle one with: healthmsg journal decide JOURNAL KEY delivered|not-sent", markup=False
        )
    else:
        console.print("Nothing is unknown.")


class Word(Enum):
    """What a person says became of a message."""

    DELIVERED = "delivered"
    NOT_SENT = "not-sent"


_WORDS: Final = {Word.DELIVERED: Outcome.DELIVERED, Word.NOT_SENT: Outcome.NOT_SENT}
_MEANINGS: Final = {
    Word.DELIVERED: "It is noted as delivered, for good, and not sent again, also if it never arrived.",
    Word.NOT_SENT: "The next run that is given it, or --resume, sends it: twice, if it did arrive.",
}


class _WithJournalOfVariable(EachOptionOnce):
    """Takes the journal from its variable, where that is left out: it is the first of several arguments."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments."""
        given = os.environ.get(JOURNAL_VARIABLE)
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter as error:
            # Which of two packages that class is from depends on typer's version.
            if not given or type(error).__name__ != "MissingParameter":
                raise
        ctx.params.clear()
        return super().parse_args(ctx, [given, *args])


@journal.command(cls=_WithJournalOfVariable)
def decide(
    target: Target,
    key: Annotated[str, typer.Argument(help="Of the message, as `journal unknown` shows it.")],
    outcome: Annotated[Word, typer.Argument(help="What became of it.")],
    message_id: Annotated[str | None, typer.Option(help="Of the message in the chat.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who says so; else the login name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Settle what became of a message by your word, which is kept with your name. Not beside a run."""
    console = Console()
    with problems_told("Nothing was changed."):
        place = _place(target)
        name = by or _login_name()
        if not yes:
            require_somebody()
        console.print(_MEANINGS[outcome])
        if not yes and not confirmed(console, f"Settle it as {outcome.value}?"):
            console.print("Nothing was changed.")
            raise typer.Exit(ExitCode.FAILED)
        review = JournalReview(place.target)
        asyncio.run(review.decide(key, _WORDS[outcome], by=name, message_id=message_id))
    console.print(f"Settled as {outcome.value}.")


async def _tell_unknown(console: Console, target: str, service: Service | None, *, with_texts: bool) -> int:
    telling = Telling(console, _place(target), with_texts)
    client = None
    if service is not None:
        try:
            client = service.client()
        except ConfigurationError as error:
            said = f"The chats are not read: {error}. This is what the journal knows."
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    if client is None:
        return await telling.tell_all(None)
    say(console, f"The chats are read from: {named(client.environment)}")
    async with client:
        return await telling.tell_all(client)


def _login_name() -> str:
    try:
        return getuser()
    except (OSError, KeyError, ImportError):
        pass
    raise RefusedError("the login name is not known: say with --by who decides")


@frozen
class _Survey:
    counts: dict[State, int]
    superseded: int
    decided: int
    oldest: datetime | None
    newest: datetime | None

    @property
    def settled(self) -> int:
        return sum(self.counts[state] for state in (State.DELIVERED, State.NOT_SENT, State.PARKED))

    def as_json(self) -> str:
        counts: dict[str, object] = {state.value: count for state, count in self.counts.items()}
        more = {"superseded": self.superseded, "decided": self.decided}
        return encode(counts | more | {"oldest": self.oldest, "newest": self.newest}).decode()

    def table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="bold")
        table.add_column()
        for state, count in self.counts.items():
            table.add_row(f"{count:,}", state.value)
        if self.superseded:
            table.add_row(f"{self.superseded:,}", "of them superseded by another text")
        if self.decided:
            table.add_row(f"{self.decided:,}", "of them decided by a person")
        if self.oldest is not None and self.newest is not None:
            table.add_row("", f"noted from {_local(self.oldest)} to {_local(self.newest)}")
        return table


async def _survey(target: str) -> _Survey:
    oldest = newest = None
    decided = 0
    async with _opened(target) as opened:
        counts = await opened.counts()
        superseded = sum((await opened.count_superseded()).values())
        async for row in opened.rows():
            decided += row.decision is not None
            oldest = row.updated_at if oldest is None else min(oldest, row.updated_at)
            newest = row.updated_at if newest is None else max(newest, row.updated_at)
    return _Survey(counts, superseded, decided, oldest, newest)


async def _export(target: str, to: Path, states: Container[State], *, bodies: bool) -> int:
    count = 0
    async with _opened(target) as opened:
        with _whole(to) as file:
            writer = csv.writer(file)
            writer.writerow((*_COLUMNS, "body") if bodies else _COLUMNS)
            async for row in opened.rows():
                if row.state in states:
                    cells = (*_cells(row), row.body or "") if bodies else _cells(row)
                    writer.writerow(as_cells(cells))
                    count += 1
    return count


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
    """Make a file, and delete it again if not everything could be written: half of it looks like a whole."""
    file = create_private(path)
    try:
        with file:
            yield file
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if not isinstance(error, OSError):
            raise
        problem = f"{path} could not be written, and was deleted: {reason_of(error)}"
    else:
        return
    raise HealthmsgError(problem)


@define
class _Purging:
    """Deletes, and knows how far it has come."""

    has_begun: bool = False
    count: int | None = None

    async def run(self, target: str, age: timedelta) -> None:
        async with open_journal(JournalPlace.parse(target).target) as opened:
            self.has_begun = True
            self.count = await opened.purge(age)

    def said(self) -> str:
        if self.count is not None:
            return f"{self.count:,} messages are deleted."
        if self.has_begun:
            return "Whether messages were deleted is not known: `healthmsg journal show` counts them."
        return "Nothing was deleted."


def _place(target: str) -> JournalPlace:
    require_extra()
    place = JournalPlace.parse(target)
    if not place.may_exist:
        raise RefusedError("there is no such journal")
    return place


def _opened(target: str) -> "AbstractAsyncContextManager[SqlJournal]":
    return open_journal(_place(target).target, is_reading=True)


def _cells(row: Row) -> tuple[object, ...]:
    times = (row.started_at.isoformat() if row.started_at else "", row.updated_at.isoformat())
    known = (
        row.key,
        row.chat,
        row.state.value,
        row.message_id or "",
        without_name(row.error or ""),
        row.attempts,
    )
    decision = row.decision
    decided = (
        ("", "", "") if decision is None else (decision.outcome.value, decision.by, decision.at.isoformat())
    )
    return (row.position, *known, *times, "yes" if row.is_superseded else "", *decided)


def _states(names: Sequence[str]) -> Container[State]:
    known = {state.value.replace(" ", "-"): state for state in State} | {"failed": State.NOT_SENT}
    if unknown := [name for name in names if name not in known]:
        raise RefusedError(f"--state {unknown[0]}: there is {_STATES}")
    return {known[name] for name in names} or set(State)


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise RefusedError("--older-than must be a number of days or weeks, such as 90d or 12w")
    return timedelta(**{"weeks" if found[2].startswith("w") else "days": int(found[1])})


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
