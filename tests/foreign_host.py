"""A server on a port of its own; and what the tests of this folder share."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from attrs import field, frozen

from healthmsg import Attachment, Client, Environment, RateLimit, Retries, UploadFile
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import AnswerStatus, Sandbox

CONTENT = bytes(range(251)) * 5000
GIVEN = Attachment("a1", "uitslag.pdf", len(CONTENT))
COOKIES = {"Set-Cookie": "download=k3y; Path=/; HttpOnly"}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@frozen
class Part:
    name: str
    content: bytes
    file_name: str | None = None
    content_type: str | None = None


@frozen
class Seen:
    method: str
    path: str
    """As it was sent: encoded, and with the query."""
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def document(self) -> Any:
        """The JSON body."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.body)

    @property
    def parts(self) -> list[Part]:
        """The parts of the multipart body."""
        kind, _, boundary = self.headers["Content-Type"].partition("; boundary=")
        assert kind == "multipart/form-data"
        first, *parts, last = self.body.split(f"--{boundary}".encode())
        assert (first, last) == (b"", b"--\r\n")
        return [_part(part) for part in parts]


def _part(written: bytes) -> Part:
    head, _, content = written.removesuffix(b"\r\n").partition(b"\r\n\r\n")
    lines = head.strip().decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    found = re.fullmatch(
        r'form-data; name="(.*?)"(?:; filename="(.*?)")?', headers.pop("Content-Disposition")
    )
    assert found
    content_type = headers.pop("Content-Type", None)
    assert not headers
    return Part(found[1], content, found[2], content_type)


class ForeignHost:
    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.url = ""
        self.otherwise: Handler = _not_found
        """Answers what no other handler does."""
        self._handlers: dict[str, Handler] = {}
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.05)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def handle(self, path: str, handler: Handler) -> str:
        """Have a path answered by a handler; give its URL."""
        self._handlers[path] = handler
        return self.url + path

    def answer(
        self, path: str, body: bytes = b"", *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> str:
        """Have a path answered always the same; give its URL."""

        async def same(_: web.BaseRequest) -> web.Response:
            return web.Response(status=status, body=body, headers=headers)

        return self.handle(path, same)

    def client(self, base: str = "") -> Client:
        """Return a client that takes this for the service, or what is below a path of it."""
        here = Environment("here", self.url + base)
        return Client("t0ken", environment=here, retries=Retries.none(), rate_limit=RateLimit(calls=1000))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(Seen(request.method, request.raw_path, request.headers, await request.read()))
        return await self._handlers.get(request.path, self.otherwise)(request)


async def _not_found(_: web.BaseRequest) -> web.Response:
    return web.Response(status=404)


async def upload(chat: Chat, name: str = "uitslag.pdf", content: bytes = CONTENT) -> Attachment:
    sent = await chat.upload(UploadFile(content, name))
    return (await chat.message(sent.id)).attachments[0]


def links(sandbox: Sandbox, to: str, body: bytes = b"{}", *, times: int | None = 1, **headers: str) -> None:
    """Have the sandbox give this link for an attachment."""
    headers = {"Location": to, **COOKIES, **headers}
    sandbox.faults.add(kind=AnswerStatus(302, body, headers), path_contains="/attachments/", times=times)


def paths_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
