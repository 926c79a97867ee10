"""Fault injection, so that tests can see how a client handles failures.

`Faults.add` adds a rule that injects a fault into the calls that match it, if the rate limit admits them.
A new fault is one small class with `answer`, exported by `healthmsg.sandbox`.
"""

from asyncio import sleep
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from random import Random
from typing import Protocol

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload, Payload
from attrs import define, field, frozen
from attrs.validators import ge, le, optional

from healthmsg.codec import encode
from healthmsg.sandbox.call import cut, forbidden, json_answer, too_many

Execute = Callable[[], Awaitable[web.Response]]
"""Carries the call out and returns its answer."""


class FaultedCall(Protocol):
    """The call that a fault is injected into: `await call()` carries it out and returns its answer."""

    async def __call__(self) -> web.Response:
        """Carry the call out, and return its answer."""

    def revoke_token(self) -> None:
        """End the access token that the call was made with, if this sandbox issued it."""

    def go_offline(self, seconds: float) -> None:
        """Take the sandbox offline, as `Sandbox.go_offline` does, without waiting for it."""


class Fault(Protocol):
    """What happens instead of a plain answer."""

    async def answer(self, request: web.BaseRequest, call: FaultedCall, /) -> web.Response | None:
        """Answer a request, which `await call()` carries out; `None`: there is none, the connection was cut.

        For most faults an `Execute`, a function, is enough.
        """


# --- The call is refused, or its answer is another one.


@frozen
class AnswerStatus:
    """Answers with this status, without carrying the call out, or `after` that."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)
    after: bool = False

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        if self.after:
            await execute()
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@frozen
class TooManyRequests:
    """Refuses the call with 429; with `seconds` or `times` of the rule, a storm of them.

    `retry_after` is the number of seconds that it announces, rounded up [A: RFC 9110]; `None`: it announces
    nothing. The sandbox does not count it among the calls that its limit rejected.
    """

    retry_after: float | None = field(default=None, validator=optional(ge(0)))

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        return too_many("rate_limit_exceeded", "Too many calls.", self.retry_after).answer()


@frozen
class Forbidden:
    """Refuses the call with 403 [D], as when the application was blocked, whatever its token."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        return forbidden("This application may not do that.").answer()


@frozen
class RevokeToken:
    """Ends the call's access token just before the call is carried out, which is answered with 401 [D]."""

    async def answer(self, request: web.BaseRequest, call: FaultedCall) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        call.revoke_token()
        return await call()


@frozen
class Garbage:
    """Carries the call out, and answers with its status and a body that is not JSON."""

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
        body = whole.body if isinstance(whole.body, bytes) else b""
        is_array = isinstance(orjson.loads(body), list)
        whole.body = encode({"unexpected": True} if is_array else ["unexpected"])
        return whole


@frozen
class RedirectTo:
    """Answers with a link to another place, and does not carry the call out."""

    link: str

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        headers = {"Location": self.link, "Set-Cookie": "download=made-up; Path=/; HttpOnly"}
        return json_answer({"link": self.link}, status=302, headers=headers)


@frozen
class RedirectLoop:
    """Carries the call out, and answers with a link that leads from one redirect to the next."""

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """See `Fault`."""
        real = (await execute()).headers.get("Location", "")
        return await RedirectTo(f"{real.partition('/files/')[0]}/files/loop/1").answer(request, execute)


# --- The connection fails, or the answer is late.


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
    """Waits this many seconds before it carries the call out; with `after`, between that and the answer.

    The call is carried out even if its caller has gone by then; only an upload, which is not read before the
    wait, is lost with its caller.
    """

    seconds: float = field(validator=ge(0))
    after: bool = False

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """See `Fault`."""
        if not self.after:
            await _read_ahead(request)
            await sleep(self.seconds)
        response = await execute()
        if self.after:
            await sleep(self.seconds)
        return response


@frozen
class Outage:
    """Takes the sandbox offline, as `Sandbox.go_offline` does; the call is not carried out."""

    seconds: float = field(validator=ge(0))

    async def answer(self, request: web.BaseRequest, call: FaultedCall) -> web.Response | None:
        """See `Fault`."""
        call.go_offline(self.seconds)
        cut(request)
        return None


# --- The body comes slowly, or not whole.


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

        whole.body = _ShapedPayload(body, shape)
        return whole


@frozen
class StallBody:
    """Carries the call out, answers with so many bytes of the body, and then keeps the connection open."""

    after: int

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        whole = await execute()

        async def shape(piece: bytes, before: int) -> AsyncIterator[bytes]:
            yield piece[: max(0, self.after - before)]
            if before + len(piece) >= self.after:
                await sleep(10**9)

        whole.body = _ShapedPayload(_payload(whole), shape)
        return whole


@frozen
class SlowBody:
    """Carries the call out, and answers with so many bytes a second."""

    bytes_per_second: float

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        whole = await execute()
        at_once = max(1, int(self.bytes_per_second / 20))

        async def shape(piece: bytes, before: int) -> AsyncIterator[bytes]:  # noqa: ARG001 - the other shapes use it
            for start in range(0, len(piece), at_once):
                part = piece[start : start + at_once]
                yield part
                await sleep(len(part) / self.bytes_per_second)

        whole.body = _ShapedPayload(_payload(whole), shape)
        return whole


# --- The rules.


@define
class _Rule:
    fault: Fault
    method: str | None
    path_contains: str
    template: str | None
    times: int | None = field(validator=optional(ge(0)))
    after: int = field(validator=ge(0))
    seconds: float = field(validator=ge(0))
    probability: float = field(validator=[ge(0), le(1)])
    random: Random
    matched: int = field(default=0, init=False)
    active_until: float = field(default=-inf, init=False)

    def matches(self, method: str, path: str, template: str | None) -> bool:
        return (
            self.method in {None, method} and self.path_contains in path and self.template in {None, template}
        )

    def draw(self, moment: float) -> bool:
        """Return whether a call that matches and arrived at this moment gets the fault."""
        self.matched += 1
        is_drawn = self.random.random() < self.probability
        return moment < self.active_until or (is_drawn and self.matched > self.after and self.times != 0)

    def inject(self, moment: float) -> Fault:
        if moment >= self.active_until:
            self.active_until = moment + self.seconds
            if self.times is not None:
                self.times -= 1
        return self.fault


class Faults:
    """The rules that inject faults, the oldest first."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._seeded: Counter[int | None] = Counter()

    def add(  # noqa: PLR0913 - all by keyword, and all but one can be left out
        self,
        *,
        kind: Fault,
        method: str | None = None,
        path_contains: str = "",
        template: str | None = None,
        times: int | None = 1,
        after: int = 0,
        seconds: float = 0.0,
        probability: float = 1.0,
        seed: int | None = None,
    ) -> None:
        """Inject a fault into calls that match, `times` of them; `None`: into all of them.

        `path_contains` looks at the path as it is sent, encoded and with `/v1`; `template` is a route such as
        `conversations/{id}/messages`, `oauth/token` or `files/{key}`. The first `after` calls that match are
        let through. With `seconds`, an injection goes on for so long by the sandbox's clock, into every call
        that matches: a storm, which counts once.

        `probability` is how likely a call that matches gets the fault. Each rule draws from its own random
        generator; with a `seed` the draws are the same in every run, though not the same as those of another
        rule with that seed. It draws for every call that matches, whatever other rules do, so that no
        probability depends on another. But one call gets one fault: of several rules that would inject one
        the oldest does, and the call does not count for the others.

        Raises:
            ValueError: a probability that is not between 0 and 1, or a number below 0.
        """
        random = self._random(seed)
        self._rules.append(
            _Rule(kind, method, path_contains, template, times, after, seconds, probability, random)
        )

    def clear(self) -> None:
        """Remove all rules."""
        self._rules.clear()
        self._seeded.clear()

    def take(self, method: str, path: str, template: str | None, moment: float) -> Fault | None:
        """Return the fault for a call that arrived at this moment, if it gets one."""
        matching = [rule for rule in self._rules if rule.matches(method, path, template)]
        drawn = [rule for rule in matching if rule.draw(moment)]
        return drawn[0].inject(moment) if drawn else None

    def _random(self, seed: int | None) -> Random:
        # With the bare seed, two rules would draw the same numbers, and choose the same calls.
        number = self._seeded[seed]
        self._seeded[seed] += 1
        return Random(None if seed is None else f"{seed}/{number}")  # noqa: S311 - faults are no secrets


async def _read_ahead(request: web.BaseRequest) -> None:
    """Read a body, which cannot be read any more once its sender is gone."""
    if request.content_type != "multipart/form-data":  # that is read piece by piece
        with suppress(web.HTTPRequestEntityTooLarge):  # raised again when the call is carried out
            await request.read()


Shape = Callable[[bytes, int], AsyncIterator[bytes]]
"""Yields what is sent of a piece of a body, of which so many bytes came before."""


class _ShapedPayload(Payload):
    """A body of which a shape decides what is sent when."""

    def __init__(self, body: Payload, shape: Shape) -> None:
        super().__init__(body, content_type=body.content_type)
        self._body = body
        self._shape = shape
        self._size = body.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        writer.send_headers()  # they would wait for the first bytes, of which there may be none
        await self._body.write(_ShapingWriter(writer, self._shape))  # type: ignore[arg-type] # only its write is used


@define
class _ShapingWriter:
    _writer: AbstractStreamWriter
    _shape: Shape
    _before: int = 0

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
