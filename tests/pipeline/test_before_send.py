"""A call that must not be made any more is not made: that is asked directly before each try leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from healthmsg.errors import ClaimLostError, ConnectError, ConnectionLostError, Outcome
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import FilePart, Multipart, Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.transport.http import Wire
from healthmsg.transport.multipart import PieceSource
from tests.servers import (
    Incoming,
    Server,
    a_request,
    answering,
    response,
    serve,
    wire_to,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")

Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


class Claim:
    """What a call asks before it leaves."""

    def __init__(self) -> None:
        self.is_lost = False
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if self.is_lost:
            raise ClaimLostError


@pytest.fixture
def claim() -> Claim:
    return Claim()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(answering()) as server:
        yield server


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    async with wire_to(server.url) as wire:
        yield wire


def claimed(claim: Claim, **given: Any) -> Request:
    request = a_request(**given)
    request.before_send = claim
    return request


@pytest.mark.looptime
async def test_it_is_asked_after_the_wait_for_the_limit(claim: Claim) -> None:
    limiter, made = Limiter(RateLimit(calls=1, per=60)), 0

    async def make(_: Request) -> Response:
        nonlocal made
        made += 1
        return response(200)

    send = fold([LimitStep(limiter, longest_pause=60)], make)
    await send(claimed(claim))
    waiting = asyncio.ensure_future(send(claimed(claim)))
    await asyncio.sleep(30)
    claim.is_lost = True
    with pytest.raises(ClaimLostError):
        await waiting
    assert made == 1


@pytest.mark.looptime
async def test_a_call_that_is_not_made_takes_no_slot(claim: Claim) -> None:
    limiter = Limiter(RateLimit(calls=1, per=60))

    async def refuse(_: Request) -> Response:
        raise ClaimLostError

    for way in (None, refuse):
        claim.is_lost = way is None
        with pytest.raises(ClaimLostError):
            await fold([LimitStep(limiter, longest_pause=60)], way or refuse)(claimed(claim))
        assert limiter._window.count_returned(limiter.now())
        await asyncio.sleep(60)


async def test_it_is_asked_after_the_connection_was_made(
    server: Server, wire: Wire, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = aiohttp.TCPConnector.connect

    async def connect_and_sleep(*args: Any, **kwargs: Any) -> Any:
        connection = await connect(*args, **kwargs)
        claim.is_lost = True
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_and_sleep)
    request = claimed(claim)
    with pytest.raises(ClaimLostError):
        await wire(request)
    assert not request.current.has_left
    await server.until(lambda server: server.open == 0)
    assert server.begun == []


async def test_it_is_asked_for_each_try(claim: Claim) -> None:
    async def refuse(incoming: Incoming) -> None:
        await incoming.request()
        claim.is_lost = True
        await incoming.answer(429, b"{}", "Retry-After: 0")

    async with serve(refuse) as server, wire_to(server.url) as wire:
        with pytest.raises(ClaimLostError):
            await fold([RetryStep(Retries()), CheckStep()], wire)(claimed(claim))
        assert len(server.executed) == 1


async def test_what_a_middleware_makes_again_may_have_been_made(server: Server, claim: Claim) -> None:
    async def twice(outgoing: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        (await handler(outgoing)).close()
        claim.is_lost = True
        return await handler(outgoing)

    async with (
        aiohttp.ClientSession(middlewares=(twice,)) as session,
        wire_to(server.url, session=session) as wire,
    ):
        with pytest.raises(ConnectionLostError) as caught:
            await wire(claimed(claim))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(server.executed) == 1


async def test_an_upload_is_cut_before_its_last_chunk(server: Server, wire: Wire, claim: Claim) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        claim.is_lost = True  # the machine sleeps in the middle of it
        yield b"two"

    file = FilePart("files", "a.txt", "text/plain", 6, PieceSource(pieces()))
    request = claimed(claim, body=Multipart((), (file,)))
    with pytest.raises(ConnectionLostError) as caught:
        await wire(request)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert not request.current.body_sent
    await server.until(lambda server: server.open == 0)
    assert server.executed == []


@pytest.mark.parametrize("priority", Priority)
async def test_a_call_that_nothing_is_asked_of_is_made(
    server: Server, wire: Wire, priority: Priority
) -> None:
    request = a_request()
    request.priority = priority
    await fold([LimitStep(Limiter(), longest_pause=60)], wire)(request)
    assert len(server.executed) == 1


async def test_it_is_asked_a_last_time_when_the_bytes_are_written(
    claim: Claim, server: Server, wire: Wire
) -> None:
    def asked() -> None:
        claim()
        claim.is_lost = True  # as after a sleep between the two looks

    request = a_request()
    request.before_send = asked
    with pytest.raises(ConnectError):
        await wire(request)

    assert claim.asked == 2
    assert server.begun == []
