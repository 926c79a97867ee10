"""Network settings that cannot work, or that would be unsafe, are refused when they are made."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from healthmsg import Client, ConfigurationError, Environment, OAuthApp
from healthmsg.network import EnvironmentProxies, Network, matches_no_proxy

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


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_an_environment_that_cannot_work_is_refused_and_not_repeated(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "socks5://user:canary@proxy:1080")

    Client("token", environment=HERE)
    with pytest.raises(ConfigurationError, match=f"{variable.upper()} must be a URL") as caught:
        Client("token", environment=HERE, trust_env=True)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://one:81"}, "http://one:81"),
        ({"HTTPS_PROXY": "one:81"}, "http://one:81"),
        ({"ALL_PROXY": "http://all:81"}, "http://all:81"),
        ({"all_proxy": "all:81"}, "http://all:81"),
        ({"ALL_PROXY": "socks5://all:81", "HTTPS_PROXY": "http://one:81"}, "http://one:81"),
        ({"ALL_PROXY": "http://all:81", "NO_PROXY": "10.0.0.0/8,here"}, None),
        ({"HTTPS_PROXY": "http://one:81", "NO_PROXY": "there"}, "http://one:81"),
        ({"HTTP_PROXY": "socks5://plain:81"}, None),
    ],
)
async def test_the_environment_names_a_proxy_for_https_alone(
    variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxies = EnvironmentProxies()

    found = await proxies.proxy_for("https", "here:8443")
    assert (None if found is None else str(found)) == proxy
    assert await proxies.proxy_for("http", "127.0.0.1:8030") is None


@pytest.mark.parametrize(
    ("no_proxy", "authority", "is_so"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3/8", "10.200.0.1:8443", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "ten.example", False),
        ("192.168.1.7", "192.168.1.7:8443", True),
        ("192.168.1.7", "192.168.1.70", False),
        ("2001:db8::/32", "[2001:db8::7]:8443", True),
        ("[2001:db8::7]", "[2001:db8::7]", True),
        ("[::1]:8443", "[::1]:8443", True),
        ("[::1]:8443", "[::1]", False),
        ("::1", "[::1]:8443", True),
        ("::1/128", "127.0.0.1", False),
        ("a, b  api.example", "api.example", True),
        ("API.example", "api.Example.", True),
        ("example", "api.example", True),
        (".example", "api.example", True),
        ("*.example", "api.example", True),
        ("example", "notexample", False),
        ("example:443", "api.example", True),
        ("example:8443", "api.example", False),
        ("a,*", "api.example", True),
        ("b\u00fccher.example", "b\u00fccher.example", True),
        ("xn--bcher-kva.example", "b\u00fccher.example", True),
        ("", "api.example", False),
        (",,:443,[],/,10.0.0.0/99", "10.0.0.1", False),
    ],
)
def test_no_proxy_names_hosts_networks_and_ports(no_proxy: str, authority: str, *, is_so: bool) -> None:
    assert matches_no_proxy(authority, no_proxy) is is_so
