"""`Timeout.connect` bounds all that comes before a call leaves."""

import asyncio
import threading

import pytest

from healthmsg import CallTimeoutError, ConnectError, Outcome, Timeout
from healthmsg.network import Network
from healthmsg.transport.http import Wire
from tests.servers import (
    Handler,
    Incoming,
    a_request,
    hang,
    serve,
    wire_to,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")
IN_TIME = Timeout(connect=0.1)


async def assert_no_connection_in_time(wire: Wire) -> None:
    started = asyncio.get_running_loop().time()
    request = a_request()
    with pytest.raises(ConnectError, match="took too long") as caught:
        await wire(request)
    assert asyncio.get_running_loop().time() - started < 2
    assert caught.value.outcome is Outcome.NOT_SENT
    assert not request.current.has_left


async def answer_connect_and_hang(incoming: Incoming) -> None:
    await incoming.head()
    incoming.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await hang(incoming)


async def test_finding_the_hosts_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asyncio.Event()

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        await found.wait()
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with wire_to("https://slow.test", IN_TIME) as wire:
        await assert_no_connection_in_time(wire)
        found.set()


async def test_tls() -> None:
    async with serve(hang) as server, wire_to(server.url.replace("http:", "https:"), IN_TIME) as wire:
        await assert_no_connection_in_time(wire)


@pytest.mark.parametrize("handler", [hang, answer_connect_and_hang])
async def test_a_proxys_consent_and_tls_after_it(handler: Handler) -> None:
    async with serve(handler) as proxy:
        async with wire_to("https://127.0.0.1:1", IN_TIME, network=Network(proxy=proxy.url)) as wire:
            await assert_no_connection_in_time(wire)
        await proxy.until(lambda server: server.open == 0)


@pytest.mark.parametrize("patience", [IN_TIME, Timeout(total=0.1)])
async def test_asking_the_system_for_a_proxy(patience: Timeout, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = threading.Event()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda _: reported.wait(5))
    async with wire_to("https://127.0.0.1:1", patience, network=Network(trust_env=True)) as wire:
        await assert_no_connection_in_time(wire)
        reported.set()


async def test_waiting_for_one_of_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healthmsg.transport.connections._MOST_CONNECTIONS", 1)
    async with serve(hang) as server, wire_to(server.url, IN_TIME) as wire:
        first = asyncio.create_task(wire.with_timeout(Timeout(total=0.3))(a_request()))
        await server.until(lambda server: server.open == 1)
        await assert_no_connection_in_time(wire)
        with pytest.raises(CallTimeoutError):
            await first
