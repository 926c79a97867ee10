"""What error reporters find in the local variables of a traceback's frames: no secret, and hardly a text."""

import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Final

import orjson
import pytest
from multidict import CIMultiDict

from healthmsg import (
    Client,
    Environment,
    FileTokenStore,
    ImportUser,
    JournalReview,
    MemoryTokenStore,
    OAuthApp,
    Option,
    Outgoing,
    RateLimit,
    Retries,
    Token,
    TokenManager,
)
from healthmsg.errors import HealthmsgError
from healthmsg.files import UploadFile
from healthmsg.pipeline.request import Request, Response
from healthmsg.transport.timeouts import Timeout
from tests.servers import (
    AUX_ID,
    BODY,
    PATIENT,
    Handler,
    Incoming,
    answering,
    chain,
    cut_the_answer,
    hang,
    reset_after_the_call,
    reset_in_the_body,
    serve,
    speak_no_http,
    stop_in_the_answer,
)

VALUE, REFRESH_TOKEN, CLIENT_SECRET, CODE, NEXT = SECRETS = (
    "v4lue-canary",
    "r3fresh-canary",
    "cl1ent-secret-canary",
    "c0de-canary",
    "n3xt-canary",
)
TEXTS: Final = (BODY, PATIENT)
USER: Final = "dr"
TESTS: Final = Path(__file__).parent.parent


def found(error: BaseException, canaries: tuple[str, ...]) -> set[str]:
    """Name the local variables that hold one, and the frames that they are in."""
    return {
        f"{frame} {name}"
        for each in chain(error)
        for frame, name, value in local_variables(each)
        if any(canary in shown for shown in everything_shown(value, set()) for canary in canaries)
    }


def local_variables(error: BaseException) -> Iterator[tuple[str, str, object]]:
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not Path(code.co_filename).is_relative_to(TESTS):
            for name, value in trace.tb_frame.f_locals.items():
                yield code.co_qualname, name, value
        trace = trace.tb_next


def everything_shown(value: object, seen: set[int]) -> Iterator[str]:
    """Show a value as reporters do: by its repr, and what is in containers of whatever kind."""
    if id(value) in seen:
        return
    seen.add(id(value))
    with suppress(Exception):  # some reprs fail before all is there
        yield repr(value)
    if isinstance(value, Mapping):
        for item in value.items():
            yield from everything_shown(item, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from everything_shown(part, seen)
    elif isinstance(value, bytes | bytearray | memoryview):
        yield bytes(value).decode("latin-1")
    elif isinstance(value, BytesIO) and not value.closed:
        yield value.getvalue().decode("latin-1")


async def failure_of(call: Awaitable[object]) -> HealthmsgError:
    with pytest.raises(HealthmsgError) as caught:
        await call
    return caught.value


# --- calls


WORDS: Final = orjson.dumps({"error": VALUE, "message": f"{VALUE} {BODY} {PATIENT}"})
HANDLERS: Final[dict[str, Handler]] = {
    "reset in the body": reset_in_the_body,
    "reset after the call": reset_after_the_call,
    "cut answer": cut_the_answer,
    "not HTTP": speak_no_http,
    "stops in the answer": stop_in_the_answer,
    "no answer": hang,
    **{f"{code}": answering(code, WORDS, f"X-Echo: {VALUE}") for code in (302, 400, 401, 403, 429, 500)},
    "not JSON": answering(200, f"{VALUE} {BODY}".encode()),
    "another shape": answering(200, orjson.dumps({"id": [BODY, VALUE], "user": {"first_name": [PATIENT]}})),
}
TO: Final = f"{AUX_ID} {PATIENT}/x"
Call = Callable[[Client], Awaitable[object]]


async def listed(client: Client) -> None:
    async for _ in client.conversations("c1").messages():
        pass


async def in_bulk(client: Client) -> None:
    async for result in client.send_many([Outgoing("conversations/c1", f"{BODY} {PATIENT}")], stop_after=0):
        if result.error is not None:
            raise result.error


async def uploaded_in_bulk(client: Client) -> None:
    files = [("conversations/c1", [UploadFile(BODY.encode() * 9, "scan.png")])]
    async for result in client.upload_many(files):
        if result.error is not None:
            raise result.error


CALLS: Final[dict[str, Call]] = {
    "send": lambda client: client.conversations("c1").send(f"{BODY} {PATIENT}"),
    "send to an id of yours": lambda client: client.auxiliary.conversations(PATIENT).send(BODY),
    "ask": lambda client: client.conversations("c1").ask(f"{BODY} {PATIENT}", options=[Option("Ja")]),
    "upload": lambda client: client.conversations("c1").upload(
        UploadFile(BODY.encode() * 9, "scan.png"), body=f"{BODY} {PATIENT}"
    ),
    "invite": lambda client: client.users.invite(
        "private", email="a@b.nl", first_name=PATIENT, last_name=PATIENT, invite_text=BODY
    ),
    "import": lambda client: client.company.import_users(
        [ImportUser(email="a@b.nl", first_name=PATIENT, last_name="X")], send_email=False
    ),
    "create": lambda client: client.groupchats.create(subject=BODY, members=["u1"]),
    "read": lambda client: client.conversations("c1").message("m1"),
    "list": listed,
    "download": lambda client: client.conversations("c1").download_bytes("a1", max_bytes=99),
    "own request": lambda client: client.request("POST", "x", json={"body": BODY}, query={"q": PATIENT}),
    "bulk": in_bulk,
    "bulk upload": uploaded_in_bulk,
}


@asynccontextmanager
async def client_of(url: str, token: str | TokenManager = VALUE) -> AsyncIterator[Client]:
    async with Client(
        token,
        environment=environment_of(url),
        rate_limit=RateLimit(calls=1000, per=0.01),
        retries=Retries(attempts=2, max_wait=0),
        timeout=Timeout(read=0.05),
    ) as client:
        yield client


def environment_of(url: str) -> Environment:
    return Environment("test", f"{url}/v1", f"{url}/oauth/authorize", f"{url}/oauth/token")


@pytest.mark.parametrize("name", HANDLERS)
async def test_no_frame_of_a_failed_call_holds_a_secret_or_a_text(name: str) -> None:
    found_in: set[str] = set()
    async with serve(HANDLERS[name]) as server, client_of(server.url) as client:
        for call in CALLS.values():
            try:
                await call(client)
            except HealthmsgError as error:
                found_in |= found(error, SECRETS + TEXTS)
    assert found_in == set()


def free_port_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("call", CALLS)
async def test_no_frame_of_a_call_without_a_connection_holds_a_secret_or_a_text(call: str) -> None:
    async with client_of(free_port_url()) as client:
        error = await failure_of(CALLS[call](client))
        assert found(error, SECRETS + TEXTS) == set()


@pytest.mark.parametrize("ends", ["refused", "lost"])
async def test_no_frame_of_a_failed_download_holds_a_secret(ends: str, tmp_path: Path) -> None:
    """The link is worth as much as the file, with the cookie that goes with it."""

    async def handler(incoming: Incoming) -> None:
        while True:
            request = await incoming.request()
            if "sig=" not in request.target:
                link = orjson.dumps({"link": f"{incoming.server.url}/v1/files/1?sig={CODE}"})
                await incoming.answer(302, link, f"Set-Cookie: sid={NEXT}")
            elif ends == "lost":
                incoming.reset()
            else:
                await incoming.answer(403, BODY.encode(), length=99)
                incoming.writer.close()
                return

    found_in: set[str] = set()
    async with serve(handler) as server, client_of(server.url) as client:
        chat = client.conversations("c1")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: chat.download("a1", to=tmp_path / "file"),
            lambda: chat.download_bytes("a1", max_bytes=99),
            lambda: chat.download_pdf(to=tmp_path / "chat.pdf"),
        ]
        for call in calls:
            found_in |= found(await failure_of(call()), SECRETS + TEXTS)
    assert found_in == set()


# --- token calls


TOKEN_ANSWERS: Final[dict[str, Handler]] = {
    **HANDLERS,
    **{
        code: answering(400, orjson.dumps({"error": code, "error_description": REFRESH_TOKEN}))
        for code in ("invalid_grant", "invalid_client", "temporarily_unavailable")
    },
    "no token": answering(200, orjson.dumps({"token_type": "bearer", "refresh_token": NEXT})),
    "another type": answering(200, orjson.dumps({"token_type": "mac", "access_token": NEXT})),
    "an array": answering(200, orjson.dumps([NEXT])),
}


def app_of(url: str) -> OAuthApp:
    return OAuthApp("client-1", CLIENT_SECRET, "https://clinic.example/callback", environment_of(url))


def stale() -> Token:
    return Token(VALUE, refresh_token=REFRESH_TOKEN)


@pytest.mark.parametrize("name", [*TOKEN_ANSWERS, "no listener"])
async def test_no_frame_of_a_failed_token_call_holds_a_secret(name: str) -> None:
    async with serve(TOKEN_ANSWERS.get(name, hang)) as server:
        url = free_port_url() if name == "no listener" else server.url
        app, store = app_of(url), MemoryTokenStore()
        managers = [
            TokenManager(stale(), app=app),
            TokenManager(stale(), app=app, store=store, user=USER),
        ]
        async with client_of(url) as client:
            send = client._parts.token_call
            calls: list[Callable[[TokenManager], Awaitable[object]]] = [
                lambda _: app.exchange(CODE, send),
                lambda _: app.refresh(stale(), send),
                lambda manager: manager.renew(manager.token, send),
                lambda manager: client.with_token(manager).me.get(),
                lambda manager: client.with_token(manager).conversations("c1").send(BODY),
            ]
            found_in = set()
            for call, manager in itertools.product(calls, managers):
                try:
                    await call(manager)
                except HealthmsgError as error:
                    found_in |= found(error, SECRETS)
    assert found_in == set()


async def test_no_frame_of_a_token_call_without_a_client_holds_a_secret() -> None:
    app = app_of(free_port_url())
    for call in (lambda: app.exchange(CODE), lambda: app.refresh(stale())):
        assert found(await failure_of(call()), SECRETS) == set()


# --- token stores


class LeakyStore(MemoryTokenStore):
    """Fails as a database's driver does: with the values in its frames, its words and its cause."""

    async def load(self, user: str) -> Token | None:
        row = {"value": VALUE, "refresh_token": REFRESH_TOKEN}
        raise RuntimeError(f"{user} {row}")

    async def save(self, user: str, token: Token) -> None:
        row = {"value": token.value, "refresh_token": token.refresh_token}
        raise RuntimeError(f"{user} {row}")


async def test_no_frame_of_a_failed_token_store_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileTokenStore(tmp_path / "tokens.json")
    await store.save(USER, stale())
    (tmp_path / "damaged.json").touch(0o600)
    (tmp_path / "damaged.json").write_bytes(orjson.dumps({USER: {"value": VALUE, "scopes": [REFRESH_TOKEN]}}))
    damaged = FileTokenStore(tmp_path / "damaged.json")
    manager = TokenManager(stale(), store=LeakyStore(), user=USER)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: damaged.load(USER),
        lambda: store.save("\ud800", stale()),
        lambda: TokenManager.load(damaged, USER),
        lambda: TokenManager.load(LeakyStore(), USER),
        manager.save,
        lambda: manager.renew(manager.token, _no_send),
        lambda: FileTokenStore(tmp_path / "missing" / "tokens.json").save(USER, stale()),
    ]
    found_in = set()
    for call in calls:
        found_in |= found(await failure_of(call()), SECRETS)
    assert found_in == set()
    monkeypatch.setattr(os, "fsync", _full)
    assert found(await failure_of(store.save(USER, Token(NEXT))), SECRETS) == set()


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


async def _no_send(request: Request) -> Response:
    raise AssertionError


@pytest.mark.parametrize("bad", [f"{VALUE}\n", f"{VALUE} x", f"é{VALUE}"])
def test_no_frame_of_a_refused_credential_holds_it(bad: str) -> None:
    url = "http://127.0.0.1:1"
    attempts: list[Callable[[], object]] = [
        lambda: Token(bad),
        lambda: Token("t", refresh_token=f"{bad}\n"),
        lambda: Client(bad, environment=environment_of(url)),
        lambda: Client("t", environment=environment_of(url)).with_token(bad),
        lambda: OAuthApp("client-1", f"{bad}\n", "https://clinic.example/callback", environment_of(url)),
    ]
    found_in = set()
    for attempt in attempts:
        with pytest.raises(HealthmsgError) as caught:
            attempt()
        found_in |= found(caught.value, SECRETS)
    assert found_in == set()


def test_the_search_itself_finds_what_reporters_would_send() -> None:
    values: dict[str, object] = {
        "nested": [{"a": (b"x-" + VALUE.encode(),)}],
        "stream": BytesIO(VALUE.encode()),
        "headers": CIMultiDict({"Authorization": f"Bearer {VALUE}"}),
        "hidden": stale(),
    }
    code = compile("def fail(held):\n    raise ValueError", "elsewhere.py", "exec")
    names: dict[str, Callable[[object], None]] = {}
    exec(code, names)  # noqa: S102 - for a frame that is in no test
    for name, held in values.items():
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - it has no words
            names["fail"](held)
        assert found(caught.value, SECRETS) == (set() if name == "hidden" else {"fail held"})


@pytest.mark.parametrize("rest", [f"host/db?sslmode={CLIENT_SECRET}", "host/db?keep_bodies=2", "h/d?x=y"])
async def test_a_journal_that_is_refused_leaves_no_password_in_frames(rest: str) -> None:
    url = f"postgresql://me:{CLIENT_SECRET}@{rest}"
    refused = []
    async with Client(VALUE, environment=Environment.ALTERDESK) as client:
        with pytest.raises(HealthmsgError) as caught:
            client.send_many([], journal=url)
        refused.append(caught.value)
    with pytest.raises(HealthmsgError) as caught:
        JournalReview(url)
    refused.append(caught.value)

    assert [found(error, SECRETS) for error in refused] == [set(), set()]
    assert not any(CLIENT_SECRET in str(error) for error in refused)
