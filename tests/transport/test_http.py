import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from healthmsg.errors import (
    CallTimeoutError,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    HealthmsgError,
    Outcome,
    TransportError,
)
from healthmsg.pipeline.request import FilePart, Multipart, Request
from healthmsg.transport.http import Wire
from healthmsg.transport.multipart import FileSource
from healthmsg.transport.timeouts import Timeout
from healthmsg.version import __version__
from tests.servers import (
    BODY,
    COOKIE,
    JSON,
    METHODS,
    PATH,
    PATIENT,
    TOKEN,
    Handler,
    Incoming,
    Server,
    a_request,
    answering,
    close_after_the_call,
    cut_the_answer,
    hang,
    reset_after_the_call,
    reset_at_once,
    reset_in_the_body,
    serve,
    speak_no_http,
    stop_in_the_answer,
    wire_to,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")
SHORT = 0.1


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(answering()) as server:
        yield server


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    async with wire_to(server.url) as wire:
        yield wire


async def never(**_: object) -> None:
    await asyncio.sleep(5)


@contextmanager
def not_connected(request: Request, problem: str) -> Iterator[None]:
    with pytest.raises(ConnectError) as caught:
        yield
    assert problem in caught.value.problem
    assert (caught.value.host, caught.value.port) == (
        request.current.url and request.current.url.host,
        request.current.url and request.current.url.port,
    )
    assert caught.value.outcome is Outcome.NOT_SENT
    assert not request.current.has_left


async def test_a_refused_connection_never_reached_the_service(server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        request = a_request()
        async with wire_to(f"http://127.0.0.1:{unused.getsockname()[1]}") as wire:
            with not_connected(request, "refused the connection"):
                await wire(request)


async def test_a_name_that_cannot_be_resolved_never_reached_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, PATIENT)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    request = a_request()
    async with wire_to("https://service.invalid/v1") as wire:
        with not_connected(
            request, "the name of service.invalid:443 could not be resolved (there is no such host)"
        ):
            await wire(request)


async def test_a_service_without_tls_never_got_the_call() -> None:
    async def refuse(incoming: Incoming) -> None:
        await incoming.reader.read(1)
        await incoming.answer(400)

    request = a_request()
    async with serve(refuse) as server, wire_to(server.url.replace("http:", "https:")) as wire:
        where = server.url.removeprefix("http://").partition("/")[0]
        problem = f"no trusted TLS connection could be made to {where}: the other side does not speak TLS"
        with not_connected(request, problem):
            await wire(request)


@pytest.mark.parametrize("patience", [Timeout(connect=SHORT), Timeout(total=SHORT)])
async def test_no_connection_in_time_means_that_the_call_had_no_effect(
    patience: Timeout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", never)
    request = a_request()
    async with wire_to("http://127.0.0.1:1", patience) as wire:
        with not_connected(request, "making a connection to 127.0.0.1:1 took too long"):
            await wire(request)


async def test_whether_a_call_left_is_asked_for_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    request = a_request()
    async with serve(reset_after_the_call) as server, wire_to(server.url, Timeout(total=SHORT)) as wire:
        with pytest.raises(ConnectionLostError):
            await wire(request)
        monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", never)
        with not_connected(request, "took too long"):
            await wire(request)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (reset_at_once, ConnectionLostError),
        (reset_in_the_body, ConnectionLostError),
        (reset_after_the_call, ConnectionLostError),
        (close_after_the_call, ConnectionLostError),
        (cut_the_answer, ConnectionLostError),
        (speak_no_http, ConnectionLostError),
        (stop_in_the_answer, CallTimeoutError),
        (hang, CallTimeoutError),
    ],
)
@pytest.mark.parametrize("patience", [Timeout(read=SHORT), Timeout(total=SHORT)])
async def test_a_call_without_a_clear_answer_is_sent_once_and_its_outcome_is_known_for_reading_only(
    method: str, handler: Handler, kind: type[TransportError], patience: Timeout
) -> None:
    body = b"x" * 1_000_000 if handler is reset_in_the_body else JSON.data
    request = a_request(method)
    if request.body is not None:
        request.body = type(JSON)("application/json", body)
    async with serve(handler) as server, wire_to(server.url, patience) as wire:
        with pytest.raises(kind) as caught:
            await wire(request)
        await asyncio.sleep(0)
        assert server.opened == 1
    assert caught.value.outcome is (Outcome.NOT_SENT if method == "GET" else Outcome.UNKNOWN)
    assert request.current.has_left


@pytest.mark.parametrize("method", METHODS)
async def test_a_kept_connection_that_breaks_after_the_call_ran_does_not_make_it_run_twice(
    method: str,
) -> None:
    async def answer_only_the_first(incoming: Incoming) -> None:
        await incoming.request()
        await incoming.answer()
        await incoming.request()

    async with serve(answer_only_the_first) as server, wire_to(server.url) as wire:
        await wire(a_request("GET"))
        with pytest.raises(ConnectionLostError):
            await wire(a_request(method))
        await asyncio.sleep(0.02)
        assert [call.method for call in server.executed] == ["GET", method]
        assert server.opened == 1


async def test_exactly_these_headers_are_sent(server: Server) -> None:
    async with wire_to(server.url, api_version="2.1") as wire:
        await wire(a_request())
    (call,) = server.executed
    assert call.headers.pop("accept-encoding")  # type: ignore[attr-defined]
    assert call.headers == {
        "host": [server.url.removeprefix("http://")],
        "accept": ["application/json"],
        "user-agent": [f"healthmsg/{__version__}"],
        "api-version": ["2.1"],
        "authorization": [f"Bearer {TOKEN}"],
        "cookie": [COOKIE],
        "content-type": ["application/json"],
        "content-length": [str(len(JSON.data))],
    }
    assert BODY.encode() in call.body


async def test_without_token_cookie_and_version_none_is_sent(server: Server, wire: Wire) -> None:
    await wire(Request("GET me", "GET", "me"))
    (call,) = server.executed
    for name in ("authorization", "cookie", "api-version", "content-type"):
        assert name not in call.headers


@pytest.mark.parametrize(
    "path", [PATH, "a%2Fb%20c%C3%A9%2e", "x/%2E%2E/y", "q?a=%2F&b=+", "star*~!$&'()+,;=:@"]
)
async def test_a_path_is_sent_as_it_is(server: Server, wire: Wire, path: str) -> None:
    await wire(Request("GET x", "GET", path))
    await wire(Request("GET x", "GET", f"{server.url}/{path}"))
    assert [call.target for call in server.executed] == [f"/{path}"] * 2


async def test_a_query_is_encoded(server: Server, wire: Wire) -> None:
    request = Request("GET x", "GET", "x")
    request.query = {"page": "0", "q": "a b&c=é/"}
    await wire(request)
    assert server.executed[0].target == "/x?page=0&q=a+b%26c%3D%C3%A9%2F"


async def test_a_cookie_is_handed_over_and_not_kept() -> None:
    cookies = ("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2")
    async with serve(answering(200, b"{}", *cookies)) as server, wire_to(server.url) as wire:
        answer = await wire(Request("GET x", "GET", "x"))
        await wire(Request("GET x", "GET", "x"))
        assert wire._connections.session is not None
        assert not list(wire._connections.session.cookie_jar)
    assert answer.cookies == ("a=1; Path=/", "b=2")
    assert all("cookie" not in call.headers for call in server.executed)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with serve(answering(status, b"{}", "Location: /elsewhere")) as server, wire_to(server.url) as wire:
        answer = await wire(a_request())
    assert (answer.status, answer.headers["location"]) == (status, "/elsewhere")
    assert len(server.executed) == 1


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500])
async def test_any_code_is_an_answer(status: int) -> None:
    async with serve(answering(status, b"")) as server, wire_to(server.url) as wire:
        assert (await wire(a_request())).status == status


async def test_calls_share_a_connection(server: Server, wire: Wire) -> None:
    for method in METHODS:
        await wire(a_request(method))
    assert server.opened == 1


@pytest.mark.parametrize("handler", [hang, stop_in_the_answer])
async def test_a_cancelled_call_leaves_no_connection_and_no_task(handler: Handler) -> None:
    async with serve(handler) as server, wire_to(server.url) as wire:
        call = asyncio.create_task(wire(a_request()))
        await server.until(lambda server: server.open == 1)
        await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until(lambda server: server.open == 0)


async def test_close_may_be_called_twice_and_before_any_call() -> None:
    wire = Wire("http://127.0.0.1:1", timeout=Timeout())
    await wire.close()
    await wire.close()


async def test_a_call_after_the_close_opens_nothing(server: Server, wire: Wire) -> None:
    # It may have waited for its turn, or between two tries.
    await wire(a_request())
    await wire.close()
    with pytest.raises(ClientClosedError):
        await wire(a_request())
    assert len(server.executed) == 1


async def test_a_call_in_flight_at_the_close_fails_as_one_of_ours() -> None:
    async with serve(hang) as server, wire_to(server.url) as wire:
        call = asyncio.create_task(wire(a_request()))
        await server.until(lambda server: server.open == 1)
        await wire.close()
        with pytest.raises(HealthmsgError):
            await asyncio.wait_for(call, 2)
        await server.until(lambda server: server.open == 0)


def streamed() -> Request:
    request = Request("GET x", "GET", "x")
    request.streamed = True
    return request


async def test_a_stream_gives_all_pieces_and_its_connection_back() -> None:
    content = bytes(range(256)) * 4000
    async with serve(answering(200, content)) as server, wire_to(server.url) as wire:
        for _ in range(2):
            answer = await wire(streamed())
            assert answer.stream is not None
            assert b"".join([chunk async for chunk in answer.stream.chunks()]) == content
            answer.stream.close()
        assert server.opened == 1


@pytest.mark.parametrize(
    ("handler", "kind"), [(cut_the_answer, ConnectionLostError), (stop_in_the_answer, CallTimeoutError)]
)
async def test_a_stream_that_breaks_fails_as_one_of_ours(
    handler: Handler, kind: type[TransportError]
) -> None:
    async with serve(handler) as server, wire_to(server.url, Timeout(read=SHORT)) as wire:
        answer = await wire(streamed())
        assert answer.stream is not None
        with pytest.raises(kind) as caught:
            [chunk async for chunk in answer.stream.chunks()]
        assert caught.value.__context__ is None
        answer.stream.close()


async def test_a_stream_left_early_closes_its_connection() -> None:
    async with serve(stop_in_the_answer) as server, wire_to(server.url) as wire:
        answer = await wire(streamed())
        assert answer.stream is not None
        answer.stream.close()
        await server.until(lambda server: server.open == 0)


async def test_an_error_instead_of_a_stream_is_read_whole() -> None:
    async with serve(answering(404, b"gone")) as server, wire_to(server.url) as wire:
        answer = await wire(streamed())
    assert (answer.stream, answer.body) == (None, b"gone")


def test_an_upload_gets_more_time_for_its_size() -> None:
    def opened() -> Any:
        raise AssertionError

    wire = Wire("http://127.0.0.1:1", timeout=Timeout(total=60))
    files = tuple(FilePart("files", "a", "a/b", 5_000_000, FileSource(opened)) for _ in range(2))
    assert wire._time_for(Multipart((), files)) == 60 + 200
