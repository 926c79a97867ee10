"""What a client and its views have in common, and what therefore ends with the client."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

from healthmsg.auth.manager import TokenManager
from healthmsg.errors import ClientClosedError, WrongEventLoopError
from healthmsg.many import Many
from healthmsg.pipeline.exchange import Request, Send
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.wire import Wire
from healthmsg.tasks import start

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
