"""A session that the user passes in lends its connections, and changes nothing else."""

import asyncio
import gc
import os
import warnings
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from healthmsg.errors import ClientClosedError, ConfigurationError, ConnectError, WrongEventLoopError
from healthmsg.network import Network
from healthmsg.pipeline.request import Request
from tests.servers import (
    JSON,
    TOKEN,
    Received,
    Server,
    a_request,
    answering,
    serve,
    wire_to,
)
from tests.transport.hospital import BASIC, CREDENTIALS, PASSWORD, USER, Proxy

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")


@pytest.fixture(autouse=True)
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login someone password else\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(answering(200, b"{}", "Set-Cookie: ours=1")) as server:
        yield server


@pytest.fixture(params=["netrc", "header"])
async def strange(server: Server, request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a session with everything set that could change a call."""
    credentials = {"Authorization": "Basic c3RyYW5nZQ=="} if request.param == "header" else {}
    session = aiohttp.ClientSession(
        headers={"X-Strange": "1", "User-Agent": "strange", **credentials},
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        cookies={"theirs": "1"},
        raise_for_status=True,
        trust_env=request.param == "netrc",
        timeout=aiohttp.ClientTimeout(total=0.000001),
    )
    async with session:
        yield session


async def sent_by(server: Server, request: Request, session: aiohttp.ClientSession | None) -> Received:
    async with wire_to(server.url, session=session) as wire:
        await wire(request)
    return server.executed[-1]


@pytest.mark.parametrize("is_bare", [True, False])
async def test_a_call_is_the_same_with_and_without_it(
    server: Server, strange: aiohttp.ClientSession, *, is_bare: bool
) -> None:
    def request() -> Request:
        return Request("POST x", "POST", "x", body=JSON) if is_bare else a_request()

    assert await sent_by(server, request(), strange) == await sent_by(server, request(), None)
    assert ("authorization" in server.executed[0].headers) is not is_bare


async def test_it_would_have_changed_the_call_had_it_been_used(
    server: Server, strange: aiohttp.ClientSession
) -> None:
    async with strange.get(server.url, timeout=aiohttp.ClientTimeout()):
        pass
    headers = server.executed[0].headers
    assert {"x-strange", "authorization", "cookie"} < headers.keys()


async def test_it_stays_open_and_usable(server: Server, strange: aiohttp.ClientSession) -> None:
    await sent_by(server, a_request(), strange)
    assert not strange.closed
    async with strange.get(server.url, timeout=aiohttp.ClientTimeout()) as answer:
        assert answer.ok
    assert server.opened == 1


async def test_its_cookie_jar_stores_nothing_of_ours(server: Server, strange: aiohttp.ClientSession) -> None:
    await sent_by(server, a_request(), strange)
    assert [cookie.key for cookie in strange.cookie_jar] == ["theirs"]


async def test_its_raise_for_status_changes_no_error(strange: aiohttp.ClientSession) -> None:
    async with serve(answering(500)) as server, wire_to(server.url, session=strange) as wire:
        assert (await wire(a_request())).status == 500


async def test_netrc_gives_no_credentials_to_a_call_without_a_token(server: Server) -> None:
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(server.url):
            pass
        assert "authorization" in server.executed[0].headers
        call = await sent_by(server, Request("GET x", "GET", "x"), session)
    assert "authorization" not in call.headers


async def test_its_middlewares_still_run_inside_ours(server: Server) -> None:
    seen: list[str | None] = []

    async def noting(outgoing: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        seen.append(outgoing.headers.get("Authorization"))
        outgoing.headers["X-Middleware"] = "1"
        answer: aiohttp.ClientResponse = await handler(outgoing)
        return answer

    async with aiohttp.ClientSession(middlewares=[noting]) as session:
        call = await sent_by(server, a_request(), session)
    assert seen == [f"Bearer {TOKEN}"]
    assert call.header("X-Middleware") == "1"


async def test_a_call_that_its_tracing_makes_gets_none_of_our_credentials(server: Server) -> None:
    called = False

    async def call_elsewhere(session: aiohttp.ClientSession, *_: object) -> None:
        nonlocal called
        if not called:
            called = True
            async with session.get(f"{elsewhere.url}/metrics"):
                pass

    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(call_elsewhere)
    async with serve(answering()) as elsewhere, aiohttp.ClientSession(trace_configs=[tracing]) as session:
        call = await sent_by(server, a_request(), session)

    assert called
    assert call.header("Authorization") == f"Bearer {TOKEN}"
    assert not {"authorization", "cookie"} & elsewhere.executed[0].headers.keys()


async def test_a_call_of_ours_that_its_tracing_makes_changes_nothing_for_the_other(server: Server) -> None:
    called = False

    async def call_ours(*_: object) -> None:
        nonlocal called
        if not called:
            called = True
            await wire(Request("GET other", "GET", "other"))

    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(call_ours)
    async with (
        aiohttp.ClientSession(trace_configs=[tracing]) as session,
        wire_to(server.url, session=session) as wire,
    ):
        await wire(a_request())

    first, second = server.executed
    assert "authorization" not in first.headers
    assert second.header("Authorization") == f"Bearer {TOKEN}"


async def test_a_kept_connection_holds_nothing_of_the_call_that_it_was_made_for(server: Server) -> None:
    async with wire_to(server.url) as wire:
        request = a_request()
        left = weakref.ref(request)
        await wire(request)
        del request
        gc.collect()
        assert left() is None
        await wire(a_request())
    assert server.opened == 1


async def test_one_that_is_closed_already_is_named_as_the_reason(server: Server) -> None:
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(ConfigurationError, match="session that was passed in is closed"):
        await sent_by(server, a_request(), session)


async def test_one_that_is_closed_later_ends_the_calls(server: Server) -> None:
    session = aiohttp.ClientSession()
    async with wire_to(server.url, session=session) as wire:
        await wire(a_request())
        await session.close()
        with pytest.raises(ClientClosedError):
            await wire(a_request())


async def test_one_of_another_event_loop_is_refused(server: Server) -> None:
    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    loop = asyncio.new_event_loop()
    session = await asyncio.to_thread(loop.run_until_complete, open_session())
    with pytest.raises(WrongEventLoopError):
        await sent_by(server, a_request(), session)
    await asyncio.to_thread(loop.run_until_complete, session.close())
    loop.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Server]:
    async with serve(Proxy(needs_credentials=True)) as proxy:
        yield proxy


@pytest.mark.filterwarnings("ignore:The 'proxy_auth' parameter is deprecated")
@pytest.mark.parametrize("is_apart", [True, False])
async def test_its_proxy_is_used_with_its_credentials(
    server: Server, proxy: Server, *, is_apart: bool
) -> None:
    if is_apart:
        session = aiohttp.ClientSession(proxy=proxy.url, proxy_auth=encoded(USER, PASSWORD))
    else:
        session = aiohttp.ClientSession(proxy=proxy.url.replace("://", f"://{CREDENTIALS}@"))
    async with session:
        call = await sent_by(server, a_request(), session)
    assert [request.header("Proxy-Authorization") for request in proxy.begun] == [BASIC]
    assert "proxy-authorization" not in call.headers


def encoded(user: str, password: str) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return aiohttp.BasicAuth(user, password)


async def test_a_proxy_of_ours_comes_before_its_own(server: Server, proxy: Server) -> None:
    network = Network(proxy=proxy.url.replace("://", f"://{CREDENTIALS}@"))
    async with (
        aiohttp.ClientSession(proxy="http://127.0.0.1:1") as session,
        wire_to(server.url, session=session, network=network) as wire,
    ):
        await wire(a_request())
    assert len(proxy.begun) == len(server.executed) == 1


async def test_it_trusts_the_environment_if_it_did_before(
    server: Server, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", f"://{CREDENTIALS}@"))
    for trusts in (True, False):
        async with aiohttp.ClientSession(trust_env=trusts) as session:
            await sent_by(server, a_request(), session)
        assert len(proxy.begun) == 1


async def test_it_may_be_lent_with_trust_in_the_environment(
    proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", f"://{CREDENTIALS}@"))
    async with (
        aiohttp.ClientSession() as session,
        wire_to("https://127.0.0.1:1", session=session, network=Network(trust_env=True)) as wire,
    ):
        with pytest.raises(ConnectError):  # nothing listens there
            await wire(a_request())
    assert [request.method for request in proxy.begun] == ["CONNECT"]
