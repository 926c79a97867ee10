"""Faults to order, so that tests can see what a client makes of them.

A fault strikes a call that the rate limit let through. A new kind is one small class with `answer`.
"""

from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import orjson
from aiohttp import web
from attrs import define, field, frozen

from healthmsg.codec import encode
from healthmsg.sandbox.answers import cut

Execute = Callable[[], Awaitable[web.Response]]


class Fault(Protocol):
    """What happens instead of a plain answer."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """Answer a call, which `execute` carries out; `None`: the line is cut and there is no answer."""


@frozen
class AnswerStatus:
    """Answers with this status, and does not carry the call out."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@frozen
class CutBefore:
    """Closes the connection, and does not carry the call out."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        cut(request)
        return None


@frozen
class CutAfter:
    """Carries the call out, then closes the connection without an answer."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """See `Fault`."""
        await execute()
        cut(request)
        return None


@frozen
class Delay:
    """Waits this many seconds before it carries the call out, or `after` that and before the answer."""

    seconds: float
    after: bool = False

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        if not self.after:
            await sleep(self.seconds)
        response = await execute()
        if self.after:
            await sleep(self.seconds)
        return response


@frozen
class Garbage:
    """Carries the call out, and answers with its status and something that is no JSON."""

    body: bytes = b"<html>\xff"

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        return web.Response(status=(await execute()).status, body=self.body)


@frozen
class WrongShape:
    """Carries the call out, and answers with JSON of another shape: an object for an array, else an array."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        whole = await execute()
        is_array = isinstance(orjson.loads(_content(whole)), list)
        whole.body = encode({"unexpected": True} if is_array else ["unexpected"])
        return whole


@define
class _Ordered:
    kind: Fault
    method: str | None
    path_contains: str
    template: str | None
    left: int | None

    def fits(self, method: str, path: str, template: str | None) -> bool:
        return (
            self.left != 0
            and self.method in {None, method}
            and self.path_contains in path
            and self.template in {None, template}
        )


class Faults:
    """The faults that are on order, the oldest first."""

    def __init__(self) -> None:
        self._ordered: list[_Ordered] = []

    def add(
        self,
        *,
        kind: Fault,
        method: str | None = None,
        path_contains: str = "",
        template: str | None = None,
        times: int | None = 1,
    ) -> None:
        """Order a fault for the next calls that fit, `times` of them; `None`: for all of them.

        `path_contains` looks at the path as it is sent, encoded and with `/v1`; `template` is a route such as
        `conversations/{id}/messages`, `oauth/token` or `files/{key}`. One call takes one fault.
        """
        self._ordered.append(_Ordered(kind, method, path_contains, template, times))

    def clear(self) -> None:
        """Cancel all orders."""
        self._ordered.clear()

    def take(self, method: str, path: str, template: str | None) -> Fault | None:
        """Give the fault for a call, if one is on order, and count it."""
        for ordered in self._ordered:
            if ordered.fits(method, path, template):
                if ordered.left is not None:
                    ordered.left -= 1
                return ordered.kind
        return None


def _content(response: web.Response) -> bytes:
    body = response.body
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
