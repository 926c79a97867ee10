"""The commands."""

import asyncio
from typing import Annotated, Final

import typer
from rich.console import Console

from healthmsg.cli.bot import bot
from healthmsg.cli.campaign import campaign
from healthmsg.cli.journal import journal
from healthmsg.cli.listen import listen
from healthmsg.cli.problems import exit_on_error, fail, system_reason
from healthmsg.cli.secret_files import read_secret_files
from healthmsg.cli.send import chats, send
from healthmsg.cli.send_many import send_many
from healthmsg.cli.service import EachOptionOnce
from healthmsg.cli.terminal import has_lost_output
from healthmsg.cli.worker import worker
from healthmsg.errors import HealthmsgError
from healthmsg.version import __version__

# Locals in a traceback would show tokens and messages.
app: Final = typer.Typer(name="healthmsg", no_args_is_help=True, pretty_exceptions_show_locals=False)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"healthmsg {__version__}")  # noqa: T201 - the output of the option
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """KPN Healthcare Messenger from the command line."""
    with exit_on_error():
        read_secret_files()


@app.command(cls=EachOptionOnce)
def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8030,
    approve: Annotated[
        bool, typer.Option("--approve/--ask", help="Approve sign-ins by itself, or ask on a page.")
    ] = True,
    redirect_uri: Annotated[
        str | None, typer.Option(help="The registered callback; without it, any on loopback.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name or address by which it may be called; can be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print how to use it as one JSON object.")] = False,
) -> None:
    """Serve the API on this machine, with made-up people, until Ctrl-C."""
    from healthmsg.cli.demo import serve  # noqa: PLC0415 - loaded by the command that needs it
    from healthmsg.sandbox import Sandbox  # noqa: PLC0415 - the same

    sandbox = Sandbox(auto_approve=approve, redirect_uri=redirect_uri, allowed_hosts=allow_host or ())
    try:
        asyncio.run(serve(Console(), sandbox, host, port, as_json=as_json))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        fail(f"Cannot listen on {host}:{port}: {system_reason(error)}")


@app.command(cls=EachOptionOnce)
def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object on the last line.")
    ] = False,
    sandbox_url: Annotated[
        str | None, typer.Option("--sandbox", metavar="URL", help="Use a sandbox that is up already.")
    ] = None,
    client_id: Annotated[str, typer.Option(help="Of that sandbox.")] = "healthmsg-sandbox",
    client_secret: Annotated[str, typer.Option(help="Of that sandbox.")] = "healthmsg-sandbox-secret",  # noqa: S107 - made up
) -> None:
    """Watch the SDK do its whole job against a sandbox: sign in, send, upload, read back, download, count."""
    from healthmsg.cli.demo import run_demo  # noqa: PLC0415 - loaded by the command that needs it
    from healthmsg.sandbox.remote import RemoteSandbox  # noqa: PLC0415 - the same

    sandbox = RemoteSandbox(sandbox_url.rstrip("/"), client_id, client_secret) if sandbox_url else None
    # With --json, only the last line goes to the standard output, for a program.
    console = Console(stderr=as_json)
    try:
        figures = asyncio.run(run_demo(console, sandbox))
    except HealthmsgError as error:
        fail(str(error))
    except ExceptionGroup as group:  # from calls at the same time
        fail(str(_first_error(group)))
    except OSError as error:  # no room for the files, or no sandbox could start
        fail(system_reason(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        print(figures.as_json(), flush=True)  # noqa: T201 - not for rich: no wrapping, no colour
        if has_lost_output():
            fail("the figures could not be written")
    raise typer.Exit(0 if figures.is_clean else 1)


def _first_error(group: ExceptionGroup) -> Exception:
    """Return the first error of ours; a group without one is a bug and is raised again."""
    ours = group.subgroup(HealthmsgError)
    if ours is None:
        raise group
    first: Exception = ours
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first


app.command(cls=EachOptionOnce)(chats)
app.command(cls=EachOptionOnce)(send)
app.command(cls=EachOptionOnce)(listen)
app.command("send-many", cls=EachOptionOnce)(send_many)
app.command(cls=EachOptionOnce)(worker)
app.add_typer(journal, name="journal")
app.add_typer(campaign, name="campaign")
app.add_typer(bot, name="bot")
