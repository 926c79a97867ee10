"""Whatever goes wrong, nothing private comes out: neither in an error nor in a log."""

import asyncio
import logging
import os
import re
import signal
import sqlite3
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from attrs import evolve, frozen
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import healthmsg
from healthmsg import (
    Attachment,
    Client,
    Environment,
    GroupInvite,
    HealthmsgError,
    ImportUser,
    JournalError,
    OAuthApp,
    Option,
    Outgoing,
    RateLimit,
    ReauthorizationRequiredError,
    Retries,
    Timeout,
    Token,
    TokenManager,
    UploadFile,
)
from healthmsg.errors import StatusError
from healthmsg.gateway.stream import Events, EventsState
from healthmsg.otel import OpenTelemetryHook
from healthmsg.sandbox import Sandbox, SandboxFile
from tests.cli.command_line import begin, end
from tests.gateway import servers
from tests.gateway.fakes import text_of
from tests.waiting import until

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


# --- events


OPTION = "c4nary_option"
FILE = SandboxFile("c4nary.pdf", BODY.encode())
# Where the program's own variables are: these tests.
OURS: Final = f"{Path(healthmsg.__file__).parent}{os.sep}"


@frozen
class Scene:
    """A sandbox in which all names are canaries."""

    sandbox: Sandbox
    token: str
    patient: str
    chat: str

    def client(self, *, gateway: str | None = None) -> Client:
        environment = self.sandbox.environment
        if gateway is not None:
            environment = evolve(environment, gateway_url=gateway)
        return Client(self.token, environment=environment)

    async def happen(self, client: Client) -> None:
        """Have something private happen, of each kind."""
        sandbox, chat = self.sandbox, f"conversations/{self.chat}"
        message = sandbox.say(self.patient, chat, BODY, files=[FILE])
        question = await client.conversations(self.chat).ask(BODY, options=[Option(NAME, name=OPTION)])
        sandbox.answer(self.patient, question, OPTION)
        sandbox.type(self.patient, chat)
        sandbox.like(message.id)
        sandbox.delete_message(message.id)
        sandbox.add_group_chat(BODY, members=[self.patient], messages=[BODY])
        sandbox.gateway.drop()
        sandbox.say(self.patient, chat, BODY)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr("healthmsg.gateway.backoff.Backoff.next_wait", lambda *_, **__: 0.02)
    async with Sandbox(sample_data=False) as sandbox:
        patient = sandbox.add_user(NAME, NAME)
        chat = sandbox.add_conversation(user=patient)
        yield Scene(sandbox, sandbox.issue_token(), patient, chat)


def assert_variables_tell_nothing(error: BaseException, *private: str) -> None:
    """See that what an error reporter sends is not private either: our variables of each frame."""
    for one in chain(error):
        frames = traceback.TracebackException.from_exception(one, capture_locals=True).stack
        shown = [repr(frame.locals) for frame in frames if frame.filename.startswith(OURS)]
        assert shown
        assert not [text for text in (CANARY, *private) if text in " ".join(shown)]


def shown_of(client: Client, events: Events) -> str:
    return f"{events!r} {events.stats()!r} {client.stats()!r} {asyncio.all_tasks()!r}"


async def fail(client: Client, scene: Scene, store: str | Path | None) -> HealthmsgError:
    """Read events until they fail, and return with what."""
    try:
        async with asyncio.timeout(20), client.events(store=store, settle=0.05) as events:
            happening = asyncio.create_task(happen_once_live(client, events, scene))
            try:
                async for _ in events:
                    pass
            finally:
                happening.cancel()
    except HealthmsgError as error:
        failure = error
    return failure


async def happen_once_live(client: Client, events: Events, scene: Scene) -> None:
    await until(lambda: events.state is EventsState.LIVE)
    await scene.happen(client)


@pytest.mark.parametrize("with_store", [True, False])
async def test_a_stream_of_events_tells_nothing(
    scene: Scene, tmp_path: Path, logged: Callable[[], str], *, with_store: bool
) -> None:
    asyncio.get_running_loop().set_debug(True)
    kinds, shown = set(), []
    wanted = {"message_created", "question_answered", "group_chat_created"}
    store = tmp_path / "inbox.db" if with_store else None
    async with scene.client() as client, client.events(store=store, settle=0.05) as events:
        happening = asyncio.create_task(happen_once_live(client, events, scene))
        async with asyncio.timeout(20):
            async for event in events:
                kinds.add(event.kind)
                shown += [repr(event), str(event), shown_of(client, events)]
                if wanted <= kinds:
                    break
        await happening
    texts = " ".join(shown)
    assert CANARY not in texts
    assert scene.token not in texts
    assert "Connected to the gateway" in logged()
    assert CANARY not in logged()
    assert scene.token not in logged()


def saying(*frames: bytes) -> servers.Behaviour:
    """Accept the token as that of the patient, say something, and close with a reason that is private."""

    async def behave(session: servers.Session) -> None:
        await session.socket.receive_str()
        await session.say(text_of("authenticated", user={"id": "u1", "first_name": NAME}, session_id=BODY))
        for frame in frames:
            await session.say(frame)
        await session.socket.close(code=1011, message=BODY.encode())

    return behave


PRIVATE_FRAMES = (
    text_of("conversation_new_message", conversation_id=CANARY, message_id=CANARY, user_id=CANARY, body=BODY),
    text_of("groupchat_new_message", groupchat_id=CANARY, message_id=CANARY, user_id=CANARY),
    text_of(CANARY, **{CANARY: CANARY}),
    text_of("presence_update", user_id=CANARY, status=CANARY),
    text_of("error", code=500, error=CANARY, groupchat_id=CANARY),
    text_of("error", code=CANARY, error=CANARY),
    b"{" + BODY.encode(),
)


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (saying(*PRIVATE_FRAMES), None),
        (servers.send_garbage, None),
        (servers.break_off, None),
        (servers.behave, 302),
        (servers.behave, 403),
        (servers.behave, 503),
    ],
)
async def test_a_gateway_that_misbehaves_makes_nothing_private_known(
    scene: Scene, logged: Callable[[], str], behaviour: servers.Behaviour, status: int | None
) -> None:
    async with (
        servers.serve(behaviour, status=status) as gateway,
        scene.client(gateway=gateway.url) as client,
        client.events(settle=0.05) as events,
    ):
        await until(lambda: len(gateway.upgrades) >= 4)
        shown = shown_of(client, events)

    assert CANARY not in shown
    assert scene.token not in shown
    assert "No connection to the gateway" in logged()
    assert CANARY not in logged()
    assert scene.token not in logged()


async def test_a_token_that_the_gateway_refuses_is_not_told(scene: Scene, logged: Callable[[], str]) -> None:
    async def refuse(session: servers.Session) -> None:
        said = await session.socket.receive_str()
        await session.say(text_of("error", code=403, error=f"{BODY} {said}"))

    async with (
        servers.serve(refuse) as gateway,
        scene.client(gateway=gateway.url) as client,
    ):
        error = await fail(client, scene, None)

    assert isinstance(error, ReauthorizationRequiredError)
    assert_tells_nothing(error)
    assert_variables_tell_nothing(error, scene.token)
    assert scene.token not in f"{error} {logged()}"


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://c4nary:c4nary-password@127.0.0.1:1/c4nary",
        "postgresql://c4nary@127.0.0.1:1/c4nary?password=c4nary",
        "mysql://c4nary:c4nary-password@127.0.0.1/c4nary",
        "/c4nary/missing/inbox.db",
    ],
)
async def test_a_store_that_cannot_be_opened_is_not_told(
    scene: Scene, logged: Callable[[], str], store: str
) -> None:
    async with scene.client() as client:
        error = await fail(client, scene, store)

    assert_tells_nothing(error)
    assert_variables_tell_nothing(error, scene.token)
    assert CANARY not in f"{logged()}"


async def test_a_store_that_fails_tells_nothing(
    scene: Scene, tmp_path: Path, logged: Callable[[], str]
) -> None:
    store = tmp_path / "inbox.db"
    async with scene.client() as client:
        async with client.events(store=store, settle=0.05) as events:
            await until(lambda: events.state is EventsState.LIVE)
        with closing(sqlite3.connect(store)) as database:
            database.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON healthmsg_inbox"
                f" BEGIN SELECT RAISE(ABORT, '{CANARY}'); END"
            )
        error = await fail(client, scene, store)

    assert isinstance(error, JournalError)
    assert_tells_nothing(error)
    assert_variables_tell_nothing(error, scene.token)
    assert CANARY not in f"{logged()}"
    assert scene.token not in logged()


@pytest.mark.slow
async def test_listen_tells_no_text_and_no_token(scene: Scene, tmp_path: Path) -> None:
    """Names are shown; texts, answers and the names of files are not."""
    process = await begin(scene.sandbox, "listen", "--json", "--store", str(tmp_path / "inbox.db"))
    assert process.stdout is not None
    await until(lambda: scene.sandbox.gateway.connected() == 1)
    async with scene.client() as client:
        await scene.happen(client)
    async with asyncio.timeout(30):
        seen = b""
        while b"question_answered" not in seen:
            seen += (line := await process.stdout.readline())
            assert line, "it ended"
    process.send_signal(signal.SIGINT)
    done = await end(process)

    assert done.code == 130
    assert CANARY not in f"{seen.decode()} {done.out} {done.err}"
