"""`healthmsg send`: one message."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from attrs import define
from rich.console import Console

from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli.chats import chat_at, parse_address
from healthmsg.cli.ending import ExitCode, problems_told, say
from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.sending import options as option
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service, named
from healthmsg.cli.terminal import shown
from healthmsg.client import Client
from healthmsg.codec import encode
from healthmsg.errors import AmbiguousAuxIdError, CallError, DeliveryUnknownError, HealthmsgError
from healthmsg.ids import ChatAddress
from healthmsg.models import Outcome
from healthmsg.validation import require_non_blank

_STDIN: Final = "-"
_CODES: Final = {
    Outcome.DELIVERED: ExitCode.DONE,
    Outcome.NOT_SENT: ExitCode.FAILED,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}
_SAID: Final = {
    Outcome.DELIVERED: "Sent",
    Outcome.NOT_SENT: "Not sent",
    Outcome.UNKNOWN: "Unknown: it may have arrived. Look in the chat before you send it again",
}

_AMBIGUOUS: Final = (
    "the auxiliary id has a diacritic, which the vendor's own client folds away (é becomes e), so that two"
    " patients can share one id: write it without, or give --exact-aux-id if it is meant as it is"
)

To = Annotated[
    str,
    typer.Argument(
        metavar="TO",
        help="conversations/…, users/…, groupchats/…, aux/conversations/… or aux/groupchats/…;"
        " `healthmsg chats` lists them.",
        show_default=False,
    ),
]
Text = Annotated[
    str,
    typer.Argument(
        metavar="TEXT",
        help="The message, or - to read it from the standard input: others on the machine can see a command.",
        show_default=False,
    ),
]
ExactAuxId = Annotated[
    bool, typer.Option("--exact-aux-id", help="Diacritics in an auxiliary id are meant as they are.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]


def send(
    to: To,
    text: Text,
    exact_aux_id: ExactAuxId = False,
    settle: option.Settle = SETTLE,
    as_json: AsJson = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """Send one message, once. One that may have arrived is looked for in its chat, and not sent again.

    HEALTHMSG_TOKEN is the access token, HEALTHMSG_ENVIRONMENT is kpn or alterdesk.

    Exit status: 0 sent, 1 not sent, 2 refused, 3 unknown, 130 interrupted.
    """
    sending = _Sending()
    try:
        with problems_told("Nothing was sent."), _noted(sending):
            address = parse_address(to, is_exact=exact_aux_id)
            body = require_non_blank(_read_stdin() if text == _STDIN else text)
            encode(body)  # refuses what has no UTF-8 form
            service = Service(proxy, ca, no_x509_strict)
            service.check()
            client = service.client()
        sending.service = service.environment.api_url
        say(Console(stderr=True), f"Service: {named(service.environment)}")
        code = _carry_out(sending, client, address, body, settle)
    finally:
        if as_json:
            print(sending.as_json(), flush=True)  # noqa: T201 - not for rich: no wrapping, no colour
    if not as_json:
        say(Console(stderr=sending.outcome is not Outcome.DELIVERED), sending.as_text())
    raise typer.Exit(code)


@define
class _Sending:
    """What became of the message, as far as it is known."""

    outcome: Outcome = Outcome.NOT_SENT
    message_id: str | None = None
    error: str | None = None
    service: str | None = None
    """The API's URL."""

    def as_text(self) -> str:
        said = _SAID[self.outcome]
        if self.message_id is not None:
            return f"{said}: message {shown(self.message_id)}"
        return f"{said}: {self.error}" if self.error else f"{said}."

    def as_json(self) -> str:
        fields = {
            "outcome": self.outcome.value,
            "message_id": self.message_id,
            "error": self.error,
            "service": self.service,
        }
        return encode(fields).decode()


@contextmanager
def _noted(sending: _Sending) -> Iterator[None]:
    """Note why the message is refused, in the words of the command line."""
    try:
        yield
    except AmbiguousAuxIdError:
        problem = _AMBIGUOUS
    except RefusedError as error:
        problem = error.shown
    except HealthmsgError as error:
        problem = str(error)
    else:
        return
    sending.error = problem
    raise RefusedError(problem)


def _carry_out(
    sending: _Sending, client: Client, address: ChatAddress | str, body: str, settle: float
) -> ExitCode:
    try:
        asyncio.run(_send(sending, client, address, body, settle))
    except CallError as error:
        sending.error = error.problem
    except HealthmsgError as error:
        sending.error = str(error)
    except KeyboardInterrupt:
        sending.error = "interrupted"
        return ExitCode.INTERRUPTED
    return _CODES[sending.outcome]


async def _send(
    sending: _Sending, client: Client, address: ChatAddress | str, body: str, settle: float
) -> None:
    async with client:
        chat = chat_at(client, address)
        # Should it be interrupted from here on, nothing else is known.
        sending.outcome = Outcome.UNKNOWN
        try:
            sent = await chat.send(body)
        except DeliveryUnknownError as error:
            unknown = error
        except CallError as error:
            sending.outcome = error.outcome
            raise
        except HealthmsgError:
            sending.outcome = Outcome.NOT_SENT
            raise
        else:
            sending.outcome, sending.message_id = Outcome.DELIVERED, sent.id
            return
        sending.error = unknown.problem
        say(
            Console(stderr=True), f"It may have arrived: looking for it in the chat, for up to {settle:g} s …"
        )
        try:
            found = await client.reconcile(unknown, settle=settle)
        except HealthmsgError as error:
            # That reading had no effect says nothing of the message.
            why = error.problem if isinstance(error, CallError) else str(error)
            sending.error = f"{unknown.problem}; it could not be looked for: {why}"
            return
        sending.outcome, sending.message_id = found.outcome, found.message_id
        if found.outcome is Outcome.DELIVERED:
            sending.error = None
        elif found.outcome is Outcome.UNKNOWN and found.reason:
            sending.error = f"{unknown.problem}; {found.reason}"


def _read_stdin() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, AttributeError):
        pass
    else:
        # What ends the last line is the editor's or the shell's, not the message's.
        return text.rstrip("\r\n")
    raise RefusedError("the standard input is no text in UTF-8")
