"""`healthmsg worker`: send what campaigns are in a journal, beside any number of others that do the same."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli.bot import ControlPort, ControlToken
from healthmsg.cli.bots.lines import show_warnings
from healthmsg.cli.files import JOURNAL_VARIABLE
from healthmsg.cli.problems import exit_on_error, print_text
from healthmsg.cli.sending.options import Settle
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service
from healthmsg.cli.working.lines import last_words
from healthmsg.cli.working.options import WorkerOptions
from healthmsg.cli.working.running import WorkerRun

if TYPE_CHECKING:
    from healthmsg.otel import WorkerMetrics
    from healthmsg.pipeline.record import OnCall


def worker(
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=JOURNAL_VARIABLE,
            help="The database that the workers share: postgresql://…; or a file for one worker.",
            show_default=False,
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:CLIENT",
            envvar="HEALTHMSG_CLIENT",
            help="A function that returns a Client, for tokens that are renewed and limits of your own.",
            show_default=False,
        ),
    ] = None,
    health: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=1,
            max=65535,
            envvar="HEALTHMSG_HEALTH",
            help="Answer GET /health and GET /ready there, and nothing else.",
            show_default=False,
        ),
    ] = None,
    health_host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="HEALTHMSG_HEALTH_HOST",
            help="Where the probes come in: 0.0.0.0 for those of a cluster. Without it, this machine alone.",
            show_default=False,
        ),
    ] = None,
    control: ControlPort = None,
    control_token: ControlToken = None,
    settle: Settle = SETTLE,
    quiet: Annotated[bool, typer.Option("--quiet", help="No lines with figures.")] = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """Send what campaigns are in a journal until SIGTERM or Ctrl-C, as one of any number of workers.

    `healthmsg campaign` puts campaigns there, from anywhere. All workers together keep the limit of the
    service. HEALTHMSG_TOKEN and HEALTHMSG_ENVIRONMENT are those of `send-many`; HEALTHMSG_TOKEN_FILE and
    HEALTHMSG_JOURNAL_FILE name files that hold such a value, as containers get them.

    The log is on the standard error: when it can send and when it cannot, what to do then, and figures; never
    a text, a name or an address. With --health, GET /health says whether it is alive, and GET /ready whether
    it sends. With --control, GET /stats has figures, on this machine and with the token. OpenTelemetry gets
    its metrics if its packages are there.

    At the first signal, what is under way is finished and nothing more is begun; the second one ends the
    process at once, and other workers see to what was under way.

    Exit status: 0 stopped, 1 it broke off, 2 refused, 130 stopped with Ctrl-C; 143 and 130 at once, by a
    second signal.
    """
    options = WorkerOptions(
        *(journal, client, health, health_host, control, control_token),
        Service(proxy, ca, no_x509_strict),
    )
    run: WorkerRun | None = None
    with exit_on_error(lambda: "Nothing was begun." if run is None else last_words(run.failure)):
        options.check()
        on_call, metrics = _telemetry()
        run = WorkerRun(
            lambda: options.make_client(on_call),
            options.location().target,
            _say,
            options.probes(),
            options.surface(),
            metrics,
            quiet,
            settle,
        )
        show_warnings()
        code = run.main()
    raise typer.Exit(code)


def _telemetry() -> "tuple[OnCall | None, WorkerMetrics | None]":
    """Return what reports to OpenTelemetry's global providers; without its packages, nothing does."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.semconv") is None:
        return None, None
    from healthmsg.otel import OpenTelemetryHook, WorkerMetrics  # noqa: PLC0415 - an extra's

    return OpenTelemetryHook(), WorkerMetrics()


def _say(text: str) -> None:
    print_text(Console(stderr=True), text)
