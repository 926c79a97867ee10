"""The three legs of OAuth 2.0. Contract: "Three-legged OAuth 2.0".

`oauthlib` builds and parses the messages. What it does not check is checked here: a state or code that comes
twice, the state in constant time, and the types of an answer's fields.
"""

import hmac
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from os import PathLike
from ssl import SSLContext
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from attrs import Attribute, evolve, field, frozen

from healthmsg.auth.token import Token, utc_now
from healthmsg.environment import Environment
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
from healthmsg.errors.base import hides_arguments, hides_awaited_arguments, without_locals
from healthmsg.network import Network
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Content, Request, Response, Send
from healthmsg.pipeline.retry import Retries
from healthmsg.ratelimit.limiter import Limiter
from healthmsg.validation import is_printable, require_secure_url

if TYPE_CHECKING:
    from oauthlib.oauth2 import WebApplicationClient


_CALL: Final = "POST oauth token"
_FORM: Final = "application/x-www-form-urlencoded"
_REFUSALS: Final = frozenset({400, 401})
_CODE: Final = re.compile(r"[a-z]+(_[a-z]+)*")
_SERVERS_FAILURE: Final = 500
# Codes that leave no doubt, whatever the status below 500 that they come with.
_CLEAR_REFUSALS: Final = frozenset({"invalid_grant", "invalid_client"})
# Of RFC 6749, RFC 8628 and RFC 6750.
_STANDARD_CODES: Final = frozenset(
    {
        *("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "invalid_scope"),
        *("unsupported_grant_type", "access_denied", "server_error", "temporarily_unavailable"),
        *("slow_down", "authorization_pending", "expired_token", "invalid_token"),
    }
)
_LOGGER: Final = logging.getLogger("healthmsg")
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
    status: int = 200
    retry_after: float | None = None


@frozen
class _Answer:
    """The fields of the token URL's answer, hidden from tracebacks."""

    fields: Mapping[str, object] = field(repr=False)


@frozen
class Renewal:
    """What a code or a refresh token brought: a token, or else the `problem` with the answer.

    With a problem, a token is there if the answer brought at least a new refresh token: the old token with
    that one.
    """

    token: Token | None
    problem: TokenRequestError | None = None

    def require_token(self) -> Token:
        """Return the token.

        Raises:
            TokenRequestError: the answer has no usable one.
        """
        if self.problem is not None or self.token is None:
            raise self.problem or _unusable("access_token")
        return self.token


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
        """Return the URL to send a user's browser to, with a `state` that is used once [D].

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

    @hides_arguments
    def parse_callback(self, callback_url: str, state: str) -> str:
        """Return the code in a callback, a whole URL or its path and query, if `state` proves it genuine [D].

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

    @hides_awaited_arguments
    async def exchange(self, code: str, send: Send | None = None) -> Token:
        """Return the token for a code [D]; a code works once. Without `send`, a connection is made for it.

        Raises:
            TokenRequestError: the service refused, or its answer has no usable token.
            ConfigurationError: the environment has no `token_url`.
            InvalidInputError: the code cannot be one.
            CallError: the network or the service failed.
        """
        if not is_printable(code):
            raise InvalidInputError("a code must be printable ASCII text, and not empty")
        form = _form(
            self._messages().prepare_request_body(
                code=code, redirect_uri=self.redirect_uri, client_secret=self.client_secret
            )
        )
        answer = await self._ask(form, send)
        if isinstance(answer, _Refusal):
            raise _refused(answer)
        return _read_token(answer, self.now()).require_token()

    async def refresh(self, token: Token, send: Send | None = None) -> Token:
        """Return a new token for the refresh token of `token` [A].

        What the answer leaves out stays as it was: the refresh token and the scopes. So does what it says in
        a way that cannot be understood, since the old refresh token may be worthless by then.

        Raises:
            ReauthorizationRequiredError: there is no refresh token, or the service refused it
                (`invalid_grant`).
            TokenRequestError: the service does not know this application (`invalid_client`: no user can mend
                that by authorizing again), refused for another reason, or its answer has no usable token.
            ConfigurationError: the environment has no `token_url`.
            CallError: the network or the service failed.
        """
        return (await self.renewal(token, send)).require_token()

    async def renewal(self, token: Token, send: Send | None = None) -> Renewal:
        """Do what `refresh` does, and return the refresh token of an answer without a usable token too.

        Raises:
            ReauthorizationRequiredError, TokenRequestError, ConfigurationError, CallError: as from `refresh`.
        """
        if token.refresh_token is None:
            raise ReauthorizationRequiredError("There is no refresh token: the user has to authorize again.")
        form = _form(
            self._messages().prepare_refresh_body(
                refresh_token=token.refresh_token, client_id=self.client_id, client_secret=self.client_secret
            )
        )
        answer = await self._ask(form, send)
        if isinstance(answer, _Refusal):
            if answer.code == "invalid_grant":
                raise ReauthorizationRequiredError(
                    "The refresh token is not accepted: the user has to authorize again."
                )
            raise _refused(answer)
        return _read_token(answer, self.now(), token)

    async def _send_alone(self, request: Request) -> Response:
        """Send over a connection of its own, limit → check → transport."""
        # Imported when first used: it needs aiohttp, which a program with a `send` of its own may not.
        from healthmsg.transport.http import Wire  # noqa: PLC0415 - see above

        wire = Wire("", network=self._network)
        try:
            steps = LimitStep(Limiter(), longest_pause=Retries().max_wait), CheckStep()
            return await fold(steps, wire)(request)
        finally:
            await wire.close()

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

    async def _ask(self, form: Content, send: Send | None) -> _Answer | _Refusal:
        request = Request(_CALL, "POST", self._environment_url("token_url"), body=form)
        try:
            response = await (self._send_alone(request) if send is None else send(request))
            answer = _Answer(response.json())
        except StatusError as error:
            is_clear = error.server_code in _CLEAR_REFUSALS and error.status < _SERVERS_FAILURE
            if error.status not in _REFUSALS and not is_clear:
                raise without_locals(error)  # noqa: B904 - it is the same error
            return _Refusal(_code(error.server_code), error.status, error.retry_after)
        except InvalidResponseError:
            answer = _Answer({})
            is_object = False
        except HealthmsgError as error:
            raise without_locals(error)  # noqa: B904 - it is the same error
        else:
            is_object = isinstance(answer.fields, dict)
        # Outside the `except`: what was caught there would otherwise travel along as the context.
        if not is_object:
            raise TokenRequestError("The token URL's answer is not a JSON object.")
        return _refusal_in(answer) or answer


def _form(text: str) -> Content:
    return Content(_FORM, text.encode())


def _refusal_in(answer: _Answer) -> _Refusal | None:
    """Return the refusal that some services send with 200; an answer with a token is none."""
    error = answer.fields.get("error")
    if not error or answer.fields.get("access_token"):
        return None
    return _Refusal(_code(error))


def _code(error: object) -> str | None:
    """Return text that has the form of OAuth's codes; any other may repeat what was sent."""
    return error if isinstance(error, str) and _CODE.fullmatch(error) else None


# A traceback shows the local variables of its frames, and text that is refused may be a secret all the same.
OAuthApp.__init__ = hides_arguments(OAuthApp.__init__)  # type: ignore[method-assign]


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
    # No other code, which may be a service's own word for a person.
    named = f": {refusal.code}" if refusal.code in _STANDARD_CODES else ""
    status = f" with {refusal.status}" if refusal.status in _REFUSALS else ""
    return TokenRequestError(
        f"The token URL refused the request{status}{named}. `code` is OAuth's error code, if it named one.",
        code=refusal.code,
        status=refusal.status,
        retry_after=refusal.retry_after,
    )


def _unusable(name: str) -> TokenRequestError:
    return TokenRequestError(f"The token URL's answer has no usable {name}.")


def _read_token(answer: _Answer, now: datetime, old: Token | None = None) -> Renewal:
    """Read all that is usable, since a code or a refresh token works only once."""
    fields = answer.fields
    refresh_token = _text(fields, "refresh_token") or (old.refresh_token if old else None)
    problem = _what_is_unusable(fields)
    if problem is not None:
        is_rotated = old is not None and refresh_token != old.refresh_token
        return Renewal(
            evolve(old, refresh_token=refresh_token) if old and is_rotated else None, _unusable(problem)
        )
    return Renewal(
        Token(
            str(fields["access_token"]),
            _scopes(fields) or (old.scopes if old else ()),
            created_at=now,
            expires_at=_expiry(fields, now),
            refresh_token=refresh_token,
        )
    )


def _what_is_unusable(fields: Mapping[str, object]) -> str | None:
    token_type = fields.get("token_type") or "bearer"  # which some services leave out
    if not isinstance(token_type, str) or token_type.strip().lower() != "bearer":
        return "token_type"
    value = fields.get("access_token")
    return None if is_printable(value) and " " not in value else "access_token"


def _text(fields: Mapping[str, object], name: str) -> str | None:
    text = fields.get(name)
    if text is None or text == "":
        return None
    if is_printable(text):
        return text
    _note_unreadable(name)
    return None


def _scopes(fields: Mapping[str, object]) -> tuple[str, ...]:
    """Read scopes: separated by blanks, or by commas, or a list."""
    scope = fields.get("scope") or ()
    found = scope.replace(",", " ").split() if isinstance(scope, str) else scope
    if isinstance(found, list | tuple) and all(is_printable(name) for name in found):
        return tuple(found)
    _note_unreadable("scope")
    return ()


def _expiry(fields: Mapping[str, object], now: datetime) -> datetime | None:
    """Read a number of seconds, which some services write as text."""
    expires_in = fields.get("expires_in")
    if expires_in is None or expires_in == "":
        return None
    if isinstance(expires_in, str | int | float) and not isinstance(expires_in, bool):
        with suppress(ValueError, OverflowError):
            seconds = float(expires_in)
            if seconds >= 0:
                return now + timedelta(seconds=seconds)
    _note_unreadable("expires_in")
    return None


def _note_unreadable(name: str) -> None:
    _LOGGER.warning("The token URL's answer has no readable %s: it is taken as if there were none.", name)
