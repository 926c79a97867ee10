"""The client: its options, its namespaces, and the views of it."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import cached_property
from os import PathLike
from ssl import SSLContext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from attrs import evolve

from healthmsg.aio import AsyncOnly
from healthmsg.assembly import (
    OnResponse,
    Parts,
    as_token_manager,
    assemble,
    token_from_env,
)
from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.codec import encode
from healthmsg.environment import Environment
from healthmsg.errors import DeliveryUnknownError
from healthmsg.errors.base import hides_arguments, hides_awaited_arguments
from healthmsg.fleet.limit import SharedLimit
from healthmsg.ids import ChatAddress
from healthmsg.log import log_to_stderr
from healthmsg.network import Network
from healthmsg.pipeline.record import OnCall, Stats
from healthmsg.pipeline.request import Content, Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.quota import Quota
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.resources.auxiliary import Auxiliary
from healthmsg.resources.chat import Chat
from healthmsg.resources.company import Company
from healthmsg.resources.conversations import Conversations
from healthmsg.resources.group_chat import GroupChat, handle
from healthmsg.resources.groupchats import GroupChats
from healthmsg.resources.users import Me, Users
from healthmsg.transfer import Progress
from healthmsg.transport.http import LARGEST_RESPONSE, Wire
from healthmsg.transport.timeouts import Timeout, as_timeout
from healthmsg.validation import (
    check_app_info,
    check_header,
    check_hook,
    check_method,
    check_option,
    check_path,
    check_query,
    check_seconds,
    check_size,
)

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from healthmsg.bulk.models import Messages, OnUnknown, OtherText
    from healthmsg.bulk.preview import Preview
    from healthmsg.bulk.reconcile import Reconciled
    from healthmsg.bulk.runner import SendMany
    from healthmsg.bulk.upload import UploadMany, Uploads
    from healthmsg.events import Event
    from healthmsg.gateway.stream import Events, Subscribe
    from healthmsg.live import Presence


log_to_stderr()


class Client(AsyncOnly):
    """A user's access to the service. Use it as `async with Client(…) as client:`, or `close()` it.

    One client serves any number of tasks of one event loop, and should be shared: the limit of 30 calls a
    second [D] is kept per client. `rate_limit` is that limit, a `Limiter` that several clients share, or a
    `SharedLimit` that several processes share.
    `timeout` is for one try of a call, as a `Timeout`, or in seconds for its `total`; `retries` says how
    often a call that did no harm is tried. `with_options` sets both for single calls.

    `proxy`, `ssl` and `trust_env` hold for all that is sent, renewals of tokens and downloads included.
    `proxy` is the URL of an HTTP proxy, which may hold a user name and password. `ssl` is an `SSLContext`, or
    a file with the certificates that are trusted instead of the system's; one that verifies nothing is
    refused. With `trust_env`, and without `proxy`, the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY count.
    Plain http, which is for this machine only, goes through no proxy on another one.

    A `session` that is passed in lends its connections and stays open; it has TLS settings of its own.
    `api_version` is sent with each call; without it the service uses its latest version [D]. `app_info` is
    your program's name and version, such as `ourehr/2.1`, for the header `User-Agent`: the vendor's support
    asks for it. `on_call` receives a record of each try, with nothing private in it.

    An answer of more than `max_response_size` bytes, 64 MiB unless it is set, is not read to its end, and the
    call fails with `InvalidResponseError`. The size is that of the decompressed answer; decoded, it takes
    several times as much memory. Files that are downloaded may have any size.

    Raises:
        ConfigurationError: an option cannot be right.
    """

    @hides_arguments
    def __init__(  # noqa: PLR0913 - a client has that many settings, by keyword
        self,
        token: str | Token | TokenManager,
        *,
        environment: Environment,
        rate_limit: RateLimit | SharedLimit | Limiter | None = None,
        session: "ClientSession | None" = None,
        timeout: float | Timeout | None = None,
        retries: Retries | None = None,
        proxy: str | None = None,
        ssl: SSLContext | str | PathLike[str] | None = None,
        trust_env: bool = False,
        api_version: str | None = None,
        app_info: str | None = None,
        on_call: OnCall | None = None,
        max_response_size: int = LARGEST_RESPONSE,
    ) -> None:
        tokens = as_token_manager(token)
        wire = Wire(
            check_option(environment, "environment", Environment).api_url,
            timeout=as_timeout(timeout, Timeout()),
            session=session,
            api_version=check_header(api_version, "api_version"),
            app_info=check_app_info(app_info),
            network=Network(proxy, ssl, trust_env),
            max_response_size=check_size(max_response_size, "max_response_size"),
        )
        self._use(
            assemble(
                environment,
                wire=wire,
                retries=Retries() if retries is None else check_option(retries, "retries", Retries),
                rate_limit=rate_limit,
                on_call=check_hook(on_call, "on_call", "CallRecord"),
                tokens=tokens,
            )
        )

    def _use(self, parts: Parts) -> None:
        self._parts = parts
        self._api = parts.api()

    @classmethod
    def from_env(  # noqa: PLR0913 - all options of a client
        cls,
        *,
        rate_limit: RateLimit | SharedLimit | Limiter | None = None,
        session: "ClientSession | None" = None,
        timeout: float | Timeout | None = None,
        retries: Retries | None = None,
        proxy: str | None = None,
        ssl: SSLContext | str | PathLike[str] | None = None,
        trust_env: bool = False,
        api_version: str | None = None,
        app_info: str | None = None,
        on_call: OnCall | None = None,
        max_response_size: int = LARGEST_RESPONSE,
    ) -> Self:
        """Return a client whose token and environment are those of environment variables.

        `HEALTHMSG_TOKEN` is the access token; `Environment.from_env` reads the others. Or else the token is
        in the store of `HEALTHMSG_TOKEN_STORE` (see `healthmsg.auth.from_env`). All options are those of
        `Client`.

        Raises:
            ConfigurationError: a variable is missing or unusable; it names the variable.
        """
        return cls(
            token_from_env(),
            environment=Environment.from_env(),
            rate_limit=rate_limit,
            session=session,
            timeout=timeout,
            retries=retries,
            proxy=proxy,
            ssl=ssl,
            trust_env=trust_env,
            api_version=api_version,
            app_info=app_info,
            on_call=on_call,
            max_response_size=max_response_size,
        )

    @hides_arguments
    def with_token(self, token: str | Token | TokenManager) -> "Client":
        """Return a light view of this client, for another user.

        Its own are the token and that user's quota [D]; all else is shared: the connections, the limit of
        calls a second, every option. It works until this client is closed. Closing the view, or leaving its
        `async with`, closes nothing.

        Raises:
            ConfigurationError: the token cannot be one.
        """
        return _View(self._parts.with_tokens(as_token_manager(token)))

    def with_options(
        self,
        *,
        timeout: float | Timeout | None = None,
        retries: Retries | None = None,
        on_response: OnResponse | None = None,
    ) -> "Client":
        """Return a light view of this client with other options.

        What is left out stays as it is here; a number is the `total` of the present `Timeout`. All else is
        shared, the user included. The renewal of a token, which other calls may wait for, keeps the client's
        own times. The view lives as long as one of `with_token` does, and the two can be combined.

        `on_response` receives the raw answer of each call that succeeds, before it is decoded, and of a list
        that of each page; of a file that is downloaded, the answer with its link. It says all that the
        service knows of a patient: keep it out of logs. What it raises is logged by name.

        Raises:
            ConfigurationError: an option cannot be right.
        """
        parts = self._parts
        wire, retry = parts.wire, parts.retry
        if timeout is not None:
            wire = wire.with_timeout(as_timeout(timeout, wire.timeout))
        if retries is not None:
            retry = RetryStep(check_option(retries, "retries", Retries))
        hook = check_hook(on_response, "on_response", "Response") or parts.on_response
        return _View(evolve(parts.with_times(wire, retry), on_response=hook))

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
        """Return the figures of this client and all its views together, as of now."""
        parts = self._parts
        counted = parts.counters.stats(queued=parts.limiter.waiting)
        return evolve(counted, events=parts.live.stats(), limit=parts.limiter.stats())

    @cached_property
    def me(self) -> Me:
        """The user whose token is used."""
        return Me(self._api)

    @cached_property
    def company(self) -> Company:
        """The user's company."""
        return Company(self._api)

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

    def chat(self, address: ChatAddress | str) -> Chat | GroupChat:
        """Return the handle of a chat of any kind, by an event's `chat` or text such as `conversations/c1`.

        Raises:
            InvalidIdError: it is no address.
        """
        if not isinstance(address, ChatAddress):
            address = ChatAddress.parse(address)
        return handle(self._api, address)

    @cached_property
    def auxiliary(self) -> Auxiliary:
        """The same things, by the integrator's own ids."""
        return Auxiliary(self._api)

    @hides_arguments
    def send_many(  # noqa: PLR0913 - a run has that many settings, by keyword
        self,
        messages: "Messages | None" = None,
        *,
        journal: str | PathLike[str] | None = None,
        on_unknown: "OnUnknown" = "reconcile",
        settle: float = 90.0,
        stop_after: float = 600.0,
        retry_failed: bool = False,
        other_text: "OtherText" = "send",
        superseded: bool = False,
    ) -> "SendMany":
        """Send many messages as fast as the limit allows, behind every other call of this client.

        `messages` is any iterable or async iterable of `Outgoing`, read as it is needed. Iterate the answer
        for one `SendResult` per message, or await its `report()`. `preview_many` says beforehand what would
        happen; `SendMany`, in which order messages go out, and what becomes of one in doubt (`on_unknown`,
        `settle`).

        `journal` is a file, or a `postgresql+asyncpg://` URL that several processes share; extra `bulk`, or
        `postgresql`. With it, a run that was killed is started again with the same journal and messages, or,
        without `messages`, to send all that waits in it: see `SendMany`, also for `retry_failed`,
        `other_text` and `superseded`. After `stop_after` seconds in which no call can succeed, the run ends
        with an error.

        Raises:
            InvalidInputError: an option cannot be right.
            ConfigurationError: the journal can be none.
        """
        from healthmsg.bulk.models import SendOptions  # noqa: PLC0415 - as in upload_many
        from healthmsg.bulk.runner import send_many  # noqa: PLC0415 - as in upload_many

        options = SendOptions(on_unknown, settle, retry_failed, stop_after, other_text, superseded)
        api, rate = evolve(self._api, priority=Priority.BACKGROUND), self._parts.limiter.rate
        sharing = nullcontext() if journal is None else self._parts.sharing.over(journal)
        return self._parts.shared.register_run(
            send_many(api, messages, journal, options, rate, sharing=sharing)
        )

    @hides_arguments
    def preview_many(  # noqa: PLR0913 - as `send_many`
        self,
        messages: "Messages | None" = None,
        *,
        journal: str | PathLike[str] | None = None,
        check_chats: bool = False,
        on_unknown: "OnUnknown" = "reconcile",
        settle: float = 90.0,
        stop_after: float = 600.0,
        retry_failed: bool = False,
        other_text: "OtherText" = "send",
        superseded: bool = False,
    ) -> "Preview":
        """Say what `send_many` would do with the same messages and options, and send nothing.

        Iterate the answer for a `Problem` per message that has one, or await its `report()`. A journal is
        only read. With `check_chats`, the service is asked for each chat.

        Raises:
            InvalidInputError: an option cannot be right.
            ConfigurationError: the journal can be none.
        """
        from healthmsg.bulk.models import SendOptions  # noqa: PLC0415 - as in upload_many
        from healthmsg.bulk.preview import preview_many  # noqa: PLC0415 - as in upload_many

        options = SendOptions(on_unknown, settle, retry_failed, stop_after, other_text, superseded)
        api, rate = evolve(self._api, priority=Priority.BACKGROUND), self._parts.limiter.rate
        return preview_many(api, messages, journal, options, rate, check_chats=check_chats)

    def upload_many(
        self, uploads: "Uploads", *, concurrency: int = 8, progress: Progress | None = None
    ) -> "UploadMany":
        """Upload files to many chats, `concurrency` messages at a time; each call passes the limit.

        `uploads` is any iterable or async iterable of `Upload`, or of pairs of a chat and its files, read as
        it is needed; a chat is a handle or an address, as in `Outgoing`. Iterate the answer for one
        `UploadResult` per item. `progress` gets the bytes of all that was begun so far, added up.

        Raises:
            InvalidInputError: `concurrency` is not a whole number of at least 1, or `progress` not callable.
        """
        from healthmsg.bulk.upload import UploadMany  # noqa: PLC0415 - programs without bulk start faster

        run = UploadMany(self._api, uploads, concurrency=concurrency, progress=progress)
        return self._parts.shared.register_run(run)

    @hides_arguments
    def events(
        self,
        *,
        store: str | PathLike[str] | None = None,
        kinds: "Iterable[type[Event]] | None" = None,
        subscribe: "Subscribe" = "active",
        settle: float = 5.0,
    ) -> "Events":
        """Listen to what happens in the user's chats: every event, and no gap. See `Events`.

        Use it as `async with client.events() as events:` and `async for event in events:`. Messages and all
        else that is durable come at least once, each chat in order; what was missed while the connection was
        lost is read over REST. Likes, typing and presence come at most once.

        Without a `store` that holds as long as the process lives. With one, a file or a
        `postgresql+asyncpg://` URL as `send_many` takes it for a journal (extra `bulk` or `postgresql`), it
        holds over restarts and crashes. At the first start, nothing that was sent before that
        second is handed out.

        `kinds` leaves all other events out. `subscribe` says of which group chats messages are to come whole
        and at once: of those in which something has happened since the start (`active`), of `all`, or of
        `none`; the others' come late [D]. A list of messages may lag behind the gateway by `settle` seconds
        at most [A]: with less, messages that were missed can be handed out late; with more, those of a chat
        wait longer after each connect.

        Raises:
            ConfigurationError: the environment has no `gateway_url`, or an option cannot be right.
            InvalidInputError: an option cannot be right.
        """
        from healthmsg.gateway.opening import open_events  # noqa: PLC0415 - as in upload_many

        return open_events(self._parts, store, kinds, subscribe, check_seconds(settle, "settle"))

    async def presence(self, status: "Presence") -> bool:
        """Say over the gateway whether the user is there; return whether it was sent. Contract: [V].

        It is dropped while there is no connection, and over the gateway's budget of 250 events a minute [D].

        Raises:
            ConfigurationError: no stream of `events` is open.
            InvalidInputError: it is no presence.
        """
        return await self._parts.live.presence(status)

    async def reconcile(self, error: DeliveryUnknownError, *, settle: float = 90.0) -> "Reconciled":
        """Find out whether a message was delivered of which that is not known.

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
        from healthmsg.bulk.reconcile import reconcile  # noqa: PLC0415 - as in upload_many

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

        `path` is below the API's URL and sent as it is: percent-encode the ids in it yourself. `query` is
        encoded for you. Logs and errors name the method only.

        Raises:
            InvalidInputError: the method, path or query cannot be one.
        """
        content = None if json is None else Content("application/json", encode(json))
        verb = check_method(method)
        request = Request(f"{verb} (a path of your own)", verb, check_path(path))
        request.query = check_query(query, path)
        request.body = content
        return await self._api.send(request)

    def __repr__(self) -> str:
        parts: Parts | None = getattr(self, "_parts", None)
        if parts is None:  # its options were refused; debuggers and error reporters show it all the same
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
        """Wait for the calls of bulk runs that are under way, end all other tasks, and close the connections.

        That includes those of views. Closing a view does nothing.
        """
        await self._parts.shared.close()


class _View(Client):
    """A client over the parts of another one, which closes them."""

    def __init__(self, parts: Parts) -> None:
        self._use(parts)

    async def close(self) -> None:
        """Do nothing: a view ends with its client."""
