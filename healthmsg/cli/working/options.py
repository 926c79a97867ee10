"""What a worker's command is given: where its probes and its figures are, and which client sends."""

import inspect
from typing import Annotated, Final

import typer
from attrs import frozen

from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli.bot import ControlPort, ControlToken
from healthmsg.cli.bots.calling import ControlClient
from healthmsg.cli.bots.loading import load, problem_in_code
from healthmsg.cli.bots.running import ControlAt
from healthmsg.cli.files import JOURNAL_VARIABLE, JournalLocation, require_journal_packages
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.sending.options import Settle
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service
from healthmsg.client import Client
from healthmsg.control.token import HOST
from healthmsg.errors import HealthmsgError
from healthmsg.pipeline.record import OnCall

_NO_JOURNAL: Final = (
    f"--journal is needed, or {JOURNAL_VARIABLE}: the PostgreSQL database that the workers of a fleet share,"
    " such as postgresql://user@host/recall"
)


@frozen
class ProbesAt:
    """Where `/health` and `/ready` are, and nothing else."""

    port: int
    host: str = HOST


@frozen
class WorkerOptions:
    """The options of the command. Each is declared here alone."""

    journal: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=JOURNAL_VARIABLE,
            help="The database that the workers share: postgresql://…; or a file for one worker.",
            show_default=False,
        ),
    ] = None
    client: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:CLIENT",
            envvar="HEALTHMSG_CLIENT",
            help="A function that returns a Client, for tokens that are renewed and limits of your own.",
            show_default=False,
        ),
    ] = None
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
    ] = None
    health_host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="HEALTHMSG_HEALTH_HOST",
            help="Where the probes come in: 0.0.0.0 for those of a cluster. Without it, this machine alone.",
            show_default=False,
        ),
    ] = None
    control: ControlPort = None
    control_token: ControlToken = None
    settle: Settle = SETTLE
    quiet: Annotated[bool, typer.Option("--quiet", help="No lines with figures.")] = False
    proxy: Proxy = None
    ca: Ca = None
    no_x509_strict: NoX509Strict = False

    @property
    def service(self) -> Service:
        """The service, and the way there."""
        return Service(self.proxy, self.ca, self.no_x509_strict)

    def location(self) -> JournalLocation:
        """Return where the journal is.

        Raises:
            RefusedError: there is none, or its packages are missing.
            ConfigurationError: it is no journal.
        """
        if not self.journal:
            raise RefusedError(_NO_JOURNAL)
        require_journal_packages()
        return JournalLocation.parse(self.journal)

    def probes(self) -> ProbesAt | None:
        """Return where probes are answered, if they are.

        Raises:
            RefusedError: there is a host and no port.
        """
        if self.health is not None:
            return ProbesAt(self.health, self.health_host or HOST)
        if self.health_host is not None:
            raise RefusedError("--health-host needs --health, the port of the probes")
        return None

    def surface(self) -> ControlAt | None:
        """Return where the figures are, for those who hold the token, if they are anywhere.

        Raises:
            RefusedError: there is a port and no file with a token.
            ConfigurationError: the file cannot be used.
        """
        if self.control is None:
            return None
        return ControlAt(self.control, ControlClient.of(self.control, self.control_token).token)

    def check(self) -> None:
        """Check what can be checked before anything is opened.

        Raises:
            RefusedError: something cannot be right.
            ConfigurationError: the same.
        """
        if self.client is None:
            self.service.check()
        elif tuple(self.service.arguments()):
            raise RefusedError(
                "--proxy, --ca and --no-x509-strict are for the client that this command makes: with"
                " --client, give them to yours"
            )

    async def make_client(self, on_call: OnCall | None) -> Client:
        """Return the client that sends, which is made in the running event loop.

        Raises:
            RefusedError: the author's module has none, or its code fails: it says where.
            HealthmsgError: what making it raised.
        """
        return self.service.client(on_call) if self.client is None else await _authors_client(self.client)


async def _authors_client(target: str) -> Client:
    found = load(target, "client")
    if inspect.isawaitable(found):
        try:
            found = await found
        except (HealthmsgError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - an author's own, which may have private things in it
            problem = problem_in_code(error)
        else:
            problem = ""
        if problem:
            raise RefusedError(problem)
    if isinstance(found, Client):
        return found
    raise RefusedError(
        f"{target} is no Client, and no function that returns one, but of the type {type(found).__name__}"
    )
