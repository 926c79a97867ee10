"""Staying connected over real sockets, to gateways that misbehave."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from healthmsg.errors import ReauthorizationRequiredError
from healthmsg.gateway.backoff import Backoff
from healthmsg.gateway.connection import GatewayState
from healthmsg.transport.http import Wire
from healthmsg.transport.websocket import sockets_of
from tests.gateway import servers
from tests.gateway.fakes import MESSAGE, Running, Tokens, running, text_of
from tests.gateway.servers import Behaviour, Server, serve
from tests.servers import assert_error_tells_nothing, nothing_logged

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


def quick() -> Backoff:
    return Backoff(lambda least, _: least + 0.01)


@asynccontextmanager
async def connected(
    behaviour: Behaviour, *, status: int | None = None, tokens: Tokens | None = None
) -> AsyncIterator[tuple[Running, Server]]:
    async with serve(behaviour, status=status) as server:
        wire = Wire("http://127.0.0.1:9")
        try:
            async with running(sockets_of(wire), url=server.url, tokens=tokens, backoff=quick()) as run:
                yield run, server
        finally:
            await wire.close()


def is_live(run: Running) -> bool:
    return run.connection.state is GatewayState.LIVE


async def handed_on_and_closed() -> None:
    async with connected(servers.saying(MESSAGE, b"{", text_of("x"))) as (run, server):
        await run.until(lambda run: len(run.ear.frames) == 2)
        run.connection.subscribe("g1")
        await run.until(lambda _: server.heard)
        await run.connection.close()

    assert [name for name, _ in run.ear.frames] == ["conversation_new_message", "x"]
    assert run.ear.unread == 1
    assert server.heard == [{"event": "groupchat_subscribe", "data": {"groupchat_id": "g1"}}]
    assert server.endings == [1000]


async def test_frames_come_in_and_go_out_and_it_is_closed_politely() -> None:
    await handed_on_and_closed()


def test_so_they_do_with_uvloop() -> None:
    uvloop.run(handed_on_and_closed())


async def test_no_authorization_header_is_on_the_upgrade() -> None:
    async with connected(servers.behave) as (run, server):
        await run.until(is_live)

    assert "authorization" not in server.upgrades[0]
    assert "cookie" not in server.upgrades[0]
    assert server.upgrades[0]["user-agent"].startswith("healthmsg/")
    assert "sec-websocket-extensions" not in server.upgrades[0]
    assert "sec-websocket-protocol" not in server.upgrades[0]


@pytest.mark.parametrize("behaviour", [servers.accept_and_close, servers.break_off, servers.send_garbage])
async def test_a_connection_that_ends_is_made_again(behaviour: Behaviour) -> None:
    async with connected(behaviour) as (run, server):
        await run.until(lambda _: len(server.upgrades) >= 3)


async def test_an_upgrade_that_is_refused_is_tried_again() -> None:
    async with connected(servers.behave, status=503) as (run, server):
        await run.until(lambda _: len(server.upgrades) >= 3)
    assert run.ear.users == []


async def test_a_redirect_is_not_followed_since_the_token_would_go_elsewhere() -> None:
    async with connected(servers.behave, status=302) as (run, server):
        await run.until(lambda _: len(server.upgrades) >= 3)
        assert not run.task.done()
    assert server.tokens == []


async def test_a_refused_token_is_renewed_and_then_given_up() -> None:
    async with connected(servers.refuse_the_token, tokens=Tokens(["old", "new"])) as (run, server):
        await asyncio.wait({run.task}, timeout=5)
        with pytest.raises(ReauthorizationRequiredError):
            run.task.result()
    assert server.tokens == ["old", "new"]


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [servers.flood, servers.stop_reading])
async def test_closing_takes_five_seconds_at_most_whatever_the_service_does(behaviour: Behaviour) -> None:
    async with connected(behaviour) as (run, _):
        await run.until(is_live)
        began = time.monotonic()
        await run.connection.close()
        assert time.monotonic() - began <= 5.5
        assert run.task.done()


@pytest.mark.slow
def test_so_it_does_with_uvloop() -> None:
    async def main() -> None:
        async with connected(servers.flood) as (run, _):
            await run.until(is_live)
            began = time.monotonic()
            await run.connection.close()
            assert time.monotonic() - began <= 5.5

    uvloop.run(main())


@pytest.mark.slow
async def test_a_service_that_never_answers_the_handshake_is_left_after_five_seconds() -> None:
    async with connected(servers.never_answer_the_handshake) as (run, server):
        began = time.monotonic()
        await run.until(lambda _: len(server.upgrades) == 2)
        assert 4.5 <= time.monotonic() - began <= 6


DESCRIPTORS = Path("/proc/self/fd")


def open_descriptors() -> int:
    return sum(1 for _ in DESCRIPTORS.iterdir())


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="no /proc")
async def test_no_socket_is_left_open() -> None:
    async with connected(servers.break_off) as (run, server):
        await run.until(lambda _: len(server.upgrades) >= 2)
        before = open_descriptors()
        await run.until(lambda _: len(server.upgrades) >= 30)
        gc.collect()
        assert open_descriptors() <= before + 3


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (servers.refuse_the_token, None),
        (servers.send_garbage, None),
        (servers.break_off, None),
        (servers.accept_and_close, None),
        (servers.saying(MESSAGE, b"{" + MESSAGE, text_of("error", code=500, error="x"), closes=True), None),
        (servers.behave, 302),
        (servers.behave, 401),
        (servers.behave, 503),
    ],
)
async def test_nothing_private_gets_out(
    behaviour: Behaviour, status: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with nothing_logged(caplog):
        async with connected(behaviour, status=status) as (run, server):
            await run.until(lambda run: len(server.upgrades) >= 2 or run.ear.losses or run.task.done())
            shown = f"{run.connection!r} {run.task!r} {[reason for _, reason in run.ear.losses]}"
            await run.connection.close()
            await asyncio.wait({run.task})
            error = run.task.exception()
    assert "canary" not in shown
    assert "canary" not in caplog.text
    if error is not None:
        assert_error_tells_nothing(error)
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.find("healthmsg/gateway") > 0:
                assert "canary" not in repr(trace.tb_frame.f_locals)
            trace = trace.tb_next
