"""What the tests of archives share: chats with files in them, and files that do not come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from attrs import define, field

from healthmsg import Client, RateLimit, Retries, UploadFile
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import Sandbox
from healthmsg.sandbox.call import cut
from healthmsg.sandbox.faults import Execute

FILE = "files/{key}"
LINK = "conversations/{id}/attachments/{attachment_id}"
MESSAGES = "conversations/{id}/messages"


@asynccontextmanager
async def unhurried(sandbox: Sandbox) -> AsyncIterator[Client]:
    """Return a client that does not wait for the limit, and gives up at once."""
    limit = RateLimit(calls=1000, burst=100)
    async with Client(
        sandbox.issue_token(), environment=sandbox.environment, rate_limit=limit, retries=Retries.none()
    ) as client:
        yield client


def content_of(number: int) -> bytes:
    return b"%PDF-1.7 " + str(number).encode() * 1000


async def fill(chat: Chat, count: int, *, name: str = "uitslag.pdf") -> None:
    """Send as many messages, with one file each, all of one name."""
    for number in range(count):
        await chat.upload(UploadFile(content_of(number), name), body=f"bericht {number}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@define
class Pages:
    """A fault that answers a list with pages of its own."""

    pages: tuple[object, ...]

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        number = int(request.query["page"])
        return web.json_response(self.pages[number] if number < len(self.pages) else [])


@define
class Stalls:
    """A fault that gives half of a file, and nothing more until the line is cut."""

    begun: asyncio.Event = field(factory=asyncio.Event)

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        whole = content_of(0)  # with another size than that it would be refused at once
        half = web.StreamResponse(headers={"Content-Length": str(len(whole))})
        await half.prepare(request)
        await half.write(whole[: len(whole) // 2])
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cut(request)
        return None


@define
class FailsAfterFirstPage:
    """A fault of a list of which only the first page can be read."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        return await execute() if "page=0" in request.query_string else web.Response(status=500)
