"""`healthmsg demo`: the SDK's whole job, and a count by the other side."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from attrs import define
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from healthmsg.bulk import Outgoing, Upload
from healthmsg.cli.demo_recipients import Recipient, read_recipients
from healthmsg.cli.figures import Figures, count_copies
from healthmsg.cli.rate import Rate
from healthmsg.cli.sign_in import sign_in
from healthmsg.client import Client
from healthmsg.models import Outcome
from healthmsg.progress import ProgressBar
from healthmsg.resources.chat import Chat
from healthmsg.resources.group_chat import GroupChat
from healthmsg.sandbox.remote import RemoteSandbox, sandbox_process

_UPLOADS: Final = 12
_UPLOAD_SIZE: Final = 2 * 1024 * 1024
# Each gets its share of the uploads.
_CHATS_WITH_FILES: Final = 3


async def run_demo(console: Console, given: RemoteSandbox | None) -> Figures:
    """Run the demo against the given sandbox, or one of its own."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        sandbox = given
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
        bar = progress.add_task(_as_wide("Sending messages"), total=len(messages))
        async with self.client.send_many(messages) as results:
            async for result in results:
                progress.advance(bar)
                if result.outcome is not Outcome.DELIVERED:
                    progress.console.print(f"[red]{result.outcome.value}[/]: {result.error}")

    async def _upload(self, uploads: Sequence[tuple[str, Path]]) -> None:
        with ProgressBar(f"  {_as_wide('Uploading files')}", console=self.console) as progress:
            messages = [Upload(f"conversations/{chat}", file, "Uw uitslag") for chat, file in uploads]
            async with self.client.upload_many(messages, progress=progress) as results:
                async for result in results:
                    if result.outcome is not Outcome.DELIVERED:
                        self.console.print(f"[red]{result.outcome.value}[/]: {result.error}")

    async def _read_back(self, progress: Progress) -> None:
        bar = progress.add_task(_as_wide("Reading chats back"), total=None)
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
        with ProgressBar(f"  {_as_wide('Downloading files')}", console=self.console) as progress:
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
            rejected=whole["rejected"],
            calls_per_second=round(sending["calls_per_second"], 2),
            max_calls_in_any_second=whole["max_calls_in_any_second"],
            uploads=whole["uploads"],
            conversations_read=whole["conversations_read"],
            messages_read=whole["messages_read"],
            downloads_identical=identical,
        )


def _outgoing(recipient: Recipient, chat: str) -> Outgoing:
    """Address by the practice's own id where there is one."""
    to = f"aux/conversations/{recipient.aux_id}" if recipient.aux_id else f"conversations/{chat}"
    return Outgoing(to, recipient.message)


def _make_files(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"uitslag-{number:02}.pdf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%PDF-1.7\n" + bytes((number + byte) % 251 for byte in range(_UPLOAD_SIZE)))
    return paths


def _contents(paths: Sequence[Path]) -> list[bytes]:
    return sorted(path.read_bytes() for path in paths)


def _as_wide(description: str) -> str:
    return f"{description:24}"
