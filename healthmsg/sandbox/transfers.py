"""Faults of transfers: links that lead astray, and bodies that come slowly or not whole."""

from asyncio import sleep
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload, Payload
from attrs import frozen

from healthmsg.sandbox.answers import cut, json_answer
from healthmsg.sandbox.faults import Execute


@frozen
class CutBody:
    """Carries the call out, answers with so many bytes of the body, then closes the connection.

    Without `after` it is half of them.
    """

    after: int | None = None

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """See `Fault`."""
        whole = await execute()
        body = _payload(whole)
        after = (body.size or 0) // 2 if self.after is None else self.after

        async def shape(piece: bytes, before: int) -> AsyncIterator[bytes]:
            yield piece[: max(0, after - before)]
            if before + len(piece) >= after:
                cut(request)
                raise ConnectionResetError

        whole.body = _Shaped(body, shape)
        return whole


@frozen
class StallBody:
    """Carries the call out, answers with so many bytes of the body, and then keeps the line open."""

    after: int

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        whole = await execute()

        async def shape(piece: bytes, before: int) -> AsyncIterator[bytes]:
            yield piece[: max(0, self.after - before)]
            if before + len(piece) >= self.after:
                await sleep(10**9)

        whole.body = _Shaped(_payload(whole), shape)
        return whole


@frozen
class SlowBody:
    """Carries the call out, and answers with so many bytes a second."""

    bytes_per_second: float

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        whole = await execute()
        at_once = max(1, int(self.bytes_per_second / 20))

        async def shape(piece: bytes, before: int) -> AsyncIterator[bytes]:  # noqa: ARG001 - shapes get it
            for start in range(0, len(piece), at_once):
                part = piece[start : start + at_once]
                yield part
                await sleep(len(part) / self.bytes_per_second)

        whole.body = _Shaped(_payload(whole), shape)
        return whole


@frozen
class LinkTo:
    """Answers with a link to somewhere else, and does not carry the call out."""

    link: str

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        cookie = "download=made-up; Path=/; HttpOnly"
        return json_answer(
            {"link": self.link}, status=302, headers={"Location": self.link, "Set-Cookie": cookie}
        )


@frozen
class EndlessRedirects:
    """Carries the call out, and answers with a link that leads from one redirect to the next."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """See `Fault`."""
        real = (await execute()).headers.get("Location", "")
        return await LinkTo(f"{real.partition('/files/')[0]}/files/loop/1").answer(request, execute)


class _Shaped(Payload):
    """A body that does not come as it should."""

    def __init__(self, body: Payload, shape: Any) -> None:
        super().__init__(body, content_type=body.content_type)
        self._body = body
        self._shape = shape
        self._size = body.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        writer.send_headers()  # they would wait for the first bytes, of which there may be none
        await self._body.write(_ShapingWriter(writer, self._shape))  # type: ignore[arg-type] # all that is used


class _ShapingWriter:
    """Hands on what a shape makes of it."""

    def __init__(self, writer: AbstractStreamWriter, shape: Any) -> None:
        self._writer = writer
        self._shape = shape
        self._before = 0

    async def write(self, piece: bytes) -> None:
        before, self._before = self._before, self._before + len(piece)
        async for part in self._shape(piece, before):
            if part:
                await self._writer.write(part)
                await self._writer.drain()


def _payload(whole: web.Response) -> Payload:
    body = whole.body
    if isinstance(body, Payload):
        return body
    return BytesPayload(bytes(body or b""), content_type=whole.content_type)
