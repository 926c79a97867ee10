"""The service's side of the three legs."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from aiohttp import ClientSession

from healthmsg.sandbox import Sandbox
from tests.caller import Answer, Caller

SCOPE = "read write"


def question(sandbox: Sandbox, **changes: str | None) -> dict[str, str]:
    asked: dict[str, str | None] = {
        "response_type": "code",
        "client_id": sandbox.client_id,
        "redirect_uri": sandbox.redirect_uri,
        "scope": SCOPE,
        "state": "s t&te",
        **changes,
    }
    return {name: value for name, value in asked.items() if value is not None}


def came_back(answer: Answer) -> dict[str, str]:
    assert answer.status == 302
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


async def authorize(call: Caller, **changes: str | None) -> Answer:
    return await call("GET", f"/oauth/authorize?{urlencode(question(call.sandbox, **changes))}")


async def redeem(call: Caller, **changes: str | None) -> Answer:
    form: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "client_id": call.sandbox.client_id,
        "client_secret": call.sandbox.client_secret,
        "redirect_uri": call.sandbox.redirect_uri,
        **changes,
    }
    return await call(
        "POST", "/oauth/token", data={name: value for name, value in form.items() if value is not None}
    )


async def new_code(call: Caller, **changes: str | None) -> str:
    return came_back(await authorize(call, **changes))["code"]


async def test_the_three_legs_end_in_a_token_that_works(call: Caller, sandbox: Sandbox) -> None:
    back = await authorize(call)
    assert back.headers["Location"].startswith(f"{sandbox.redirect_uri}?")
    assert came_back(back)["state"] == "s t&te"
    answer = await redeem(call, code=came_back(back)["code"])
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.document.keys() == {"access_token", "scope", "token_type"}
    assert (answer.document["scope"], answer.document["token_type"]) == (SCOPE, "bearer")
    call.token = answer.document["access_token"]
    assert (await call("GET", "me")).document["id"] == sandbox.user_id


async def test_without_a_state_none_comes_back(call: Caller) -> None:
    assert came_back(await authorize(call, state=None)).keys() == {"code"}


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "stranger"},
        {"client_id": None},
        {"redirect_uri": "http://localhost:8765/callback/"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": None},
    ],
)
async def test_a_stranger_gets_a_page_and_never_a_redirect(
    call: Caller, changes: dict[str, str | None]
) -> None:
    for answer in (
        await authorize(call, **changes),
        await call("POST", "/oauth/authorize", data=question(call.sandbox, **changes)),
    ):
        assert answer.status == 400
        assert "Location" not in answer.headers
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"scope": "read everything"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
    ],
)
async def test_what_cannot_be_granted_goes_back_as_an_error(
    call: Caller, changes: dict[str, str | None], error: str
) -> None:
    back = came_back(await authorize(call, **changes))
    assert (back["error"], back["state"]) == (error, "s t&te")
    assert "code" not in back


@pytest.mark.parametrize(
    ("redirect_uri", "fine"),
    [
        ("http://127.0.0.1:5000/cb", True),
        ("http://[::1]:5000/cb", True),
        ("https://localhost/cb?x=1", True),
        ("http://localhost.evil.example/cb", False),
        ("http://203.0.113.5/cb", False),
        ("http://user@evil.example/127.0.0.1", False),
        ("http://127.0.0.1/cb#x", False),
        ("ftp://127.0.0.1/cb", False),
        ("javascript:alert(1)", False),
        ("http://[", False),
        ("", False),
    ],
)
async def test_without_a_registered_callback_any_on_loopback_will_do(
    session: ClientSession, redirect_uri: str, *, fine: bool
) -> None:
    async with Sandbox(redirect_uri=None) as sandbox:
        call = Caller(sandbox, session)
        answer = await authorize(call, redirect_uri=redirect_uri)
        assert answer.status == (302 if fine else 400)
        if fine:
            joint = "&" if "?" in redirect_uri else "?"
            assert answer.headers["Location"].startswith(f"{redirect_uri}{joint}code=")
            code = came_back(answer)["code"]
            assert (await redeem(call, code=code, redirect_uri=redirect_uri)).status == 200


async def test_a_code_works_once(call: Caller) -> None:
    code = await new_code(call)
    assert (await redeem(call, code=code)).status == 200
    again = await redeem(call, code=code)
    assert (again.status, again.document["error"]) == (400, "invalid_grant")


async def test_a_code_ends_after_ten_minutes(session: ClientSession) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    async with Sandbox(now=lambda: moment) as sandbox:
        call = Caller(sandbox, session)
        early, late = await new_code(call), await new_code(call)
        moment += timedelta(minutes=10, seconds=-1)
        assert (await redeem(call, code=early)).status == 200
        moment += timedelta(seconds=1)
        assert (await redeem(call, code=late)).document["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "stranger"}, 401, "invalid_client"),
        ({"client_id": "é"}, 401, "invalid_client"),
        ({"redirect_uri": "http://localhost:8765/other"}, 400, "invalid_grant"),
        ({"redirect_uri": None}, 400, "invalid_request"),
        ({"code": "made up"}, 400, "invalid_grant"),
        ({"code": None}, 400, "invalid_request"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_token_call_that_is_wrong_is_refused_with_oauths_code(
    call: Caller, changes: dict[str, str | None], status: int, error: str
) -> None:
    answer = await redeem(call, **{"code": await new_code(call), **changes})
    assert (answer.status, answer.document["error"]) == (status, error)
    assert answer.document["error_description"]


async def test_a_token_call_must_be_a_posted_form(call: Caller) -> None:
    answer = await call("POST", "/oauth/token", json={"grant_type": "authorization_code"})
    assert (answer.status, answer.document["error"]) == (400, "invalid_request")
    assert (await call("GET", "/oauth/token")).status == 405


async def test_a_refresh_token_works_once_and_brings_the_next(session: ClientSession) -> None:
    async with Sandbox(refresh_tokens=True, announce_expiry=True) as sandbox:
        call = Caller(sandbox, session)
        first = (await redeem(call, code=await new_code(call))).document
        assert first["expires_in"] == 3 * 24 * 3600

        async def refresh(token: str, **changes: str) -> Answer:
            return await redeem(call, grant_type="refresh_token", refresh_token=token, **changes)

        assert (await refresh(first["refresh_token"], scope="admin")).document["error"] == "invalid_scope"
        second = (await refresh(first["refresh_token"])).document
        assert second["scope"] == SCOPE
        call.token = second["access_token"]
        assert (await call("GET", "me")).status == 200
        assert (await refresh(first["refresh_token"])).document["error"] == "invalid_grant"
        assert (await refresh(second["access_token"])).document["error"] == "invalid_grant"
        sandbox.revoke_token(second["refresh_token"])
        assert (await refresh(second["refresh_token"])).document["error"] == "invalid_grant"
        narrowed = (await refresh(sandbox.issue_token(refresh=True), scope="read")).document
        assert narrowed["scope"] == "read"


@pytest.mark.parametrize("revokes", [True, False])
async def test_a_refresh_token_that_is_used_twice_can_end_the_authorization(
    session: ClientSession, *, revokes: bool
) -> None:
    async with Sandbox(refresh_tokens=True, revoke_on_reuse=revokes) as sandbox:
        call = Caller(sandbox, session)
        first = (await redeem(call, code=await new_code(call))).document
        other = (await redeem(call, code=await new_code(call))).document

        async def refresh(token: str) -> Answer:
            return await redeem(call, grant_type="refresh_token", refresh_token=token)

        second = (await refresh(first["refresh_token"])).document
        assert (await refresh(first["refresh_token"])).document["error"] == "invalid_grant"
        call.token = second["access_token"]
        assert (await call("GET", "me")).status == (401 if revokes else 200)
        assert (await refresh(second["refresh_token"])).status == (400 if revokes else 200)
        assert (await refresh(other["refresh_token"])).status == 200


def test_a_refresh_token_needs_them_switched_on() -> None:
    with pytest.raises(ValueError, match="refresh_tokens=True"):
        Sandbox().issue_token(refresh=True)


async def test_the_page_asks_whom_to_be_and_can_be_approved_or_refused(session: ClientSession) -> None:
    async with Sandbox(auto_approve=False) as sandbox:
        call = Caller(sandbox, session)
        patient = sandbox.add_user('<script>"', "'t Hart & Zn.")
        page = await authorize(call, state='"><script>')
        text = page.body.decode()
        assert page.status == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "<script" not in text
        assert "Zorgdemo" in text
        assert "admin" not in text
        assert "write" in text
        hidden = {
            unescape(name): unescape(value)
            for name, value in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', text)
        }
        assert hidden == question(sandbox, state='"><script>')
        assert f'value="{patient}"' in text
        refused = await call(
            "POST", "/oauth/authorize", data=hidden | {"user_id": patient, "decision": "refuse"}
        )
        assert came_back(refused) == {
            "error": "access_denied",
            "error_description": "The user refused.",
            "state": '"><script>',
        }
        approved = await call(
            "POST", "/oauth/authorize", data=hidden | {"user_id": patient, "decision": "approve"}
        )
        call.token = (await redeem(call, code=came_back(approved)["code"])).document["access_token"]
        assert (await call("GET", "me")).document["id"] == patient
