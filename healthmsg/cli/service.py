"""The service that a command calls: which one it is, the way there, and the options for it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from attrs import frozen
from typer.core import TyperCommand, TyperOption

from healthmsg.assembly import token_from_env
from healthmsg.cli.files import HIDDEN
from healthmsg.client import Client
from healthmsg.environment import Environment, comparable_url
from healthmsg.errors import ConfigurationError
from healthmsg.ids import ChatAddress, exact_aux_id
from healthmsg.network import Network, trusting_context
from healthmsg.pipeline.record import OnCall
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat
from healthmsg.validation import is_loopback

_NAMES: Final = {
    comparable_url(Environment.kpn().api_url): "KPN Healthcare Messenger",
    comparable_url(Environment.ALTERDESK.api_url): "Alterdesk",
}

Proxy = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An HTTP proxy. Without it, HTTPS_PROXY, ALL_PROXY and NO_PROXY count, which are safer for a"
        " password.",
    ),
]
Ca = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The certificates (PEM) to trust instead of the system's.")
]
NoX509Strict = Annotated[
    bool,
    typer.Option(
        "--no-x509-strict",
        help="Trust also certificates without key identifiers and the like, as Python before 3.13 does.",
    ),
]


class EachOptionOnce(TyperCommand):
    """A command that refuses a second value for an option, where the first would be ignored.

    With two journals, recipients who got a message from the first would get it again from the second.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments."""
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(given).items():
            if times > 1 and isinstance(option, TyperOption) and not option.is_flag and not option.multiple:
                ctx.fail(f"{option.opts[0]} is given {times} times")
        return super().parse_args(ctx, args)


@frozen
class Service:
    """The service that the variables `HEALTHMSG_…` name, and the options for the way there."""

    proxy: str | None = None
    ca: Path | None = None
    no_x509_strict: bool = False

    @property
    def environment(self) -> Environment:
        """The service's URLs.

        Raises:
            ConfigurationError: a variable is missing or unusable; the message says what to set.
        """
        try:
            token_from_env()
            return Environment.from_env()
        except ConfigurationError as error:
            problem = str(error)
        raise ConfigurationError(
            f"{problem}. Set HEALTHMSG_TOKEN to an access token, and HEALTHMSG_ENVIRONMENT to kpn or"
            " alterdesk (or instead of it HEALTHMSG_API_URL to the URL of a sandbox)."
        )

    def check(self) -> None:
        """Check variables and options, without a call.

        Raises:
            ConfigurationError: one of them cannot work.
        """
        _ = self.environment
        self.check_network()

    def check_network(self) -> None:
        """Check the options.

        Raises:
            ConfigurationError: one of them cannot work.
        """
        Network(self.proxy, self._trusted())

    def client(self, on_call: OnCall | None = None) -> Client:
        """Return a client of the service.

        Raises:
            ConfigurationError: one of them cannot work.
        """
        token, environment = token_from_env(), Environment.from_env()
        return Client(
            token,
            environment=environment,
            proxy=self.proxy,
            ssl=self._trusted(),
            # Proxies that the environment names are for other machines.
            trust_env=not is_on_this_machine(environment),
            on_call=on_call,
        )

    def _trusted(self) -> SSLContext | None:
        if self.ca is None and not self.no_x509_strict:
            return None
        return trusting_context(self.ca, is_strict=not self.no_x509_strict, name="--ca")

    def arguments(self) -> Iterator[str]:
        """Yield the options for a command that goes the same way, without the proxy's password."""
        if self.proxy is not None:
            yield f"--proxy={hide_password(self.proxy)}"
        if self.ca is not None:
            yield f"--ca={self.ca}"
        if self.no_x509_strict:
            yield "--no-x509-strict"


def hide_password(url: str) -> str:
    """Return the URL with `***` in the place of its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:{HIDDEN}@{host}").geturl()


def describe(environment: Environment) -> str:
    """Return for a person where something is sent."""
    url = environment.api_url
    if name := _NAMES.get(comparable_url(url)):
        return f"{name} ({url})"
    if is_on_this_machine(environment):
        return f"A SANDBOX on this machine, or a tunnel that begins here ({url})"
    return f"Neither KPN's nor Alterdesk's own, but {url}"


def is_on_this_machine(environment: Environment) -> bool:
    """Return whether this machine itself serves it, as it does a sandbox."""
    return is_loopback(urlsplit(environment.api_url).hostname or "")


def chat_handle(client: Client, address: ChatAddress | str) -> Chat | GroupChat:
    """Return the handle of a chat, or of the conversation with a user."""
    if isinstance(address, str):
        return client.users(address).conversation()
    if address.kind.is_auxiliary:
        aux_id = exact_aux_id(address.id)
        if address.kind.is_group:
            return client.auxiliary.groupchats(aux_id)
        return client.auxiliary.conversations(aux_id)
    return client.groupchats(address.id) if address.kind.is_group else client.conversations(address.id)
