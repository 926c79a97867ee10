"""Stopping a run while no call can succeed, instead of failing its messages one after the other."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from healthmsg.api import Api
from healthmsg.errors import (
    AuthorizationError,
    CallError,
    ConnectError,
    DeliveryUnknownError,
    ForbiddenError,
    HealthmsgError,
    RateLimitedError,
    ReauthorizationRequiredError,
    SendingGivenUpError,
    ServerError,
    TokenRenewalError,
    TransportError,
)
from healthmsg.log import log
from healthmsg.models import User
from healthmsg.pipeline.request import Request
from healthmsg.routes import GET_ME

STOP_AFTER: Final = 600.0
"""Seconds for which nothing gets through, after which a run is given up."""
# Failed attempts to connect before all calls wait.
_TRIES_TO_CONNECT: Final = 2
# Seconds after which the result of a retry is known at the latest.
_ONE_TRY: Final = 15.0
# Seconds between two tries while nothing gets through; doubled each time.
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
# Seconds after which another probe may be sent if the last one has not ended.
_PROBE_TIMEOUT: Final = 60.0
# After this many refused chats in a row, the cause is the user or the service, not each chat.
_MOST_REFUSALS: Final = 20
# After this many messages in a row with an unclear outcome, the cause is the service.
_MOST_UNCLEAR: Final = 20

_OF_ALL_CALLS: Final = (AuthorizationError, ConnectError, RateLimitedError, TokenRenewalError)
_PERHAPS_OF_ALL_CALLS: Final = (ForbiddenError, ServerError, TransportError)


class CircuitBreaker:
    """Makes calls wait from the first sign that no call can succeed.

    Then it is open: one call at a time, the probe, is let through, at growing intervals. When nothing has got
    through for `stop_after` seconds, the run is given up; `advice` says how to go on then. It is given up at
    once when the token is not accepted any more and no other can come. All of that is by the event loop's
    clock: while the machine sleeps nothing can be tried, so that time does not count.
    """

    def __init__(self, api: Api, stop_after: float, advice: str) -> None:
        self._api = api
        self._stop_after = stop_after
        self._advice = advice
        # The running event loop's clock. Read on first use, because there may be no loop yet.
        self._clock: Callable[[], float] | None = None
        self._since = 0.0
        self._wait = _FIRST_WAIT
        self._next_try = 0.0
        self._is_half_open = False
        self._refusals = 0
        self._unclear = 0
        self._changed = asyncio.Event()
        self._asking = asyncio.Lock()
        self._failing_since: float | None = None
        """When the first failing try began; `None` after a call succeeded."""
        self._retried: tuple[Exception, float] | None = None
        """The error of a call that is being retried, and until when it counts as a failure."""
        self.error: Exception | None = None
        """The error for which the breaker is open; `None` while it is closed."""
        self.given_up: SendingGivenUpError | None = None
        """The error with which the run ends."""
        self.when_given_up: Callable[[], object] = lambda: None

    @property
    def waits_for(self) -> Exception | None:
        """The error for which calls fail, also while they are still being retried.

        Any thread may ask.
        """
        if self.error is None and self._retried is not None and self._now() < self._retried[1]:
            return self._retried[0]
        return self.error

    def may_repeat(self, request: Request, began: float, error: CallError, wait: float) -> bool:
        """Return whether a failed call is to be retried on its own after `wait` seconds.

        Without a connection only once: then all calls wait, and one at a time tries. The same goes for the
        call that asks who the user is, which is the probe of whether the service answers. `began` is when the
        call was asked for, by the event loop's clock.
        """
        if not isinstance(error, (*_OF_ALL_CALLS, *_PERHAPS_OF_ALL_CALLS)):
            return True
        now, since = self._now(), self._known_since()
        if since is None:
            since = began + request.current.waited_before + request.current.waited
        is_asking = request.path == GET_ME.path()
        if isinstance(error, _OF_ALL_CALLS):
            self._failing_since = since
        if is_asking or isinstance(error, _OF_ALL_CALLS):
            self._retried = error, now + wait + _ONE_TRY
        if now + wait > since + self._stop_after:
            return False
        is_once = isinstance(error, ConnectError) or (is_asking and not isinstance(error, _OF_ALL_CALLS))
        return not (is_once and request.current.number >= _TRIES_TO_CONNECT)

    def _known_since(self) -> float | None:
        """Return since when calls fail. Forget a failure whose retry had time to succeed."""
        if self.error is None and self._retried is not None and self._now() >= self._retried[1]:
            self._failing_since = self._retried = None
        return self._failing_since

    async def acquire(self) -> None:
        """Wait until a call may be made.

        Raises:
            SendingGivenUpError: nothing got through for too long.
        """
        loop = asyncio.get_running_loop()
        while self.error is not None:
            if self.given_up is not None:
                raise self.given_up
            left = self._next_try - loop.time()
            if left <= 0:
                self._is_half_open = True
                self._next_try = loop.time() + _PROBE_TIMEOUT
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    async def wait_closed(self) -> None:
        """Wait until the service answers, making the probe if it is due.

        Raises:
            SendingGivenUpError: nothing got through for too long.
        """
        while self.error is not None:
            await self.acquire()
            if not self._is_half_open:
                continue  # closed meanwhile
            if (error := await self._failure_of_asking()) is None:
                self._record_answer()
                return
            self._open(error)

    def record_success(self) -> None:
        """Note that a call got through."""
        self._refusals = self._unclear = 0
        self._failing_since = self._retried = None
        self._close()

    def release_probe(self) -> None:
        """Note that the probe proved nothing: the next one may be sent at once."""
        if self.error is not None and self._is_half_open:
            self._is_half_open = False
            self._next_try = asyncio.get_running_loop().time()
            self._wake_waiters()

    def record_unclear(self, error: Exception) -> None:
        """Count a message with an unclear outcome. Many in a row open the breaker."""
        self._unclear += 1
        if self._unclear >= _MOST_UNCLEAR or self._is_half_open:
            self._open(error)

    async def record_failure(self, error: Exception) -> bool:
        """Return whether an error concerns all calls; if so, open the breaker."""
        if not await self._concerns_all_calls(error):
            return False
        self._open(error)
        return True

    def _open(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if self.error is None:
            log(logging.WARNING, "sending is paused: %(error)s", error=str(error))
            since = self._known_since()
            self._since, self._wait = now if since is None else since, _FIRST_WAIT
        elif not self._is_half_open:
            return  # a call that began before the breaker opened
        self.error = error
        self._is_half_open = False
        last_try = self._since + self._stop_after
        is_hopeless = isinstance(error, ReauthorizationRequiredError) and not self._api.may_be_reauthorized
        if is_hopeless or now >= last_try:
            self._give_up(error)
        asked = getattr(error, "retry_after", None) or 0.0
        self._next_try = min(now + max(self._wait, asked), last_try)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        self._wake_waiters()

    def _record_answer(self) -> None:
        """Note that the service answers this user. Whether the user may write is still open."""
        if isinstance(self.error, ForbiddenError | DeliveryUnknownError):
            self.release_probe()
        else:
            self._close()

    def _close(self) -> None:
        if self.error is not None and self.given_up is None:
            log(logging.INFO, "sending continues")
            self.error = self._failing_since = self._retried = None
            self._is_half_open = False
            self._wake_waiters()

    def _now(self) -> float:
        if self._clock is None:
            self._clock = asyncio.get_running_loop().time
        return self._clock()

    def _wake_waiters(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _give_up(self, error: Exception) -> None:
        seconds = self._now() - self._since
        lasting = f", for {seconds:.0f} s now" if seconds >= 1 else ""
        self.given_up = SendingGivenUpError(
            f"Nothing gets through any more{lasting} ({error}) {self._advice}"
        )
        self.given_up.__cause__ = error
        self.when_given_up()

    async def _concerns_all_calls(self, error: Exception) -> bool:
        if isinstance(error, _OF_ALL_CALLS):
            return True
        if not isinstance(error, _PERHAPS_OF_ALL_CALLS):
            return False
        if isinstance(error, ForbiddenError):
            self._refusals += 1
            if self._refusals >= _MOST_REFUSALS or error.server_code == "insufficient_scope":
                return True
        async with self._asking:  # one question at a time is enough
            if self.error is not None and not self._is_half_open:
                return True  # a call that began before the breaker opened
            if await self._failure_of_asking() is not None:
                return True
        self._record_answer()
        return False

    async def _failure_of_asking(self) -> Exception | None:
        try:
            await self._api.read(User, GET_ME)
        except (CallError, AuthorizationError) as error:
            return error
        except HealthmsgError:
            pass  # the client is being closed
        return None
