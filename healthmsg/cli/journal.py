"""`healthmsg journal`: what is in a journal, and how a person settles what is unknown."""

import asyncio
import csv
import os
import re
from collections.abc import Container, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer
from attrs import define, field, frozen
from rich.console import Console
from rich.table import Table

from healthmsg.bulk import JournalMessage, JournalReview
from healthmsg.bulk.journal import State, open_journal
from healthmsg.cli.files import (
    JOURNAL_VARIABLE,
    JournalLocation,
    create_private,
    escape_formulas,
    require_journal_packages,
)
from healthmsg.cli.problems import (
    ExitCode,
    RefusedError,
    confirm,
    error_text,
    exit_on_error,
    fail,
    print_text,
    require_terminal,
    strip_class_name,
    system_reason,
)
from healthmsg.cli.service import Ca, EachOptionOnce, NoX509Strict, Proxy, Service, chat_handle, describe
from healthmsg.cli.terminal import has_lost_output, printable
from healthmsg.client import Client
from healthmsg.codec import encode
from healthmsg.errors import ConfigurationError, HealthmsgError, Outcome
from healthmsg.ids import USERS, ChatAddress
from healthmsg.models import Message
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat

if TYPE_CHECKING:
    from healthmsg.bulk.journal.store import SqlJournal

_AROUND: Final = timedelta(minutes=10)
# A chat with this many later messages is not read further back.
_MOST_MESSAGES: Final = 5_000
_NEAREST: Final = 3
_COLUMNS: Final = (
    *("position", "key", "to", "outcome", "message_id", "error", "attempts", "started_at", "updated_at"),
    *("superseded", "decided", "decided_by", "decided_at"),
)
_AGE: Final = re.compile(r"(\d{1,4})\s*(d|days?|w|weeks?)")
_STATES: Final = ", ".join(["failed", *(state.value.replace(" ", "-") for state in State)])
_SETTLE_ONE: Final = "Settle one with: healthmsg journal decide JOURNAL KEY delivered|not-sent"

journal: Final = typer.Typer(
    help="What is in a journal of bulk sending.", no_args_is_help=True, pretty_exceptions_show_locals=False
)
Target = Annotated[
    str, typer.Argument(metavar="JOURNAL", envvar=JOURNAL_VARIABLE, help="A file, or postgresql://…")
]


@journal.command(cls=EachOptionOnce)
def show(
    target: Target,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Count the messages by what became of them. Works beside a run."""
    with exit_on_error():
        survey = asyncio.run(_survey(target))
    if as_json:
        print_text(Console(), survey.as_json())
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
    with exit_on_error():
        count = asyncio.run(_export(target, to, _parse_states(state or []), bodies=bodies))
    print_text(Console(), f"{count:,} messages: {printable(str(to))}")


@journal.command(cls=EachOptionOnce)
def purge(
    target: Target,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Such as 90d or 12w.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete what was delivered, not sent or parked longer ago than this, with the keys."""
    console = Console()
    with exit_on_error("Nothing was deleted."):
        age = _parse_age(older_than)
        if not yes:
            require_terminal()
        before = _minute(datetime.now(UTC) - age)
        survey = asyncio.run(_survey(target))
        console.print(
            f"Deletes what was delivered, not sent or parked before {before}, out of {survey.settled:,}"
            " messages."
            " Their keys are forgotten: given the same recipients again, they would be sent again."
            " Campaigns that are not at their end keep theirs.",
            highlight=False,
        )
        if not yes and not confirm(console, "Delete them?"):
            console.print("Nothing was deleted.")
            raise typer.Exit(ExitCode.FAILED)
    purging = _Purge()
    with exit_on_error(purging.progress):
        asyncio.run(purging.run(target, age))
    print_text(console, purging.progress())


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
    with exit_on_error():
        service = None if offline else Service(proxy, ca, no_x509_strict)
        if service is not None:
            service.check_network()
        count = asyncio.run(_print_unknown(console, target, service, with_texts=texts))
    print_text(console, _SETTLE_ONE if count else "Nothing is unknown.")


class Verdict(Enum):
    """What a person says became of a message."""

    DELIVERED = "delivered"
    NOT_SENT = "not-sent"


_VERDICTS: Final = {
    Verdict.DELIVERED: (
        Outcome.DELIVERED,
        "It is noted as delivered, for good, and not sent again, also if it never arrived.",
    ),
    Verdict.NOT_SENT: (
        Outcome.NOT_SENT,
        (
            "The next run that is given it, or --resume, sends it, and of a campaign a worker: twice, if it"
            " did arrive."
        ),
    ),
}


class _JournalFromEnvironment(EachOptionOnce):
    """Takes the journal from its variable where it is left out, though other arguments follow it."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments."""
        target = os.environ.get(JOURNAL_VARIABLE)
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter as error:
            # Which of two packages that class is from depends on typer's version.
            if not target or type(error).__name__ != "MissingParameter":
                raise
        ctx.params.clear()
        return super().parse_args(ctx, [target, *args])


@journal.command(cls=_JournalFromEnvironment)
def decide(
    target: Target,
    key: Annotated[str, typer.Argument(help="Of the message, as `journal unknown` shows it.")],
    outcome: Annotated[Verdict, typer.Argument(help="What became of it.")],
    message_id: Annotated[str | None, typer.Option(help="Of the message in the chat.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who says so; else the login name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Settle what became of a message by your word, which is kept with your name. Not beside a run."""
    console = Console()
    decided, meaning = _VERDICTS[outcome]
    with exit_on_error("Nothing was changed."):
        location = _existing(target)
        name = by or _login_name()
        if not yes:
            require_terminal()
        console.print(meaning)
        if not yes and not confirm(console, f"Settle it as {outcome.value}?"):
            console.print("Nothing was changed.")
            raise typer.Exit(ExitCode.FAILED)
        review = JournalReview(location.target)
        asyncio.run(review.decide(key, decided, by=name, message_id=message_id))
    console.print(f"Settled as {outcome.value}.")


def _login_name() -> str:
    try:
        return getuser()
    except (OSError, KeyError, ImportError):
        pass
    raise RefusedError("the login name is not known: say with --by who decides")


def _existing(target: str) -> JournalLocation:
    require_journal_packages()
    location = JournalLocation.parse(target)
    if not location.may_exist:
        raise RefusedError("there is no such journal")
    return location


def _open(target: str) -> "AbstractAsyncContextManager[SqlJournal]":
    return open_journal(_existing(target).target, is_reading=True)


def _parse_states(names: Sequence[str]) -> Container[State]:
    known = {state.value.replace(" ", "-"): state for state in State} | {"failed": State.NOT_SENT}
    if wrong := [name for name in names if name not in known]:
        raise RefusedError(f"--state {wrong[0]}: there is {_STATES}")
    return {known[name] for name in names} or set(State)


def _parse_age(text: str) -> timedelta:
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise RefusedError("--older-than must be a number of days or weeks, such as 90d or 12w")
    return timedelta(**{"weeks" if found[2].startswith("w") else "days": int(found[1])})


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _second(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %z}"


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
            table.add_row("", f"noted from {_minute(self.oldest)} to {_minute(self.newest)}")
        return table


async def _survey(target: str) -> _Survey:
    oldest = newest = None
    decided = 0
    async with _open(target) as reading:
        counts = await reading.counts()
        superseded = sum((await reading.count_superseded()).values())
        async for row in reading.rows():
            decided += row.decision is not None
            oldest = row.updated_at if oldest is None else min(oldest, row.updated_at)
            newest = row.updated_at if newest is None else max(newest, row.updated_at)
    return _Survey(counts, superseded, decided, oldest, newest)


async def _export(target: str, to: Path, states: Container[State], *, bodies: bool) -> int:
    count = 0
    async with _open(target) as reading:
        with _complete_file(to) as file:
            writer = csv.writer(file)
            writer.writerow((*_COLUMNS, "body") if bodies else _COLUMNS)
            async for row in reading.rows():
                if row.state in states:
                    cells = (*_cells(row), row.body or "") if bodies else _cells(row)
                    writer.writerow(escape_formulas(cells))
                    count += 1
    return count


@contextmanager
def _complete_file(path: Path) -> Iterator[TextIO]:
    """Create a file, and delete it if not everything could be written: half of it would pass for all."""
    file = create_private(path)
    try:
        with file:
            yield file
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if not isinstance(error, OSError):
            raise
        problem = f"{path} could not be written, and was deleted: {system_reason(error)}"
    else:
        return
    raise HealthmsgError(problem)


def _cells(row: JournalMessage) -> tuple[object, ...]:
    decided: tuple[str, str, str] = ("", "", "")
    if row.decision is not None:
        decided = (row.decision.outcome.value, row.decision.by, row.decision.at.isoformat())
    return (
        row.position,
        row.key,
        row.to,
        row.state.value,
        row.message_id or "",
        strip_class_name(row.error or ""),
        row.attempts,
        row.started_at.isoformat() if row.started_at else "",
        row.updated_at.isoformat(),
        "yes" if row.is_superseded else "",
        *decided,
    )


@define
class _Purge:
    """Deletes messages, and knows how far it has come."""

    has_begun: bool = False
    count: int | None = None

    async def run(self, target: str, age: timedelta) -> None:
        async with open_journal(JournalLocation.parse(target).target) as journal:
            self.has_begun = True
            self.count = await journal.purge(age)

    def progress(self) -> str:
        if self.count is not None:
            return f"{self.count:,} messages are deleted."
        if self.has_begun:
            return "Whether messages were deleted is not known: `healthmsg journal show` counts them."
        return "Nothing was deleted."


async def _print_unknown(console: Console, target: str, service: Service | None, *, with_texts: bool) -> int:
    report = _UnknownReport(console, _existing(target), with_texts)
    client = None
    if service is not None:
        try:
            client = service.client()
        except ConfigurationError as error:
            print_text(console, f"The chats are not read: {error}. This is what the journal knows.")
    if client is None:
        return await report.print_all(None)
    print_text(console, f"The chats are read from: {describe(client.environment)}")
    async with client:
        return await report.print_all(client)


@frozen
class _UnknownReport:
    """Prints what is known of each unknown message. The texts only if they are wanted."""

    console: Console
    location: JournalLocation
    with_texts: bool

    async def print_all(self, client: Client | None) -> int:
        """Print all, and return how many there are. Without a client, only what the journal knows.

        Raises:
            JournalError: the journal cannot be read, or is another account's.
        """
        count = 0
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(open_journal(self.location.target, is_reading=True))
            me = ""
            if client is not None:
                # Another account cannot see what the journal's account has sent.
                await journal.check_owner(client.environment.api_url)
                me = (await client.me.get()).id
                await journal.check_owner(client.environment.api_url, me)
            messages = await stack.enter_async_context(
                aclosing(JournalReview(self.location.target).unknown())
            )
            async for message in messages:
                count += 1
                self._print_entry(message)
                if client is not None:
                    await self._print_chat(client, me, message, journal)
        return count

    def _print(self, text: str) -> None:
        print_text(self.console, text)

    def _print_entry(self, message: JournalMessage) -> None:
        self._print(f"{message.key}")
        self._print(f"  to {message.to}")
        when = "it is not known when" if message.started_at is None else _second(message.started_at)
        self._print(f"  sent {when}, call {message.attempts}")
        why = strip_class_name(message.error or "the run that sent it ended before the answer came")
        self._print(f"  why: {why}")
        if not message.is_final:
            self._print("  the next run with this journal tries to find out by itself")
        if self.with_texts:
            self._print(f"  text: {message.body or ''}")

    async def _print_chat(
        self, client: Client, me: str, message: JournalMessage, journal: "SqlJournal"
    ) -> None:
        address = message.sent_to or message.to
        if address.startswith(USERS) or message.started_at is None:
            self._print("  the chat is not known, so it cannot be read")
            return
        try:
            chat = chat_handle(client, ChatAddress.of_text(address))
            mine = await _read_own(chat, me, message.started_at)
        except HealthmsgError as error:
            self._print(f"  the chat could not be read: {error_text(error)}")
            return
        within = f"within {int(_AROUND.total_seconds() // 60)} minutes of that"
        if mine.around:
            self._print(f"  yours in the chat {within}:")
        else:
            self._print(f"  nothing of yours in the chat {within}")
            if mine.others:
                self._print("  the nearest of yours (the service may stamp by another clock or time zone):")
        for one in mine.around or mine.others[:_NEAREST]:
            await self._print_candidate(one, message, journal)
        if not mine.is_whole:
            self._print(f"  only its newest {_MOST_MESSAGES:,} messages were read: look in the chat itself")

    async def _print_candidate(self, one: Message, message: JournalMessage, journal: "SqlJournal") -> None:
        is_known = await journal.is_claimed_id(one.id, message.key)
        facts = [
            "at a time the service does not say" if one.created_at is None else _second(one.created_at),
            f"message {one.id}",
            "another of this journal's" if is_known else "not one that the journal knows",
            "the same text" if one.body == (message.body or "") else "another text, or in another form",
        ]
        if one.attachments:
            facts.append(f"files: {len(one.attachments)}")
        self._print(f"    {', '.join(facts)}")
        if self.with_texts:
            self._print(f"      {one.body or ''}")


@define
class _OwnMessages:
    """The user's own messages in one chat: those around a moment, and the nearest others."""

    around: list[Message] = field(factory=list)
    others: list[Message] = field(factory=list)
    is_whole: bool = True
    """Whether everything of that time was read."""


async def _read_own(chat: Chat | GroupChat, me: str, moment: datetime) -> _OwnMessages:
    """Read one's own messages around a moment, back to a page that is older as a whole."""
    mine, read = _OwnMessages(), 0
    async with chat.messages() as pager, aclosing(pager.pages()) as pages:
        async for page in pages:
            for message in page:
                # A service need not name the sender.
                if message.sender_id is None or message.sender_id == me:
                    is_near = message.created_at is None or abs(message.created_at - moment) <= _AROUND
                    (mine.around if is_near else mine.others).append(message)
            read += len(page)
            if all(one.created_at is not None and one.created_at < moment - _AROUND for one in page):
                break
            if read >= _MOST_MESSAGES:
                mine.is_whole = False
                break
    mine.others.sort(key=lambda one: abs((one.created_at or moment) - moment))
    return mine
