"""`healthmsg demo`, the SDK's whole job with a count by the other side, and `healthmsg sandbox`."""

import asyncio
import csv
import json
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from attrs import asdict, define, field, frozen
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from healthmsg.auth.oauth import OAuthApp
from healthmsg.auth.token import Token
from healthmsg.bulk import Outgoing, Upload
from healthmsg.cli.problems import print_text
from healthmsg.cli.sending.running import Rate
from healthmsg.cli.terminal import shell_quote
from healthmsg.client import Client
from healthmsg.codec import encode
from healthmsg.errors import AuthorizationError, TokenRequestError
from healthmsg.models import Outcome
from healthmsg.progress import ProgressBar
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat
from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.remote import RemoteSandbox, sandbox_process

_APPROVAL_TIMEOUT: Final = 300.0
_PAGE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"<!doctype html><title>healthmsg</title><p>Signed in. You can close this page."
)
_UPLOADS: Final = 12
_UPLOAD_SIZE: Final = 2 * 1024 * 1024
_REPORTED: Final = ("rejected", "max_calls_in_any_second", "uploads", "conversations_read", "messages_read")
# The uploads are spread over them.
_CHATS_WITH_FILES: Final = 3


async def sign_in(console: Console, sandbox: RemoteSandbox) -> Token:
    """Sign in through all three legs of OAuth: a browser, and a port of ours that it comes back to.

    Raises:
        AuthorizationError: the user or the service refused, nothing answers, or five minutes passed
            without approval.
    """
    async with _callback_listener() as (redirect_uri, callback):
        app = OAuthApp(sandbox.client_id, sandbox.client_secret, redirect_uri, sandbox.environment)
        request = app.authorization_request()
        # A sandbox that approves by itself sends us straight back; any other shows a page.
        await asyncio.to_thread(_visit, request.url)
        if not callback.done():
            console.print("Open this in a browser, and approve:", request.url, soft_wrap=True)
        await asyncio.wait([callback], timeout=_APPROVAL_TIMEOUT)
        if not callback.done():
            raise AuthorizationError("the sign-in was not approved in time")
        code = app.parse_callback(callback.result(), request.state)
        try:
            return await app.exchange(code)
        except TokenRequestError as error:
            if error.code != "invalid_client":
                raise
    raise AuthorizationError("the token URL does not know this client: is the client's secret right?")


@asynccontextmanager
async def _callback_listener() -> AsyncIterator[tuple[str, "asyncio.Future[str]"]]:
    callback: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line = (await reader.readline()).decode("latin-1").split(" ")
        if len(request_line) > 1 and request_line[1].startswith("/callback") and not callback.done():
            callback.set_result(request_line[1])
        writer.write(_PAGE)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback", callback


def _visit(url: str) -> None:
    # Without a proxy, as for all calls of the demo: the callback leads back to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:  # http(s): Environment checks it
            answer.read()
    except urllib.error.HTTPError as error:
        problem = f"the authorize URL answered {error.code}: is the client's id right?"
        error.close()
    except (OSError, HTTPException):
        problem = f"nothing answers at {url.partition('?')[0]}"
    else:
        return
    raise AuthorizationError(problem)


@frozen
class Figures:
    """What arrived, by the sandbox's log and store."""

    sent: int
    """Messages that were to be sent."""
    delivered_once: int
    lost: int
    duplicated: int
    rejected: int
    """Calls that the limit refused."""
    calls_per_second: float
    max_calls_in_any_second: int
    uploads: int
    conversations_read: int
    messages_read: int
    downloads_identical: bool

    @property
    def is_clean(self) -> bool:
        """Whether everything arrived exactly once, and nothing was refused."""
        return self.downloads_identical and not (self.lost or self.duplicated or self.rejected)

    def as_json(self) -> str:
        """Return the figures as one line of JSON."""
        return json.dumps(asdict(self))

    def panel(self, seconds: float) -> RenderableType:
        """Return the figures for a person to read."""
        rows = Table.grid(padding=(0, 2))
        rows.add_column(justify="right", style="bold")
        rows.add_column()
        rows.add_row(f"[green]{self.delivered_once}[/] of {self.sent}", "messages delivered exactly once")
        rows.add_row(_good_if_none(self.lost), "lost")
        rows.add_row(_good_if_none(self.duplicated), "delivered twice")
        rows.add_row(_good_if_none(self.rejected), "calls refused by the limit")
        rows.add_row(f"{self.calls_per_second:.1f}", "calls a second while sending")
        rows.add_row(str(self.max_calls_in_any_second), "calls in the busiest second (30 are allowed)")
        rows.add_row(str(self.uploads), "files uploaded")
        rows.add_row(str(self.conversations_read), "conversations and group chats read back")
        rows.add_row(str(self.messages_read), "messages read back")
        rows.add_row(
            "[green]yes[/]" if self.downloads_identical else "[red]no[/]", "downloaded files identical"
        )
        verdict = "[bold green]Every message arrived exactly once.[/]"
        if not self.is_clean:
            verdict = "[bold red]Something is wrong: see above.[/]"
        return Panel(
            Group(rows, "", verdict),
            title=f"Counted by the sandbox, {seconds:.1f} s in all",
            border_style="green" if self.is_clean else "red",
            expand=False,
        )


def _good_if_none(count: int) -> str:
    return f"[green]{count}[/]" if count == 0 else f"[red]{count}[/]"


def count_copies(
    messages: Sequence[Outgoing], chats: Sequence[str], copies: Mapping[str, Mapping[str, int]]
) -> list[int]:
    """Return how often the store has each message, in the chat that it was for."""
    return [
        copies.get(f"conversations/{chat}", {}).get(message.body, 0)
        for message, chat in zip(messages, chats, strict=True)
    ]


@frozen
class Recipient:
    """A made-up patient with an appointment."""

    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    aux_id: str = field(repr=False)
    """The id of this patient in the practice's own system, or an empty text."""
    appointment: str = field(repr=False)

    @property
    def message(self) -> str:
        """The text for this patient."""
        return (
            f"Beste {self.first_name} {self.last_name}, uw afspraak is op {self.appointment}."
            " Kunt u niet? Laat het ons hier weten. Huisartsenpraktijk De Linde"
        )


def read_recipients() -> list[Recipient]:
    """Return the recipients of the demo, from the CSV that ships with the package."""
    text = files("healthmsg.cli").joinpath("demo_recipients.csv").read_text(encoding="utf-8")
    return [Recipient(**row) for row in csv.DictReader(text.splitlines())]


async def run_demo(console: Console, sandbox: RemoteSandbox | None) -> Figures:
    """Run the demo against this sandbox, or one of its own."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        if sandbox is None:
            sandbox = await stack.enter_async_context(sandbox_process())
        console.print(f"Sandbox at [bold]{escape(sandbox.url)}[/]", highlight=False)
        token = await sign_in(console, sandbox)
        console.print(f"Signed in through all three legs; scopes: {' '.join(token.scopes)}", highlight=False)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="healthmsg-demo-")))
        client = await stack.enter_async_context(Client(token, environment=sandbox.environment))
        figures = await _Demo(console, sandbox, client, folder).run()
    console.print(figures.panel(time.monotonic() - started))
    return figures


@define
class _Demo:
    console: Console
    sandbox: RemoteSandbox
    client: Client
    folder: Path

    async def run(self) -> Figures:
        me = await self.client.me.get()
        self.console.print(f"Writing as {me.first_name} {me.last_name}", highlight=False, markup=False)
        recipients = read_recipients()
        chats = await self.sandbox.add_conversations(
            [
                {"first_name": one.first_name, "last_name": one.last_name}
                | ({"aux_id": one.aux_id} if one.aux_id else {})
                for one in recipients
            ]
        )
        messages = [_outgoing(one, chat) for one, chat in zip(recipients, chats, strict=True)]
        await self.sandbox.reset_log()
        with self._progress() as progress:
            await self._send(progress, messages)
        sending = await self.sandbox.report()
        files = await asyncio.to_thread(_make_files, self.folder, _UPLOADS)
        await self._upload([(chats[n % _CHATS_WITH_FILES], file) for n, file in enumerate(files)])
        with self._progress() as progress:
            await self._read_back(progress)
        identical = await self._download(chats[0], files[::_CHATS_WITH_FILES])
        return self._figures(messages, chats, sending, await self.sandbox.report(), identical=identical)

    def _progress(self) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self.console,
        )

    async def _send(self, progress: Progress, messages: Sequence[Outgoing]) -> None:
        bar = progress.add_task(_padded("Sending messages"), total=len(messages))
        async with self.client.send_many(messages) as results:
            async for result in results:
                progress.advance(bar)
                if result.outcome is not Outcome.DELIVERED:
                    progress.console.print(f"[red]{result.outcome.value}[/]: {result.error}")

    async def _upload(self, uploads: Sequence[tuple[str, Path]]) -> None:
        with ProgressBar(f"  {_padded('Uploading files')}", console=self.console) as progress:
            messages = [Upload(f"conversations/{chat}", file, "Uw uitslag") for chat, file in uploads]
            async with self.client.upload_many(messages, progress=progress) as results:
                async for result in results:
                    if result.outcome is not Outcome.DELIVERED:
                        self.console.print(f"[red]{result.outcome.value}[/]: {result.error}")

    async def _read_back(self, progress: Progress) -> None:
        bar = progress.add_task(_padded("Reading chats back"), total=None)
        client = self.client
        handles: list[Chat | GroupChat] = [
            client.conversations(chat) async for chat in client.conversations.list()
        ]
        handles += [client.groupchats(chat) async for chat in client.groupchats.list()]
        progress.update(bar, total=len(handles))

        async def read(chat: Chat | GroupChat) -> None:
            async for _ in chat.messages():
                pass
            progress.advance(bar)

        async with asyncio.TaskGroup() as tasks:
            for handle in handles:
                tasks.create_task(read(handle))

    async def _download(self, chat: str, originals: Sequence[Path]) -> bool:
        with ProgressBar(f"  {_padded('Downloading files')}", console=self.console) as progress:
            results = self.client.conversations(chat).download_all(
                to=self.folder / "copies", progress=progress
            )
            copies = [result.path async for result in results if result.path is not None]
        return await asyncio.to_thread(_contents, copies) == await asyncio.to_thread(_contents, originals)

    def _figures(
        self,
        messages: Sequence[Outgoing],
        chats: Sequence[str],
        sending: dict[str, Any],
        whole: dict[str, Any],
        *,
        identical: bool,
    ) -> Figures:
        copies = count_copies(messages, chats, whole["copies"])
        return Figures(
            sent=len(messages),
            delivered_once=copies.count(1),
            lost=copies.count(0),
            duplicated=sum(count > 1 for count in copies),
            calls_per_second=round(sending["calls_per_second"], 2),
            downloads_identical=identical,
            **{name: whole[name] for name in _REPORTED},
        )


def _outgoing(recipient: Recipient, chat: str) -> Outgoing:
    """Return the message, addressed by the practice's own id where there is one."""
    to = f"aux/conversations/{recipient.aux_id}" if recipient.aux_id else f"conversations/{chat}"
    return Outgoing(to, recipient.message)


def _make_files(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"uitslag-{number:02}.pdf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%PDF-1.7\n" + bytes((number + byte) % 251 for byte in range(_UPLOAD_SIZE)))
    return paths


def _contents(paths: Sequence[Path]) -> list[bytes]:
    return sorted(path.read_bytes() for path in paths)


def _padded(description: str) -> str:
    return f"{description:24}"


async def serve(console: Console, sandbox: Sandbox, host: str, port: int, *, as_json: bool) -> None:
    """Serve until it is cancelled."""
    await sandbox.start(host, port)
    token = sandbox.issue_token()
    try:
        if as_json:
            print_text(console, _document(sandbox, token))
        else:
            console.print(_card(sandbox, token))
            print_text(console, _exports(sandbox, token))
        await asyncio.Event().wait()
    finally:
        await sandbox.stop()
        if not as_json:
            console.print("The sandbox has stopped; all it knew is gone.")


def _exports(sandbox: Sandbox, token: str) -> str:
    """Return the commands for another terminal: outside the frame, which would be copied with them."""
    return (
        "To use it from another terminal:\n"
        "unset HEALTHMSG_ENVIRONMENT\n"
        f"export HEALTHMSG_API_URL={shell_quote(sandbox.environment.api_url)}\n"
        f"export HEALTHMSG_TOKEN={shell_quote(token)}"
    )


def _document(sandbox: Sandbox, token: str) -> str:
    environment = sandbox.environment
    facts = {
        "api_url": environment.api_url,
        "authorize_url": environment.authorize_url,
        "token_url": environment.token_url,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "redirect_uri": sandbox.redirect_uri,
        "access_token": token,
    }
    return encode(facts).decode()


def _card(sandbox: Sandbox, token: str) -> Panel:
    environment = sandbox.environment
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in (
        ("REST API", environment.api_url),
        ("Documentation", f"{sandbox.url}/docs"),
        ("Other side", f"{sandbox.url}/sandbox/"),
        ("Authorize", environment.authorize_url),
        ("Token", environment.token_url),
        ("Client id", sandbox.client_id),
        ("Client secret", sandbox.client_secret),
        ("Callback", sandbox.redirect_uri or "any on loopback"),
        ("Access token", f"{token}  (lasts 3 days)"),
    ):
        facts.add_row(name, str(value))
    return Panel(facts, title="healthmsg sandbox", subtitle="Ctrl-C stops it", expand=False)
