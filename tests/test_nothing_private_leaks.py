"""Whatever goes wrong, nothing private comes out: neither in an error nor in a log."""

import asyncio
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from attrs import frozen
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from healthmsg import (
    Attachment,
    Client,
    Environment,
    GroupInvite,
    HealthmsgError,
    ImportUser,
    OAuthApp,
    Option,
    Outgoing,
    RateLimit,
    Retries,
    Timeout,
    Token,
    TokenManager,
    UploadFile,
)
from healthmsg.errors import StatusError
from healthmsg.otel import OpenTelemetryHook

# All of them begin so, also percent-encoded.
CANARY = "c4nary"
TOKEN, BODY, AUX_ID, NAME = "c4nary-token", "c4nary body", "c4nary aux/7", "c4nary O'Hara"
REFRESH_TOKEN, CLIENT_SECRET = "c4nary-refresh", "c4nary-client"
# What the service itself said is kept there, and nowhere else.
SERVERS_WORDS = {"server_message", "server_code", "server_info"}
STATUSES = (300, 302, 400, 401, 403, 404, 405, 412, 413, 418, 429, 500, 502, 503, 504)

Action = Callable[[Client, Path], Awaitable[object]]


@frozen
class Echo:
    """A server that repeats all it is sent, in whatever way it is asked to fail."""

    fails: str
    link: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer_all(reader, writer)
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fails == "no TLS":
            writer.write(BODY.encode())
            return
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            if not await self._answer(head + body, writer):
                return

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        reported = (request + f"{NAME} {BODY} {AUX_ID} {TOKEN}".encode()).decode("latin-1")
        text = reported.replace("\\", "").replace('"', "").replace("\r\n", " ").replace("\n", " ")
        status, shape = (int(self.fails), "{}") if self.fails.isdigit() else (201, self.fails)
        match self.fails:
            case "cut":
                return False
            case "reset":
                writer.transport.abort()
                return False
            case "silence":
                await asyncio.sleep(60)
            case "not HTTP":
                writer.write(reported.encode("latin-1"))
                return False
        document = {
            "{}": f'{{"error": "{text}", "message": "{text}", "error_description": "{text}",'
            f' "transactionId": "{text}", "name": "{text}", "info": "{text}"}}',
            "garbage": text,
            "wrong shape": f'{{"id": ["{text}"], "link": ["{text}"], "access_token": ["{text}"]}}',
            "wrong link": f'{{"link": "http://{text[:40]}.example/{text}"}}',
            "link": f'{{"link": "{self.link}"}}',
            "array": f'["{text}", {{"{text}": "{text}"}}]',
        }.get(shape, f'{{"id": "{text}"}}')
        answer = document.encode()
        writer.write(
            f"HTTP/1.1 {status} {text[:99]}\r\nContent-Type: application/json\r\nRetry-After: 0\r\n"
            f"Set-Cookie: x={NAME}\r\nX-Echo: {text}\r\nWWW-Authenticate: {text}\r\n"
            f"Content-Length: {len(answer) + 99 * (shape == 'cut body')}\r\n\r\n".encode()
            + answer
        )
        await writer.drain()
        return shape != "cut body"


@asynccontextmanager
async def echo(fails: str, link: str = "") -> AsyncIterator[str]:
    connections: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(Echo(fails, link).answer(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0.001)  # what was closed is closed in the loop's next rounds


async def read_list(client: Client, _: Path) -> object:
    return [message async for message in client.auxiliary.conversations(AUX_ID).messages()]


async def bulk(client: Client, _: Path) -> object:
    outgoing = Outgoing(f"aux/conversations/{AUX_ID}", BODY, [UploadFile(BODY.encode(), NAME)], key="k")
    (result,) = [result async for result in client.send_many([outgoing], stop_after=0)]
    assert CANARY not in repr(result).replace(repr(result.message_id), "")
    if result.error:
        raise result.error
    return result


PERSON: Final[dict[str, Any]] = {"email": "c4nary@example.org", "first_name": NAME, "last_name": NAME}

ACTIONS: Mapping[str, Action] = {
    "send": lambda client, _: client.auxiliary.groupchats(AUX_ID).send(BODY),
    "upload": lambda client, _: client.auxiliary.conversations(AUX_ID).upload(
        UploadFile(BODY.encode(), NAME), body=BODY
    ),
    "read": lambda client, _: client.auxiliary.conversations.get(AUX_ID),
    "read a user": lambda client, _: client.users.get(AUX_ID),
    "read a message": lambda client, _: client.conversations(AUX_ID).message(AUX_ID),
    "read a list": read_list,
    "download": lambda client, folder: client.conversations(AUX_ID).download(
        Attachment(AUX_ID, "x.pdf"), to=folder
    ),
    "read a file": lambda client, _: client.groupchats(AUX_ID).download_bytes(AUX_ID),
    "read a PDF": lambda client, folder: client.auxiliary.groupchats(AUX_ID).download_pdf(to=folder),
    "compare users": lambda client, _: client.users.is_coworker(AUX_ID),
    "ask": lambda client, _: client.auxiliary.conversations(AUX_ID).ask(
        BODY, options=[Option(NAME)], users=[AUX_ID]
    ),
    "invite": lambda client, _: client.users.invite("private", **PERSON, aux_id=AUX_ID),
    "create": lambda client, _: client.auxiliary.groupchats.create(
        aux_id=AUX_ID,
        subject=BODY,
        members=[AUX_ID],
        invite_users=[GroupInvite(**PERSON, invite_type="contact", aux_id=AUX_ID)],
    ),
    "import": lambda client, _: client.company.import_users([ImportUser(**PERSON)], send_email=False),
    "rename": lambda client, _: client.auxiliary.groupchats(AUX_ID).rename(BODY),
    "add members": lambda client, _: client.groupchats(AUX_ID).add_members([AUX_ID]),
    "own call": lambda client, _: client.request("POST", quote(AUX_ID, safe=""), json={"name": NAME}),
    "bulk": bulk,
}


SPANS, TRACERS = InMemorySpanExporter(), TracerProvider()
TRACERS.add_span_processor(SimpleSpanProcessor(SPANS))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return all that any logger, and OpenTelemetry, got so far."""
    SPANS.clear()
    caplog.set_level(0)
    for name in ("asyncio", "aiohttp.client", "healthmsg"):
        caplog.set_level(logging.DEBUG, name)

    def text() -> str:
        records = caplog.records
        lines = " ".join(f"{record.getMessage()} {vars(record)!r}" for record in records)
        spans = " ".join(span.to_json() for span in SPANS.get_finished_spans())
        return f"{caplog.text} {lines} {spans}"

    return text


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error and all that hang on it."""
    found, seen = [error], set()
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        found += [one.__cause__, one.__context__, *(arg for arg in one.args if isinstance(arg, Exception))]
        if isinstance(one, BaseExceptionGroup):
            found += one.exceptions


def assert_tells_nothing(error: BaseException) -> None:
    for one in chain(error):
        known = {name: value for name, value in vars(one).items() if name not in SERVERS_WORDS}
        reported = [str(one), repr(one), repr(one.args), repr(known), *traceback.format_exception(one)]
        assert CANARY not in " ".join(reported)


def a_client(url: str, token: Any = TOKEN) -> Client:
    here = Environment("here", url, f"{url}/authorize", f"{url}/token")
    return Client(
        token,
        environment=here,
        timeout=Timeout(total=0.2 if url.endswith("slow") else 5),
        rate_limit=RateLimit(calls=10_000),
        retries=Retries(attempts=2, max_wait=0),
        on_call=OpenTelemetryHook(TRACERS),
    )


async def failures(client: Client, folder: Path) -> list[HealthmsgError]:
    """Carry out everything, and give what went wrong."""
    asyncio.get_running_loop().set_debug(True)
    errors = []
    async with client:
        results = await asyncio.gather(
            *(ACTIONS[name](client, folder) for name in ACTIONS), return_exceptions=True
        )
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, HealthmsgError)
            assert_tells_nothing(result)
            errors.append(result)
    return errors


@pytest.mark.parametrize("status", STATUSES)
async def test_an_error_code_tells_nothing(tmp_path: Path, logged: Callable[[], str], status: int) -> None:
    async with echo(str(status)) as url:
        errors = await failures(a_client(url), tmp_path)

    assert len(errors) == len(ACTIONS)
    # The canaries did come back, and are where they are documented to be.
    assert any(
        isinstance(error, StatusError) and CANARY in error.server_message for error in chain_of(errors)
    )
    assert "answered" in str(errors[0]) or status < 400
    assert "attempt 1" in logged()
    assert "http.request.method" in logged()
    assert CANARY not in logged()


def chain_of(errors: list[HealthmsgError]) -> list[BaseException]:
    return [one for error in errors for one in chain(error)]


@pytest.mark.parametrize(
    ("fails", "least"),
    [
        ("cut", len(ACTIONS)),
        ("reset", len(ACTIONS)),
        ("not HTTP", len(ACTIONS)),
        # The status alone says that a change was made.
        ("cut body", len(ACTIONS) - 2),
        # A call of one's own is not decoded, and what a change is answered does not matter.
        ("garbage", len(ACTIONS) - 3),
        ("wrong shape", len(ACTIONS) - 3),
        ("array", len(ACTIONS) - 3),
        ("wrong link", len(ACTIONS) - 3),
    ],
)
async def test_a_broken_answer_tells_nothing(
    tmp_path: Path, logged: Callable[[], str], fails: str, least: int
) -> None:
    async with echo(fails) as url:
        errors = await failures(a_client(url), tmp_path)

    assert len(errors) >= least
    assert CANARY not in logged()


@pytest.mark.slow
async def test_a_time_out_tells_nothing(tmp_path: Path, logged: Callable[[], str]) -> None:
    async with echo("silence") as url:
        errors = await failures(a_client(f"{url}/slow"), tmp_path)

    assert len(errors) == len(ACTIONS)
    assert CANARY not in logged()


async def test_a_port_that_refuses_tells_nothing(
    tmp_path: Path, logged: Callable[[], str], unused_tcp_port: int
) -> None:
    errors = await failures(a_client(f"http://127.0.0.1:{unused_tcp_port}"), tmp_path)

    assert {type(error).__name__ for error in errors} == {"ConnectError", "SendingGivenUpError"}
    assert CANARY not in logged()


async def test_bad_tls_tells_nothing(tmp_path: Path, logged: Callable[[], str]) -> None:
    async with echo("no TLS") as url:
        errors = await failures(a_client(url.replace("http", "https")), tmp_path)

    assert len(errors) == len(ACTIONS)
    assert {type(error).__name__ for error in errors} == {"ConnectError", "SendingGivenUpError"}
    assert CANARY not in logged()


@pytest.mark.parametrize(
    "fails", ["400", "401", "403", "429", "500", "cut", "reset", "cut body", "not HTTP", "garbage", "array"]
)
async def test_a_token_that_cannot_be_renewed_tells_nothing(
    tmp_path: Path, logged: Callable[[], str], fails: str
) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    async with echo(fails) as url:
        here = Environment("here", url, f"{url}/authorize", f"{url}/token")
        app = OAuthApp("id", CLIENT_SECRET, "http://localhost/callback", here)
        tokens = TokenManager(Token(TOKEN, refresh_token=REFRESH_TOKEN, expires_at=long_ago), app=app)
        errors = await failures(a_client(url, tokens), tmp_path)

    assert len(errors) == len(ACTIONS)
    assert CANARY not in logged()


@pytest.mark.parametrize("fails", ["403", "404", "500", "302", "cut", "reset", "cut body", "not HTTP"])
async def test_a_download_that_fails_elsewhere_tells_nothing(
    tmp_path: Path, logged: Callable[[], str], fails: str
) -> None:
    asyncio.get_running_loop().set_debug(True)
    async with (
        echo(fails) as elsewhere,
        echo("link", f"{elsewhere}/{quote(AUX_ID, safe='')}?name={quote(NAME)}") as url,
        a_client(url) as client,
    ):
        with pytest.raises(HealthmsgError) as caught:
            await client.conversations(AUX_ID).download(AUX_ID, to=tmp_path)

    assert_tells_nothing(caught.value)
    assert CANARY not in logged()


@pytest.mark.parametrize("aux_id", [f"{AUX_ID} José", f"{AUX_ID}\ud800", ["c4nary"], {"c4nary": 1}])
async def test_what_is_refused_at_once_is_not_repeated(aux_id: Any, logged: Callable[[], str]) -> None:
    async with a_client("http://127.0.0.1:1") as client:
        with pytest.raises(HealthmsgError) as caught:
            client.auxiliary.conversations(aux_id)
        assert_tells_nothing(caught.value)
        with pytest.raises(HealthmsgError) as caught:
            await client.conversations("c1").send(f"{BODY}\ud800")
        assert_tells_nothing(caught.value)

    assert CANARY not in logged()
