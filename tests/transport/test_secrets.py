"""On no way that a call can fail does anything private come out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from healthmsg import CallRecord, Client, Environment, Outgoing, RateLimit, Retries
from healthmsg.errors import HealthmsgError
from healthmsg.files import UploadFile
from healthmsg.transport.timeouts import Timeout
from tests.servers import (
    AUX_ID,
    BODY,
    CANARIES,
    COOKIE,
    PATIENT,
    TOKEN,
    Handler,
    answering,
    assert_error_tells_nothing,
    assert_tells_nothing,
    close_after_the_call,
    cut_the_answer,
    hang,
    nothing_logged,
    reset_after_the_call,
    reset_at_once,
    reset_in_the_body,
    serve,
    speak_no_http,
    stop_in_the_answer,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")
WORDS = orjson.dumps({"error": TOKEN, "message": " ".join(CANARIES)})
LINK = f'{{"link": "https://127.0.0.1:9/{AUX_ID}?sig={TOKEN}"}}'.encode()
TO = f"{AUX_ID} {PATIENT}/x"


def refusing(status: int) -> Handler:
    return answering(status, WORDS, f"Set-Cookie: sid={COOKIE}", f"X-Echo: {TOKEN}", f"Location: /{AUX_ID}")


HANDLERS = {
    "reset at once": reset_at_once,
    "reset in the body": reset_in_the_body,
    "reset after the call": reset_after_the_call,
    "closed after the call": close_after_the_call,
    "cut answer": cut_the_answer,
    "not HTTP": speak_no_http,
    "stops in the answer": stop_in_the_answer,
    "no answer": hang,
    **{f"{status}": refusing(status) for status in (302, 400, 401, 403, 404, 412, 418, 429, 500, 502, 503)},
    "not JSON": answering(200, " ".join(CANARIES).encode()),
    "another shape": answering(200, orjson.dumps({"id": list(CANARIES)})),
    "a list of another shape": answering(200, orjson.dumps([{"id": 7, "body": BODY}, *CANARIES])),
    "a link that leads nowhere": answering(302, LINK),
}
Call = Callable[[Client, Path], Awaitable[object]]


async def send(client: Client, _: Path) -> None:
    await client.auxiliary.conversations(TO).send(f"{BODY} {PATIENT}")


async def upload(client: Client, _: Path) -> None:
    scan = UploadFile(BODY.encode() * 100_000, f"{PATIENT}.png")
    await client.auxiliary.groupchats(TO).upload(scan, body=BODY)


async def read(client: Client, _: Path) -> None:
    async for _chat in client.auxiliary.conversations(TO).messages():
        pass


async def download(client: Client, folder: Path) -> None:
    await client.auxiliary.conversations(TO).download(f"{AUX_ID}/1", to=folder / PATIENT)


async def own(client: Client, _: Path) -> None:
    await client.request("DELETE", f"x/{AUX_ID}", query={"q": PATIENT}, json={"body": BODY})


async def bulk(client: Client, _: Path) -> None:
    async for result in client.send_many([Outgoing(f"aux/conversations/{TO}", BODY)], stop_after=0):
        assert_tells_nothing(repr(result))
        if result.error is not None:
            raise result.error


CALLS: list[Call] = [send, upload, read, download, own, bulk]


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    records: list[CallRecord] = []
    async with Client(
        TOKEN,
        environment=Environment("test", f"{url}/v1"),
        rate_limit=RateLimit(calls=1000, per=0.01),
        retries=Retries(attempts=2, max_wait=0),
        timeout=Timeout(read=0.05),
        on_call=records.append,
    ) as client:
        yield client
    assert_tells_nothing(repr(records))


async def assert_nothing_comes_out(
    url: str, call: Call, folder: Path, caplog: pytest.LogCaptureFixture
) -> BaseException | None:
    # In this mode asyncio tells more.
    asyncio.get_running_loop().set_debug(True)
    failure: HealthmsgError | None = None
    with nothing_logged(caplog):
        async with client_of(url) as client:
            assert_tells_nothing(f"{client!r} {vars(client)!r} {client.auxiliary.conversations(TO)!r}")
            try:
                await call(client, folder)
            except HealthmsgError as error:
                failure = error
    if failure is not None:
        assert_error_tells_nothing(failure)
    return failure


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", HANDLERS)
async def test_whatever_the_service_does_nothing_private_comes_out(
    name: str, call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(HANDLERS[name]) as server:
        failure = await assert_nothing_comes_out(server.url, call, tmp_path, caplog)
    assert failure is not None or (
        call is own and name in {"not JSON", "another shape", "a list of another shape"}
    )


@pytest.mark.parametrize("call", CALLS)
async def test_without_a_connection_nothing_private_comes_out(
    call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert await assert_nothing_comes_out(url, call, tmp_path, caplog)


@pytest.mark.parametrize("call", CALLS)
async def test_without_a_name_server_nothing_private_comes_out(
    call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await assert_nothing_comes_out("https://service.invalid", call, tmp_path, caplog)
