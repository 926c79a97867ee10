"""A WebSocket behind a small protocol: through proxies, with the trust of a call, and with no credentials."""

import asyncio
import hashlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from healthmsg.errors import (
    CallError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    Outcome,
    ProxyAuthenticationError,
    RateLimitedError,
    ServiceUnavailableError,
)
from healthmsg.network import Network
from healthmsg.transport.http import Wire
from healthmsg.transport.websocket import Opcode, Socket, sockets_of
from tests.gateway import servers
from tests.gateway.fakes import MESSAGE
from tests.gateway.servers import Session
from tests.servers import Incoming, answering, assert_error_tells_nothing, hang, serve
from tests.transport.hospital import BASIC, CREDENTIALS, Authority, Proxy

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Socket]:
    wire = Wire("http://127.0.0.1:9", **options)
    try:
        socket = await sockets_of(wire)(url)
        yield socket
        socket.abort()
    finally:
        await wire.close()


async def failing(url: str, **options: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        async with opened(url, **options):
            pass
    assert caught.value.outcome is Outcome.NOT_SENT
    assert_error_tells_nothing(caught.value)
    return caught.value


async def talk(session: Session) -> None:
    """Send one frame of each kind, and echo all."""
    await session.say(MESSAGE)
    await session.socket.send_bytes(b"\x00\xff")
    await session.socket.ping(b"p")
    await session.socket.pong(b"q")
    await session.listen()


async def test_each_kind_of_frame_comes_through_and_none_is_answered_by_itself() -> None:
    async with servers.serve(talk) as server, opened(server.url) as socket:
        received = [await socket.receive() for _ in range(4)]
        await socket.send(Opcode.TEXT, b'{"event": "x"}')
        await socket.send(Opcode.PING, b"r")
        assert await socket.receive() == (Opcode.PONG, b"r")
        await socket.send(Opcode.CLOSE, b"\x03\xe8")
        assert await socket.receive() == (Opcode.CLOSE, b"\x03\xe8")

    assert received == [
        (Opcode.TEXT, MESSAGE),
        (Opcode.BINARY, b"\x00\xff"),
        (Opcode.PING, b"p"),
        (Opcode.PONG, b"q"),
    ]
    assert server.heard == [{"event": "x"}]


async def test_text_that_is_no_utf_8_does_not_end_the_connection() -> None:
    async def bad(session: Session) -> None:
        await session.say(b"\xff\xfe")
        await session.say(MESSAGE)
        await session.listen()

    async with servers.serve(bad) as server, opened(server.url) as socket:
        assert [data for _, data in [await socket.receive(), await socket.receive()]] == [
            b"\xff\xfe",
            MESSAGE,
        ]


@pytest.mark.parametrize("behaviour", [servers.break_off, servers.send_garbage])
async def test_a_connection_that_breaks_is_said_to_be_lost(behaviour: servers.Behaviour) -> None:
    async with servers.serve(behaviour) as server, opened(server.url) as socket:
        await socket.send(Opcode.TEXT, b'{"event": "handshake", "data": {"token": "t"}}')
        assert (await socket.receive())[0] is Opcode.TEXT
        with pytest.raises(ConnectionLostError) as caught:
            await socket.receive()
    assert_error_tells_nothing(caught.value)


async def test_after_abort_it_takes_nothing_more() -> None:
    async with servers.serve(servers.behave) as server, opened(server.url) as socket:
        socket.abort()
        socket.abort()
        with pytest.raises(ConnectionLostError):
            await socket.send(Opcode.TEXT, b"x")
        with pytest.raises(ConnectionLostError):
            await socket.receive()


async def send_without_end(socket: Socket) -> None:
    while True:
        await socket.send(Opcode.TEXT, bytes(2**20))


async def test_abort_drops_what_a_side_that_does_not_read_never_takes() -> None:
    async def read_nothing(session: Session) -> None:
        await session.hang()

    async with servers.serve(read_nothing) as server, opened(server.url) as socket:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send_without_end(socket), 0.5)
        transport = socket._transport  # type: ignore[attr-defined]
        assert transport.get_write_buffer_size() > 0
        socket.abort()
        await asyncio.sleep(0.01)
        assert transport.get_extra_info("socket").fileno() == -1


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, ServiceUnavailableError)])
async def test_a_refused_upgrade_is_said_with_its_status(status: int, kind: type[CallError]) -> None:
    async with servers.serve(servers.behave, status=status) as server:
        assert type(await failing(server.url)) is kind


@pytest.mark.parametrize("status", [200, 301, 302, 307])
async def test_an_answer_that_opens_nothing_and_a_redirect_are_errors(status: int) -> None:
    async with servers.serve(servers.behave, status=status) as server:
        assert isinstance(await failing(server.url), ConnectionLostError)
        assert len(server.upgrades) == 1


async def test_no_connection_is_said_with_its_place() -> None:
    error = await failing("ws://127.0.0.1:9/v1/gateway")

    assert isinstance(error, ConnectError)
    assert "127.0.0.1:9" in str(error)


@pytest.mark.slow
async def test_an_upgrade_without_an_answer_is_given_up_after_five_seconds() -> None:
    async with serve(hang) as server:
        began = time.monotonic()
        await failing(server.url.replace("http", "ws"))
    assert 4.5 <= time.monotonic() - began <= 6


async def test_a_closed_client_opens_nothing() -> None:
    wire = Wire("http://127.0.0.1:9")
    await wire.close()
    with pytest.raises(ClientClosedError):
        await sockets_of(wire)("ws://127.0.0.1:9/v1/gateway")


async def test_the_user_agent_is_that_of_calls() -> None:
    async with servers.serve(talk) as server, opened(server.url, app_info="ehr/1"):
        pass
    assert server.upgrades[0]["user-agent"].startswith("ehr/1 healthmsg/")


async def test_tls_is_trusted_as_for_calls(authority: Authority) -> None:
    async with servers.serve(talk, tls=authority.tls) as server:
        async with opened(server.url, network=Network(ssl=authority.bundle)) as socket:
            assert await socket.receive() == (Opcode.TEXT, MESSAGE)
        assert "unknown CA" in str(await failing(server.url))


async def test_it_goes_through_the_proxy_with_the_proxys_credentials(authority: Authority) -> None:
    proxy = Proxy(needs_credentials=True)
    async with servers.serve(talk, tls=authority.tls) as server, serve(proxy) as at_proxy:
        url = at_proxy.url.replace("://", f"://{CREDENTIALS}@")
        async with opened(server.url, network=Network(proxy=url, ssl=authority.bundle)) as socket:
            assert await socket.receive() == (Opcode.TEXT, MESSAGE)
        assert at_proxy.begun[-1].method == "CONNECT"
        assert at_proxy.begun[-1].header("Proxy-Authorization") == BASIC
        assert "proxy-authorization" not in server.upgrades[0]
        assert MESSAGE not in proxy.tunnelled

        wrong = Network(proxy=at_proxy.url, ssl=authority.bundle)
        assert isinstance(await failing(server.url, network=wrong), ProxyAuthenticationError)


async def test_it_takes_the_proxy_of_the_environment_if_asked_to(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers.serve(talk, tls=authority.tls) as server, serve(Proxy()) as at_proxy:
        monkeypatch.setenv("HTTPS_PROXY", at_proxy.url)
        async with opened(server.url, network=Network(trust_env=True, ssl=authority.bundle)):
            assert len(at_proxy.begun) == 1
        async with opened(server.url, network=Network(ssl=authority.bundle)):
            assert len(at_proxy.begun) == 1


async def test_plain_websockets_which_are_for_this_machine_take_no_proxy() -> None:
    async with servers.serve(talk) as server, serve(answering(500)) as at_proxy:
        async with opened(server.url, network=Network(proxy=at_proxy.url)) as socket:
            assert (await socket.receive())[0] is Opcode.TEXT
        assert at_proxy.opened == 0


async def test_of_a_session_that_is_passed_in_only_the_pool_is_used(session: aiohttp.ClientSession) -> None:
    async with aiohttp.ClientSession(
        headers={"Authorization": "Bearer foreign", "X-Foreign": "1"}, cookies={"foreign": "1"}
    ) as given:
        async with servers.serve(talk) as server, opened(server.url, session=given) as socket:
            assert (await socket.receive())[0] is Opcode.TEXT
        assert not given.closed
    assert not {"authorization", "x-foreign", "cookie"} & set(server.upgrades[0])


async def test_credentials_of_a_netrc_file_stay_where_they_are(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login u password p")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with (
        aiohttp.ClientSession(trust_env=True) as given,
        servers.serve(talk) as server,
        opened(server.url, session=given),
    ):
        pass
    assert "authorization" not in server.upgrades[0]


async def test_an_upgrade_that_is_cancelled_leaves_no_connection() -> None:
    async with serve(hang) as server:
        wire = Wire("http://127.0.0.1:9")
        opening = asyncio.ensure_future(sockets_of(wire)(server.url.replace("http", "ws")))
        await server.until(lambda server: server.opened == 1)
        opening.cancel()
        await asyncio.wait({opening})
        await server.until(lambda server: server.open == 0)
        await wire.close()


async def accept_and_end(incoming: Incoming) -> None:
    head = await incoming.head()
    key = f"{head.header('sec-websocket-key')}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accepted = b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324 - RFC 6455
    headers = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accepted}"
    incoming.writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n\r\n".encode())


async def test_a_connection_that_ends_while_a_tracing_hook_looks_at_the_answer_is_said_to_be_lost() -> None:
    async def look(*_: object) -> None:
        await server.until(lambda server: not server.open)
        await asyncio.sleep(0.01)  # that it has ended arrives in the loop's next rounds

    tracing = aiohttp.TraceConfig()
    tracing.on_request_end.append(look)
    async with serve(accept_and_end) as server, aiohttp.ClientSession(trace_configs=[tracing]) as given:
        error = await failing(server.url.replace("http", "ws"), session=given)
    assert isinstance(error, ConnectionLostError)
