"""The limit's step in the way of a call: waits for a turn, and takes in what became of the call."""

import logging
import math
from typing import Final

from healthmsg.errors import (
    ClaimLostError,
    ClientClosedError,
    ConnectError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
    StatusError,
)
from healthmsg.log import log
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.ratelimit.limiter import Limiter, LongPause
from healthmsg.ratelimit.window import CallSlot

# Seconds. Whatever a service asks for, after an hour one call goes and sees.
_LONGEST_PAUSE: Final = 3600.0
_TOO_MANY_CALLS: Final = 429


class LimitStep:
    """Waits for a turn, and tells the limiter what became of the call."""

    def __init__(self, limiter: Limiter, *, longest_pause: float) -> None:
        self._limiter = limiter
        self.longest_pause: float = longest_pause
        """Of the pauses that the service asks for; where one is longer, calls fail at once."""
        self._told_until = -math.inf
        """The end of the last pause that was logged."""
        self._is_closed = False

    def close(self) -> None:
        """Let nobody wait any more."""
        self._is_closed = True
        self._limiter.dismiss(self, ClientClosedError)

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go when it is this call's turn, and take note of how it ends."""
        limiter = self._limiter
        # A call may have waited for its token, say, while the client was closed.
        free = None if self._is_closed else limiter.acquire_at_once(request.lane)
        slot = free or await self._turn(request)
        request.slot = slot
        request.waited = slot.waited
        try:
            if slot.waited and request.before_leaving is not None:
                request.before_leaving(request)
            if request.may_leave is not None:
                request.may_leave()
        except (QuotaExceededError, ClaimLostError):
            slot.never_left()
            raise
        if request.on_departure is not None:
            request.on_departure()
        try:
            response = await proceed(request)
        except (ConnectError, ClientClosedError, ClaimLostError):
            slot.never_left()
            raise
        except StatusError as error:
            self._take_in(error, request, slot)
            raise
        else:
            if limiter.pace.is_recovering:
                limiter.passed(slot)
            return response
        finally:
            if slot.held:
                slot.abandoned()

    async def _turn(self, request: Request) -> CallSlot:
        if self._is_closed:
            raise ClientClosedError
        limiter = self._limiter
        if limiter.asked_pause_left() <= self.longest_pause:
            try:
                return await limiter.queue(request.lane, self)
            except LongPause:
                pass
        left = limiter.asked_pause_left()
        raise RateLimitedError(request.call, _TOO_MANY_CALLS, retry_after=left, of_earlier_call=True)

    def _take_in(self, error: StatusError, request: Request, slot: CallSlot) -> None:
        paused_until, was_slowed = self._limiter.pace.pause_until, self._limiter.pace.is_slowed
        asked = None if error.retry_after is None else min(error.retry_after, _LONGEST_PAUSE)
        if isinstance(error, RateLimitedError) and not isinstance(error, QuotaExceededError):
            self._limiter.refused(slot, asked)
        elif isinstance(error, ServiceUnavailableError) and asked is not None:
            self._limiter.obey(asked)
        elif not isinstance(error, ServerError | RateLimitedError):
            self._limiter.passed(slot)
        # The short pauses of a pace that is lowered already are no news.
        if self._limiter.pace.pause_until > paused_until and (asked is not None or not was_slowed):
            self._tell_of_pause(request, error.status)

    def _tell_of_pause(self, request: Request, status: int) -> None:
        # Once, though every call under way may be answered so.
        now, until = self._limiter.now(), self._limiter.pace.pause_until
        if now >= self._told_until and until > now:
            self._told_until = until
            _log_pause(request, status, until - now)


def _log_pause(request: Request, status: int, wait: float) -> None:
    """Log, at WARNING, that after such an answer no call at all is made for `wait` seconds."""
    log(
        logging.WARNING,
        "%(call)s -> %(status)d, attempt %(attempt)d; no call leaves for %(wait).3f s",
        call=request.call,
        status=status,
        attempt=request.attempt,
        wait=wait,
    )
