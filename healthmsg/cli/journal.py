"""What a person sees of a message that is unknown: what the journal knows, and what the chat has."""

import asyncio
import csv
import os
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from getpass import getuser
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer
from attrs import define, field, frozen
from rich.console import Console
from rich.table import Table

from healthmsg.bulk import JournalReview, UnknownMessage
from healthmsg.bulk.journal import Journal, Row, State
from healthmsg.cli.files import JOURNAL_VARIABLE, JournalPlace, as_cells, create_private, require_extra
from healthmsg.cli.problems import (
    ExitCode,
    RefusedError,
    confirmed,
    fail,
    problems_told,
    reason_of,
    require_somebody,
    say,
    without_name,
    written,
)
from healthmsg.cli.send import chat_at
from healthmsg.cli.service import Ca, EachOptionOnce, NoX509Strict, Proxy, Service, named
from healthmsg.cli.terminal import has_lost_output, shown
from healthmsg.client import Client
from healthmsg.codec import encode
from healthmsg.delivery.attempt import Outcome
from healthmsg.errors import ConfigurationError, HealthmsgError
from healthmsg.ids import ChatAddress
from healthmsg.models import Message
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat

AROUND: Final = timedelta(minutes=10)
# One that has this many later messages is not looked for further.
_MOST_MESSAGES: Final = 5_000
_NEAREST: Final = 3


@define
class _Mine:
    """Messages of mine in one chat: those around a moment, and the nearest others."""

    around: list[Message] = field(factory=list)
    others: list[Message] = field(factory=list)
    is_whole: bool = True
    """Whether all was read that can be of that time."""


@frozen
class Telling:
    """Tells of one message after another. Texts only if they are wanted."""

    console: Console
    place: JournalPlace
    with_texts: bool

    async def tell_all(self, client: Client | None) -> int:
        """Tell of all, and count them. Without a client, only what the journal knows.

        Raises:
            JournalError: the journal cannot be read, or is another account's.
        """
        count = 0
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(Journal.open(self.place.target, is_reading=True))
            me = ""
            if client is not None:
                # Another one cannot see what this journal's account has sent.
                await journal.check_owner(client.environment.api_url)
                me = (await client.me.get()).id
                await journal.check_owner(client.environment.api_url, me)
            messages = await stack.enter_async_context(aclosing(JournalReview(self.place.target).unknown()))
            async for message in messages:
                count += 1
                self._tell(message)
                if client is not None:
                    await self._tell_of_chat(client, me, message, journal)
        return count

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _tell(self, message: UnknownMessage) -> None:
        self._say(f"{message.key}")
        self._say(f"  to {message.to}")
        when = "it is not known when" if message.started_at is None else _shown(message.started_at)
        self._say(f"  sent {when}, call {message.attempts}")
        self._say(
            f"  why: {without_name(message.error or 'the run that sent it did not live to see the answer')}"
        )
        if not message.is_final:
            self._say("  the next run with this journal tries to find out by itself")
        if self.with_texts:
            self._say(f"  text: {message.body}")

    async def _tell_of_chat(self, client: Client, me: str, message: UnknownMessage, journal: Journal) -> None:
        chat = _chat(client, message.sent_to or message.to)
        if chat is None or message.started_at is None:
            self._say("  the chat is not known, so it cannot be read")
            return
        try:
            mine = await _read(chat, me, message.started_at)
        except HealthmsgError as error:
            self._say(f"  the chat could not be read: {written(error)}")
            return
        minutes = int(AROUND.total_seconds() // 60)
        if mine.around:
            self._say(f"  yours in the chat within {minutes} minutes of that:")
        else:
            self._say(f"  nothing of yours in the chat within {minutes} minutes of that")
        for one in mine.around:
            await self._tell_of_one(one, message, journal)
        if not mine.around and mine.others:
            self._say("  the nearest of yours (the service may stamp by another clock or time zone):")
            for one in mine.others[:_NEAREST]:
                await self._tell_of_one(one, message, journal)
        if not mine.is_whole:
            self._say(f"  only its newest {_MOST_MESSAGES:,} messages were read: look in the chat itself")

    async def _tell_of_one(self, one: Message, message: UnknownMessage, journal: Journal) -> None:
        is_known = await journal.is_claimed_id(one.id, message.key)
        said = [
            "at a time the service does not say" if one.created_at is None else _shown(one.created_at),
            f"message {one.id}",
            "another of this journal's" if is_known else "not one that the journal knows",
            "the same text" if one.body == message.body else "another text, or in another form",
        ]
        if one.attachments:
            said.append(f"files: {len(one.attachments)}")
        self._say(f"    {', '.join(said)}")
        if self.with_texts:
            self._say(f"      {one.body or ''}")


def _chat(client: Client, address: str) -> Chat | GroupChat | None:
    """Return the handle of a chat; `None` for a user of whom it is not known which chat it is."""
    if address.startswith("users/"):
        return None
    return chat_at(client, ChatAddress.of_text(address))


async def _read(chat: Chat | GroupChat, me: str, moment: datetime) -> _Mine:
    """Read what I wrote around a moment, back to a page that is all older."""
    mine, read = _Mine(), 0
    async with chat.messages() as pager, aclosing(pager.pages()) as pages:
        async for page in pages:
            for message in page:
                if _is_by(message, me):
                    is_near = message.created_at is None or abs(message.created_at - moment) <= AROUND
                    (mine.around if is_near else mine.others).append(message)
            read += len(page)
            if all(one.created_at is not None and one.created_at < moment - AROUND for one in page):
                break
            if read >= _MOST_MESSAGES:
                mine.is_whole = False
                break
    mine.others.sort(key=lambda one: abs((one.created_at or moment) - moment))
    return mine


def _is_by(message: Message, me: str) -> bool:
    """Return whether I wrote it, or may have: a service need not say who did."""
    return message.sender_id is None or message.sender_id == me


def _shown(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"


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
        return sum(self.counts[state] for state in (State.DELIVERED, State.NOT_SENT, State.SET_ASIDE))

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
        superseded = sum((await opened.superseded()).values())
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
        async with Journal.open(JournalPlace.parse(target).target) as opened:
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


def _opened(target: str) -> Journal:
    return Journal.open(_place(target).target, is_reading=True)


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
