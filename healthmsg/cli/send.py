"""`healthmsg chats` and `healthmsg send`: the chats, and one message to one of them."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from attrs import define
from rich.console import Console

from healthmsg.api import user_id
from healthmsg.bulk.reconcile import SETTLE
from healthmsg.cli.problems import ExitCode, RefusedError, exit_on_error, fail, print_text
from healthmsg.cli.sending.options import Settle
from healthmsg.cli.service import Ca, NoX509Strict, Proxy, Service, chat_handle, describe
from healthmsg.cli.terminal import has_lost_output, printable
from healthmsg.client import Client
from healthmsg.codec import encode
from healthmsg.errors import AmbiguousAuxIdError, CallError, DeliveryUnknownError, HealthmsgError
from healthmsg.ids import ADDRESS_STARTS, USERS, ChatAddress, ChatKind
from healthmsg.models import ConversationInfo, GroupChatInfo, Outcome
from healthmsg.validation import require_non_blank

# Room for `conversations/` and a UUID.
_ADDRESS_WIDTH: Final = 50
_STDIN: Final = "-"
_ENDINGS: Final = {
    Outcome.DELIVERED: (ExitCode.DONE, "Sent"),
    Outcome.NOT_SENT: (ExitCode.FAILED, "Not sent"),
    Outcome.UNKNOWN: (
        ExitCode.UNKNOWN,
        "Unknown: it may have arrived. Look in the chat before you send it again",
    ),
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


def chats(
    limit: Annotated[int | None, typer.Option(min=1, help="So many of each kind at most.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """List the chats: the address as `send` takes it, the kind, and the subject or the other side's name.

    HEALTHMSG_TOKEN is the access token, HEALTHMSG_ENVIRONMENT is kpn or alterdesk.
    """
    console = Console()

    def print_chat(info: ConversationInfo | GroupChatInfo) -> None:
        print_text(console, _as_json(info) if as_json else _as_text(info))

    with exit_on_error():
        service = Service(proxy, ca, no_x509_strict)
        service.check()
        print_text(Console(stderr=True), f"The chats are read from: {describe(service.environment)}")
        count = asyncio.run(_list(service, limit, print_chat))
    if not count and not as_json:
        print_text(console, "There are no chats.")
    if has_lost_output():
        fail("the output could not be written")


async def _list(
    service: Service, limit: int | None, print_chat: Callable[[ConversationInfo | GroupChatInfo], None]
) -> int:
    count = 0
    async with service.client() as client:
        for chats_of_kind in (client.conversations, client.groupchats):
            async for info in chats_of_kind.list(limit=limit):
                print_chat(info)
                count += 1
    return count


def _address(info: ConversationInfo | GroupChatInfo) -> ChatAddress:
    is_group = isinstance(info, GroupChatInfo)
    return ChatAddress(ChatKind.GROUP_CHAT if is_group else ChatKind.CONVERSATION, info.id)


def _kind(info: ConversationInfo | GroupChatInfo) -> str:
    return "group chat" if isinstance(info, GroupChatInfo) else "conversation"


def _as_text(info: ConversationInfo | GroupChatInfo) -> str:
    closed = "  (closed)" if info.closed else ""
    address, title = printable(_address(info).text), printable(info.title)
    return f"{address:{_ADDRESS_WIDTH}}  {_kind(info):12}  {title}{closed}".rstrip()


def _as_json(info: ConversationInfo | GroupChatInfo) -> str:
    fields = {
        "address": _address(info).text,
        "id": info.id,
        "kind": _kind(info),
        "name": info.title,
        "aux_id": info.aux_id,
        "closed": info.closed,
        "unread": info.unread,
    }
    return encode(fields).decode()


def parse_address(text: str, *, is_exact: bool = False) -> ChatAddress | str:
    """Parse the address of a chat, or of a user: then return the user's id.

    With `is_exact`, diacritics in an auxiliary id are meant as they are.

    Raises:
        RefusedError: it is no address.
        InvalidIdError: the id in it cannot be one.
    """
    if text.startswith(USERS):
        return user_id(text.removeprefix(USERS))
    if not text.startswith(tuple(start for start, _ in ADDRESS_STARTS)):
        starts = ", ".join([*(f"{start}…" for start, _ in ADDRESS_STARTS), f"{USERS}…"])
        raise RefusedError(
            f"it must begin with what it is the id of: {starts}. `healthmsg chats` lists the chats"
        )
    return ChatAddress.of_text(text) if is_exact else ChatAddress.parse(text)


def send(
    to: To,
    text: Text,
    exact_aux_id: ExactAuxId = False,
    settle: Settle = SETTLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
    proxy: Proxy = None,
    ca: Ca = None,
    no_x509_strict: NoX509Strict = False,
) -> None:
    """Send one message, once. One that may have arrived is looked for in its chat, and not sent again.

    HEALTHMSG_TOKEN is the access token, HEALTHMSG_ENVIRONMENT is kpn or alterdesk.

    Exit status: 0 sent, 1 not sent, 2 refused, 3 unknown, 130 interrupted.
    """
    report = _SendReport()
    try:
        with exit_on_error("Nothing was sent."), _recording_refusal(report):
            address = parse_address(to, is_exact=exact_aux_id)
            body = require_non_blank(_read_stdin() if text == _STDIN else text)
            encode(body)  # refuses what has no UTF-8 form
            service = Service(proxy, ca, no_x509_strict)
            service.check()
            client = service.client()
        report.service = service.environment.api_url
        print_text(Console(stderr=True), f"Service: {describe(service.environment)}")
        code = _send_and_record(report, client, address, body, settle)
    finally:
        if as_json:
            print(report.as_json(), flush=True)  # noqa: T201 - not for rich: no wrapping, no colour
    if not as_json:
        print_text(Console(stderr=report.outcome is not Outcome.DELIVERED), report.as_text())
    raise typer.Exit(code)


@define
class _SendReport:
    """The outcome of the message, as far as it is known."""

    outcome: Outcome = Outcome.NOT_SENT
    message_id: str | None = None
    error: str | None = None
    service: str | None = None
    """The API's URL."""

    def as_text(self) -> str:
        _, text = _ENDINGS[self.outcome]
        if self.message_id is not None:
            return f"{text}: message {printable(self.message_id)}"
        return f"{text}: {self.error}" if self.error else f"{text}."

    def as_json(self) -> str:
        fields = {
            "outcome": self.outcome.value,
            "message_id": self.message_id,
            "error": self.error,
            "service": self.service,
        }
        return encode(fields).decode()


@contextmanager
def _recording_refusal(report: _SendReport) -> Iterator[None]:
    """Record why the message is refused, in the words of the command line."""
    try:
        yield
    except AmbiguousAuxIdError:
        problem = _AMBIGUOUS
    except RefusedError as error:
        problem = error.text
    except HealthmsgError as error:
        problem = str(error)
    else:
        return
    report.error = problem
    raise RefusedError(problem)


def _send_and_record(
    report: _SendReport, client: Client, address: ChatAddress | str, body: str, settle: float
) -> ExitCode:
    try:
        asyncio.run(_send(report, client, address, body, settle))
    except HealthmsgError as error:
        report.error = _problem(error)
    except KeyboardInterrupt:
        report.error = "interrupted"
        return ExitCode.INTERRUPTED
    return _ENDINGS[report.outcome][0]


async def _send(
    report: _SendReport, client: Client, address: ChatAddress | str, body: str, settle: float
) -> None:
    async with client:
        chat = chat_handle(client, address)
        # Until the call ends, the outcome is unknown: it may be interrupted.
        report.outcome = Outcome.UNKNOWN
        try:
            sent = await chat.send(body)
        except DeliveryUnknownError as error:
            unknown = error
        except CallError as error:
            report.outcome = error.outcome
            raise
        except HealthmsgError:
            report.outcome = Outcome.NOT_SENT
            raise
        else:
            report.outcome, report.message_id = Outcome.DELIVERED, sent.id
            return
        report.error = unknown.problem
        print_text(
            Console(stderr=True), f"It may have arrived: looking for it in the chat, for up to {settle:g} s …"
        )
        try:
            found = await client.reconcile(unknown, settle=settle)
        except HealthmsgError as error:
            report.error = f"{unknown.problem}; it could not be looked for: {_problem(error)}"
            return
        report.outcome, report.message_id = found.outcome, found.message_id
        if found.outcome is Outcome.DELIVERED:
            report.error = None
        elif found.outcome is Outcome.UNKNOWN and found.reason:
            report.error = f"{unknown.problem}; {found.reason}"


def _problem(error: HealthmsgError) -> str:
    """Return what went wrong with a call, without its effect: the outcome is printed separately."""
    return error.problem if isinstance(error, CallError) else str(error)


def _read_stdin() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, AttributeError):
        pass
    else:
        # The last end of line is from an editor or the shell, not part of the message.
        return text.rstrip("\r\n")
    raise RefusedError("the standard input is no text in UTF-8")
