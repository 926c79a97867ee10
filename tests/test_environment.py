import copy
import pickle

import pytest
from attrs.exceptions import FrozenInstanceError

from healthmsg.environment import Environment, comparable_url
from healthmsg.errors import ConfigurationError
from healthmsg.validation import require_secure_url

API = "https://api.example.com/v1"
PASSWORD = "canary-3f9"


def refusal_of(url: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Environment("x", url)  # type: ignore[arg-type]
    return str(caught.value)


def test_alterdesk_is_as_in_the_contract() -> None:
    assert (
        Environment(
            name="alterdesk",
            api_url="https://api.alterdesk.com/v1",
            authorize_url="https://im.alterdesk.com/oauth/authorize",
            token_url="https://im.alterdesk.com/oauth/token",
            gateway_url="wss://api.alterdesk.com/v1/gateway",
        )
        == Environment.ALTERDESK
    )


def test_kpn_has_its_published_url_and_no_invented_ones() -> None:
    assert Environment.kpn() == Environment(
        name="kpn",
        api_url="https://api-prd.kpn.com/communication/kpn/healthcare-messenger",
        authorize_url=None,
        token_url=None,
        gateway_url=None,
    )


def test_kpn_takes_the_urls_that_kpn_gave() -> None:
    kpn = Environment.kpn("https://a.example/auth", "https://a.example/token", "wss://a.example/gateway")

    assert kpn.authorize_url == "https://a.example/auth"
    assert kpn.token_url == "https://a.example/token"
    assert kpn.gateway_url == "wss://a.example/gateway"


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://api.example/v1", "https://api.example/v1"),
        ("HTTPS://API.Example:443/v1/", "https://api.example/v1"),
        ("https://api.example./v1", "https://api.example/v1"),
        ("https://api.example/V1", "https://api.example/V1"),
        ("https://api.example:8443", "https://api.example:8443"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
        ("http://[::1]:80/v1", "http://[::1]/v1"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
    ],
)
def test_a_url_has_one_comparable_form(url: str, same: str) -> None:
    assert comparable_url(url) == same == comparable_url(same)


@pytest.mark.parametrize(
    "url",
    [
        API,
        "https://localhost",
        "https://10.0.0.1:8443/api",
        "HTTPS://API.example.com",
        "http://localhost:8080",
        "http://LOCALHOST:8080",
        "http://127.0.0.1:8080/v1",
        "http://127.8.9.10",
        "http://[::1]:8080",
    ],
)
def test_https_anywhere_and_http_on_loopback_are_accepted(url: str) -> None:
    assert Environment("x", url).api_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v1",
        "http://127.0.0.1.evil.com",
        "http://localhost.evil.com",
        "http://evil-localhost",
        "http://0.0.0.0:8080",
        "http://[::]:8080",
        "http://10.0.0.1",
        "http://127.1",
        "http://2130706433",
        "http://127.0.0.1%00.evil.com",
        "ftp://localhost",
        "ws://localhost",
        "wss://api.example.com",
        "//api.example.com",
    ],
)
def test_anything_unencrypted_beyond_loopback_is_refused(url: str) -> None:
    assert refusal_of(url).startswith("api_url must use https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        "api.example.com",
        "https://",
        "https:///v1",
        "file:///etc/passwd",
        "https:api.example.com",
        "https://:443/v1",
        "https://api.example.com:99999",
        "https://api.example.com:port",
        "https://api.example.com:0",
        "https://[::1",
    ],
)
def test_a_url_without_a_usable_host_and_port_is_refused(url: str) -> None:
    assert refusal_of(url).startswith("api_url must be an absolute URL")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{PASSWORD}@api.example.com",
        f"https://{PASSWORD}@api.example.com",
        f"https://:{PASSWORD}@api.example.com",
        f"http://127.0.0.1:{PASSWORD}@evil.com",
        f"http://localhost\\@{PASSWORD}.com",
    ],
)
def test_a_url_with_user_name_or_password_is_refused_without_repeating_it(url: str) -> None:
    assert PASSWORD not in refusal_of(url)


@pytest.mark.parametrize("url", [f"{API}?x=1", f"{API}#x", f"{API}?", f"{API}#"])
def test_an_api_url_with_query_or_fragment_is_refused(url: str) -> None:
    assert "neither a query nor a fragment" in refusal_of(url)


@pytest.mark.parametrize("url", [None, 7, b"https://api.example.com", object(), ["https://a.example"]])
def test_an_api_url_that_is_not_text_is_refused(url: object) -> None:
    assert refusal_of(url).startswith("api_url must be")


@pytest.mark.parametrize(
    "url", ["https://a b.example", f" {API}", f"{API}\n", "ht\ntps://a.example", "https://a.example/\x00"]
)
def test_white_space_and_control_characters_are_no_part_of_a_url(url: str) -> None:
    assert refusal_of(url).startswith("api_url must be")


@pytest.mark.parametrize("url", [f"{API}/", f"{API}//"])
def test_a_trailing_slash_makes_no_difference(url: str) -> None:
    assert Environment("x", url) == Environment("x", API)


@pytest.mark.parametrize("name", ["authorize_url", "token_url"])
@pytest.mark.parametrize(
    "url", ["http://evil.com/oauth", "wss://a.example", "", "oauth/token", 7, b"https://a"]
)
def test_the_oauth_urls_are_held_to_the_same(name: str, url: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must"):
        Environment("x", API, **{name: url})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["wss://a.example/gateway", "ws://localhost:9000", "ws://127.0.0.1:9000/gateway", "ws://[::1]:9000"],
)
def test_the_gateway_is_wss_or_ws_on_loopback(url: str) -> None:
    assert Environment("x", API, gateway_url=url).gateway_url == url


@pytest.mark.parametrize(
    "url",
    ["ws://a.example/gateway", "https://a.example", "http://localhost", "ws://127.0.0.1.evil.com", "", 7],
)
def test_any_other_gateway_is_refused(url: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^gateway_url must"):
        Environment("x", API, gateway_url=url)  # type: ignore[arg-type]


def test_a_refusal_has_no_cause_that_could_carry_the_url() -> None:
    with pytest.raises(ConfigurationError) as caught:
        require_secure_url("link", f"https://{PASSWORD}:bad-port")

    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_environment_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Environment.ALTERDESK.api_url = "https://evil.com"  # type: ignore[misc]


def test_an_environment_is_a_value() -> None:
    original = Environment.kpn()

    assert hash(original) == hash(Environment.kpn())
    assert pickle.loads(pickle.dumps(original)) == original  # noqa: S301 - our own
    assert copy.deepcopy(original) == original


@pytest.mark.parametrize(
    ("variables", "gateway_url"),
    [
        ({"HEALTHMSG_API_URL": "http://127.0.0.1:8030/v1/"}, "ws://127.0.0.1:8030/v1/gateway"),
        ({"HEALTHMSG_API_URL": "https://api.example/v1"}, "wss://api.example/v1/gateway"),
        (
            {"HEALTHMSG_API_URL": "https://api.example/v1", "HEALTHMSG_GATEWAY_URL": "wss://live.example"},
            "wss://live.example",
        ),
        (
            {"HEALTHMSG_ENVIRONMENT": "kpn", "HEALTHMSG_GATEWAY_URL": "wss://live.example"},
            "wss://live.example",
        ),
        ({"HEALTHMSG_ENVIRONMENT": "kpn"}, None),
        ({"HEALTHMSG_ENVIRONMENT": "alterdesk"}, "wss://api.alterdesk.com/v1/gateway"),
    ],
)
def test_the_gateway_is_that_of_its_variable_or_the_service_s_own(
    variables: dict[str, str], gateway_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEALTHMSG_API_URL", "HEALTHMSG_ENVIRONMENT", "HEALTHMSG_GATEWAY_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert Environment.from_env().gateway_url == gateway_url


def test_another_gateway_for_a_service_whose_own_is_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEALTHMSG_API_URL", raising=False)
    monkeypatch.setenv("HEALTHMSG_ENVIRONMENT", "alterdesk")
    monkeypatch.setenv("HEALTHMSG_GATEWAY_URL", "wss://live.example")

    with pytest.raises(ConfigurationError, match="HEALTHMSG_GATEWAY_URL must not be set for alterdesk"):
        Environment.from_env()
