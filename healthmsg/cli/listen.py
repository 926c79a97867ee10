"""`healthmsg listen`: what happens in the user's chats, a line for each event."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from attrs import frozen
from rich.console import Console

from healthmsg.cli.files import JournalLocation
from healthmsg.cli.listening.documents import document
from healthmsg.cli.listening.lines import EventLines
from healthmsg.cli.listening.names import Names
from healthmsg.cli.listening.status import watch
from healthmsg.cli.problems import ExitCode, RefusedError, exit_on_error, print_text
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service, describe
from healthmsg.cli.terminal import without_blocking_output, write_line
from healthmsg.client import Client
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError
from healthmsg.events import KINDS, Event
from healthmsg.pipeline.retry import Retries

if TYPE_CHECKING:
    from healthmsg.gateway.stream import Events

STORE_VARIABLE: Final = "HEALTHMSG_STORE"
"""Names the store outside the command, where others on the machine could see a password."""


class Subscribe(Enum):
    """Of which group chats messages are to come at once."""

    ACTIVE = "active"
    ALL = "all"
    NONE = "none"


Store = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        envvar=STORE_VARIABLE,
        help="Where events are kept until their line is written: a file, or postgresql://…. What happens"
        " while this does not run is shown at the next start.",
        show_default=False,
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(metavar="KIND", help=f"Only these: {', '.join(KINDS)}. Can be repeated."),
]
Subscribed = Annotated[
    Subscribe,
    typer.Option(
        help="Of which group chats messages are to come at once: those in which something happens, all, or"
        " none. The others' come late."
    ),
]
Texts = Annotated[bool, typer.Option("--texts", help="With texts and answers, which are patients'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Do not say how the connection is.")]


def listen(
    store: Store = None,
    kind: Kinds = None,
    subscribe: Subscribed = Subscribe.ACTIVE,
    texts: Texts = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """Show what happens in your chats as it happens, one line for each event, until Ctrl-C.

    HEALTHMSG_TOKEN is the access token, HEALTHMSG_ENVIRONMENT is kpn or alterdesk; HEALTHMSG_GATEWAY_URL is
    KPN's URL for live events, which KPN gives to you.

    With a store, an event is done when its line is written. At the first start, nothing that was sent before
    is shown. Events of other kinds than those asked for count as done. Likes, typing and presence are not
    kept.

    With --json, each line has kind, id, chat, received_at, is_own, caught_up and attempt, and as the kind has
    them message_id, user_id, status, name (of an unknown event), the ids of users, and of message: id,
    user_id, created_at, the ids of user, mentions and liked_by, the id, size and mime_type of attachments,
    and the type of payload. Names, texts, names of files, options of questions and answers are there with
    --texts only; without it, the id of an answer ends with … in the place of the answer.

    Exit status: 0 the reader of the output is gone, 1 it broke off, 2 refused, 130 ended with Ctrl-C.
    """
    with exit_on_error():
        service = Service(proxy, ca, no_x509_strict)
        service.check()
        require_gateway(service.environment)
        listening = _Listening(_parse_store(store), parse_kinds(kind or []), subscribe, texts, as_json, quiet)
        listening.say(f"Events are read from: {describe(service.environment)}")
        code = listening.run(service)
    raise typer.Exit(code)


def require_gateway(environment: Environment) -> None:
    """Check that it is known where live events come from.

    Raises:
        RefusedError: it is not.
    """
    if environment.gateway_url is None:
        raise RefusedError("set HEALTHMSG_GATEWAY_URL to the URL for live events, which KPN gives to you")


def _parse_store(store: str | None) -> JournalLocation | None:
    if not store:
        return None
    try:
        return JournalLocation.parse(store)
    except ConfigurationError as error:
        problem = f"--store: {error}"
    raise RefusedError(problem)


def parse_kinds(words: Iterable[str]) -> tuple[type[Event], ...] | None:
    """Return the classes of kinds of events; of none, `None`, which stands for all.

    Raises:
        RefusedError: there is no such kind.
    """
    found = []
    for word in words:
        kind = KINDS.get(word.replace("-", "_"))
        if kind is None:
            raise RefusedError(f"--kind {word}: there is {', '.join(KINDS)}")
        found.append(kind)
    return tuple(found) or None


@frozen
class _Listening:
    """Writes a line for each event, until the output or the stream ends."""

    store: JournalLocation | None
    kinds: tuple[type[Event], ...] | None
    subscribe: Subscribe
    with_texts: bool
    as_json: bool
    is_quiet: bool

    def run(self, service: Service) -> ExitCode:
        """Listen until the reader of the output is gone, or until Ctrl-C.

        Raises:
            HealthmsgError: it cannot go on.
            OSError: the output cannot be written.
        """
        try:
            with without_blocking_output():
                asyncio.run(self._listen(service))
        except KeyboardInterrupt:  # how it is meant to end
            return ExitCode.INTERRUPTED
        return ExitCode.DONE

    async def _listen(self, service: Service) -> None:
        async with service.client() as client, self._opened(client) as events:
            names = Names(client.with_options(retries=Retries.none()))
            try:
                await self._write_all(events, names)
            except BrokenPipeError:
                # As `| head` ends. The event of that line is not done, since the next one was not asked for.
                return

    @asynccontextmanager
    async def _opened(self, client: Client) -> AsyncIterator["Events"]:
        """Open the stream of events, and say what it does."""
        store = None if self.store is None else self.store.target
        async with client.events(store=store, kinds=self.kinds, subscribe=self.subscribe.value) as events:
            watching = asyncio.create_task(watch(events, self.say))
            try:
                yield events
            finally:
                watching.cancel()
                await asyncio.wait([watching])

    async def _write_all(self, events: "Events", names: Names) -> None:
        lines = EventLines(names, self.with_texts)
        async for event in events:
            if self.as_json:
                line = document(event, with_texts=self.with_texts)
            else:
                await names.look_up(event)
                line = lines.line(event)
            await write_line(line)

    def say(self, text: str) -> None:
        """Say how it is going, beside the events."""
        if not self.is_quiet:
            print_text(Console(stderr=True), text)
