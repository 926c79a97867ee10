"""The retry step: decides, alone, whether a call is made again.

| what happened                               | reading call (GET) | any other call                 |
|---------------------------------------------|--------------------|--------------------------------|
| no connection was made                      | again              | again: it never ran            |
| 429                                         | again              | again: it did nothing [D]      |
| time-out, lost connection, cut answer, 5xx  | again              | `DeliveryUnknownError`, at once |
| any other code, a file that failed          | raised             | raised                         |

An unexpected redirect of a call that changes something is a `DeliveryUnknownError` as well. A 401 is the
auth step's business; after that it is raised.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from healthmsg.errors import (
    CallError,
    ConnectError,
    DeliveryUnknownError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    StatusError,
    TransportError,
)
from healthmsg.outcome import Outcome
from healthmsg.pipeline.exchange import Request, Response, Send
from healthmsg.settings import at_least_one, not_negative

if TYPE_CHECKING:
    from tenacity import RetryCallState

# Seconds; the window from which the first wait is drawn, doubled each time.
_FIRST_WAIT: Final = 0.5


@frozen
class Retries:
    """How often a call that certainly had no effect, or that only reads, is tried.

    `attempts` counts all tries, the first included. `max_wait` is the longest single wait in seconds: when
    the service asks for a longer one, the call fails at once with its `retry_after`. `total` bounds the
    seconds after the first failure in which tries may begin.

    Raises:
        ConfigurationError: a number that cannot be right.
    """

    attempts: int = field(default=8, validator=at_least_one)
    max_wait: float = field(default=60.0, validator=not_negative)
    total: float = field(default=300.0, validator=not_negative)

    @classmethod
    def none(cls) -> "Retries":
        """Try once."""
        return cls(attempts=1)


class RetryStep:
    """Makes a call again when that is certain to do no harm; else says what is known of its outcome."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Try, and try again where that is right."""
        # The first try runs outside the retry library, which costs more than the rest of the pipeline.
        request.started_at = time.time()
        try:
            return await proceed(request)
        except CallError as failure:
            error = failure
        if self._may_repeat(request, error):
            try:
                return await self._repeat(request, proceed, error)
            except CallError as failure:
                error = failure
        error.attempts = request.attempt
        raise _settled(request, error)

    def _may_repeat(self, request: Request, error: BaseException) -> bool:
        if self._retries.attempts == 1 or (_asked_wait(error) or 0.0) > self._retries.max_wait:
            return False
        if isinstance(error, QuotaExceededError) and error.retry_after is None:
            return False  # a day's or a month's quota, as likely as not
        if isinstance(error, ConnectError | RateLimitedError):
            return True
        return request.is_safe and isinstance(error, TransportError | ServerError)

    async def _repeat(self, request: Request, proceed: Send, first_failure: CallError) -> Response:
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt  # noqa: PLC0415 - rarely needed

        known: CallError | None = first_failure

        async def next_try() -> Response:
            nonlocal known
            if known is not None:  # the library's first try is the one that failed already
                failure, known = known, None
                raise failure
            request.attempt += 1
            request.started_at = time.time()
            return await proceed(request)

        clock = asyncio.get_running_loop().time
        latest = clock() + self._retries.total
        repeat = AsyncRetrying(
            retry=retry_if_exception(lambda error: self._may_repeat(request, error)),
            wait=self._wait,
            stop=lambda state: (
                stop_after_attempt(self._retries.attempts)(state) or clock() + state.upcoming_sleep > latest
            ),
            sleep=asyncio.sleep,
            reraise=True,
        )
        return await repeat(next_try)

    def _wait(self, state: "RetryCallState") -> float:
        from tenacity import wait_random_exponential  # noqa: PLC0415 - rarely needed

        error = state.outcome.exception() if state.outcome else None
        asked = _asked_wait(error)
        backoff = wait_random_exponential(multiplier=_FIRST_WAIT, max=self._retries.max_wait)
        return backoff(state) if asked is None else asked


def _asked_wait(error: BaseException | None) -> float | None:
    """Give the wait that the service asked for, in seconds."""
    return error.retry_after if isinstance(error, StatusError) else None


def _settled(request: Request, error: CallError) -> CallError:
    """Say plainly that a call may have taken effect, if that is so."""
    if request.is_safe or error.outcome is not Outcome.UNKNOWN or isinstance(error, DeliveryUnknownError):
        return error
    status = error.status if isinstance(error, StatusError) else None
    problem = f"answered {status}" if status else "the line broke, or no answer came in time"
    unknown = request.delivery_unknown(problem, status=status)
    unknown.__cause__ = error
    return unknown
