"""Holding a run up while nothing gets through, instead of burning through its messages."""

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
# Tries in succession that a call makes to get a connection, before everybody waits.
_TRIES_TO_CONNECT: Final = 2
# Seconds that a try takes at most before it is known whether it goes better.
_ONE_TRY: Final = 15.0
# Seconds between two tries while nothing gets through; doubled each time.
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 30.0
# Seconds after which another one may try, should the one that was let through not come back.
_PATIENCE: Final = 60.0
# So many chats in succession that may not be written to, and none that may, are not a matter of each.
_MOST_REFUSALS: Final = 20
# Nor are so many messages in succession of which nobody knows whether they were delivered.
_MOST_UNCLEAR: Final = 20

_OF_EVERYONE: Final = (AuthorizationError, ConnectError, RateLimitedError, TokenRenewalError)
_PERHAPS_OF_EVERYONE: Final = (ForbiddenError, ServerError, TransportError)


class Hold:
    """Holds up whoever would make a call, from the first sign that no call can succeed.

    One at a time is let through to see, at growing intervals. When nothing has got through for `stop_after`
    seconds, the run is given up; `advice` tells how to go on then. It is given up at once when the token is
    not accepted any more and no other can come. All of that is by the event loop's clock: while the machine
    sleeps nothing can be tried, so that time does not count.
    """

    def __init__(self, api: Api, stop_after: float, advice: str) -> None:
        self._api = api
        self._stop_after = stop_after
        self._advice = advice
        # That of the loop which is running, or will be: asked for when it is first needed.
        self._clock: Callable[[], float] | None = None
        self._since = 0.0
        self._wait = _FIRST_WAIT
        self._next_try = 0.0
        self._somebody_tries = False
        self._refusals = 0
        self._unclear = 0
        self._news = asyncio.Event()
        self._asking = asyncio.Lock()
        self._failing_since: float | None = None
        """When the first try began that failed for such a reason; `None` once a call got through."""
        self._retried: tuple[Exception, float] | None = None
        """Why a call is going to be made again, and until when that is of interest."""
        self.error: Exception | None = None
        """What keeps calls from succeeding, as long as it does."""
        self.given_up: SendingGivenUpError | None = None
        """The end of the run."""
        self.when_given_up: Callable[[], object] = lambda: None

    @property
    def waits_for(self) -> Exception | None:
        """What keeps calls from succeeding, also while they are being tried again by themselves.

        Any thread may ask.
        """
        if self.error is None and self._retried is not None and self._now() < self._retried[1]:
            return self._retried[0]
        return self.error

    def may_repeat(self, request: Request, began: float, error: CallError, wait: float) -> bool:
        """Tell whether a call that failed is to be made again by itself, after so many seconds.

        Without a connection only once: then everybody waits, and one at a time tries. The same goes for
        asking who the user is, which is how it is found out whether the service answers. `began` is when the
        call was asked for, by the event loop's clock.
        """
        if not isinstance(error, (*_OF_EVERYONE, *_PERHAPS_OF_EVERYONE)):
            return True
        now, since = self._now(), self._known_since()
        if since is None:
            since = began + request.current.waited_before + request.current.waited
        is_asking = request.path == GET_ME.path()
        if isinstance(error, _OF_EVERYONE):
            self._failing_since = since
        if is_asking or isinstance(error, _OF_EVERYONE):
            self._retried = error, now + wait + _ONE_TRY
        if now + wait > since + self._stop_after:
            return False
        is_once = isinstance(error, ConnectError) or (is_asking and not isinstance(error, _OF_EVERYONE))
        return not (is_once and request.current.number >= _TRIES_TO_CONNECT)

    def _known_since(self) -> float | None:
        """Return since when no call can succeed; what a call met whose next try went well is over."""
        if self.error is None and self._retried is not None and self._now() >= self._retried[1]:
            self._failing_since = self._retried = None
        return self._failing_since

    async def passed(self) -> None:
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
                self._somebody_tries = True
                self._next_try = loop.time() + _PATIENCE
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    async def over(self) -> None:
        """Wait until the service answers.

        Raises:
            SendingGivenUpError: nothing got through for too long.
        """
        while self.error is not None:
            await self.passed()
            if not self._somebody_tries:
                continue  # it is over
            if (error := await self._failure_of_asking()) is None:
                self._is_answered()
                return
            self._held_up_by(error)

    def well(self) -> None:
        """Note that a call got through."""
        self._refusals = self._unclear = 0
        self._failing_since = self._retried = None
        self._go_on()

    def nothing_learnt(self) -> None:
        """Note that whoever was let through can tell nothing by that: the next one may try at once."""
        if self.error is not None and self._somebody_tries:
            self._somebody_tries = False
            self._next_try = asyncio.get_running_loop().time()
            self._tell_those_who_wait()

    def unclear(self, error: Exception) -> None:
        """Note that nobody knows whether a message was delivered; one after the other, that holds up too."""
        self._unclear += 1
        if self._unclear >= _MOST_UNCLEAR or self._somebody_tries:
            self._held_up_by(error)

    async def is_held_up_by(self, error: Exception) -> bool:
        """Tell whether an error concerns every message; if so, hold everybody up."""
        if not await self._concerns_everyone(error):
            return False
        self._held_up_by(error)
        return True

    def _held_up_by(self, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if self.error is None:
            log(logging.WARNING, "sending is held up: %(error)s", error=str(error))
            since = self._known_since()
            self._since, self._wait = now if since is None else since, _FIRST_WAIT
        elif not self._somebody_tries:
            return  # of a call that was under way already
        self.error = error
        self._somebody_tries = False
        last_try = self._since + self._stop_after
        is_hopeless = isinstance(error, ReauthorizationRequiredError) and not self._api.may_be_reauthorized
        if is_hopeless or now >= last_try:
            self._give_up(error)
        asked = getattr(error, "retry_after", None) or 0.0
        self._next_try = min(now + max(self._wait, asked), last_try)
        self._wait = min(self._wait * 2, _LONGEST_WAIT)
        self._tell_those_who_wait()

    def _is_answered(self) -> None:
        """Note that the service answers this user, which says nothing of whether one may write."""
        if isinstance(self.error, ForbiddenError | DeliveryUnknownError):
            self.nothing_learnt()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self.error is not None and self.given_up is None:
            log(logging.INFO, "sending goes on")
            self.error = self._failing_since = self._retried = None
            self._somebody_tries = False
            self._tell_those_who_wait()

    def _now(self) -> float:
        if self._clock is None:
            self._clock = asyncio.get_running_loop().time
        return self._clock()

    def _tell_those_who_wait(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _give_up(self, error: Exception) -> None:
        seconds = self._now() - self._since
        lasting = f", for {seconds:.0f} s now" if seconds >= 1 else ""
        self.given_up = SendingGivenUpError(
            f"Nothing gets through any more{lasting} ({error}) {self._advice}"
        )
        self.given_up.__cause__ = error
        self.when_given_up()

    async def _concerns_everyone(self, error: Exception) -> bool:
        if isinstance(error, _OF_EVERYONE):
            return True
        if not isinstance(error, _PERHAPS_OF_EVERYONE):
            return False
        if isinstance(error, ForbiddenError):
            self._refusals += 1
            if self._refusals >= _MOST_REFUSALS or error.server_code == "insufficient_scope":
                return True
        async with self._asking:  # one of them will do
            if self.error is not None and not self._somebody_tries:
                return True  # of a call that was under way already
            if await self._failure_of_asking() is not None:
                return True
        self._is_answered()
        return False

    async def _failure_of_asking(self) -> Exception | None:
        try:
            await self._api.read(User, GET_ME)
        except (CallError, AuthorizationError) as error:
            return error
        except HealthmsgError:
            pass  # the client is being closed
        return None
