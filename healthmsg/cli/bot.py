"""`healthmsg bot`: run a bot, try what it has in hand against new code, and see to what needs a person."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import quote

import typer
from attrs import evolve
from rich.console import Console

from healthmsg.bot.dialogs.orders import STOP, TAKE_BACK
from healthmsg.bot.surface import DialogProblem
from healthmsg.cli.bots.calling import ControlClient, NamedStore, NoAnswerError
from healthmsg.cli.bots.lines import show_warnings
from healthmsg.cli.bots.loading import folder_to_watch, load_bot, problem_in_code
from healthmsg.cli.bots.reloading import Reloader, changes_in
from healthmsg.cli.bots.running import ControlAt, Run
from healthmsg.cli.bots.showing import Contents
from healthmsg.cli.bots.stores import find_store, open_store, order_dialog, take_up, unknown_replies
from healthmsg.cli.problems import ExitCode, RefusedError, exit_on_error, fail, print_text
from healthmsg.cli.service import EachOptionOnce
from healthmsg.cli.terminal import has_lost_output, printable
from healthmsg.codec import encode
from healthmsg.errors import HealthmsgError, JournalInUseError
from healthmsg.json_text import JSONObject

T = TypeVar("T")
_LOOK_EVERY: Final = 0.2
"""Seconds between looks at whether a bot has ended."""
_RESULTS: Final = {"held": "would be held", "asked_again": "would ask again"}

bot: Final = typer.Typer(
    help="Run a bot, and see to what it keeps.", no_args_is_help=True, pretty_exceptions_show_locals=False
)

TheBot = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:BOT",
        help="A Bot in a module, or a function that returns one, as in an import from this folder.",
    ),
]
Store = Annotated[str, typer.Argument(metavar="STORE", help="The bot's: a file, or postgresql://…")]
TheDialog = Annotated[str, typer.Argument(metavar="DIALOG", help="The dialog's id, as `bot show` prints it.")]
ControlPort = Annotated[
    int | None,
    typer.Option(
        "--control",
        metavar="PORT",
        min=1,
        max=65535,
        envvar="HEALTHMSG_CONTROL",
        help="The control surface, on 127.0.0.1.",
        show_default=False,
    ),
]
ControlToken = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="HEALTHMSG_CONTROL_TOKEN",
        help="The file with the token of the control surface, which only you can read.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@bot.command(cls=EachOptionOnce)
def run(
    target: TheBot,
    control: ControlPort = None,
    control_token: ControlToken = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when the module's files change; for work on it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each event.")] = False,
) -> None:
    """Run a bot until SIGTERM or Ctrl-C, with a line on the standard error for each event.

    The line says when, in which chat, what kind of event, which handler, how long it took and how it ended:
    never a text or a name. At the first signal, what was begun is finished; the second one ends the process
    at once, and what was in hand is handled again at the next start.

    With --control, others on this machine that have the token can ask for figures, start and schedule
    dialogs, take parked events up again and stop the bot; see `healthmsg.bot.control`.

    Exit status: 0 stopped, 1 it broke off, 2 refused, 130 stopped with Ctrl-C; 143 and 130 at once, by a
    second signal.
    """
    with exit_on_error():
        if reload:
            raise typer.Exit(_run_again(target))
        surface = (
            None if control is None else ControlAt(control, ControlClient.of(control, control_token).token)
        )
        code = _run(target, surface, is_quiet=quiet)
    raise typer.Exit(code)


def _run(target: str, surface: ControlAt | None, *, is_quiet: bool) -> int:
    found = load_bot(target)
    show_warnings()
    try:
        return Run(found, _say, surface, is_quiet).main()
    except JournalInUseError:
        problem = "another process has the store of this bot: nothing was begun"
    except (HealthmsgError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - an author's own, which may have private things in it
        problem = problem_in_code(error)
    return fail(problem)


def _run_again(target: str) -> int:
    folder = folder_to_watch(target)
    changes = changes_in(folder)
    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    _say(f"Started again at each change in {printable(str(folder))}.")
    return asyncio.run(Reloader((sys.executable, "-m", "healthmsg.cli", *arguments), changes, _say).run())


@bot.command(cls=EachOptionOnce)
def check(store: Store, target: TheBot, as_json: AsJson = False) -> None:
    """Try all open dialogs of a store against the code that is to be deployed. Works beside a bot.

    Of one that does not fit, what would become of it: it is held, and sends nothing until a person decides;
    or it asks again from there, where nothing that came after has been seen by others.

    Nothing is sent or changed. Exit status: 0 all fit, 1 one does not, 2 refused.
    """
    with exit_on_error():
        location, found = find_store(store), load_bot(target)

        async def tried() -> tuple[int, Sequence[DialogProblem]]:
            async with open_store(location) as opened:
                return len(await opened.dialogs()), await found.check(opened)

        count, problems = asyncio.run(tried())
    if as_json:
        listed = [
            {name: getattr(one, name) for name in ("id", "name", "version", "result", "problem")}
            for one in problems
        ]
        _print_json({"dialogs": count, "problems": listed})
    else:
        for one in problems:
            result = _RESULTS[one.result]
            _print(f"{one.name} v{one.version}  {one.id}  {result}: {printable(one.problem)}")
        _print(f"{count - len(problems):,} of {count:,} open dialogs fit this code.")
    _end(ExitCode.FAILED if problems else ExitCode.DONE)


@bot.command(cls=EachOptionOnce)
def show(
    store: Store,
    texts: Annotated[bool, typer.Option("--texts", help="With what was said, which is patients'.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show dialogs that are open or held, parked events, and replies that may have arrived.

    Works beside a bot.
    """
    with exit_on_error():
        location = find_store(store)

        async def read() -> Contents:
            async with open_store(location) as opened:
                return await Contents.read(opened, await unknown_replies(location))

        contents = asyncio.run(read())
    if as_json:
        _print(contents.as_json(with_texts=texts))
    else:
        for line in contents.lines(with_texts=texts):
            _print(line)
    _end(ExitCode.DONE)


@bot.command(cls=EachOptionOnce)
def retry(
    store: Store,
    sequence: Annotated[int | None, typer.Argument(help="Of the event, as `bot show` prints it.")] = None,
    all_parked: Annotated[bool, typer.Option("--all", help="All parked events.")] = False,
    control: ControlPort = None,
    control_token: ControlToken = None,
) -> None:
    """Take parked events up again.

    With --control, the bot that runs does it at once, if it has this store; else no bot may have the store,
    and the next one that starts does it.
    """
    with exit_on_error("Nothing was changed."):
        if (sequence is None) == (not all_parked):
            raise RefusedError("name one event by its SEQUENCE, or all of them with --all")
        if control is not None:
            asked: dict[str, object] = {"all": True} if sequence is None else {"sequence": sequence}
            count = _ask(_bot_with(store, control, control_token), "POST", "/retry", asked).get("retried")
        else:
            count = _in_store(lambda: take_up(find_store(store), sequence))
    if not count and sequence is not None:
        fail("no event with this sequence is parked", ExitCode.REFUSED)
    _print(f"{count} taken up again.")
    _end(ExitCode.DONE)


@bot.command(cls=EachOptionOnce)
def end(
    store: Store, dialog: TheDialog, control: ControlPort = None, control_token: ControlToken = None
) -> None:
    """End a dialog, open or held, without a word to its user.

    What was parked for it stays parked. With --control, the bot that runs does it, if it has this store; else
    no bot may have the store, and the next one that starts does it.
    """
    with exit_on_error("Nothing was changed."):
        if control is not None:
            _ask(_bot_with(store, control, control_token), "DELETE", f"/dialogs/{quote(dialog, safe='')}")
        elif not _in_store(lambda: order_dialog(find_store(store), STOP, dialog)):
            raise RefusedError("there is no dialog with this id")
    _print("It ends." if control is not None else "It ends when the bot starts.")
    _end(ExitCode.DONE)


@bot.command("take-back", cls=EachOptionOnce)
def take_back(
    store: Store, dialog: TheDialog, control: ControlPort = None, control_token: ControlToken = None
) -> None:
    """Let a dialog go on that is held, or that was handed over to a person.

    What was parked for it meanwhile is taken up. One that still does not fit the code stays held; `bot check`
    says so beforehand. With --control, the bot that runs does it, if it has this store; else no bot may have
    the store, and the next one that starts does it.
    """
    with exit_on_error("Nothing was changed."):
        if control is not None:
            path = f"/dialogs/{quote(dialog, safe='')}/take-back"
            _ask(_bot_with(store, control, control_token), "POST", path)
        elif not _in_store(lambda: order_dialog(find_store(store), TAKE_BACK, dialog)):
            raise RefusedError("no dialog with this id is held or handed over")
    _print(f"It goes on{'' if control is not None else ' when the bot starts'}, if it fits the code.")
    _end(ExitCode.DONE)


def _in_store(change: Callable[[], Coroutine[object, object, T]]) -> T:
    try:
        return asyncio.run(change())
    except JournalInUseError:
        pass
    raise RefusedError("a bot has this store: give its --control PORT and --control-token FILE, or stop it")


def _bot_with(store: str, control: int, control_token: Path | None) -> ControlClient:
    """Return the way to the bot that runs, which does what it is asked for only if it has this store."""
    client, location = ControlClient.of(control, control_token), find_store(store)

    async def identity() -> str:
        async with open_store(location) as opened:
            return opened.identity

    return evolve(client, store=NamedStore(printable(location.text), asyncio.run(identity())))


def _ask(
    client: ControlClient, method: str, path: str, document: dict[str, object] | None = None
) -> JSONObject:
    """Have a bot that runs do something, and return its answer."""
    try:
        return client.call(method, path, document)
    except NoAnswerError as lost:
        problem = str(lost)
    return fail(f"{problem}\nIt may have been done, or may yet be: `healthmsg bot show` says what there is.")


@bot.command("stop-when-idle", cls=EachOptionOnce)
def stop_when_idle(
    store: Store,
    control: ControlPort = None,
    control_token: ControlToken = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when it has ended, be it that it was started again.")
    ] = False,
) -> None:
    """Have the bot that has this store end as soon as nothing is in hand and nothing is due."""
    with exit_on_error("Nothing was changed."):
        if control is None:
            raise RefusedError("--control is needed, the port of the bot's control surface")
        client = _bot_with(store, control, control_token)
        started_at = _ask(client, "GET", "/stats")["started_at"] if wait else None
        _ask(client, "POST", "/stop", {"when": "idle"})
    with exit_on_error():
        while wait and not client.has_ended(started_at):
            time.sleep(_LOOK_EVERY)
    _print("It has ended." if wait else "It ends when it is idle.")
    _end(ExitCode.DONE)


def _say(text: str) -> None:
    print_text(Console(stderr=True), text)


def _print(text: str) -> None:
    print_text(Console(), text)


def _print_json(found: dict[str, object]) -> None:
    _print(encode(found).decode())


def _end(code: ExitCode) -> None:
    if has_lost_output():
        fail("the output could not be written")
    raise typer.Exit(code)
