"""Whose certificates are trusted: by API calls, token calls and downloads alike."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

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
from healthmsg.network import trusting_context
from healthmsg.transport.connections import why_not_trusted
from tests.servers import Server, assert_error_tells_nothing, serve
from tests.transport.hospital import (
    CODE,
    FRESH,
    REFRESH,
    STALE,
    Authority,
    Proxy,
    Service,
    environment_at,
    use_all,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")
NO_TLS = "no trusted TLS connection could be made"


@pytest.fixture
async def files(authority: Authority) -> AsyncIterator[Server]:
    async with serve(Service(), authority.tls) as server:
        yield server


@pytest.fixture
async def api(authority: Authority, files: Server) -> AsyncIterator[Server]:
    async with serve(Service(files.url), authority.tls) as server:
        yield server


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "canary")
    error.reason = reason
    return error


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "canary")
    error.verify_code, error.verify_message = code, message
    return error


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


async def test_a_renewal_trusts_the_certificates_that_the_client_trusts(
    api: Server, authority: Authority
) -> None:
    # And not those that the application's own calls trust.
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


def strict_context(authority: Authority) -> ssl.SSLContext:
    """Trust as Python 3.13 and later do by themselves."""
    context = ssl.create_default_context(cafile=authority.bundle)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"host": "127.0.0.2"}, "wrong host name: "),
        ({"days": (-3, -2)}, "expired: "),
        ({"days": (2, 3)}, "not valid yet: "),
        ({"has_key_identifiers": False}, "no key identifier in "),
    ],
)
@pytest.mark.parametrize("through_proxy", [False, True])
async def test_an_error_says_why_a_certificate_is_not_trusted(
    *, made: dict[str, Any], reason: str, through_proxy: bool, tmp_path: Path
) -> None:
    authority = Authority.found(tmp_path, **made)
    async with serve(Service(), authority.tls) as api, serve(Proxy()) as proxy:
        network: dict[str, Any] = {"proxy": proxy.url} if through_proxy else {}
        context = strict_context(authority)
        async with Client(
            FRESH, environment=environment_at(api.url), ssl=context, retries=Retries.none(), **network
        ) as client:
            with pytest.raises(ConnectError, match=rf"{NO_TLS} to \S+: {reason}") as caught:
                await client.me.get()

    assert_error_tells_nothing(caught.value)
    assert "House of Tests" not in str(caught.value)


async def test_an_error_says_that_an_authority_is_unknown(api: Server) -> None:
    async with Client(FRESH, environment=environment_at(api.url), retries=Retries.none()) as client:
        with pytest.raises(ConnectError, match=rf"{NO_TLS} to \S+: unknown CA: .*`--ca`"):
            await client.me.get()


async def test_an_authority_without_key_identifiers_can_be_trusted_as_before(tmp_path: Path) -> None:
    authority = Authority.found(tmp_path, has_key_identifiers=False)
    lenient = strict_context(authority)
    lenient.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with serve(Service(), authority.tls) as api:
        for context in (lenient, trusting_context(authority.bundle, is_strict=False)):
            assert not context.verify_flags & ssl.VERIFY_X509_STRICT
            async with Client(FRESH, environment=environment_at(api.url), ssl=context) as client:
                assert (await client.me.get()).id == "u1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ssl.SSLEOFError(8, "canary"), "the other side ended it"),
        (ssl_error("WRONG_VERSION_NUMBER"), "the other side does not speak TLS"),
        (ssl_error("TLSV1_ALERT_PROTOCOL_VERSION"), "the two sides have no version of TLS in common"),
        (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "sslv3 alert handshake failure"),
        (
            certificate_error(89, "Basic Constraints not critical"),
            "Basic Constraints not critical: Python 3.13",
        ),
        (certificate_error(68, "CA digest too weak"), "CA digest too weak"),
    ],
)
def test_rarer_reasons_have_openssls_words(error: ssl.SSLError, reason: str) -> None:
    assert why_not_trusted(error).startswith(reason)
    assert "canary" not in why_not_trusted(error)


async def test_a_certificate_of_another_host_is_not_trusted(api: Server, authority: Authority) -> None:
    elsewhere = environment_at(api.url.replace("127.0.0.1", "localhost"))
    async with Client(FRESH, environment=elsewhere, ssl=authority.bundle, retries=Retries.none()) as client:
        with pytest.raises(ConnectError, match=NO_TLS):
            await client.me.get()

    assert not api.begun
