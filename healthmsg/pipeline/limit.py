"""The limit step: a call waits for its slot, and the limiter learns what became of the call."""

import logging
import math
from typing import Final

from healthmsg.errors import (
    ClaimLostError,
    ClientClosedError,
    ConnectError,
    LimitUnavailableError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
    StatusError,
)
from healthmsg.log import log
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.ratelimit.limiter import Limiter, LongPauseError
from healthmsg.ratelimit.source import StoreAwayError
from healthmsg.ratelimit.window import Slot

# Seconds. Whatever a service asks for, after an hour one call is tried.
_LONGEST_PAUSE: Final = 3600.0
_TOO_MANY_CALLS: Final = 429


class LimitStep:
    """Waits for a slot, and records in the limiter what became of the call."""

    def __init__(self, limiter: Limiter, *, longest_pause: float) -> None:
        self._limiter = limiter
        self.longest_pause: float = longest_pause
        """Seconds. Where the service asks for a longer pause, calls fail at once."""
        self._logged_until = -math.inf
        """The end of the last pause that was logged."""
        self._is_closed = False

    def close(self) -> None:
        """Let no call wait any more."""
        self._is_closed = True
        self._limiter.fail_waiters(self, ClientClosedError)

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go on when it is this call's turn, and record how it ends."""
        limiter = self._limiter
        # The client may have been closed while the call waited for its token.
        free = None if self._is_closed else limiter.try_acquire(request.priority)
        slot = free or await self._turn(request)
        current = request.current
        current.slot, current.waited = slot, slot.waited
        try:
            if slot.waited and current.after_limit is not None:
                current.after_limit(request)
            if request.before_send is not None:
                request.before_send()
        except (QuotaExceededError, ClaimLostError):
            slot.release_unused()
            raise
        if request.on_departure is not None:
            request.on_departure()
        try:
            response = await proceed(request)
        except (ConnectError, ClientClosedError, ClaimLostError):
            slot.release_unused()
            raise
        except StatusError as error:
            self._record_error(error, request, slot)
            raise
        else:
            if limiter.adaptive.is_recovering:
                limiter.record_success(slot)
            return response
        finally:
            if slot.held:
                slot.abandoned()

    async def _turn(self, request: Request) -> Slot:
        if self._is_closed:
            raise ClientClosedError
        limiter, problem = self._limiter, ""
        if limiter.asked_pause_left() <= self.longest_pause:
            try:
                return await limiter.acquire_in_turn(request.priority, self)
            except LongPauseError:
                pass
            except StoreAwayError as error:
                problem = str(error)
        if problem:
            raise LimitUnavailableError(request.call, problem)
        left = limiter.asked_pause_left()
        raise RateLimitedError(request.call, _TOO_MANY_CALLS, retry_after=left, of_earlier_call=True)

    def _record_error(self, error: StatusError, request: Request, slot: Slot) -> None:
        paused_until, was_slowed = self._limiter.adaptive.pause_until, self._limiter.adaptive.is_slowed
        asked = None if error.retry_after is None else min(error.retry_after, _LONGEST_PAUSE)
        if isinstance(error, RateLimitedError) and not isinstance(error, QuotaExceededError):
            self._limiter.record_429(slot, asked)
        elif isinstance(error, ServiceUnavailableError) and asked is not None:
            self._limiter.pause_as_asked(asked)
        elif not isinstance(error, ServerError | RateLimitedError):
            self._limiter.record_success(slot)
        # Do not log short pauses while the rate is already reduced.
        if self._limiter.adaptive.pause_until > paused_until and (asked is not None or not was_slowed):
            self._log_new_pause(request, error.status)

    def _log_new_pause(self, request: Request, status: int) -> None:
        # Once, though every call under way may get the same answer.
        now, until = self._limiter.now(), self._limiter.adaptive.pause_until
        if now >= self._logged_until and until > now:
            self._logged_until = until
            _log_pause(request, status, until - now)


def _log_pause(request: Request, status: int, wait: float) -> None:
    """Log, at WARNING, that after such an answer no call at all is made for `wait` seconds."""
    log(
        logging.WARNING,
        "%(call)s -> %(status)d, attempt %(attempt)d; no call leaves for %(wait).3f s",
        call=request.call,
        status=status,
        attempt=request.current.number,
        wait=wait,
    )
