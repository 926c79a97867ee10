"""The client: owns the connections, folds the pipeline, hands out the namespaces."""

import os
from collections.abc import Mapping
from functools import cached_property
from inspect import iscoroutinefunction
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar, Unpack
from urllib.parse import unquote

from attrs import evolve, frozen

from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.bulk.sender import Messages, SendMany
from healthmsg.codec import encode
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError, InvalidInputError
from healthmsg.models.quota import Quota
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.exchange import Content, Lane, Request, Response, Send
from healthmsg.pipeline.limit import Limiter, LimitStep, RateLimit
from healthmsg.pipeline.notices import Notices
from healthmsg.pipeline.quota import QuotaStep
from healthmsg.pipeline.record import OnCall, RecordStep
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.pipeline.wire import Timeout, Wire
from healthmsg.resources.api import Api
from healthmsg.resources.auxiliary import Auxiliary
from healthmsg.resources.company import CompanyResource
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.groupchats import GroupChats
from healthmsg.resources.me import Me
from healthmsg.resources.users import Users
from healthmsg.shared import Shared

if TYPE_CHECKING:
    from aiohttp import ClientSession

T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """The options of `Client`, all of them optional."""

    rate_limit: RateLimit | None
    session: "ClientSession | None"
    timeout: float | Timeout | None
    retries: Retries | None
    api_version: str | None
    on_call: OnCall | None


class Client:
    """A user's access to the service. Use it as `async with Client(…) as client:`, or `close()` it.

    One client serves any number of tasks of one event loop, and should be shared: the limit of 30 calls a
    second [D] is kept per client. `rate_limit` is that limit; `timeout` is for one try of a call, in seconds
    or as a `Timeout`; `retries` says how often a call that did no harm is tried. A `session` that is passed
    in lends its connections and stays open. `api_version` is sent with each call; without it the service
    uses its latest version [D]. `on_call` receives a record of each try, with nothing private in it.

    Raises:
        ConfigurationError: something about it cannot work.
    """

    def __init__(  # noqa: PLR0913 - a client has that many settings, by keyword
        self,
        token: str | Token | TokenManager,
        *,
        environment: Environment,
        rate_limit: RateLimit | None = None,
        session: "ClientSession | None" = None,
        timeout: float | Timeout | None = None,
        retries: Retries | None = None,
        api_version: str | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        tokens = _manager(token)
        if not isinstance(environment, Environment):
            raise ConfigurationError("environment must be an Environment, such as Environment.ALTERDESK")
        wire = Wire(
            environment.api_url, timeout=_timeout(timeout), session=session, api_version=_version(api_version)
        )
        rate_limit = _of_type(RateLimit, "rate_limit", RateLimit() if rate_limit is None else rate_limit)
        retries = _of_type(Retries, "retries", Retries() if retries is None else retries)
        shared, retry = Shared(wire), RetryStep(retries)
        record, notices = RecordStep(_hook(on_call)), Notices()
        limit = LimitStep(Limiter(rate_limit), longest_pause=retries.max_wait)
        self._assemble(
            _Parts(
                environment=environment,
                shared=shared,
                notices=notices,
                call=fold([limit, record, CheckStep(notices)], wire),
                token_call=fold([limit, CheckStep()], wire),
                fetch=shared.entrance(fold([retry, record, CheckStep()], wire)),
                retry=retry,
                tokens=tokens,
                quota=QuotaStep(),
            )
        )

    def _assemble(self, parts: "_Parts") -> None:
        shared = parts.shared
        shared.close_too(parts.tokens)
        auth = AuthStep(parts.tokens, parts.token_call)
        self._parts = parts
        self._api = Api(
            shared.entrance(fold([parts.retry, parts.quota, auth], parts.call)),
            parts.fetch,
            shared.spawn,
            parts.environment.api_url,
            owner=(shared, parts.tokens),
            assigning=shared.assigning,
        )

    @classmethod
    def from_env(cls, **options: Unpack[ClientOptions]) -> "Client":
        """Make a client of environment variables; `options` are those of `Client`.

        `HEALTHMSG_TOKEN` is the access token. `HEALTHMSG_ENVIRONMENT` is `kpn` or `alterdesk`; instead of
        it, `HEALTHMSG_API_URL` can give the REST URL of another installation, such as a sandbox.

        Raises:
            ConfigurationError: a variable is missing or unusable; it names the variable.
        """
        token = os.environ.get("HEALTHMSG_TOKEN", "").strip()
        if not token:
            raise ConfigurationError("HEALTHMSG_TOKEN is not set")
        return cls(token, environment=_environment_from_env(), **options)

    def using(self, token: str | Token | TokenManager) -> "Client":
        """Give a light view of this client, for another user.

        Its own are the token and that user's quota [D]; all else is shared: the connections, the limit of
        calls a second, every option. It works until this client is closed. Closing the view, or leaving its
        `async with`, closes nothing.

        Raises:
            ConfigurationError: the token cannot be one.
        """
        return _View(evolve(self._parts, tokens=_manager(token), quota=QuotaStep()))

    @property
    def environment(self) -> Environment:
        """Where the service is."""
        return self._parts.environment

    @property
    def quota(self) -> Quota | None:
        """The user's quota [D] as last seen in an answer, be it of an error; `None` before."""
        return self._parts.quota.quota

    @property
    def api_version(self) -> str | None:
        """The API's version [D] as last seen in an answer to this client or a view; `None` before."""
        return self._parts.notices.api_version

    @cached_property
    def me(self) -> Me:
        """The user whose token is used."""
        return Me(self._api)

    @cached_property
    def company(self) -> CompanyResource:
        """The user's company."""
        return CompanyResource(self._api)

    @cached_property
    def users(self) -> Users:
        """People."""
        return Users(self._api)

    @cached_property
    def conversations(self) -> Conversations:
        """1-on-1 conversations."""
        return Conversations(self._api)

    @cached_property
    def groupchats(self) -> GroupChats:
        """Group chats."""
        return GroupChats(self._api)

    @cached_property
    def auxiliary(self) -> Auxiliary:
        """The same things, under the integrator's own ids."""
        return Auxiliary(self._api)

    def send_many(self, messages: Messages) -> SendMany:
        """Send many messages as fast as the limit allows, behind every other call of this client.

        `messages` is any iterable or async iterable of `Outgoing`, read as it is needed. Iterate the answer
        for one `SendResult` per message.
        """
        return self._parts.shared.keep(SendMany(evolve(self._api, lane=Lane.BACKGROUND), messages))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Response:
        """Call an endpoint that the SDK does not know (yet), with the same limit, retries and errors.

        `path` is below the API's URL and sent as it is: percent-encode the ids in it yourself; what is in
        `query` is encoded. Logs and errors name the method only.

        Raises:
            InvalidInputError: the method, path or query cannot be one.
        """
        content = None if json is None else Content("application/json", encode(json))
        request = Request(f"{_method(method)} (a path of your own)", method.upper(), _own_path(path))
        request.query = _own_query(query, path)
        request.body = content
        return await self._api.send(request)

    def __repr__(self) -> str:
        return f"<Client environment={self.environment.name!r}>"

    async def __aenter__(self) -> Self:
        self._parts.shared.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for bulk messages in flight, end what is being read ahead, and close the connections.

        That goes for the calls through views as well. Closing a view does nothing.
        """
        await self._parts.shared.close()


class _View(Client):
    """A client that owns nothing of what it uses."""

    def __init__(self, parts: "_Parts") -> None:
        self._assemble(parts)

    async def close(self) -> None:
        """Do nothing: a view ends with its client."""


@frozen(eq=False)
class _Parts:
    """What a client is made of. A view is made of the same, with some of it replaced."""

    environment: Environment
    shared: Shared
    notices: Notices
    call: Send
    """limit → record → check → wire: what is the same for all users."""
    token_call: Send
    """limit → check → wire"""
    fetch: Send
    """retry → record → check → wire"""
    retry: RetryStep
    tokens: TokenManager
    quota: QuotaStep


def _manager(token: object) -> TokenManager:
    if isinstance(token, TokenManager):
        return token
    if isinstance(token, str):
        return TokenManager(Token(token))
    if isinstance(token, Token):
        return TokenManager(token)
    raise ConfigurationError(f"token must be text, a Token or a TokenManager, not {type(token).__name__}")


def _timeout(timeout: object) -> Timeout:
    if timeout is None or isinstance(timeout, Timeout):
        return timeout or Timeout()
    if isinstance(timeout, int | float) and not isinstance(timeout, bool):
        return Timeout(total=timeout)
    raise ConfigurationError("timeout must be a number of seconds or a Timeout")


def _hook(on_call: OnCall | None) -> OnCall | None:
    if on_call is None or (callable(on_call) and not iscoroutinefunction(on_call)):
        return on_call
    raise ConfigurationError("on_call must be a plain function that takes a CallRecord")


def _version(api_version: object) -> str | None:
    if api_version is None or (
        isinstance(api_version, str) and api_version.isascii() and api_version.isprintable() and api_version
    ):
        return api_version
    raise ConfigurationError("api_version must be printable ASCII text")


def _of_type(kind: type[T], name: str, value: object) -> T:
    if isinstance(value, kind):
        return value
    raise ConfigurationError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def _environment_from_env() -> Environment:
    api_url = os.environ.get("HEALTHMSG_API_URL")
    if api_url:
        return Environment("from HEALTHMSG_API_URL", api_url)
    known = {"kpn": Environment.kpn(), "alterdesk": Environment.ALTERDESK}
    name = os.environ.get("HEALTHMSG_ENVIRONMENT", "").strip().lower()
    if name not in known:
        raise ConfigurationError(
            "HEALTHMSG_ENVIRONMENT must be kpn or alterdesk, or HEALTHMSG_API_URL be set"
        )
    return known[name]


def _method(method: str) -> str:
    if isinstance(method, str) and method.upper() in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}:
        return method.upper()
    raise InvalidInputError("method must be one of GET, HEAD, POST, PUT, PATCH and DELETE")


def _own_path(path: str) -> str:
    if not isinstance(path, str) or not path.isascii() or not path.isprintable() or " " in path:
        raise InvalidInputError("path must be percent-encoded text")
    bare = path.removeprefix("/")
    segments = bare.partition("?")[0].split("/")
    if "://" in path or "#" in path or {"", ".", ".."} & set(map(unquote, segments)):
        raise InvalidInputError("path must stay below the API's URL: no host, no '..', no empty segment")
    return bare


def _own_query(query: Mapping[str, str] | None, path: str) -> Mapping[str, str] | None:
    if query is None:
        return None
    if not isinstance(query, Mapping) or "?" in path:
        raise InvalidInputError("query must be a mapping, and the path have no query of its own then")
    for text in (*query.keys(), *query.values()):
        if not isinstance(text, str) or not _is_utf8(text):
            raise InvalidInputError("query must hold text only, which can be written in UTF-8")
    return query


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
