"""Network settings that cannot work, or that would be unsafe, are refused when they are made."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, ConfigurationError, Environment, OAuthApp
from healthmsg.network import EnvironmentProxies, Network

HERE = Environment("here", "https://127.0.0.1:1")
Make = Callable[..., object]


def an_app(**options: Any) -> OAuthApp:
    return OAuthApp("id", "secret", "https://here.test/callback", HERE, **options)


def a_client(**options: Any) -> Client:
    return Client("token", environment=HERE, **options)


@pytest.fixture(params=[an_app, a_client, Network])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture(autouse=True)
def no_proxy_around_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "canary",
        "canary:3128",
        "//canary:3128",
        "socks5://canary:1080",
        "ftp://canary",
        "http://",
        "http://:3128",
        "http://canary:0",
        "http://canary:99999",
        "http://canary:port",
        "http://canary/path",
        "http://canary?query",
        "http://canary#part",
        "http://can ary:3128",
        "http://can\nary:3128",
        "http://canäry:3128",
        "http://%E2%82%AC:canary@host:3128",
        b"http://canary:3128",
        3128,
        False,
    ],
)
def test_a_proxy_that_cannot_be_one_is_refused_and_not_repeated(make: Make, proxy: Any) -> None:
    with pytest.raises(ConfigurationError, match="proxy must be a URL") as caught:
        make(proxy=proxy)

    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "proxy",
    [
        "http://proxy:3128",
        "https://proxy",
        "http://user:p%40ss@proxy:3128/",
        "http://user@[::1]:8080",
        "HTTP://10.0.0.1:80",
        None,
    ],
)
def test_a_proxy_that_can_be_one_is_taken(make: Make, proxy: str | None) -> None:
    make(proxy=proxy)


def unverifying(*, mode: ssl.VerifyMode = ssl.CERT_REQUIRED) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = mode
    return context


def half_verifying() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.mark.parametrize(
    "value",
    [
        False,
        True,
        0,
        b"bundle.pem",
        unverifying(),
        unverifying(mode=ssl.CERT_NONE),
        unverifying(mode=ssl.CERT_OPTIONAL),
        half_verifying(),
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    ],
)
def test_tls_that_verifies_nothing_is_refused(make: Make, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^ssl must"):
        make(ssl=value)


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\0\xff"])
def test_a_file_without_certificates_is_refused(make: Make, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)

    for name in (path, str(path)):
        with pytest.raises(ConfigurationError, match=r"^ssl names a file"):
            make(ssl=name)


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_trust_in_the_environment_is_given_or_not(make: Make, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="trust_env"):
        make(trust_env=value)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "HTTP_PROXY"])
def test_an_environment_that_cannot_work_is_refused_and_not_repeated(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "socks5://user:canary@proxy:1080")

    Client("token", environment=HERE)
    with pytest.raises(
        ConfigurationError, match=f"the environment's {variable[:-6].lower()} proxy"
    ) as caught:
        Client("token", environment=HERE, trust_env=True)
    assert "canary" not in str(caught.value)


async def test_each_scheme_has_a_proxy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://one:81")
    proxies = EnvironmentProxies()

    assert str(await proxies.proxy_for("http", "here")) == "http://one:81"
    assert await proxies.proxy_for("https", "here") is None
