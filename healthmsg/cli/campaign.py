"""`healthmsg campaign`: puts campaigns into a journal for workers to send, and steers them from anywhere."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from attrs import frozen
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text as PlainText

from healthmsg.bulk import JournalMessage, Outgoing
from healthmsg.bulk.campaigns import (
    CampaignCounts,
    CampaignInfo,
    Campaigns,
    CampaignState,
    EntryReport,
    open_campaigns,
)
from healthmsg.bulk.campaigns.models import OthersOfCampaign, check_name
from healthmsg.cli.files import JOURNAL_VARIABLE, JournalLocation, require_journal_packages
from healthmsg.cli.problems import (
    MOST_SHOWN,
    ExitCode,
    RefusedError,
    confirm,
    exit_on_error,
    fail,
    print_text,
    require_terminal,
    strip_class_name,
)
from healthmsg.cli.recipients.input import Input, read_input
from healthmsg.cli.recipients.options import (
    RECIPIENTS_HELP,
    AcceptDoubtful,
    AllowEmpty,
    AllowRepeats,
    Buttons,
    Encoding,
    ExactAuxIds,
    Label,
    Text,
    TextFile,
)
from healthmsg.cli.recipients.question import Asked
from healthmsg.cli.sending.preview import (
    Files,
    examples_of,
    grid,
    numbers,
    refuse_doubtful,
    show_doubts,
    show_examples,
    show_warnings,
    warning_of_repeats,
)
from healthmsg.cli.service import EachOptionOnce
from healthmsg.cli.terminal import has_lost_output, printable, shell_join
from healthmsg.codec import encode
from healthmsg.errors import CampaignError, JournalNotFoundError

T = TypeVar("T")
_PART_OF_IT: Final = (
    "Nothing of it is sent before all of it is entered. Give the same command again: it enters what is"
    " missing, and nothing twice."
)
_CANCELLED_MEANWHILE: Final = (
    "the campaign was cancelled meanwhile: what was entered is not sent, and the rest is not entered"
)
_FOR_GOOD: Final = "this campaign is cancelled, which is for good: take another name"
_BOTH: Final = "Give --send-again if both are meant; else cancel this campaign, or take another name"
_UNCHANGED: Final = "Nothing was changed."

campaign: Final = typer.Typer(
    help="Campaigns in a journal, which workers send.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the campaign.")]
Journal = Annotated[
    str, typer.Option("--journal", envvar=JOURNAL_VARIABLE, help="postgresql://…, or a file for one worker.")
]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


# --- add


@frozen
class AddOptions:
    """The arguments and options of `campaign add`; those of the messages are as `send-many` has them."""

    name: Name
    recipients: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPIENTS",
            help=RECIPIENTS_HELP,
        ),
    ]
    journal: Journal
    template: Text = None
    template_file: TextFile = None
    option: Buttons = None
    label: Label = None
    weight: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Its share beside other campaigns; 1, if it is not given."),
    ] = None
    paused: Annotated[bool, typer.Option("--paused", help="Send nothing of it before `campaign resume`.")] = (
        False
    )
    yes: Yes = False
    send_again: Annotated[
        bool,
        typer.Option("--send-again", help="Send these also beside other messages of this campaign."),
    ] = False
    allow_repeats: AllowRepeats = False
    allow_empty: AllowEmpty = False
    accept_doubtful: AcceptDoubtful = False
    exact_aux_ids: ExactAuxIds = False
    encoding: Encoding = None
    as_json: Json = False

    @property
    def asked(self) -> Asked | None:
        """The question that goes with each message, if one does.

        Raises:
            RefusedError: it cannot be asked so.
        """
        return Asked.read(self.option, self.label) if self.option else None

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            RefusedError: some do.
        """
        if self.template is not None and self.template_file is not None:
            raise RefusedError("--template and --template-file: one of them")
        if self.label is not None and not self.option:
            raise RefusedError("--label goes with --option")


def add(**options: Any) -> None:
    """Add a message to each recipient of a file, as a campaign that workers send once all of it is entered.

    Everything is checked before the first is entered. Nothing is sent by this command. Given again, it enters
    what is missing, and nothing twice.
    """
    _Add(Console(stderr=options["as_json"]), AddOptions(**options)).run()


# By this, typer knows the arguments and options: they are the fields of `AddOptions`.
add.__signature__ = signature(AddOptions)  # type: ignore[attr-defined]
campaign.command(cls=EachOptionOnce)(add)


@frozen
class _Add:
    console: Console
    options: AddOptions

    def run(self) -> None:
        """Read, ask, enter, and print what became of it."""
        options = self.options
        with exit_on_error("Nothing was entered."):
            location = _location(options.journal)
            check_name(options.name)
            read = self._read()
            others = self._look(read, location)
            self._show(read, location, others)
            if not options.yes and not self._confirm(read, others):
                print_text(self.console, "Nothing was entered.")
                raise typer.Exit(ExitCode.FAILED)
        with exit_on_error(_PART_OF_IT):
            try:
                report = _with_campaigns(location, lambda campaigns: self._enter(campaigns, read))
            except CampaignError:
                fail(_CANCELLED_MEANWHILE)
        _print(report, lambda: self._print_report(read, report, location), as_json=options.as_json)
        if report.refused:
            raise typer.Exit(ExitCode.FAILED)

    def _read(self) -> Input:
        options = self.options
        options.check()
        _ = options.asked
        if not options.yes:
            require_terminal()
        read = read_input(options.recipients, options)
        if options.yes and not options.accept_doubtful:
            refuse_doubtful(read.messages.doubts)
        return read

    def _look(self, read: Input, location: JournalLocation) -> str:
        """Look what there is of the campaign; return what to say of those who have another text of it.

        Raises:
            RefusedError: it is cancelled, or some have, and it is not known whether both are meant.
        """
        options = self.options

        async def look(campaigns: Campaigns) -> OthersOfCampaign:
            for one in await campaigns.list():
                if one.name == options.name and one.state is CampaignState.CANCELLED:
                    raise RefusedError(_FOR_GOOD)
            return await campaigns.count_others(options.name, self._outgoing(read))

        others = OthersOfCampaign(0, 0)
        with suppress(JournalNotFoundError):
            others = _with_campaigns(location, look, is_reading=True)
        parts = []
        if others.recipients:
            parts.append(f"{others.recipients:,} of these recipients have another text of this campaign")
        if others.left_over:
            parts.append(
                f"{others.left_over:,} messages that an earlier `add` began with are not in this file"
            )
        if parts and options.yes and not options.send_again:
            raise RefusedError(f"{', and '.join(parts)}. {_BOTH}")
        return ", and ".join(parts)

    def _show(self, read: Input, location: JournalLocation, others: str) -> None:
        options, asked = self.options, self.options.asked
        files = Files(read.recipients, options.recipients.name, read.template_file)
        weight = [] if options.weight is None else [("Weight", f"{options.weight}")]
        facts = [
            *files.facts(),
            ("Messages", numbers(read.messages)),
            *(() if asked is None else asked.facts()),
            ("Campaign", options.name),
            *weight,
            ("Journal", location.text),
            ("Sent", "once it is resumed" if options.paused else "by workers, once all of it is entered"),
        ]
        self.console.print(grid(facts))
        repeated = [warning_of_repeats(read.messages)] if read.messages.repeated else []
        both = [f"{others}. Both would be sent."] if others else []
        show_warnings(self.console, [*files.warnings(read.messages), *repeated, *both])
        show_doubts(self.console, read.messages.doubts)

    def _confirm(self, read: Input, others: str) -> bool:
        show_examples(self.console, examples_of(read.messages))
        doubts = read.messages.doubts
        also = f", though {others}" if others and not self.options.send_again else ""
        if doubts and not self.options.accept_doubtful:
            also += f", though {len(doubts):,} of the values above may be a mistake"
        name = escape(self.options.name)
        return confirm(self.console, f"Add {len(read.messages.all):,} messages to {name}{also}?")

    def _outgoing(self, read: Input) -> Iterator[Outgoing]:
        is_exact, asked = self.options.exact_aux_ids, self.options.asked
        return (message.outgoing_as_text(is_exact=is_exact, asked=asked) for message in read.messages.all)

    async def _enter(self, campaigns: Campaigns, read: Input) -> EntryReport:
        options, outgoing = self.options, self._outgoing(read)
        return await campaigns.add(options.name, outgoing, weight=options.weight, is_paused=options.paused)

    def _print_report(self, read: Input, report: EntryReport, location: JournalLocation) -> None:
        known = f", {report.known:,} were there already" if report.known else ""
        print_text(self.console, f"{report.entered:,} messages are entered{known}.")
        for problem in report.problems[:MOST_SHOWN]:
            line = read.messages.all[problem.index].line
            print_text(self.console, f"line {line} is not entered: {problem.error}")
        if report.refused > MOST_SHOWN:
            print_text(self.console, f"… and {report.refused - MOST_SHOWN:,} more are not entered")
        command = _show_command(self.options.name, location)
        print_text(self.console, f"See how it goes: {shell_join(command)}")


# --- looking


@campaign.command("list", cls=EachOptionOnce)
def list_all(journal: Journal, as_json: Json = False) -> None:
    """List all campaigns with what became of their messages. Works beside workers."""
    console = Console()
    with exit_on_error():
        found = _with_campaigns(_location(journal), lambda campaigns: campaigns.list(), is_reading=True)

    def print_all() -> None:
        console.print(_table(found), highlight=False)
        for info in found:
            if info.problem is not None:
                print_text(console, f"{printable(info.name)}: {info.problem}")

    _print(found, print_all, as_json=as_json)


@campaign.command(cls=EachOptionOnce)
def show(
    name: Name,
    journal: Journal,
    failures: Annotated[
        bool, typer.Option("--failures", help="Also each message that was not sent, with the reason.")
    ] = False,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Also each message that may have arrived, with the reason.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what became of a campaign's messages. Works beside workers."""
    console = Console()

    async def read(campaigns: Campaigns) -> tuple[CampaignInfo, list[JournalMessage], list[JournalMessage]]:
        info = await campaigns.get(name)
        refused = [one async for one in campaigns.failures(name)] if failures else []
        open_ones = [one async for one in campaigns.unknown(name)] if unknown else []
        return info, refused, open_ones

    with exit_on_error():
        location = _location(journal)
        info, refused, open_ones = _with_campaigns(location, read, is_reading=True)
    document = info.to_dict() | {"messages": info.counts.messages}
    if failures:
        document["failures"] = [_as_document(one) for one in refused]
    if unknown:
        document["unknown"] = [_as_document(one) for one in open_ones]

    def print_all() -> None:
        console.print(grid(_facts(info)), highlight=False)
        for one in (*refused, *open_ones):
            _print_message(console, one)
        if info.counts.unknown:
            command = ("healthmsg", "journal", "unknown", location.argument)
            print_text(console, f"See what may have arrived, and settle it: {shell_join(command)}")

    _print(document, print_all, as_json=as_json)


# --- steering


@campaign.command(cls=EachOptionOnce)
def pause(name: Name, journal: Journal, as_json: Json = False) -> None:
    """Begin nothing more of a campaign, on any worker. What is under way goes on to its end."""
    _steer(name, journal, lambda campaigns: campaigns.pause(name), as_json=as_json)


@campaign.command(cls=EachOptionOnce)
def resume(name: Name, journal: Journal, as_json: Json = False) -> None:
    """Go on with a campaign that was paused."""
    _steer(name, journal, lambda campaigns: campaigns.resume(name), as_json=as_json)


@campaign.command(cls=EachOptionOnce)
def weight(
    name: Name,
    share: Annotated[int, typer.Argument(metavar="WEIGHT", min=1, max=100, help="1 to 100.")],
    journal: Journal,
    as_json: Json = False,
) -> None:
    """Change a campaign's share beside the others: one with 3 gets three times the calls of one with 1."""
    _steer(name, journal, lambda campaigns: campaigns.reweight(name, share), as_json=as_json)


@campaign.command(cls=EachOptionOnce)
def cancel(name: Name, journal: Journal, yes: Yes = False, as_json: Json = False) -> None:
    """Send nothing more of a campaign, for good: what has not begun is not sent."""
    console = Console(stderr=as_json)
    with exit_on_error(_UNCHANGED):
        location = _location(journal)
        if not yes:
            require_terminal()
            info = _with_campaigns(location, lambda campaigns: campaigns.get(name), is_reading=True)
            left = info.counts.waiting + info.counts.held
            if not confirm(
                console, f"Cancel {escape(name)} for good? {left:,} messages of it will not be sent."
            ):
                print_text(console, _UNCHANGED)
                raise typer.Exit(ExitCode.FAILED)
    _steer(name, journal, lambda campaigns: campaigns.cancel(name), as_json=as_json)


def _steer(
    name: str,
    journal: str,
    change: Callable[[Campaigns], Coroutine[Any, Any, CampaignInfo]],
    *,
    as_json: bool,
) -> None:
    console = Console()
    with exit_on_error():
        location = _location(journal)
        # Where there is no such campaign, no journal is made.
        _with_campaigns(location, lambda campaigns: campaigns.get(name), is_reading=True)
        info = _with_campaigns(location, change)
    _print(info, lambda: console.print(grid(_facts(info)), highlight=False), as_json=as_json)


# --- what they have in common


def _location(target: str) -> JournalLocation:
    require_journal_packages()
    return JournalLocation.parse(target)


def _with_campaigns(
    location: JournalLocation,
    work: Callable[[Campaigns], Coroutine[Any, Any, T]],
    *,
    is_reading: bool = False,
) -> T:
    async def run() -> T:
        async with open_campaigns(location.target, is_reading=is_reading) as campaigns:
            return await work(campaigns)

    return asyncio.run(run())


def _show_command(name: str, location: JournalLocation) -> Sequence[str]:
    words = ["healthmsg", "campaign", "show", "--journal", location.argument]
    return [*words, "--", name] if name.startswith("-") else [*words, name]


def _print(found: object, print_it: Callable[[], object], *, as_json: bool) -> None:
    if as_json:
        print_text(Console(), encode(found).decode())
    else:
        print_it()
    if has_lost_output():
        fail("the output could not be written")


def _facts(info: CampaignInfo) -> list[tuple[str, str]]:
    state = info.state.value if info.is_entered else f"{info.state.value}, not entered completely"
    facts = [("Campaign", info.name), ("State", state), ("Weight", f"{info.weight}")]
    facts += [(title, f"{number:,}") for title, number in _numbers_of(info.counts)]
    facts.append(("Rate", f"{info.rate:.1f} delivered per second"))
    if info.problem is not None:
        facts.append(("Problem", info.problem))
    return facts


def _numbers_of(counts: CampaignCounts) -> Sequence[tuple[str, int]]:
    return (
        ("Messages", counts.messages),
        ("Waiting", counts.waiting),
        ("Held", counts.held),
        ("Under way", counts.under_way),
        ("Delivered", counts.delivered),
        ("Not sent", counts.not_sent),
        ("Unknown", counts.unknown),
    )


def _table(found: Sequence[CampaignInfo]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Campaign", overflow="fold")
    table.add_column("State", no_wrap=True)
    for title in ("Weight", "Open", "Delivered", "Not sent", "Unknown"):
        table.add_column(title, justify="right", no_wrap=True)
    for info in found:
        counts = info.counts
        figures = (info.weight, counts.open, counts.delivered, counts.not_sent, counts.unknown)
        table.add_row(
            PlainText(printable(info.name)), info.state.value, *(f"{number:,}" for number in figures)
        )
    return table


def _print_message(console: Console, message: JournalMessage) -> None:
    why = strip_class_name(message.error or "no reason was noted")
    print_text(console, f"{message.key}\n  to {message.to}\n  {message.state.value}: {why}")


def _as_document(message: JournalMessage) -> dict[str, object]:
    """Return what is printed of a message: never its text."""
    return {
        "key": message.key,
        "to": message.to,
        "label": message.label,
        "state": message.state.value,
        "reason": message.error,
        "attempts": message.attempts,
        "updated_at": message.updated_at,
    }
