import subprocess
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from attrs import evolve

from healthmsg import OAuthApp, Token
from healthmsg.environment import Environment
from healthmsg.errors import (
    AuthorizationRefusedError,
    BadRequestError,
    ConfigurationError,
    ConnectError,
    ForbiddenError,
    HealthmsgError,
    InternalServerError,
    InvalidInputError,
    MissingCodeError,
    MissingStateError,
    RateLimitedError,
    ReauthorizationRequiredError,
    StateMismatchError,
    TokenRequestError,
    UnauthorizedError,
)
from healthmsg.pipeline.request import Request, Response
from tests.auth.token_service import (
    CLIENT_SECRET,
    CODE,
    LOCAL,
    NOON,
    REFRESH_TOKEN,
    STATE,
    VALUE,
    TokenService,
    answer,
    app,
    assert_tells_no_secret,
    expiring,
)

CALL = "POST oauth token"
KPN = Environment.kpn()


def refused(code: str = "", status: int = 400) -> BadRequestError | UnauthorizedError:
    error = UnauthorizedError if status == 401 else BadRequestError
    return error(CALL, status, server_code=code, server_message=f"{CODE} {REFRESH_TOKEN} {VALUE}")


def test_importing_the_package_imports_neither_aiohttp_nor_oauthlib() -> None:
    seen = (
        "import sys, healthmsg.auth.manager, healthmsg.auth.oauth;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", seen], check=True, capture_output=True, text=True)  # noqa: S603 - our own words
    names = run.stdout.split()
    assert "healthmsg" in names
    assert not {"aiohttp", "oauthlib"} & set(names)


# --- the application


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("client_id", ""),
        ("client_id", None),
        ("client_secret", ""),
        ("client_secret", None),
        ("client_secret", f"{CLIENT_SECRET}\n"),
        ("redirect_uri", ""),
        ("redirect_uri", None),
        ("redirect_uri", "http://clinic.example/callback"),
        ("redirect_uri", "/callback"),
    ],
)
def test_an_app_that_cannot_work_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        evolve(app(), **{name: value})
    assert_tells_no_secret(caught.value)


def test_a_redirect_to_loopback_may_be_plain_http() -> None:
    assert OAuthApp("c", "s", "http://localhost:9000/callback", LOCAL).redirect_uri


def test_repr_of_an_app_hides_its_secret() -> None:
    assert CLIENT_SECRET not in repr(app())


async def test_an_environment_without_oauth_urls_is_refused_only_when_one_is_needed() -> None:
    kpn = app(KPN)
    with pytest.raises(ConfigurationError, match="authorize_url"):
        kpn.authorization_request()
    with pytest.raises(ConfigurationError, match="token_url"):
        await kpn.exchange(CODE, TokenService(answer()))
    assert kpn.parse_callback(f"/cb?state={STATE}&code={CODE}", STATE) == CODE


# --- the first leg


@pytest.mark.parametrize("environment", [Environment.ALTERDESK, LOCAL])
def test_the_authorization_url_has_the_documented_parameters(environment: Environment) -> None:
    request = app(environment).authorization_request(("read", "admin"))
    assert request.url.partition("?")[0] == environment.authorize_url
    assert parse_qs(urlsplit(request.url).query, strict_parsing=True) == {
        "response_type": ["code"],
        "client_id": ["client-1"],
        "redirect_uri": ["https://clinic.example/callback"],
        "scope": ["read admin"],
        "state": [request.state],
    }


def test_a_query_that_the_authorize_url_has_already_is_kept() -> None:
    environment = Environment("own", "https://a.example", "https://a.example/authorize?tenant=7&hint=")
    query = parse_qs(
        urlsplit(app(environment).authorization_request().url).query,
        keep_blank_values=True,
        strict_parsing=True,
    )
    assert (query["tenant"], query["hint"], query["scope"]) == (["7"], [""], ["read write"])


def test_every_request_has_a_state_of_its_own_that_cannot_be_guessed() -> None:
    states = {app().authorization_request().state for _ in range(100)}
    assert len(states) == 100
    assert min(map(len, states)) >= 43


def test_an_own_state_comes_through_whatever_its_characters() -> None:
    state = "a b&c=d+e%20f#g?h"
    request = app().authorization_request(state=state)
    assert request.state == state
    assert parse_qs(urlsplit(request.url).query)["state"] == [state]


@pytest.mark.parametrize("state", ["", "line\nbreak", "é", "\ud800"])
def test_an_own_state_that_cannot_be_one_is_refused(state: str) -> None:
    with pytest.raises(InvalidInputError, match="state"):
        app().authorization_request(state=state)


@pytest.mark.parametrize("scopes", ["read", (), ("read write",), ("",), (None,)])
def test_scopes_must_be_separate_words(scopes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="scopes"):
        app().authorization_request(scopes)


def test_repr_of_a_request_hides_its_state_and_its_query() -> None:
    request = app().authorization_request(state=STATE)
    assert STATE not in repr(request)
    assert "client-1" not in repr(request)
    assert str(LOCAL.authorize_url) in repr(request)


# --- the second leg


@pytest.mark.parametrize(
    "callback",
    [
        f"https://clinic.example/callback?code={CODE}&state={STATE}",
        f"/callback?state={STATE}&code={CODE}#_=_",
        f"http://[broken/callback?state={STATE}&code={CODE}&more=1&more=2",
    ],
)
def test_a_callback_with_the_right_state_gives_its_code(callback: str) -> None:
    assert app().parse_callback(callback, STATE) == CODE


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (f"code={CODE}", MissingStateError),
        (f"code={CODE}&state=", MissingStateError),
        ("", MissingStateError),
        (f"code={CODE}#state={STATE}", MissingStateError),
        ("error=access_denied", MissingStateError),
        (f"code={CODE}&state=other", StateMismatchError),
        (f"code={CODE}&state={STATE}x", StateMismatchError),
        (f"code={CODE}&state=%C3%A9", StateMismatchError),
        (f"code={CODE}&state=%ED%A0%80", StateMismatchError),
        (f"code={CODE}&state=\ud800", StateMismatchError),
        ("error=access_denied&state=other", StateMismatchError),
        (f"code={CODE}&state={STATE}&state={STATE}", StateMismatchError),
        (f"code={CODE}&state={STATE}&state=other", StateMismatchError),
        (f"code={CODE}&state=other&state={STATE}", StateMismatchError),
        (f"code={CODE}&state=&state={STATE}", StateMismatchError),
        (f"code={CODE}&code=other&state={STATE}", StateMismatchError),
        (f"code=&code={CODE}&state={STATE}", StateMismatchError),
        (f"state={STATE}", MissingCodeError),
        (f"code=&state={STATE}", MissingCodeError),
    ],
)
def test_a_callback_that_proves_nothing_is_refused(query: str, error: type[HealthmsgError]) -> None:
    with pytest.raises(error) as caught:
        app().parse_callback(f"https://clinic.example/callback?{query}", STATE)
    assert type(caught.value) is error
    assert_tells_no_secret(caught.value)


def test_a_refusal_says_why_apart_from_its_message() -> None:
    callback = f"/cb?error=access_denied&error_description=No+{CODE}&state={STATE}&code={CODE}"
    with pytest.raises(AuthorizationRefusedError) as caught:
        app().parse_callback(callback, STATE)
    assert (caught.value.code, caught.value.description) == ("access_denied", f"No {CODE}")
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize("state", ["", None])
def test_an_empty_state_to_compare_with_is_refused_and_matches_nothing(state: str) -> None:
    with pytest.raises(InvalidInputError):
        app().parse_callback(f"/cb?code={CODE}&state=", state)


# --- the third leg


async def test_exchange_sends_the_documented_form_and_gives_a_token() -> None:
    service = TokenService(answer())
    token = await app().exchange(CODE, service)
    assert token == Token(VALUE, ("read", "write"), created_at=NOON)
    (request,) = service.requests
    assert (request.call, request.method, request.path) == (CALL, "POST", LOCAL.token_url)
    assert service.form() == {
        "grant_type": ["authorization_code"],
        "client_id": ["client-1"],
        "client_secret": [CLIENT_SECRET],
        "code": [CODE],
        "redirect_uri": ["https://clinic.example/callback"],
    }
    assert CODE not in repr(request)


async def test_refresh_sends_the_form_of_rfc_6749_and_gives_a_token() -> None:
    service = TokenService(answer(refresh_token="next", expires_in=60, scope="admin"))
    token = await app().refresh(expiring(), service)
    assert token == Token(
        VALUE,
        ("admin",),
        created_at=NOON,
        expires_at=NOON + timedelta(seconds=60),
        refresh_token="next",
    )
    assert service.form() == {
        "grant_type": ["refresh_token"],
        "client_id": ["client-1"],
        "client_secret": [CLIENT_SECRET],
        "refresh_token": [REFRESH_TOKEN],
    }


@pytest.mark.parametrize("left_out", [{}, {"refresh_token": ""}])
async def test_what_a_refresh_leaves_out_stays_as_it_was(left_out: dict[str, str]) -> None:
    token = await app().refresh(expiring(), TokenService(answer(scope=None, **left_out)))
    assert (token.refresh_token, token.scopes, token.expires_at) == (REFRESH_TOKEN, ("read",), None)


async def test_special_characters_survive_the_form() -> None:
    service = TokenService(answer())
    await app().exchange("a+b/c=d&e f%", service)
    assert service.form()["code"] == ["a+b/c=d&e f%"]


@pytest.mark.parametrize(
    ("expires_in", "seconds"), [(3600, 3600), ("3600", 3600), (0, 0), (1.5, 1.5), ("259200", 259200)]
)
async def test_a_lifetime_may_be_a_number_or_a_number_as_text(expires_in: object, seconds: float) -> None:
    token = await app().exchange(CODE, TokenService(answer(expires_in=expires_in)))
    assert token.expires_at == NOON + timedelta(seconds=seconds)


async def test_a_token_behind_a_byte_order_mark_is_taken() -> None:
    token = await app().exchange(CODE, TokenService(b"\xef\xbb\xbf" + orjson.dumps(answer())))
    assert token.value == VALUE


@pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER"])
async def test_the_token_type_is_compared_without_case(token_type: str) -> None:
    token = await app().exchange(CODE, TokenService(answer(token_type=token_type)))
    assert token.value == VALUE


UNUSABLE = [
    ("access_token", answer(access_token=None)),
    ("access_token", answer(access_token="")),
    ("access_token", answer(access_token=7)),
    ("access_token", answer(access_token=[VALUE])),
    ("access_token", answer(access_token=f"{VALUE} x")),
    ("access_token", answer(access_token=f"{VALUE}\r\nHost: evil")),
    ("access_token", answer(access_token=f"{VALUE}é")),
    ("token_type", answer(token_type=f"mac {VALUE}")),
    ("token_type", answer(token_type=7)),
    ("JSON object", [VALUE]),
    ("JSON object", VALUE),
    ("JSON object", b"access_token=s3cr3t-value&token_type=bearer"),
    ("JSON object", b""),
    ("JSON object", b"\xff"),
]


@pytest.mark.parametrize(("named", "unusable"), UNUSABLE)
async def test_an_answer_without_a_usable_token_is_an_error_that_names_the_field(
    named: str, unusable: object
) -> None:
    for call in (
        app().exchange(CODE, TokenService(unusable)),
        app().refresh(expiring(), TokenService(unusable)),
    ):
        with pytest.raises(TokenRequestError, match=named) as caught:
            await call
        assert caught.value.code is None
        assert_tells_no_secret(caught.value)


ODD_VALUES: dict[str, list[object]] = {
    "expires_in": [
        *("", None, -1, "-1", "soon", "nan", "inf", True, 1e300, "9" * 5000, [1], {}, {"s": VALUE}),
        *("3600 s", "3.600,0"),
    ],
    "refresh_token": [7, [REFRESH_TOKEN], f"{REFRESH_TOKEN}\0", {"x": 1}, None, ""],
    "scope": [7, {"read": True}, [["read"]], "é", None, ""],
    "token_type": [None, "", " Bearer "],
    "error": [None, "", "none", [VALUE]],
}
ODD: list[dict[str, object]] = [
    *({name: value} for name, values in ODD_VALUES.items() for value in values),
    {"expires_in": "", "refresh_token": 7, "scope": [7], "token_type": None, "id_token": {"odd": [VALUE]}},
]


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_optional_field_throws_no_token_away(
    odd: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """A code and many a refresh token work once: what they brought cannot be had again."""
    whole = {**answer(refresh_token="rotated"), **odd}
    exchanged = await app().exchange(CODE, TokenService(whole))
    renewed = await app().refresh(expiring(), TokenService(whole))
    assert exchanged.value == renewed.value == VALUE
    assert renewed.refresh_token == (REFRESH_TOKEN if "refresh_token" in odd else "rotated")
    if "expires_in" in odd:
        assert renewed.expires_at is exchanged.expires_at is None
    assert renewed.scopes == (("read",) if "scope" in odd else ("read", "write"))
    assert not [secret for secret in (VALUE, REFRESH_TOKEN, "rotated") if secret in caplog.text]


@pytest.mark.parametrize("scope", ["read write", "read,write", ["read", "write"], " read  write "])
async def test_scopes_may_be_a_list(scope: object) -> None:
    token = await app().exchange(CODE, TokenService(answer(scope=scope)))
    assert token.scopes == ("read", "write")


async def test_a_new_refresh_token_beside_an_unusable_token_is_kept() -> None:
    rotated = answer(access_token="", refresh_token="rotated")
    renewal = await app().renewal(expiring(), TokenService(rotated))
    assert renewal.problem is not None
    assert renewal.token == evolve(expiring(), refresh_token="rotated")
    unrotated = await app().renewal(expiring(), TokenService(answer(access_token="")))
    assert unrotated.token is None


@pytest.mark.parametrize("code", ["", "\ud800c0de-value", "c0de-value\n", None])
async def test_a_code_that_cannot_be_one_is_refused_before_anything_is_sent(code: str) -> None:
    service = TokenService(answer())
    with pytest.raises(InvalidInputError) as caught:
        await app().exchange(code, service)
    assert not service.requests
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    ("answered", "code"),
    [
        (refused("invalid_grant"), "invalid_grant"),
        (refused("invalid_client", 401), "invalid_client"),
        (refused(), None),
        ({"error": "invalid_grant", "error_description": CODE}, "invalid_grant"),
        (b'\xef\xbb\xbf{"error": "invalid_grant", "error_description": "\\ud83d"}', "invalid_grant"),
        ({"error": {"id": CODE}}, None),
    ],
)
async def test_a_refused_code_is_an_error_with_oauths_code(answered: object, code: str | None) -> None:
    with pytest.raises(TokenRequestError) as caught:
        await app().exchange(CODE, TokenService(answered))
    assert caught.value.code == code
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    "answered",
    [
        refused("invalid_grant"),
        refused("invalid_grant", 401),
        ForbiddenError(CALL, 403, server_code="invalid_grant"),
        {"error": "invalid_grant"},
        {"error": "invalid_grant", "access_token": None},
    ],
)
async def test_a_refused_refresh_token_means_that_the_user_has_to_authorize_again(answered: object) -> None:
    with pytest.raises(ReauthorizationRequiredError) as caught:
        await app().refresh(expiring(), TokenService(answered))
    assert type(caught.value) is ReauthorizationRequiredError
    assert_tells_no_secret(caught.value)


@pytest.mark.parametrize(
    ("answered", "code"),
    [
        *((refused(code), code) for code in ("invalid_request", "temporarily_unavailable", "slow_down")),
        *((refused(code), code) for code in ("unauthorized_client", "invalid_scope", "server_error")),
        (refused(), None),  # such as a firewall's page
        (refused(status=401), None),
        (refused(f"bad: {REFRESH_TOKEN}"), None),
        ({"error": f"bad: {REFRESH_TOKEN}"}, None),
        ({"error": "temporarily_unavailable"}, "temporarily_unavailable"),
        ({"error": {"id": CODE}}, None),
    ],
)
async def test_another_refusal_is_no_reason_to_authorize_again(answered: object, code: str | None) -> None:
    with pytest.raises(TokenRequestError) as caught:
        await app().refresh(expiring(), TokenService(answered))
    assert caught.value.code == code
    assert not caught.value.is_final
    if code:
        assert code in str(caught.value)
    assert_tells_no_secret(caught.value)


async def test_a_refused_application_is_not_blamed_on_the_user() -> None:
    with pytest.raises(TokenRequestError) as caught:
        await app().refresh(expiring(), TokenService(refused("invalid_client", 401)))
    assert caught.value.code == "invalid_client"
    assert caught.value.is_final
    assert_tells_no_secret(caught.value)


async def test_without_a_refresh_token_nothing_is_sent() -> None:
    service = TokenService(answer())
    with pytest.raises(ReauthorizationRequiredError):
        await app().refresh(expiring(refresh_token=None), service)
    assert not service.requests


@pytest.mark.parametrize(
    "error",
    [
        RateLimitedError(CALL, 429, retry_after=1.0),
        InternalServerError(CALL, 500),
        InternalServerError(CALL, 500, server_code="invalid_grant"),
        ForbiddenError(CALL, 403),
        ConnectError(CALL, "no connection"),
    ],
)
async def test_other_errors_come_through_as_they_are(error: HealthmsgError) -> None:
    for call in (app().exchange(CODE, TokenService(error)), app().refresh(expiring(), TokenService(error))):
        with pytest.raises(HealthmsgError) as caught:
            await call
        assert caught.value is error


async def test_without_a_send_a_connection_is_made_for_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    service = TokenService(answer())
    steps: list[str] = []

    class NotedWire:
        def __init__(self, *_: object, **__: object) -> None:
            steps.append("open")

        async def __call__(self, request: Request) -> Response:
            return await service(request)

        async def close(self) -> None:
            steps.append("close")

    monkeypatch.setattr("healthmsg.transport.http.Wire", NotedWire)
    assert (await app().exchange(CODE)).value == VALUE
    assert steps == ["open", "close"]
