"""Signing in from a terminal."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from rich.console import Console

from healthmsg import HealthmsgError
from healthmsg.cli import demo as module
from healthmsg.cli.demo import sign_in
from healthmsg.errors import AuthorizationError, AuthorizationRefusedError, StateMismatchError
from healthmsg.sandbox import AnswerStatus, Sandbox
from healthmsg.sandbox.remote import RemoteSandbox

ID, SECRET = "healthmsg-sandbox", "healthmsg-sandbox-secret"


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=60)


@pytest.fixture
async def approving() -> AsyncIterator[Sandbox]:
    async with Sandbox(redirect_uri=None) as sandbox:
        yield sandbox


@pytest.fixture
async def asking() -> AsyncIterator[Sandbox]:
    async with Sandbox(redirect_uri=None, auto_approve=False) as sandbox:
        yield sandbox


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def the_url(console: Console) -> str:
    """Wait until the person is asked to open a page."""
    while "http" not in printed(console):  # noqa: ASYNC110 - a terminal has no event for it
        await asyncio.sleep(0.001)
    (url,) = [line for line in printed(console).split() if line.startswith("http")]
    return url


async def test_all_three_legs_lead_to_a_token(console: Console, approving: Sandbox) -> None:
    token = await sign_in(console, RemoteSandbox(approving.url, ID, SECRET))

    assert token.scopes
    assert [call.template for call in approving.calls] == ["oauth/authorize", "oauth/token"]
    assert printed(console) == ""


async def test_a_proxy_in_the_environment_is_passed_by(
    console: Console, approving: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert (await sign_in(console, RemoteSandbox(approving.url, ID, SECRET))).scopes


@pytest.mark.parametrize("decision", ["approve", "refuse"])
async def test_a_page_that_asks_is_shown_and_waited_for(
    console: Console, asking: Sandbox, session: ClientSession, decision: str
) -> None:
    signing_in = asyncio.create_task(sign_in(console, RemoteSandbox(asking.url, ID, SECRET)))
    url = await the_url(console)
    base, _, query = url.partition("?")
    fields = dict(pair.split("=", 1) for pair in query.replace("%3A", ":").replace("%2F", "/").split("&"))
    fields["scope"] = fields["scope"].replace("+", " ").replace("%20", " ")

    async with session.post(base, data=fields | {"user_id": asking.user_id, "decision": decision}) as answer:
        assert "close this page" in await answer.text()

    if decision == "approve":
        assert (await signing_in).scopes
    else:
        with pytest.raises(AuthorizationRefusedError):
            await signing_in


async def test_a_forged_callback_ends_it(console: Console, asking: Sandbox, session: ClientSession) -> None:
    signing_in = asyncio.create_task(sign_in(console, RemoteSandbox(asking.url, ID, SECRET)))
    url = (await the_url(console)).replace("%3A", ":").replace("%2F", "/")
    callback = url.partition("redirect_uri=")[2].partition("&")[0]

    async with session.get(callback.replace("/callback", "/favicon.ico")):
        assert not signing_in.done()
    async with session.get(f"{callback}?code=evil&state=evil"):
        pass

    with pytest.raises(StateMismatchError):
        await signing_in


async def test_an_approval_is_not_waited_for_without_limit(
    console: Console, asking: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_APPROVAL_TIMEOUT", 0.05)

    with pytest.raises(AuthorizationError, match="in time"):
        await sign_in(console, RemoteSandbox(asking.url, ID, SECRET))


@pytest.mark.parametrize(
    ("client_id", "secret", "says"),
    [
        (ID, "wr0ng", "is the client's secret right"),
        ("wr0ng", SECRET, "answered 400: is the client's id right"),
    ],
)
async def test_wrong_credentials_are_said(
    console: Console, approving: Sandbox, client_id: str, secret: str, says: str
) -> None:
    with pytest.raises(AuthorizationError, match=says) as caught:
        await sign_in(console, RemoteSandbox(approving.url, client_id, secret))

    assert "wr0ng" not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_port_where_nothing_listens_is_said(console: Console, unused_tcp_port: int) -> None:
    with pytest.raises(AuthorizationError, match="nothing answers at http://127") as caught:
        await sign_in(console, RemoteSandbox(f"http://127.0.0.1:{unused_tcp_port}", ID, SECRET))

    assert "state=" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "says", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_a_port_where_no_service_listens_is_said(console: Console, says: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(AuthorizationError, match="nothing answers"):
            await sign_in(console, RemoteSandbox(url, ID, SECRET))


async def test_a_token_url_that_fails_is_said(console: Console, approving: Sandbox) -> None:
    approving.faults.add(kind=AnswerStatus(500, b"canary"), template="oauth/token", times=None)

    with pytest.raises(HealthmsgError) as caught:
        await sign_in(console, RemoteSandbox(approving.url, ID, SECRET))

    assert "canary" not in str(caught.value)
