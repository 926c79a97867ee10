"""The service's side of the three legs of OAuth 2.0 [D], with its pages; errors as in RFC 6749 [A]."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from attrs import field, frozen

from healthmsg.sandbox.call import Call, json_answer, too_large
from healthmsg.sandbox.docs import is_own_callback
from healthmsg.sandbox.records import Person
from healthmsg.sandbox.routing import Table
from healthmsg.sandbox.state import SCOPES, TOKEN_LIFETIME, Grant, State, is_same

_FORM: Final = "application/x-www-form-urlencoded"


@frozen
class _AuthorizationRequest:
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

    def refuse(self) -> web.Response:
        """Send the browser back with the problem."""
        return self.go_back(error=self.problem or "", error_description="This cannot be granted.")


class _UntrustedError(Exception):
    """The browser cannot be sent back to this address. The message is for a person."""


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
        request = _read_request(call, dict(call.request.query))
    except _UntrustedError as error:
        return refusal_page(str(error))
    state = call.state
    if request.problem is not None:
        return request.refuse()
    if state.options.auto_approve:
        return _approve(request, state, state.main_user.id)
    people = state.store.people.values()
    return consent_page(request.scopes, people, state.main_user, request.parameters)


async def decide(call: Call) -> web.Response:
    """POST oauth/authorize: the user's choice on the page."""
    form = await _form(call)
    try:
        request = _read_request(call, form)
    except _UntrustedError as error:
        return refusal_page(str(error))
    if request.problem is not None:
        return request.refuse()
    user_id = form.get("user_id", "")
    if form.get("decision") != "approve" or user_id not in call.state.store.people:
        return request.go_back(error="access_denied", error_description="The user refused.")
    return _approve(request, call.state, user_id)


def _approve(request: _AuthorizationRequest, state: State, user_id: str) -> web.Response:
    return request.go_back(code=state.tokens.issue_code(user_id, request.scopes, request.redirect_uri))


def _read_request(call: Call, parameters: Mapping[str, str]) -> _AuthorizationRequest:
    options = call.state.options
    redirect_uri = parameters.get("redirect_uri", "")
    if parameters.get("client_id") != options.client_id:
        raise _UntrustedError("No application is registered with this client_id.")
    if not (is_own_callback(call, redirect_uri) or _is_registered(redirect_uri, options.redirect_uri)):
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
    return _AuthorizationRequest(redirect_uri, scopes, parameters.get("state"), problem, kept)


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


async def issue_token(call: Call) -> web.Response:
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
    options = state.options
    known = is_same(form.get("client_id", ""), options.client_id)
    secret = is_same(form.get("client_secret", ""), options.client_secret)
    if not (known and secret):
        raise _TokenError("invalid_client", "The client_id or client_secret is wrong.", status=401)
    match form.get("grant_type"):
        case "authorization_code":
            return _redeem_code(form, state)
        case "refresh_token" if options.refresh_tokens:
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
        if state.options.revoke_on_reuse:
            state.tokens.revoke_if_reused(form["refresh_token"])
        raise _TokenError("invalid_grant", "The refresh token is unknown, used, expired or revoked.")
    scopes = form["scope"].split() if "scope" in form else grant.scopes
    if not set(scopes) <= set(grant.scopes):
        raise _TokenError("invalid_scope", "A refresh cannot widen the scope.")
    grant.revoked = grant.rotated = True  # rotation: each refresh token works once [A]
    return _token_answer(state, grant, scopes)


def _token_answer(state: State, grant: Grant, scopes: Sequence[str]) -> dict[str, object]:
    tokens, approval = state.tokens, grant.authorization
    answer: dict[str, object] = {
        "access_token": tokens.issue_access(grant.user_id, scopes, authorization=approval),
        "scope": " ".join(scopes),
        "token_type": "bearer",
    }
    if state.options.announce_expiry:
        answer["expires_in"] = int(TOKEN_LIFETIME.total_seconds())
    if state.options.refresh_tokens:
        answer["refresh_token"] = tokens.issue_refresh(grant.user_id, scopes, authorization=approval)
    return answer


async def _form(call: Call) -> dict[str, str]:
    """Read a form; anything else counts as an empty one."""
    if call.request.content_type != _FORM:
        return {}
    try:
        form = await call.request.post()
    except (LookupError, ValueError):  # not in the charset that it names, or there is no such charset
        return {}
    except web.HTTPRequestEntityTooLarge:
        raise too_large() from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


# --- The pages: plain HTML that loads nothing, everything in it escaped.

_SCOPES: Final = {
    "read": "read your chats and contacts",
    "write": "send messages and files on your behalf",
    "admin": "manage users and group chats",
}
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; background: #eef2f1; color: #1c2b28; margin: 0; }
main { max-width: 26rem; margin: 8vh auto; background: #fff; border-radius: 12px; padding: 2rem;
       box-shadow: 0 2px 16px #0002; }
h1 { font-size: 1.3rem; margin-top: 0; }
select, button { font: inherit; width: 100%; padding: .6rem; border-radius: 8px; border: 1px solid #9aa; }
button { margin-top: .8rem; cursor: pointer; background: #fff; }
button[value=approve] { background: #00785a; border-color: #00785a; color: #fff; }
small { color: #566; }
"""
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def consent_page(
    scopes: Sequence[str], people: Iterable[Person], chosen: Person, kept: Mapping[str, str]
) -> web.Response:
    """Ask which user it is, and whether the application may go ahead; `kept` comes back with the answer."""
    wishes = "".join(f"<li>{escape(_SCOPES[scope])} (<code>{escape(scope)}</code>)</li>" for scope in scopes)
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in kept.items()
    )
    options = "".join(_option(person, selected=person is chosen) for person in people)
    return _page(
        200,
        "Zorgdemo asks for access",
        f"""<p>It wants to:</p><ul>{wishes}</ul>
<form method="post">{hidden}
<label>You are <select name="user_id">{options}</select></label>
<button name="decision" value="approve">Approve</button>
<button name="decision" value="refuse">Refuse</button>
</form>
<p><small>This is a sandbox on this machine; everyone in it is made up.</small></p>""",
    )


def refusal_page(reason: str) -> web.Response:
    """Show why the request is refused without a redirect."""
    return _page(400, "This sign-in cannot go on", f"<p>{escape(reason)}</p>")


def _option(person: Person, *, selected: bool) -> str:
    role = person.position or ("colleague" if person.company else "patient")
    described = escape(f"{person.first_name} {person.last_name} ({role})")
    return f'<option value="{escape(person.id)}"{" selected" if selected else ""}>{described}</option>'


def _page(status: int, title: str, content: str) -> web.Response:
    return web.Response(
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers=_HEADERS,
        text=f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>
{content}
</main></body></html>
""",
    )


TABLE: Final[Table[Call]] = (
    ("GET", "oauth/authorize", authorize),
    ("POST", "oauth/authorize", decide),
    ("POST", "oauth/token", issue_token),
)
