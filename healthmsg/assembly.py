"""What a client is made of."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

from attrs import Factory, evolve, frozen

from healthmsg.aio import start
from healthmsg.auth.manager import TokenManager
from healthmsg.clock import ServerClock
from healthmsg.delivery.aliases import Aliases
from healthmsg.delivery.ledger import Deliveries
from healthmsg.environment import Environment
from healthmsg.errors import ClientClosedError, WrongEventLoopError
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep, Notices
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.quota import QuotaStep
from healthmsg.pipeline.record import Counters, OnCall, RecordStep
from healthmsg.pipeline.request import Request, Send, Step
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.ratelimit.limiter import Limiter
from healthmsg.task_pool import Many
from healthmsg.transport.http import Wire

T = TypeVar("T")
RunT = TypeVar("RunT", bound=Many[Any, Any])


class Shared:
    """The connections, the limit, the event loop, whether all is closed, and the tasks that end with it."""

    def __init__(self, wire: Wire, limit: LimitStep) -> None:
        self._wire = wire
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runs: set[Many[Any, Any]] = set()
        self.assigning: set[tuple[str, str]] = set()
        """Auxiliary ids that are being assigned."""
        # Weak, since views come and go. A manager that is renewing its token is kept by the renewal itself.
        self._managers: WeakSet[TokenManager] = WeakSet()

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
            # What nearly every call finds, at a third of the price.
            if self._closed or self._loop is not asyncio.get_running_loop():
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
        task = start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def keep(self, run: RunT) -> RunT:
        """End a run with the client at the latest."""
        self._runs.add(run)
        run.when_ended(self._runs.discard)
        return run

    def close_too(self, tokens: TokenManager) -> None:
        """Close a token manager with the client, if it still exists then."""
        self._managers.add(tokens)

    async def close(self) -> None:
        """Wait for what of bulk runs and renewals is in flight, end all else, and close the connections."""
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
                await self._wire.close()


@frozen(eq=False)
class Parts:
    """What a client is made of. A view is made of the same, with some of it replaced."""

    environment: Environment
    shared: Shared
    notices: Notices
    limiter: Limiter
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
    call: Send = Factory(lambda self: self._call(self.wire), takes_self=True)
    """limit → record → check → wire: what is the same for all users."""
    fetch: Send = Factory(lambda self: self._fetch(self.wire, self.retry), takes_self=True)
    """retry → record → check → wire"""

    def over(self, wire: Wire, retry: RetryStep) -> "Parts":
        """Give the same, for calls that may take other times, or be tried otherwise."""
        call, fetch = self._call(wire), self._fetch(wire, retry)
        return evolve(self, wire=wire, retry=retry, call=call, fetch=fetch)

    def _call(self, wire: Wire) -> Send:
        return fold(self.call_steps, wire)

    def _fetch(self, wire: Wire, retry: RetryStep) -> Send:
        return self.shared.entrance(fold([retry, *self.fetch_steps], wire))


def assembled(  # noqa: PLR0913 - a client has that many
    environment: Environment,
    *,
    wire: Wire,
    retries: Retries,
    limiter: Limiter,
    on_call: OnCall | None,
    tokens: TokenManager,
) -> Parts:
    """Make the parts of a client."""
    limit = LimitStep(limiter, longest_pause=retries.max_wait)
    notices, counters, clock, aliases = Notices(), Counters(), ServerClock(), Aliases()
    record = RecordStep(on_call, counters, url=environment.api_url)
    record_token_call = RecordStep(on_call, counters, url=environment.token_url)
    return Parts(
        environment=environment,
        shared=Shared(wire, limit),
        notices=notices,
        limiter=limiter,
        counters=counters,
        call_steps=(limit, record, CheckStep(notices, clock)),
        fetch_steps=(RecordStep(on_call, counters), CheckStep()),
        token_call=fold([limit, record_token_call, CheckStep()], wire),
        wire=wire,
        retry=RetryStep(retries),
        tokens=tokens,
        quota=QuotaStep(),
        deliveries=Deliveries(clock, aliases),
        aliases=aliases,
    )
