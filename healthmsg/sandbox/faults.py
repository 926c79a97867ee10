"""Faults to order, so that tests can see what a client makes of them.

A fault strikes a call that the rate limit let through. A new kind is one small class with `answer`.
"""

from asyncio import sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import inf
from random import Random
from typing import Protocol

import orjson
from aiohttp import web
from attrs import define, field, frozen
from attrs.validators import ge, le, optional

from healthmsg.codec import encode
from healthmsg.sandbox.answers import cut

Execute = Callable[[], Awaitable[web.Response]]


class Struck(Protocol):
    """The call that a fault strikes: awaiting `struck()` carries it out."""

    async def __call__(self) -> web.Response:
        """Carry the call out, and give the answer."""

    def revoke_token(self) -> None:
        """End the access token that the call was made with, if this sandbox issued it."""

    def go_away(self, seconds: float) -> None:
        """Have the sandbox go away for so many seconds, as `Sandbox.go_away` does, without waiting for it."""


class Fault(Protocol):
    """What happens instead of a plain answer."""

    async def answer(self, request: web.BaseRequest, execute: Struck, /) -> web.Response | None:
        """Answer a call, which `execute()` carries out; `None`: the line is cut and there is no answer.

        For most kinds an `Execute` is enough, a function.
        """


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
class AnswerStatusAfter:
    """Carries the call out, and answers with this status all the same."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        """See `Fault`."""
        await execute()
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
    """Waits this many seconds before it carries the call out, or `after` that and before the answer.

    The call is carried out even if its caller has gone by then; only an upload, which is not read before the
    wait, is lost with its caller.
    """

    seconds: float = field(validator=ge(0))
    after: bool = False

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        """See `Fault`."""
        if not self.after:
            await _take_in(request)
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
class _Order:
    kind: Fault
    method: str | None
    path_contains: str
    template: str | None
    times: int | None = field(validator=optional(ge(0)))
    after: int = field(validator=ge(0))
    seconds: float = field(validator=ge(0))
    probability: float = field(validator=[ge(0), le(1)])
    random: Random
    fitted: int = field(default=0, init=False)
    strikes_until: float = field(default=-inf, init=False)

    def fits(self, method: str, path: str, template: str | None) -> bool:
        return (
            self.method in {None, method} and self.path_contains in path and self.template in {None, template}
        )

    def draw(self, moment: float) -> bool:
        """Tell whether it is for striking a call that fits and arrived at this moment."""
        self.fitted += 1
        is_drawn = self.random.random() < self.probability
        return moment < self.strikes_until or (is_drawn and self.fitted > self.after and self.times != 0)

    def strike(self, moment: float) -> Fault:
        if moment >= self.strikes_until:
            self.strikes_until = moment + self.seconds
            if self.times is not None:
                self.times -= 1
        return self.kind


class Faults:
    """The faults that are on order, the oldest first."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
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
        """Order a fault for calls that fit, `times` of them; `None`: for all of them.

        `path_contains` looks at the path as it is sent, encoded and with `/v1`; `template` is a route such as
        `conversations/{id}/messages`, `oauth/token` or `files/{key}`. The first `after` calls that fit pass.
        With `seconds`, a strike goes on for so long by the sandbox's clock, and takes every call that fits: a
        storm, which counts once.

        `probability` is how likely a call that fits is struck. The order draws from a random generator of its
        own; with a `seed` the draws are the same in every run, though not the same as those of another order
        with that seed. It draws for every call that fits, whatever other orders do, so that no probability
        depends on another. But one call takes one fault: of several orders that would strike it the oldest
        does, and it does not count for the others.

        Raises:
            ValueError: a probability that is not between 0 and 1, or a number below 0.
        """
        order = _Order(
            kind, method, path_contains, template, times, after, seconds, probability, self._random(seed)
        )
        self._orders.append(order)

    def clear(self) -> None:
        """Cancel all orders."""
        self._orders.clear()
        self._seeded.clear()

    def take(self, method: str, path: str, template: str | None, moment: float) -> Fault | None:
        """Give the fault for a call that arrived at this moment, if one strikes it."""
        fitting = [order for order in self._orders if order.fits(method, path, template)]
        striking = [order for order in fitting if order.draw(moment)]
        return striking[0].strike(moment) if striking else None

    def _random(self, seed: int | None) -> Random:
        # With the bare seed, two orders would draw the same numbers, and strike the same calls.
        number = self._seeded[seed]
        self._seeded[seed] += 1
        return Random(None if seed is None else f"{seed}/{number}")  # noqa: S311 - faults are no secrets


async def _take_in(request: web.BaseRequest) -> None:
    """Read a body, for it cannot be read any more once its sender is gone."""
    if request.content_type != "multipart/form-data":  # that is read piece by piece
        with suppress(web.HTTPRequestEntityTooLarge):  # which carrying it out comes to as well
            await request.read()


def _content(response: web.Response) -> bytes:
    body = response.body
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
