"""The client: owns the connections, folds the pipeline, hands out the namespaces."""

from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack, overload
from urllib.parse import unquote

from attrs import evolve

from healthmsg.aio import AsyncOnly
from healthmsg.api import Api
from healthmsg.assembly import Parts, assembled
from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.bulk.dry_run import DryRun
from healthmsg.bulk.messages import Messages
from healthmsg.bulk.reconcile import SETTLE, Reconciled, reconcile
from healthmsg.bulk.runs import SendManyOptions, dry_run_of, run_of
from healthmsg.bulk.sender import SendMany
from healthmsg.bulk.uploader import UploadMany, Uploads
from healthmsg.codec import encode
from healthmsg.delivery.aliases import Aliases
from healthmsg.delivery.ledger import Deliveries
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError, DeliveryUnknownError, InvalidInputError
from healthmsg.errors.base import hides_arguments, hides_awaited_arguments
from healthmsg.network import Network
from healthmsg.options import (
    ClientOptions,
    environment_from_env,
    hook,
    limiter_of,
    option,
    response_size,
    token_from_env,
    token_manager,
    version,
)
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.record import OnCall, Stats
from healthmsg.pipeline.request import Content, Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.quota import Quota
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.resources.auxiliary import Auxiliary
from healthmsg.resources.company import CompanyResource
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.groupchats import GroupChats
from healthmsg.resources.me import Me
from healthmsg.resources.users import Users
from healthmsg.transfer import Progress
from healthmsg.transport.http import LARGEST_RESPONSE, Wire
from healthmsg.transport.timeouts import Timeout, as_timeout
from healthmsg.validation import check_flag, check_seconds

if TYPE_CHECKING:
    from aiohttp import ClientSession


class Client(AsyncOnly):
    """A user's access to the service. Use it as `async with Client(…) as client:`, or `close()` it.

    One client serves any number of tasks of one event loop, and should be shared: the limit of 30 calls a
    second [D] is kept per client. `rate_limit` is that limit, or a `Limiter` that several clients share.
    `timeout` is for one try of a call, as a `Timeout`, or in seconds for its `total`; `retries` says how
    often a call that did no harm is tried. `with_options` sets both for single calls.

    `proxy`, `ssl` and `trust_env` go for all that is sent, renewals of tokens and downloads included.
    `proxy` is the URL of an HTTP proxy, which may hold a user name and password. `ssl` is an `SSLContext`, or
    a file with the certificates that are trusted instead of the system's; one that verifies nothing is
    refused. With `trust_env`, and without `proxy`, the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY count.
    Plain http, which is for this machine only, goes through no proxy that is elsewhere.

    A `session` that is passed in lends its connections and stays open; it has TLS settings of its own.
    `api_version` is sent with each call; without it the service uses its latest version [D]. `on_call`
    receives a record of each try, with nothing private in it.

    An answer of more than `max_response_size` bytes, 64 MiB unless it is set, is not read to its end, and the
    call fails with `InvalidResponseError`; that is its size once it is decompressed, and decoded it takes
    several times as much memory. Files that are downloaded may have any size.

    Raises:
        ConfigurationError: something about it cannot work.
    """

    @hides_arguments
    def __init__(  # noqa: PLR0913 - a client has that many settings, by keyword
        self,
        token: str | Token | TokenManager,
        *,
        environment: Environment,
        rate_limit: RateLimit | Limiter | None = None,
        session: "ClientSession | None" = None,
        timeout: float | Timeout | None = None,
        retries: Retries | None = None,
        proxy: str | None = None,
        ssl: SSLContext | str | PathLike[str] | None = None,
        trust_env: bool = False,
        api_version: str | None = None,
        on_call: OnCall | None = None,
        max_response_size: int = LARGEST_RESPONSE,
    ) -> None:
        tokens = token_manager(token)
        if not isinstance(environment, Environment):
            raise ConfigurationError("environment must be an Environment, such as Environment.ALTERDESK")
        wire = Wire(
            environment.api_url,
            timeout=as_timeout(timeout, Timeout()),
            session=session,
            api_version=version(api_version),
            network=Network(proxy, ssl, trust_env),
            max_response_size=response_size(max_response_size),
        )
        self._assemble(
            assembled(
                environment,
                wire=wire,
                retries=option("retries", retries, Retries, Retries),
                limiter=limiter_of(rate_limit),
                on_call=hook(on_call),
                tokens=tokens,
            )
        )

    def _assemble(self, parts: "Parts") -> None:
        shared = parts.shared
        shared.close_too(parts.tokens)
        auth = AuthStep(parts.tokens, parts.token_call)
        self._parts = parts
        self._api = Api(
            shared.entrance(fold([parts.retry, auth, parts.quota], parts.call)),
            parts.fetch,
            parts.deliveries,
            parts.aliases,
            parts.retry,
            shared.spawn,
            shared.keep,
            parts.environment.api_url,
            owner=(shared, parts.tokens),
            assigning=shared.assigning,
            may_be_reauthorized=parts.tokens.may_be_replaced,
            total=parts.wire.timeout.total,
        )

    @classmethod
    def from_env(cls, **options: Unpack[ClientOptions]) -> "Client":
        """Make a client of environment variables; `options` are those of `Client`.

        `HEALTHMSG_TOKEN` is the access token. `HEALTHMSG_ENVIRONMENT` is `kpn` or `alterdesk`; instead of
        it, `HEALTHMSG_API_URL` can give the REST URL of another installation, such as a sandbox. Both
        together are refused.

        Raises:
            ConfigurationError: a variable is missing or unusable; it names the variable.
        """
        return cls(token_from_env(), environment=environment_from_env(), **options)

    @hides_arguments
    def using(self, token: str | Token | TokenManager) -> "Client":
        """Give a light view of this client, for another user.

        Its own are the token and that user's quota [D]; all else is shared: the connections, the limit of
        calls a second, every option. It works until this client is closed. Closing the view, or leaving its
        `async with`, closes nothing.

        Raises:
            ConfigurationError: the token cannot be one.
        """
        aliases = Aliases()
        return _View(
            evolve(
                self._parts,
                tokens=token_manager(token),
                quota=self._parts.quota.for_another_user(),
                deliveries=Deliveries(self._parts.deliveries.clock, aliases),
                aliases=aliases,
            )
        )

    def with_options(
        self, *, timeout: float | Timeout | None = None, retries: Retries | None = None
    ) -> "Client":
        """Give a light view of this client whose calls may take other times, or be tried otherwise.

        What is left out stays as it is here; a number is the `total` of the present `Timeout`. All else is
        shared, the user included. The renewal of a token, which other calls may wait for, keeps the client's
        own times. The view lives as long as one of `using` does, and the two can be combined.

        Raises:
            ConfigurationError: an option cannot be right.
        """
        wire, retry = self._parts.wire, self._parts.retry
        if timeout is not None:
            wire = wire.with_timeout(as_timeout(timeout, wire.timeout))
        if retries is not None:
            retry = RetryStep(option("retries", retries, Retries, Retries))
        return _View(self._parts.over(wire, retry))

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

    def stats(self) -> Stats:
        """Give the figures of this client and all its views together, as of now."""
        return self._parts.counters.stats(queued=self._parts.limiter.waiting)

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

    @overload
    def send_many(
        self,
        messages: Messages | None = None,
        *,
        dry_run: Literal[False] = False,
        **options: Unpack[SendManyOptions],
    ) -> SendMany: ...

    @overload
    def send_many(
        self,
        messages: Messages | None = None,
        *,
        dry_run: Literal[True],
        **options: Unpack[SendManyOptions],
    ) -> DryRun: ...

    @hides_arguments
    def send_many(
        self,
        messages: Messages | None = None,
        *,
        dry_run: bool = False,
        **options: Unpack[SendManyOptions],
    ) -> SendMany | DryRun:
        """Send many messages as fast as the limit allows, behind every other call of this client.

        `messages` is any iterable or async iterable of `Outgoing`, read as it is needed. Iterate the answer
        for one `SendResult` per message, or await its `report()`. `options` are those of `SendManyOptions`.

        Messages to one chat go out one after the other, in the order given; see `Outgoing` for several
        addresses of one chat.

        A message that may have been delivered is looked for in its chat, as `reconcile` does, and sent again
        if it was proven not to have been, at most five times; the later messages of that chat wait meanwhile.
        With `on_unknown="report"` it is reported at once. What concerns every message (a revoked token, a
        host that cannot be reached, a full disk) holds the run up; after `stop_after` seconds of that it ends
        with an error.

        With a `journal`, a run that was killed can be started again with the same journal and messages: what
        was delivered is not sent again, and of what was under way it is found out. It is a file, or a
        `postgresql+asyncpg://` URL that several processes share; extra `bulk`, or `postgresql`. What still
        waits in it from an earlier run is sent only if it is given again, or, without `messages`, all of it.
        What failed is tried again with `retry_failed`. A message is known by its `key`, or else by its chat,
        text, names of files and how many like it came before; one with other words, or with something else in
        its files, under a known key is refused.

        With `dry_run` nothing is sent: see `DryRun`; with `check_chats` each chat is asked for.

        Raises:
            InvalidInputError: an option cannot be right.
            ConfigurationError: the journal can be none.
        """
        api, rate = evolve(self._api, priority=Priority.BACKGROUND), self._parts.limiter.rate
        if check_flag(dry_run, "dry_run"):
            return dry_run_of(api, messages, options, rate)
        return self._parts.shared.keep(run_of(api, messages, options, rate))

    def upload_many(
        self, uploads: Uploads, *, concurrency: int = 8, progress: Progress | None = None
    ) -> UploadMany:
        """Upload files to many chats, `concurrency` messages at a time; each call passes the limit.

        `uploads` is any iterable or async iterable of pairs of a chat and its files, or of `Upload`, read as
        it is needed; a chat is a handle or an address, as in `Outgoing`. Iterate the answer for one
        `UploadResult` per item. `progress` gets the bytes of all that was begun so far, added up.

        Raises:
            InvalidInputError: `concurrency` is not a whole number of at least 1, or `progress` not callable.
        """
        run = UploadMany(self._api, uploads, concurrency=concurrency, progress=progress)
        return self._parts.shared.keep(run)

    async def reconcile(self, error: DeliveryUnknownError, *, settle: float = SETTLE) -> Reconciled:
        """Find out what became of a message of which nobody knows whether it was delivered.

        The chat is read back, and a message that is there is found at once. That it is not there counts only
        when `settle` seconds (90 unless given) have passed since it could last have been sent, which is
        waited for, and when the same search finds a message that this client has sent; only then it is
        `NOT_SENT`, and can be sent again. A smaller `settle` waits less, and is right only where a call that
        was given up cannot take effect after that. In a web service, do this in the background.

        Raises:
            InvalidInputError: the error is not about a message, or another user's.
            CallError: the chat could not be read. Its `outcome` is not the message's, which stays
                unknown.
        """
        return await reconcile(self._api, error, check_seconds(settle, "settle"))

    @hides_awaited_arguments
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
        parts: Parts | None = getattr(self, "_parts", None)
        if parts is None:  # its options were refused, and a debugger or an error reporter shows what there is
            return "<Client that was not made>"
        return f"<Client environment={parts.environment.name!r}>"

    async def __aenter__(self) -> Self:
        self._parts.shared.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for what of bulk runs is in flight, end what is being read ahead, and close the connections.

        That goes for the calls through views as well. Closing a view does nothing.
        """
        await self._parts.shared.close()


class _View(Client):
    """A client that owns nothing of what it uses."""

    def __init__(self, parts: "Parts") -> None:
        self._assemble(parts)

    async def close(self) -> None:
        """Do nothing: a view ends with its client."""


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
    if not all(isinstance(text, str) for text in (*query.keys(), *query.values())):
        raise InvalidInputError("query must hold text only")
    encode(dict(query))  # refuses what has no UTF-8 form
    return query
