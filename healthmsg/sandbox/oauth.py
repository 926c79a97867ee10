"""The service's side of the three legs of OAuth 2.0 [D]; errors as in RFC 6749 [A]."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from attrs import field, frozen

from healthmsg.sandbox.answers import json_answer, too_large
from healthmsg.sandbox.call import Call
from healthmsg.sandbox.credentials import is_same
from healthmsg.sandbox.docs import is_own_callback
from healthmsg.sandbox.pages import consent_page, refusal_page
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.state import State
from healthmsg.sandbox.tokens import SCOPES, TOKEN_LIFETIME, Grant

_FORM: Final = "application/x-www-form-urlencoded"


@frozen
class _Asked:
    """A request for authorization from a client that is known, to an address that is its own."""

    redirect_uri: str
    scopes: Sequence[str]
    state: str | None
    problem: str | None
    """OAuth's error code, when it cannot be granted."""
    parameters: Mapping[str, str] = field(repr=False)

    def go_back(self, **answer: str) -> web.Response:
        """Send the browser back to the application."""
        parameters = answer | ({} if self.state is None else {"state": self.state})
        separator = "&" if "?" in self.redirect_uri else "?"
        location = f"{self.redirect_uri}{separator}{urlencode(parameters)}"
        return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})


class _UntrustedError(Exception):
    """Nobody to send the browser back to. The message is for a person."""


class _TokenError(Exception):
    """A token call that is refused, with OAuth's error code."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        self.status = status
        self.error = error
        self.description = description
        super().__init__(error)


async def authorize(call: Call) -> web.Response:
    """GET oauth/authorize: a page to approve or refuse, or with `auto_approve` the redirect at once."""
    try:
        asked = _read_request(call, dict(call.request.query))
    except _UntrustedError as error:
        return refusal_page(str(error))
    if asked.problem is not None:
        return asked.go_back(error=asked.problem, error_description="This cannot be granted.")
    state = call.state
    if state.settings.auto_approve:
        return _approve(asked, state, state.main_user.id)
    return consent_page(
        state.settings.application_name,
        asked.scopes,
        state.store.people.values(),
        state.main_user,
        asked.parameters,
    )


async def decide(call: Call) -> web.Response:
    """POST oauth/authorize: what was chosen on the page."""
    form = await _form(call)
    try:
        asked = _read_request(call, form)
    except _UntrustedError as error:
        return refusal_page(str(error))
    if asked.problem is not None:
        return asked.go_back(error=asked.problem, error_description="This cannot be granted.")
    user_id = form.get("user_id", "")
    if form.get("decision") != "approve" or user_id not in call.state.store.people:
        return asked.go_back(error="access_denied", error_description="The user refused.")
    return _approve(asked, call.state, user_id)


def _approve(asked: _Asked, state: State, user_id: str) -> web.Response:
    return asked.go_back(code=state.tokens.issue_code(user_id, asked.scopes, asked.redirect_uri))


def _read_request(call: Call, parameters: Mapping[str, str]) -> _Asked:
    settings = call.state.settings
    redirect_uri = parameters.get("redirect_uri", "")
    if parameters.get("client_id") != settings.client_id:
        raise _UntrustedError("No application is registered with this client_id.")
    if not (is_own_callback(call, redirect_uri) or _is_registered(redirect_uri, settings.redirect_uri)):
        raise _UntrustedError("This redirect_uri is not the application's.")
    scopes = parameters.get("scope", "").split()
    problem = None
    if parameters.get("response_type") != "code":
        problem = "unsupported_response_type"
    elif not scopes or not set(scopes) <= set(SCOPES):
        problem = "invalid_scope"
    kept = {
        name: parameters[name]
        for name in ("response_type", "client_id", "redirect_uri", "scope", "state")
        if name in parameters
    }
    return _Asked(redirect_uri, scopes, parameters.get("state"), problem, kept)


def _is_registered(redirect_uri: str, registered: str | None) -> bool:
    if registered is not None:
        return redirect_uri == registered
    try:
        parts = urlsplit(redirect_uri)
        host = parts.hostname or ""
        on_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
    return on_loopback and parts.scheme in {"http", "https"} and not parts.fragment


async def give_token(call: Call) -> web.Response:
    """POST oauth/token: a token for a code, or for a refresh token where those are switched on."""
    no_store = {"Cache-Control": "no-store"}
    try:
        answer = _redeem(await _form(call), call.state)
    except _TokenError as error:
        document = {"error": error.error, "error_description": error.description}
        return json_answer(document, status=error.status, headers=no_store)
    return json_answer(answer, headers=no_store)


def _redeem(form: Mapping[str, str], state: State) -> dict[str, object]:
    if not form:
        raise _TokenError("invalid_request", f"The body must be {_FORM}.")
    settings = state.settings
    known = is_same(form.get("client_id", ""), settings.client_id)
    secret = is_same(form.get("client_secret", ""), settings.client_secret)
    if not (known and secret):
        raise _TokenError("invalid_client", "The client_id or client_secret is wrong.", status=401)
    match form.get("grant_type"):
        case "authorization_code":
            return _redeem_code(form, state)
        case "refresh_token" if settings.refresh_tokens:
            return _refresh(form, state)
        case None:
            raise _TokenError("invalid_request", "grant_type is missing.")
        case _:
            raise _TokenError("unsupported_grant_type", "This grant_type is not offered.")


def _redeem_code(form: Mapping[str, str], state: State) -> dict[str, object]:
    if "code" not in form or "redirect_uri" not in form:
        raise _TokenError("invalid_request", "code or redirect_uri is missing.")
    grant = state.tokens.redeem_code(form["code"], form["redirect_uri"])
    if grant is None:
        raise _TokenError("invalid_grant", "The code is unknown, used, expired or for another redirect_uri.")
    return _token_answer(state, grant, grant.scopes)


def _refresh(form: Mapping[str, str], state: State) -> dict[str, object]:
    if "refresh_token" not in form:
        raise _TokenError("invalid_request", "refresh_token is missing.")
    grant = state.tokens.refresh_grant(form["refresh_token"])
    if grant is None:
        if state.settings.revoke_on_reuse:
            state.tokens.revoke_if_reused(form["refresh_token"])
        raise _TokenError("invalid_grant", "The refresh token is unknown, used, expired or revoked.")
    scopes = form["scope"].split() if "scope" in form else grant.scopes
    if not set(scopes) <= set(grant.scopes):
        raise _TokenError("invalid_scope", "A refresh cannot widen the scope.")
    grant.revoked = grant.rotated = True  # rotation: each refresh token works once [A]
    return _token_answer(state, grant, scopes)


def _token_answer(state: State, grant: Grant, scopes: Sequence[str]) -> dict[str, object]:
    tokens, of = state.tokens, grant.authorization
    answer: dict[str, object] = {
        "access_token": tokens.issue_access(grant.user_id, scopes, authorization=of),
        "scope": " ".join(scopes),
        "token_type": "bearer",
    }
    if state.settings.announce_expiry:
        answer["expires_in"] = int(TOKEN_LIFETIME.total_seconds())
    if state.settings.refresh_tokens:
        answer["refresh_token"] = tokens.issue_refresh(grant.user_id, scopes, authorization=of)
    return answer


async def _form(call: Call) -> dict[str, str]:
    """Read a form; what is no form gives an empty one."""
    if call.request.content_type != _FORM:
        return {}
    try:
        form = await call.request.post()
    except (LookupError, ValueError):  # it is not in the character set that it names, or there is none such
        return {}
    except web.HTTPRequestEntityTooLarge:
        raise too_large() from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


TABLE: Final[Table[Call]] = (
    ("GET", "oauth/authorize", authorize),
    ("POST", "oauth/authorize", decide),
    ("POST", "oauth/token", give_token),
)
