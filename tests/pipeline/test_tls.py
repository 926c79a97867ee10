"""Whose certificates are trusted: by API calls, token calls and downloads alike."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hospital import CODE, FRESH, REFRESH, STALE, Authority, Service, environment_at, use_all
from servers import Server, nothing_reaches_the_event_loop, serve

from healthmsg import (
    Client,
    ConfigurationError,
    ConnectError,
    OAuthApp,
    Outcome,
    Retries,
    Token,
    TokenManager,
)

pytestmark = pytest.mark.usefixtures(nothing_reaches_the_event_loop.__name__)
__all__ = ["nothing_reaches_the_event_loop"]
NO_TLS = "no trusted TLS connection could be made"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.found(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def files(authority: Authority) -> AsyncIterator[Server]:
    async with serve(Service(), authority.tls) as server:
        yield server


@pytest.fixture
async def api(authority: Authority, files: Server) -> AsyncIterator[Server]:
    async with serve(Service(files.url), authority.tls) as server:
        yield server


def app_at(api: Server, **network: Any) -> OAuthApp:
    return OAuthApp("id", "secret", "https://here.test/callback", environment_at(api.url), **network)


@pytest.mark.parametrize("form", [str, Path, lambda path: ssl.create_default_context(cafile=path)])
async def test_all_calls_trust_the_certificates_that_are_given(
    api: Server, files: Server, authority: Authority, tmp_path: Path, form: Callable[[Path], Any]
) -> None:
    await use_all(api.url, tmp_path, {"ssl": form(authority.bundle)})

    assert (len(api.executed), len(files.executed)) == (5, 1)


async def test_a_session_of_ones_own_brings_its_own_trust(
    api: Server, authority: Authority, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=authority.bundle)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        Client(FRESH, environment=environment_at(api.url), session=session) as client,
    ):
        assert (await client.me.get()).id == "u1"
        await client.conversations("c1").download("a1", to=tmp_path / "file.pdf")

        with pytest.raises(ConfigurationError, match="session"):
            Client(FRESH, environment=environment_at(api.url), session=session, ssl=authority.bundle)


async def test_a_call_of_the_api_that_cannot_be_trusted_is_not_made(api: Server) -> None:
    async with Client(FRESH, environment=environment_at(api.url), retries=Retries.none()) as client:
        with pytest.raises(ConnectError, match=NO_TLS) as caught:
            await client.conversations("c1").send("Hallo")

    assert caught.value.outcome is Outcome.NOT_SENT
    assert not api.begun


async def test_a_token_call_that_cannot_be_trusted_is_not_made(api: Server) -> None:
    with pytest.raises(ConnectError, match=NO_TLS):
        await app_at(api).exchange(CODE)

    assert not api.begun


async def test_a_renewal_trusts_whom_the_client_trusts(api: Server, authority: Authority) -> None:
    # And not whom the application's own calls trust.
    tokens = TokenManager(Token(STALE, refresh_token=REFRESH), app=app_at(api, ssl=authority.bundle))
    async with Client(tokens, environment=environment_at(api.url), retries=Retries.none()) as client:
        with pytest.raises(ConnectError, match=NO_TLS):
            await client.me.get()


async def test_a_download_that_cannot_be_trusted_is_not_made(files: Server, tmp_path: Path) -> None:
    async with serve(Service(files.url)) as api:
        client = Client(FRESH, environment=environment_at(api.url), retries=Retries.none())
        async with client:
            with pytest.raises(ConnectError, match=NO_TLS):
                await client.conversations("c1").download("a1", to=tmp_path / "file.pdf")

    assert not files.begun
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


async def test_a_certificate_of_another_host_is_not_trusted(api: Server, authority: Authority) -> None:
    elsewhere = environment_at(api.url.replace("127.0.0.1", "localhost"))
    async with Client(FRESH, environment=elsewhere, ssl=authority.bundle, retries=Retries.none()) as client:
        with pytest.raises(ConnectError, match=NO_TLS):
            await client.me.get()

    assert not api.begun
