"""What a client is made of, and how its options become that."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar
from weakref import WeakSet

from attrs import evolve, field, frozen

from healthmsg.aio import start
from healthmsg.api import Api
from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.clock import ServerClock
from healthmsg.delivery.aliases import Aliases
from healthmsg.delivery.ledger import Deliveries
from healthmsg.environment import Environment
from healthmsg.errors import ClientClosedError, ConfigurationError, WrongEventLoopError
from healthmsg.fleet.limit import JournalSharing, SharedLimit
from healthmsg.live import Live
from healthmsg.log import call_back
from healthmsg.pipeline import fold
from healthmsg.pipeline.auth import AuthStep
from healthmsg.pipeline.check import CheckStep, Notices
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.quota import QuotaStep
from healthmsg.pipeline.record import Counters, OnCall, RecordStep
from healthmsg.pipeline.request import Request, Response, Send, Step
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.task_pool import BulkRun
from healthmsg.transport.http import Wire
from healthmsg.validation import check_option

T = TypeVar("T")
RunT = TypeVar("RunT", bound=BulkRun[Any])

OnResponse = Callable[[Response], object]
"""Receives the raw answer of each call that succeeds."""


class Shared:
    """What a client shares with its views: the connections, the limit, the event loop, and all that runs.

    Tasks, bulk runs and renewals of tokens end with it.
    """

    def __init__(self, wire: Wire, limit: LimitStep, own_limiter: Limiter | None) -> None:
        self._wire = wire
        self._limit = limit
        self._own_limiter = own_limiter
        """The limiter, if it was made for this client."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._runs: set[BulkRun[Any]] = set()
        self.assigning: set[tuple[str, str]] = set()
        """Auxiliary ids that are being assigned."""
        # Weak, since views come and go. A manager that is renewing its token is kept by the renewal itself.
        self._managers: WeakSet[TokenManager] = WeakSet()

    def check_usable(self) -> None:
        """Refuse to work when closed, or in another event loop than before.

        Raises:
            ClientClosedError, WrongEventLoopError: it is so.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClientClosedError
        if self._loop is not loop:
            if self._loop is not None:
                raise WrongEventLoopError
            self._loop = loop

    def guard(self, send: Send) -> Send:
        """Let a pipeline begin only while the client is open, and in its own event loop."""

        def guarded(request: Request) -> Awaitable[Response]:
            # Looked at here first, since a call of the method would triple the price.
            if self._closed or self._loop is not asyncio.get_running_loop():
                self.check_usable()
            return send(request)

        return guarded

    def spawn(self, work: Coroutine[object, object, T]) -> "asyncio.Task[T]":
        """Start a task that ends with the client at the latest."""
        try:
            self.check_usable()
        except BaseException:
            work.close()
            raise
        task = start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def register_run(self, run: RunT) -> RunT:
        """Close a run with the client, unless it has ended before."""
        self._runs.add(run)
        run.when_ended(self._runs.discard)
        return run

    def register_tokens(self, tokens: TokenManager) -> None:
        """Close a token manager with the client, if it still exists then."""
        self._managers.add(tokens)

    async def close(self) -> None:
        """Wait for calls of bulk runs and for renewals of tokens, end all else, and close the connections."""
        if self._closed:
            return
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError
        try:
            for run in tuple(self._runs):
                await run.close()
        finally:
            self._closed = True
            self._limit.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            try:
                await asyncio.gather(*(tokens.close() for tokens in tuple(self._managers)))
            finally:
                try:
                    if self._own_limiter is not None:
                        await self._own_limiter.close()
                finally:
                    await self._wire.close()


@frozen(eq=False)
class Parts:
    """What a client is made of. A view is made of the same, with some of it replaced."""

    environment: Environment
    shared: Shared
    notices: Notices
    limiter: Limiter
    sharing: JournalSharing
    counters: Counters
    call_steps: tuple[Step, ...]
    """limit → record → check"""
    fetch_steps: tuple[Step, ...]
    """record → check"""
    token_call: Send
    """limit → record → check → wire"""
    wire: Wire
    retry: RetryStep
    tokens: TokenManager
    quota: QuotaStep
    deliveries: Deliveries
    aliases: Aliases
    live: Live
    on_response: OnResponse | None = None
    call: Send = field(kw_only=True)
    """limit → record → check → wire: what is the same for all users."""
    fetch: Send = field(kw_only=True)
    """retry → record → check → wire"""

    @call.default
    def _fold_call(self) -> Send:
        return _call(self.call_steps, self.wire)

    @fetch.default
    def _fold_fetch(self) -> Send:
        return _fetch(self.shared, self.retry, self.fetch_steps, self.wire)

    def with_times(self, wire: Wire, retry: RetryStep) -> "Parts":
        """Return the parts for calls that may take other times, or are tried otherwise."""
        call, fetch = _call(self.call_steps, wire), _fetch(self.shared, retry, self.fetch_steps, wire)
        return evolve(self, wire=wire, retry=retry, call=call, fetch=fetch)

    def with_tokens(self, tokens: TokenManager) -> "Parts":
        """Return the parts for another user."""
        aliases = Aliases()
        return evolve(
            self,
            tokens=tokens,
            quota=self.quota.for_another_user(),
            deliveries=Deliveries(self.deliveries.clock, aliases),
            aliases=aliases,
            live=Live(),
        )

    def api(self) -> Api:
        """Return the service as resources see it, behind the whole pipeline of this user."""
        shared, auth = self.shared, AuthStep(self.tokens, self.token_call)
        shared.register_tokens(self.tokens)
        send = shared.guard(fold([self.retry, auth, self.quota], self.call))
        return Api(
            send if self.on_response is None else _reporting(send, self.on_response),
            self.fetch,
            self.deliveries,
            self.aliases,
            self.retry,
            shared.spawn,
            shared.register_run,
            self.environment.api_url,
            owner=(shared, self.tokens),
            assigning=shared.assigning,
            live=self.live,
            may_be_reauthorized=self.tokens.may_be_replaced,
            total=self.wire.timeout.total,
        )


def _call(steps: Sequence[Step], wire: Wire) -> Send:
    return fold(steps, wire.__call__)


def _fetch(shared: Shared, retry: RetryStep, steps: Sequence[Step], wire: Wire) -> Send:
    return shared.guard(fold([retry, *steps], wire.__call__))


def _reporting(send: Send, on_response: OnResponse) -> Send:
    async def reporting(request: Request) -> Response:
        response = await send(request)
        if response.stream is None:
            call_back("on_response", on_response, response)
        return response

    return reporting


def assemble(  # noqa: PLR0913 - a client has that many
    environment: Environment,
    *,
    wire: Wire,
    retries: Retries,
    rate_limit: RateLimit | SharedLimit | Limiter | None,
    on_call: OnCall | None,
    tokens: TokenManager,
) -> Parts:
    """Return the parts of a new client."""
    limiter = as_limiter(rate_limit, environment.api_url)
    limit = LimitStep(limiter, longest_pause=retries.max_wait)
    notices, counters, clock, aliases = Notices(), Counters(), ServerClock(), Aliases()
    record = RecordStep(on_call, counters, url=environment.api_url, now=clock.now)
    record_token_call = RecordStep(on_call, counters, url=environment.token_url)
    return Parts(
        environment=environment,
        shared=Shared(wire, limit, None if isinstance(rate_limit, Limiter) else limiter),
        notices=notices,
        limiter=limiter,
        sharing=JournalSharing(limiter, environment.api_url, is_automatic=rate_limit is None),
        counters=counters,
        call_steps=(limit, record, CheckStep(notices, clock)),
        fetch_steps=(RecordStep(on_call, counters), CheckStep()),
        token_call=fold([limit, record_token_call, CheckStep()], wire.__call__),
        wire=wire,
        retry=RetryStep(retries),
        tokens=tokens,
        quota=QuotaStep(),
        deliveries=Deliveries(clock, aliases),
        aliases=aliases,
        live=Live(),
    )


def as_token_manager(token: object) -> TokenManager:
    """Return the keeper of a token that is given in any of its forms.

    Raises:
        ConfigurationError: it is no token.
    """
    if isinstance(token, TokenManager):
        return token
    if isinstance(token, str):
        return TokenManager(Token(token))
    if isinstance(token, Token):
        return TokenManager(token)
    raise ConfigurationError(f"token must be text, a Token or a TokenManager, not {type(token).__name__}")


def as_limiter(rate_limit: object, api_url: str) -> Limiter:
    """Return a limiter, which may be shared, as it is; of a limit, or of nothing, make one.

    Raises:
        ConfigurationError: it is neither a limiter nor a limit.
    """
    if isinstance(rate_limit, Limiter):
        return rate_limit
    if isinstance(rate_limit, SharedLimit):
        return rate_limit.limiter(api_url)
    return Limiter(RateLimit() if rate_limit is None else check_option(rate_limit, "rate_limit", RateLimit))


def token_from_env() -> str | TokenManager:
    """Return the access token in `HEALTHMSG_TOKEN`, or a manager of the one in `HEALTHMSG_TOKEN_STORE`.

    Raises:
        ConfigurationError: there is neither, or there are both.
    """
    token, store = (os.environ.get(name, "").strip() for name in ("HEALTHMSG_TOKEN", "HEALTHMSG_TOKEN_STORE"))
    if token and store:
        raise ConfigurationError(
            "HEALTHMSG_TOKEN and HEALTHMSG_TOKEN_STORE are both set, and name one token each: unset one"
        )
    if store:
        from healthmsg.auth.from_env import stored_token_from_env  # noqa: PLC0415 - programs start faster

        if (stored := stored_token_from_env(Environment.from_env())) is not None:
            return stored
    if not token:
        raise ConfigurationError("HEALTHMSG_TOKEN is not set")
    return token
