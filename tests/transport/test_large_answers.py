"""Answers without bound: they end at a limit, and decoding them does not hold up the event loop."""

import asyncio
import gc
import gzip
import threading
import tracemalloc
from typing import Any, TypeVar

import aiohttp
import pytest

from healthmsg import Client, ConfigurationError, Environment, Outcome, api
from healthmsg.codec import decode
from healthmsg.errors import (
    CallError,
    CallTimeoutError,
    ConnectionLostError,
    DeliveryUnknownError,
    InvalidResponseError,
    NotFoundError,
)
from healthmsg.pipeline.retry import Retries
from healthmsg.transport.timeouts import Timeout
from tests.servers import Handler, Incoming, a_request, answering, serve, wire_to

T = TypeVar("T")
LIMIT = 1000
GZIP = "Content-Encoding: gzip"


def chunked(body: bytes) -> Handler:
    async def handler(incoming: Incoming) -> None:
        while True:
            await incoming.request()
            incoming.writer.write(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n")
            incoming.writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            await incoming.writer.drain()

    return handler


def padded(size: int, document: bytes = b'{"id": "m1"}') -> bytes:
    return document.ljust(size)


WAYS = {
    "plain": lambda size: answering(200, padded(size)),
    "chunked": lambda size: chunked(padded(size)),
    "compressed": lambda size: answering(200, gzip.compress(padded(size)), GZIP),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@ways
async def test_an_answer_of_the_largest_size_is_read(way: Any) -> None:
    async with serve(way(LIMIT)) as server, wire_to(server.url, max_response_size=LIMIT) as wire:
        assert (await wire(a_request("GET"))).body == padded(LIMIT)
        await wire(a_request("GET"))

    assert server.opened == 1


@ways
@pytest.mark.parametrize(("method", "outcome"), [("GET", Outcome.NOT_SENT), ("POST", Outcome.UNKNOWN)])
async def test_a_larger_answer_is_refused_and_says_what_that_leaves_open(
    way: Any, method: str, outcome: Outcome
) -> None:
    async with serve(way(LIMIT + 1)) as server, wire_to(server.url, max_response_size=LIMIT) as wire:
        with pytest.raises(InvalidResponseError, match=r"max_response_size allows \(1000 bytes\)") as caught:
            await wire(a_request(method))

    assert caught.value.outcome is outcome


@ways
async def test_of_an_answer_that_is_not_read_the_status_is_enough(way: Any) -> None:
    request = a_request("PUT")
    request.reads_answer = False
    async with serve(way(LIMIT + 1)) as server, wire_to(server.url, max_response_size=LIMIT) as wire:
        assert (await wire(request)).status == 200


async def test_a_small_answer_can_be_gigabytes_and_costs_no_memory() -> None:
    bomb = gzip.compress(bytes(100_000_000), 1)
    server_of_bombs = serve(answering(200, bomb, GZIP))
    async with server_of_bombs as server, wire_to(server.url, max_response_size=100_000) as wire:
        tracemalloc.start()
        try:
            with pytest.raises(InvalidResponseError):
                await wire(a_request("GET"))
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


async def stop_within_gzip(incoming: Incoming) -> None:
    await incoming.request()
    incoming.writer.write(f"HTTP/1.1 200 X\r\n{GZIP}\r\nContent-Length: 40\r\n\r\n".encode())
    incoming.writer.write(gzip.compress(b"{}")[:12])
    await incoming.reader.read()


@pytest.mark.parametrize(
    ("handler", "failure"),
    [(answering(200, b"no gzip", GZIP), ConnectionLostError), (stop_within_gzip, CallTimeoutError)],
    ids=["broken", "too slow"],
)
async def test_an_answer_that_cannot_be_read_leaves_its_place_in_the_pool(
    handler: Handler, failure: type[CallError]
) -> None:
    gc.disable()  # which would find the place in the end
    try:
        async with (
            serve(handler) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session,
            wire_to(server.url, Timeout(total=0.2), session=session) as wire,
        ):
            for _ in range(2):
                with pytest.raises(failure):
                    await wire(a_request("GET"))
    finally:
        gc.enable()

    assert server.opened == 2


def client_of(url: str, **options: Any) -> Client:
    return Client("t1", environment=Environment("local", url), retries=Retries.none(), **options)


async def test_a_sent_message_whose_answer_is_too_large_is_unknown_with_its_status() -> None:
    async with (
        serve(answering(201, padded(LIMIT + 1))) as server,
        client_of(server.url, max_response_size=LIMIT) as client,
    ):
        with pytest.raises(DeliveryUnknownError) as caught:
            await client.conversations("c1").send("hi")

    assert caught.value.status == 201
    assert len(server.executed) == 1


async def test_a_large_error_is_the_error_that_its_status_says() -> None:
    body = gzip.compress(padded(3_000_000, b'{"error": "gone"}'))
    async with serve(answering(404, body, GZIP)) as server, client_of(server.url) as client:
        with pytest.raises(NotFoundError):
            await client.me.get()


@pytest.mark.parametrize("size", [0, -1, 1.5, "64 MB", True, None])
async def test_a_limit_that_cannot_be_one_is_refused(size: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_response_size"):
        client_of("http://127.0.0.1:9", max_response_size=size)


async def test_the_event_loop_goes_on_while_a_large_answer_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def decode_slowly(body: bytes, shape: type[T], call: str) -> T:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(5)
        return decode(body, shape, call)

    monkeypatch.setattr(api, "decode", decode_slowly)
    async with serve(answering(200, padded(200_000))) as server, client_of(server.url) as client:
        call = asyncio.create_task(client.me.get())
        await begun.wait()
        go_on.set()  # by the event loop, which is free to do so

        assert (await call).id == "m1"


async def test_the_time_for_a_try_holds_while_its_answer_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(api, "decode", lambda *_: go_on.wait(5))
    try:
        async with (
            serve(answering(200, padded(200_000))) as server,
            client_of(server.url, timeout=Timeout(total=0.2)) as client,
        ):
            with pytest.raises(CallTimeoutError, match="could not be decoded in time") as caught:
                await client.me.get()
    finally:
        go_on.set()

    assert caught.value.outcome is Outcome.NOT_SENT


async def test_what_a_large_answer_holds_is_read_like_any_other() -> None:
    async with serve(answering(201, padded(200_000))) as server, client_of(server.url) as client:
        assert (await client.conversations("c1").send("hi")).id == "m1"
        assert (await client.me.get()).id == "m1"
    async with (
        serve(answering(200, padded(200_000, b'{"id": 7}'))) as server,
        client_of(server.url) as client,
    ):
        with pytest.raises(InvalidResponseError) as caught:
            await client.me.get()
        assert caught.value.path == "$.id"
