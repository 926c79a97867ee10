"""`healthmsg worker`: send what campaigns are in a journal, beside any number of others that do the same."""

import logging
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from healthmsg.cli.bots.lines import show_warnings
from healthmsg.cli.problems import exit_on_error, print_text
from healthmsg.cli.working.lines import last_words
from healthmsg.cli.working.options import WorkerOptions
from healthmsg.cli.working.running import WorkerRun

if TYPE_CHECKING:
    from healthmsg.otel import WorkerMetrics
    from healthmsg.pipeline.record import OnCall


def worker(**options: Any) -> None:
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
    _run(WorkerOptions(**options))


# By this, typer knows the options: they are the fields of `WorkerOptions`.
worker.__signature__ = signature(WorkerOptions)  # type: ignore[attr-defined]


def _run(options: WorkerOptions) -> None:
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
            is_quiet=options.quiet,
            settle=options.settle,
        )
        # What is tried again is no line each: the worker's own lines say what keeps it from sending.
        show_warnings(logging.WARNING)
        raise typer.Exit(run.main())


def _telemetry() -> "tuple[OnCall | None, WorkerMetrics | None]":
    """Return what reports to OpenTelemetry's global providers; without its packages, nothing does."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.semconv") is None:
        return None, None
    from healthmsg.otel import OpenTelemetryHook, WorkerMetrics  # noqa: PLC0415 - an extra's

    return OpenTelemetryHook(), WorkerMetrics()


def _say(text: str) -> None:
    print_text(Console(stderr=True), text)
