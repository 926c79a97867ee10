"""The three legs of OAuth 2.0. Contract: "Three-legged OAuth 2.0".

`oauthlib` builds and parses the messages. Checked here besides, since oauthlib does not: a state or code that
comes twice, the state in a time that does not tell how much of it was right, and the types of an answer's
fields.
"""

import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from os import PathLike
from ssl import SSLContext
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import orjson
from attrs import Attribute, field, frozen

from healthmsg.auth.token import Token, is_printable, utc_now
from healthmsg.environment import Environment, require_secure_url
from healthmsg.errors import (
    AuthorizationRefusedError,
    ConfigurationError,
    HealthmsgError,
    InvalidInputError,
    InvalidResponseError,
    MissingCodeError,
    MissingStateError,
    ReauthorizationRequiredError,
    StateMismatchError,
    StatusError,
    TokenRequestError,
)
from healthmsg.network import Network
from healthmsg.pipeline.exchange import Content, Request, Response, Send

if TYPE_CHECKING:
    from oauthlib.oauth2 import WebApplicationClient


_CALL: Final = "POST oauth token"
_FORM: Final = "application/x-www-form-urlencoded"
_REFUSALS: Final = frozenset({400, 401})
_LONGEST_DESCRIPTION: Final = 300


def _printable(_: object, attribute: "Attribute[str]", value: str) -> None:
    if not is_printable(value):
        raise ConfigurationError(f"{attribute.name} must be printable ASCII text, and not empty")


def _secure(_: object, attribute: "Attribute[str]", url: str) -> None:
    require_secure_url(attribute.name, url)


def _without_query(url: str) -> str:
    return repr(url.partition("?")[0])


@frozen
class AuthorizationRequest:
    """Where to send the user's browser, and the `state` to keep until it comes back.

    Keep `state` with the user's own session: it proves that the callback is an answer to this request.
    """

    url: str = field(repr=_without_query)
    state: str = field(repr=False)


@frozen
class _Refusal:
    """The token URL said no; `code` is OAuth's error code, if it was named."""

    code: str | None


@frozen
class OAuthApp:
    """An application that is registered with the service, and the way it gets tokens of its users.

    `redirect_uri` must be the registered callback [D]; plain http is for loopback only. `proxy`, `ssl` and
    `trust_env` are those of `Client`, for the token calls that are made without one. `now` is for tests.

    Raises:
        ConfigurationError: a value is empty or cannot be right, or `redirect_uri` is not encrypted.
    """

    client_id: str = field(validator=_printable)
    client_secret: str = field(repr=False, validator=_printable)
    redirect_uri: str = field(validator=_secure)
    environment: Environment
    proxy: str | None = field(default=None, kw_only=True, repr=False)
    ssl: SSLContext | str | PathLike[str] | None = field(default=None, kw_only=True, repr=False)
    trust_env: bool = field(default=False, kw_only=True)
    now: Callable[[], datetime] = field(default=utc_now, kw_only=True, repr=False, eq=False)
    _network: Network = field(init=False, repr=False, eq=False)

    @_network.default
    def _checked_network(self) -> Network:
        return Network(self.proxy, self.ssl, self.trust_env)

    def authorization_request(
        self, scopes: Iterable[str] = ("read", "write"), *, state: str | None = None
    ) -> AuthorizationRequest:
        """Begin: make the URL to send a user's browser to, with a `state` that is used once [D].

        The scopes are `read`, `write` and `admin` [D]. A `state` of your own must be impossible to guess.

        Raises:
            ConfigurationError: the environment has no `authorize_url`.
            InvalidInputError: there is no scope, one is not a word, or `state` is not printable ASCII.
        """
        authorize_url = self._environment_url("authorize_url")
        wanted = () if isinstance(scopes, str) else tuple(scopes)
        if not wanted or not all(is_printable(scope) and " " not in scope for scope in wanted):
            raise InvalidInputError('scopes must be separate words, such as ("read", "write")')
        if state is None:
            state = secrets.token_urlsafe(32)
        elif not is_printable(state):
            raise InvalidInputError("state must be printable ASCII text, and not empty")
        url = self._authorization_url(authorize_url, " ".join(wanted), state)
        return AuthorizationRequest(url, state)

    def parse_callback(self, callback_url: str, state: str) -> str:
        """Give the code in the callback, a whole URL or its path and query, if `state` proves it genuine [D].

        The `state` is checked before anything else is believed, a refusal [A] included.

        Raises:
            MissingStateError: the callback has no `state`.
            StateMismatchError: its `state` is another one, or it has two states or two codes.
            AuthorizationRefusedError: the user or the service refused.
            MissingCodeError: it has neither a code nor an error.
            InvalidInputError: the `state` to compare with is empty.
        """
        if not state:
            raise InvalidInputError("the state that was sent must be given, and not be empty")
        query = callback_url.partition("#")[0].partition("?")[2]
        parameters = parse_qs(query, keep_blank_values=True)
        _check_state(parameters.get("state", []), state)
        if len(parameters.get("code", [])) > 1:
            raise StateMismatchError("The callback has more than one code: it may be forged.")
        return self._code_in(query)

    async def exchange(self, code: str, send: Send | None = None) -> Token:
        """Give the token for a code [D]; a code works once. Without `send`, a connection is made for it.

        Raises:
            TokenRequestError: the service refused, or its answer has no usable token.
            ConfigurationError: the environment has no `token_url`.
            InvalidInputError: the code cannot be one.
            CallError: the network or the service failed.
        """
        if not is_printable(code):
            raise InvalidInputError("a code must be printable ASCII text, and not empty")
        form = self._messages().prepare_request_body(
            code=code, redirect_uri=self.redirect_uri, client_secret=self.client_secret
        )
        answer = await self._ask(form, send)
        if isinstance(answer, _Refusal):
            raise _refused(answer)
        return _read_token(answer, self.now())

    async def refresh(self, token: Token, send: Send | None = None) -> Token:
        """Give a new token for the refresh token of `token` [A].

        What the answer leaves out stays as it was: the refresh token and the scopes.

        Raises:
            ReauthorizationRequiredError: there is no refresh token, or the service refused it.
            TokenRequestError: the service does not know this application (`invalid_client`: no user can mend
                that by authorizing again), or its answer has no usable token.
            ConfigurationError: the environment has no `token_url`.
            CallError: the network or the service failed.
        """
        if token.refresh_token is None:
            raise ReauthorizationRequiredError("There is no refresh token: the user has to authorize again.")
        form = self._messages().prepare_refresh_body(
            refresh_token=token.refresh_token, client_id=self.client_id, client_secret=self.client_secret
        )
        answer = await self._ask(form, send)
        if isinstance(answer, _Refusal):
            if answer.code == "invalid_client":
                raise _refused(answer)
            raise ReauthorizationRequiredError(
                "The refresh token is not accepted: the user has to authorize again."
            )
        return _read_token(answer, self.now(), token)

    async def _send_alone(self, request: Request) -> Response:
        # Imported when first used: it needs aiohttp, which a program with a `send` of its own may not.
        from healthmsg.pipeline.token_calls import token_calls  # noqa: PLC0415 - see above

        async with token_calls(self._network) as send:
            return await send(request)

    def _environment_url(self, name: str) -> str:
        url: str | None = getattr(self.environment, name)
        if not url:
            raise ConfigurationError(f"the environment {self.environment.name!r} has no {name}")
        return url

    def _messages(self) -> "WebApplicationClient":
        # Imported when first used: most programs are given a token and never sign in.
        from oauthlib.oauth2 import WebApplicationClient  # noqa: PLC0415 - see above

        return WebApplicationClient(self.client_id)

    def _authorization_url(self, authorize_url: str, scope: str, state: str) -> str:
        # oauthlib refuses plain http whatever the host, unless an environment variable allows it for the
        # whole process. `Environment` lets it through for loopback only. So oauthlib sees the https
        # form of the URL, and the scheme that it really has is put back.
        scheme, _, rest = authorize_url.partition("://")
        built = self._messages().prepare_request_uri(
            f"https://{rest}", redirect_uri=self.redirect_uri, scope=scope, state=state
        )
        return scheme + built.removeprefix("https")

    def _code_in(self, query: str) -> str:
        from oauthlib.oauth2 import MissingCodeError as NoCodeError  # noqa: PLC0415 - see _messages
        from oauthlib.oauth2 import OAuth2Error  # noqa: PLC0415 - see _messages

        problem: HealthmsgError
        try:
            # Only the query counts, and oauthlib wants to see https.
            answer = self._messages().parse_request_uri_response(f"https://callback/?{query}")
            return str(answer["code"])
        except NoCodeError:
            problem = MissingCodeError("The callback has neither a code nor an error.")
        except OAuth2Error as error:
            description = str(error.description or "")[:_LONGEST_DESCRIPTION]
            problem = AuthorizationRefusedError(str(error.error), description or None)
        raise problem

    def _refusal_in(self, answer: Mapping[str, object]) -> _Refusal | None:
        from oauthlib.oauth2 import OAuth2Error  # noqa: PLC0415 - see _messages

        try:
            self._messages().parse_request_body_response(orjson.dumps(answer).decode())
        except OAuth2Error as error:
            code = error.error if isinstance(error.error, str) else None
            return _Refusal(code) if "error" in answer else None
        except (ValueError, TypeError):  # a field of the wrong type: named when it is read
            return None
        return None

    async def _ask(self, form: str, send: Send | None) -> Mapping[str, object] | _Refusal:
        body = Content(_FORM, form.encode())
        request = Request(_CALL, "POST", self._environment_url("token_url"), body=body)
        try:
            response = await (self._send_alone(request) if send is None else send(request))
            answer = response.json()
        except StatusError as error:
            if error.status not in _REFUSALS:
                raise
            return _Refusal(error.server_code or None)
        except InvalidResponseError:
            answer = None
        # Outside the `except`: what was caught there would otherwise travel along as the context.
        if not isinstance(answer, dict):
            raise TokenRequestError("The token URL's answer is not a JSON object.")
        return self._refusal_in(answer) or answer


def _check_state(received: list[str], expected: str) -> None:
    if not any(received):
        raise MissingStateError("The callback has no state: it may be forged.")
    if len(received) > 1:
        raise StateMismatchError("The callback has more than one state: it may be forged.")
    # As bytes: compare_digest takes no text outside ASCII, and a forged state may be anything.
    if not hmac.compare_digest(_as_bytes(received[0]), _as_bytes(expected)):
        raise StateMismatchError("The callback's state is not the one that was sent: it may be forged.")


def _as_bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _refused(refusal: _Refusal) -> TokenRequestError:
    return TokenRequestError("The token URL refused the request; `code` says why.", code=refusal.code)


def _unusable(name: str) -> TokenRequestError:
    return TokenRequestError(f"The token URL's answer has no usable {name}.")


def _read_token(answer: Mapping[str, object], now: datetime, old: Token | None = None) -> Token:
    token_type = answer.get("token_type")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        raise _unusable("token_type")
    value = _text(answer, "access_token")
    if value is None or " " in value:
        raise _unusable("access_token")
    scope = _text(answer, "scope")
    scopes = tuple(scope.split()) if scope else old.scopes if old else ()
    refresh_token = _text(answer, "refresh_token") or (old.refresh_token if old else None)
    expires_at = _expiry(answer.get("expires_in"), now)
    return Token(value, scopes, created_at=now, expires_at=expires_at, refresh_token=refresh_token)


def _text(answer: Mapping[str, object], name: str) -> str | None:
    text = answer.get(name)
    if text is None or text == "":
        return None
    if is_printable(text):
        return text
    raise _unusable(name)


def _expiry(expires_in: object, now: datetime) -> datetime | None:
    """Read a number of seconds, which some services write as text."""
    if expires_in is None:
        return None
    if isinstance(expires_in, str | int | float) and not isinstance(expires_in, bool):
        try:
            seconds = float(expires_in)
            if seconds >= 0:
                return now + timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            pass
    raise _unusable("expires_in")
