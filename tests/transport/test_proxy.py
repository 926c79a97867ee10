"""Through a proxy: API calls, token calls and downloads alike, and no secret on the way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import frozen

from healthmsg import (
    Client,
    OAuthApp,
)
from healthmsg.cli.service import Service as Command
from healthmsg.network import Network
from tests.servers import (
    METHODS,
    PATH,
    Server,
    a_request,
    serve,
    wire_to,
)
from tests.transport.hospital import (
    BASIC,
    CODE,
    CREDENTIALS,
    FRESH,
    PASSWORD,
    SECRETS,
    USER,
    Authority,
    Proxy,
    Service,
    environment_at,
    use_all,
)

pytestmark = pytest.mark.usefixtures("nothing_reaches_the_event_loop")


@frozen
class House:
    """A service with its files on another host, and a proxy before both."""

    proxy: Proxy
    at_proxy: Server
    api: Server
    files: Server
    authority: Authority

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.api, self.files

    @property
    def proxy_url(self) -> str:
        return self.at_proxy.url.replace("://", f"://{CREDENTIALS}@")

    @property
    def asked(self) -> list[tuple[str, str]]:
        """What the proxy was asked for."""
        return [(request.method, request.target) for request in self.at_proxy.begun]


@asynccontextmanager
async def a_house(authority: Authority, *, secure: bool, proxy_tls: bool = False) -> AsyncIterator[House]:
    proxy, service = Proxy(needs_credentials=True), Service()
    tls = authority.tls if secure else None
    async with (
        serve(proxy, authority.tls if proxy_tls else None) as at_proxy,
        serve(service, tls) as api,
        serve(service, tls) as files,
    ):
        service.file_url = files.url
        yield House(proxy, at_proxy, api, files, authority)


@pytest.fixture
async def house(authority: Authority) -> AsyncIterator[House]:
    async with a_house(authority, secure=True) as house:
        yield house


@pytest.fixture
async def plain_house(authority: Authority) -> AsyncIterator[House]:
    async with a_house(authority, secure=False) as house:
        yield house


def host(server: Server) -> str:
    return server.url.partition("://")[2]


def assert_all_was_tunnelled(house: House) -> None:
    api, files = host(house.api), host(house.files)
    # The code is exchanged over a connection of its own; the API's calls and the renewal share one.
    assert house.asked == [("CONNECT", api), ("CONNECT", api), ("CONNECT", files)]
    targets = [request.target.partition("?")[0] for server in house.servers for request in server.executed]
    attachment = "/v1/conversations/c1/attachments/a1"
    assert targets == ["/oauth/token", "/v1/me", "/oauth/token", "/v1/me", attachment, "/file"]


def assert_no_secret_is_in_clear(house: House) -> None:
    on_the_way = repr(house.at_proxy.begun).encode() + house.proxy.tunnelled
    assert len(house.proxy.tunnelled) > 1000
    assert not [secret for secret in SECRETS if secret.encode() in on_the_way]
    for request in house.at_proxy.begun:
        assert set(request.headers) <= {
            *("host", "proxy-authorization", "accept", "accept-encoding", "user-agent"),
        }


def assert_the_targets_know_no_proxy(house: House) -> None:
    for server in house.servers:
        for request in server.executed:
            assert not [name for name in request.headers if name.startswith("proxy")]
            assert USER not in repr(request)
            assert BASIC not in repr(request)


async def test_all_calls_to_https_go_through_a_tunnel_and_no_secret_in_clear(
    house: House, tmp_path: Path
) -> None:
    network = {"proxy": house.proxy_url, "ssl": house.authority.bundle}
    await use_all(house.api.url, tmp_path, network)

    assert_all_was_tunnelled(house)
    assert_no_secret_is_in_clear(house)
    assert_the_targets_know_no_proxy(house)
    assert all(request.header("Proxy-Authorization") == BASIC for request in house.at_proxy.begun)
    assert house.files.executed[0].header("Authorization") is None


async def test_a_proxy_may_itself_be_reached_over_tls(authority: Authority, tmp_path: Path) -> None:
    async with a_house(authority, secure=True, proxy_tls=True) as house:
        await use_all(house.api.url, tmp_path, {"proxy": house.proxy_url, "ssl": authority.bundle})

        assert_all_was_tunnelled(house)
        assert_no_secret_is_in_clear(house)


async def test_plain_http_on_this_machine_goes_through_it_with_the_whole_url(
    plain_house: House, tmp_path: Path
) -> None:
    house = plain_house
    await use_all(house.api.url, tmp_path, {"proxy": house.proxy_url})

    executed = [*house.api.executed, *house.files.executed]
    assert house.asked == [
        (request.method, server.url + request.target)
        for server in house.servers
        for request in server.executed
    ]
    assert len(executed) == 6
    assert_the_targets_know_no_proxy(house)


@pytest.mark.parametrize("method", METHODS)
async def test_a_path_is_sent_as_it_is_through_a_proxy_too(plain_house: House, method: str) -> None:
    network = Network(proxy=plain_house.proxy_url)
    async with wire_to(plain_house.api.url, network=network) as through:
        await through(a_request(method))
    async with wire_to(plain_house.api.url) as direct:
        await direct(a_request(method))
    first, second = plain_house.api.executed
    assert first == second
    assert first.target.startswith(f"/{PATH}?")


# --- what the environment says


@pytest.fixture
def proxy_in_the_environment(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    # No server listens where the others lead to.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", house.proxy_url)


@pytest.mark.usefixtures("proxy_in_the_environment")
async def test_the_environments_proxy_is_used_when_it_is_trusted(house: House, tmp_path: Path) -> None:
    await use_all(house.api.url, tmp_path, {"trust_env": True, "ssl": house.authority.bundle})

    assert_all_was_tunnelled(house)
    assert_no_secret_is_in_clear(house)


@pytest.mark.usefixtures("proxy_in_the_environment")
async def test_the_environments_proxy_is_not_used_when_it_is_not_trusted(
    house: House, tmp_path: Path
) -> None:
    await use_all(house.api.url, tmp_path, {"ssl": house.authority.bundle})

    assert house.asked == []


@pytest.mark.usefixtures("proxy_in_the_environment")
async def test_a_proxy_that_is_named_comes_before_the_environments(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    network = {"trust_env": True, "proxy": house.proxy_url, "ssl": house.authority.bundle}
    await use_all(house.api.url, tmp_path, network)

    assert_all_was_tunnelled(house)


@pytest.mark.usefixtures("proxy_in_the_environment")
@pytest.mark.parametrize("excepted", ["host and port", "host", "*"])
async def test_what_no_proxy_names_is_reached_without(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excepted: str
) -> None:
    names = {"host": "127.0.0.1", "host and port": host(house.api)}
    monkeypatch.setenv("NO_PROXY", f"localhost,{names[excepted]}" if excepted in names else "*")
    await use_all(house.api.url, tmp_path, {"trust_env": True, "ssl": house.authority.bundle})

    files_too = excepted != "host and port"
    assert house.asked == ([] if files_too else [("CONNECT", host(house.files))])


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
async def test_a_proxy_in_the_environment_needs_no_scheme(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    house.proxy.needs_credentials = False
    monkeypatch.setenv(variable, host(house.at_proxy))
    await use_all(house.api.url, tmp_path, {"trust_env": True, "ssl": house.authority.bundle})

    assert_all_was_tunnelled(house)


@pytest.mark.parametrize("way", ["named", "environment", "session", "session's environment"])
async def test_plain_http_never_leaves_this_machine_by_a_proxy(
    plain_house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    elsewhere = "http://proxy.invalid:3128"
    monkeypatch.setenv("HTTP_PROXY", elsewhere)
    monkeypatch.setenv("ALL_PROXY", elsewhere)
    lent: dict[str, Any] = {"proxy": elsewhere} if way == "session" else {"trust_env": True}
    async with aiohttp.ClientSession(**lent) as session:
        ways: dict[str, dict[str, Any]] = {"named": {"proxy": elsewhere}, "environment": {"trust_env": True}}
        network = ways.get(way, {})
        options = {} if way in ways else {"session": session}
        await use_all(plain_house.api.url, tmp_path, network, **options)

    assert len([*plain_house.api.executed, *plain_house.files.executed]) == 6


@pytest.mark.usefixtures("proxy_in_the_environment")
async def test_the_environment_is_asked_once_for_each_host(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("urllib.request.proxy_bypass", asked.append)
    network: dict[str, Any] = {"trust_env": True, "ssl": house.authority.bundle}
    async with Client(FRESH, environment=environment_at(house.api.url), **network) as client:
        for _ in range(5):
            await client.me.get()
        await client.conversations("c1").download("a1", to=tmp_path / "file.pdf")

    assert asked == [host(house.api), host(house.files)]


@pytest.mark.parametrize("way", ["--proxy", "HTTPS_PROXY"])
async def test_commands_go_through_a_proxy(house: House, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("HEALTHMSG_TOKEN", FRESH)
    monkeypatch.setenv("HEALTHMSG_API_URL", f"{house.api.url}/v1")
    monkeypatch.delenv("HEALTHMSG_ENVIRONMENT", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", house.proxy_url if way == "HTTPS_PROXY" else "http://127.0.0.1:1")
    monkeypatch.setattr("healthmsg.cli.service.is_on_this_machine", lambda _: False)
    command = Command(house.proxy_url if way == "--proxy" else None, house.authority.bundle)
    async with command.client() as client:
        await client.me.get()

    assert house.asked == [("CONNECT", host(house.api))]


# --- what errors and logs say


def test_no_credentials_of_a_proxy_are_shown(authority: Authority) -> None:
    url = f"http://{CREDENTIALS}@127.0.0.1:3128"
    environment = environment_at("https://127.0.0.1:1")
    network = Network(proxy=url, ssl=authority.bundle)
    app = OAuthApp("id", "secret", "https://here.test/cb", environment, proxy=url, ssl=authority.bundle)
    client = Client(FRESH, environment=environment, proxy=url)
    for each in (network, app, client, client.with_options(timeout=1), client.with_token(CODE)):
        for word in (USER, PASSWORD, CREDENTIALS, "canary"):
            assert word not in f"{each!r} {each}"
