"""The client: owns the connections, folds the pipeline, hands out the namespaces."""

import asyncio
import os
from collections.abc import Coroutine, Mapping
from functools import cached_property
from inspect import iscoroutinefunction
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import unquote

from attrs import evolve

from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.bulk.sender import Messages, SendMany
from healthmsg.codec import encode
from healthmsg.environment import Environment
from healthmsg.errors import ClientClosedError, ConfigurationError, InvalidInputError, WrongEventLoopError
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.check import check
from healthmsg.pipeline.exchange import Content, Lane, Request, Response, Send
from healthmsg.pipeline.limit import Limiter, LimitStep, RateLimit
from healthmsg.pipeline.quota import QuotaStep
from healthmsg.pipeline.record import OnCall, RecordStep
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.pipeline.wire import Timeout, Wire
from healthmsg.resources.api import Api
from healthmsg.resources.auxiliary import Auxiliary
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.groupchats import GroupChats
from healthmsg.resources.me import Me
from healthmsg.resources.users import Users

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
        self.environment = environment
        self._shared = _Shared(wire, tokens)
        rate_limit = _of_type(RateLimit, "rate_limit", RateLimit() if rate_limit is None else rate_limit)
        retries = _of_type(Retries, "retries", Retries() if retries is None else retries)
        retry, record = RetryStep(retries), RecordStep(_hook(on_call))
        limit = LimitStep(Limiter(rate_limit), longest_pause=retries.max_wait)
        auth = AuthStep(tokens, token_call=fold([limit, check], wire))
        self._api = Api(
            self._shared.entrance(fold([retry, QuotaStep(), auth, limit, record, check], wire)),
            self._shared.entrance(fold([retry, record, check], wire)),
            self._shared.spawn,
            environment.api_url,
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

    @cached_property
    def me(self) -> Me:
        """The user whose token is used."""
        return Me(self._api)

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
        return self._shared.keep(SendMany(evolve(self._api, lane=Lane.BACKGROUND), messages))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Response:
        """Call an endpoint that the SDK does not know (yet), with the same limit, retries and errors.

        `path` is below the API's URL and sent as it is: percent-encode the ids in it yourself. Logs and
        errors name the method only.

        Raises:
            InvalidInputError: the method or path cannot be one.
        """
        content = None if json is None else Content("application/json", encode(json))
        request = Request(f"{_method(method)} (a path of your own)", method.upper(), _own_path(path))
        request.query = query
        request.body = content
        return await self._api.send(request)

    async def __aenter__(self) -> Self:
        self._shared.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for bulk messages in flight, end what is being read ahead, and close the connections."""
        await self._shared.close()


class _Shared:
    """What a client's parts have in common: the connections, and the tasks that end with it."""

    def __init__(self, wire: Wire, tokens: TokenManager) -> None:
        self._wire = wire
        self._tokens = tokens
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sendings: set[SendMany] = set()

    def check_usable(self) -> None:
        """Refuse to work when closed, or in another event loop than before."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClientClosedError
        if self._loop is not loop:
            if self._loop is not None:
                raise WrongEventLoopError
            self._loop = loop

    def entrance(self, send: Send) -> Send:
        """Guard a pipeline's entrance."""

        def enter(request: Request) -> Any:
            self.check_usable()
            return send(request)

        return enter

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Start a task that ends with the client at the latest."""
        try:
            self.check_usable()
        except BaseException:
            work.close()
            raise
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep(self, sending: SendMany) -> SendMany:
        """End a run with the client at the latest."""
        self._sendings.add(sending)
        sending.when_ended(self._sendings.discard)
        return sending

    async def close(self) -> None:
        if self._closed:
            return
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError
        try:
            for sending in tuple(self._sendings):
                await sending.close()
        finally:
            self._closed = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._tokens.close()
            await self._wire.close()


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
        isinstance(api_version, str) and api_version.isascii() and api_version.isprintable()
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
