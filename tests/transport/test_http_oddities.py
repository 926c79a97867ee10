"""Answers that were not asked for, protocols that are switched to, and other things that happen rarely."""

import asyncio
import logging

import aiohttp
import pytest

from healthmsg import (
    CallTimeoutError,
    Client,
    ConnectError,
    DeliveryUnknownError,
    Environment,
    Outcome,
    Retries,
)
from healthmsg.errors import CallError
from healthmsg.network import Network
from healthmsg.transport.timeouts import Timeout
from tests.servers import (
    Incoming,
    a_request,
    answering,
    hang,
    serve,
    wire_to,
)
from tests.transport.faulty_service import Script, answer, fail_to_connect, receive

answer_always = Script(answer)
pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")


@pytest.mark.parametrize("late", [201, 404, 408, 429, 504])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_an_unsolicited_answer_is_never_taken_for_the_next_calls(method: str, late: int) -> None:
    go_on, written = asyncio.Event(), asyncio.Event()

    async def one_too_many(incoming: Incoming) -> None:
        while True:
            await incoming.request()
            await incoming.answer(200, b'{"id": "asked for"}')
            if len(incoming.server.executed) == 1:
                await go_on.wait()
                await incoming.answer(late, b'{"id": "of another call"}')
                written.set()

    async with serve(one_too_many) as server, wire_to(server.url) as wire:
        assert (await wire(a_request("GET"))).status == 200
        go_on.set()
        await written.wait()
        await asyncio.sleep(0.01)  # until it has arrived
        with pytest.raises(ConnectError) as caught:
            await wire(a_request(method))
        assert caught.value.outcome is Outcome.NOT_SENT
        assert len(server.executed) == 1

        again = await wire(a_request(method))
        assert b"asked for" in again.body
        assert len(server.executed) == 2


async def test_an_answer_that_switches_protocols_keeps_no_connection() -> None:
    async def switch(incoming: Incoming) -> None:
        await receive(incoming)
        await incoming.answer(101, b"", "Upgrade: h2c", "Connection: Upgrade")
        await hang(incoming)

    async with serve(switch) as server, wire_to(server.url) as wire:
        assert (await wire(a_request("GET"))).status == 101
        await server.until(lambda server: server.open == 0)


async def test_over_a_session_that_stays_open_a_call_still_ends_in_time() -> None:
    async with serve(hang) as server, aiohttp.ClientSession() as session:
        here = Environment("here", server.url)
        client = Client("t0ken", environment=here, session=session, timeout=0.3, retries=Retries.none())
        call = asyncio.create_task(client.me.get())
        await server.until(lambda server: server.open == 1)
        await client.close()
        async with asyncio.timeout(5):
            with pytest.raises(CallTimeoutError):
                await call


async def test_a_middleware_that_makes_a_call_twice_does_not_make_it_look_unsent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def once_more(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        await (await handler(request)).read()
        fail_to_connect(monkeypatch, "refused")
        return await handler(request)

    async def fail_and_close(incoming: Incoming) -> None:
        await incoming.request()
        await incoming.answer(503, b"", "Connection: close")
        raise ConnectionResetError

    async with serve(fail_and_close) as server:
        here = Environment("here", server.url)
        async with (
            aiohttp.ClientSession(middlewares=(once_more,)) as session,
            Client("t0ken", environment=here, session=session) as client,
        ):
            with pytest.raises(DeliveryUnknownError):
                await client.conversations("c1").send("Hallo")
        assert len(server.executed) == 1


@pytest.mark.parametrize("host", ["a..example", ".example", "x" * 70])
async def test_a_host_that_no_name_can_be_was_never_reached(host: str) -> None:
    for url, network in (
        (f"https://{host}/v1", Network()),
        ("https://127.0.0.1:1", Network(proxy=f"http://u:pw@{host}:1")),
    ):
        async with wire_to(url, network=network) as wire:
            with pytest.raises(ConnectError) as caught:
                await wire(a_request())
        assert caught.value.__context__ is None
        assert "pw" not in str(caught.value)


async def test_a_filter_that_fails_does_not_make_a_call_fail(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger("healthmsg")
    caplog.set_level(logging.DEBUG, logger="healthmsg")
    logger.addFilter(refuse)
    try:
        async with (
            serve(answer_always) as server,
            Client("t0ken", environment=Environment("here", server.url)) as client,
        ):
            assert (await client.conversations("c1").send("Hallo")).id == "u1"
    finally:
        logger.removeFilter(refuse)


async def test_a_transfers_beginning_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(hang) as server, wire_to(server.url, Timeout(total=0.1)) as wire:
        request = a_request("GET")
        request.streamed = True
        with pytest.raises(CallError) as caught:
            await wire(request)
        assert isinstance(caught.value, CallTimeoutError)
    async with serve(answering()) as server, wire_to(server.url, Timeout(total=5)) as wire:
        request = a_request("GET")
        request.streamed = True
        answer = await wire(request)
        assert answer.stream is not None
        answer.stream.close()
