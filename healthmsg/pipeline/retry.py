"""The retry step: decides, alone, whether a call is made again.

A call that only reads (GET) is safe. Idempotent is one that changes nothing more when it runs twice: to
rename a group chat, to change its settings, to add members or admins. All else is to be made once: every
POST, every DELETE, and handing a group chat over. `healthmsg/routes.py` says why, call by call.

| what happened | safe | idempotent | once |
|---|---|---|---|
| no connection: refused, no such host, no trusted TLS, too late | again | again | again: it never ran |
| a proxy that wants other credentials | raised | raised | raised: that could lock the account |
| 429, too many calls | again | again | again: it did nothing |
| 401, and the token could be renewed | once again | once again | once again: it did nothing |
| its token could not be renewed for now | again | again | again: it was not made |
| time-out, lost connection, 5xx | again | again | `DeliveryUnknownError` |
| an unexpected redirect | raised | `DeliveryUnknownError` | `DeliveryUnknownError` |
| success, but not the JSON expected | raised | success | `DeliveryUnknownError`, where the answer is needed |
| success, but its answer was cut | again | success | `DeliveryUnknownError`, where the answer is needed |
| success, but its answer is too large | raised | success | the same |
| any other code, a file that failed | raised | raised | raised |
| any of these in the end, after a try without a clear answer | raised | `DeliveryUnknownError` | |

"Again" is as often as `Retries` allows, and never once the call has read from something that can be read
only once, such as an async iterable; then the last error is raised. A wait that is longer than `max_wait`
is not waited for: the error is raised at once, with its `retry_after`.
"""

import asyncio
import logging
import random
import time
from typing import Final, TypeGuard

from attrs import field, frozen

from healthmsg.clock import Stopwatch
from healthmsg.errors import (
    CallError,
    ConnectError,
    HealthmsgError,
    InvalidResponseError,
    Outcome,
    ProxyAuthenticationError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    StatusError,
    TokenRenewalError,
    TransportError,
)
from healthmsg.errors.base import without_locals
from healthmsg.log import log
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.routes import Idempotency
from healthmsg.validation import at_least_one, not_negative

# Seconds; the window from which the first wait is drawn, doubled each time.
_FIRST_WAIT: Final = 0.5
_DID_NOT_RUN: Final = (ConnectError, RateLimitedError, TokenRenewalError)
_MAY_HAVE_RUN: Final = (TransportError, ServerError)


@frozen
class Retries:
    """How often a call is tried that had no effect, or whose repetition does no harm.

    `attempts` counts all tries, the first included. The wait before a further one is drawn at random between
    0 and a bound that doubles each time, from half a second up to `max_wait` seconds. A wait that the service
    asks for [A: RFC 9110] takes its place; if that is longer than `max_wait`, the call fails at once with
    its `retry_after`. `total` bounds the seconds from the call's beginning in which tries may begin; those
    that the call spends waiting for its turn within our own limit do not count. The seconds in which the
    machine sleeps do, except for calls that only read.

    Raises:
        ConfigurationError: a number that cannot be right.
    """

    attempts: int = field(default=8, validator=at_least_one)
    max_wait: float = field(default=60.0, validator=not_negative)
    # Enough for all tries, should each but the last have to wait as long as it may.
    total: float = field(default=600.0, validator=not_negative)

    @classmethod
    def none(cls) -> "Retries":
        """Try once; after a 401, and with a renewed token, once again."""
        return cls(attempts=1)


class RetryStep:
    """Makes a call again when that is certain to do no harm; else says what is known of its outcome."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Try, and try again where that is right."""
        began = Stopwatch()
        request.current.started_at = time.time()
        try:
            return await proceed(request)
        except CallError as failure:
            error = failure
        except HealthmsgError as failure:
            raise without_locals(failure)  # noqa: B904 - it is the same error
        return await _Repetition(self._retries, request, began, proceed).after(error)


class _Repetition:
    """The tries of one call after the first."""

    def __init__(self, retries: Retries, request: Request, began: Stopwatch, proceed: Send) -> None:
        self._retries = retries
        self._request = request
        self._began = began
        self._proceed = proceed
        self._unclear_since: float | None = None
        """When the first try began of which it is not known whether it ran."""

    async def after(self, first_failure: CallError) -> Response:
        """Go on after the first failure."""
        error: HealthmsgError = first_failure
        longest_wait = _FIRST_WAIT
        while self._may_follow(error):
            # To ask for no wait is no reason for going on at once, again and again.
            wait = _asked_wait(error) or random.uniform(0, min(longest_wait, self._retries.max_wait))  # noqa: S311 - no secret
            if self._is_last(error, wait):
                break
            longest_wait *= 2
            _log_retry(self._request, error, wait)
            await asyncio.sleep(wait)
            if self._is_too_late(after=0.0):  # the machine may have slept
                break
            self._request.begin_another_try()
            try:
                return await self._proceed(self._request)
            except HealthmsgError as failure:
                error = failure
        # The frames below this one hold tokens and texts, and aiohttp's among them.
        raise without_locals(self._final_error(error))

    def _may_follow(self, error: HealthmsgError) -> TypeGuard[CallError]:
        """Return whether another try may follow on a failure, and note what that left unclear."""
        if not isinstance(error, CallError):
            return False
        if error.outcome is Outcome.UNKNOWN and self._unclear_since is None:
            self._unclear_since = self._request.current.started_at
        if (_asked_wait(error) or 0.0) > self._retries.max_wait:
            return False
        if self._request.is_spent:
            return False
        if isinstance(error, QuotaExceededError) and error.retry_after is None:
            return False  # a day's or a month's quota, as likely as not
        if isinstance(error, ProxyAuthenticationError):
            return False
        may_run_twice = self._request.idempotency is not Idempotency.NOT_IDEMPOTENT
        return isinstance(error, _DID_NOT_RUN) or (may_run_twice and isinstance(error, _MAY_HAVE_RUN))

    def _is_last(self, error: CallError, wait: float) -> bool:
        """Return whether no further try is to be made after this failure, or after such a wait."""
        if self._is_too_late(after=wait) or self._request.current.number >= self._retries.attempts:
            return True
        return self._request.may_repeat is not None and not self._request.may_repeat(error, wait)

    def _is_too_late(self, *, after: float) -> bool:
        queued = self._request.current.waited_before + self._request.current.waited
        # To read once more when the machine has slept does no harm; to send hours later could.
        is_safe = self._request.idempotency is Idempotency.SAFE
        passed = self._began.awake_seconds() if is_safe else self._began.seconds()
        return passed + after - queued > self._retries.total

    def _final_error(self, error: HealthmsgError) -> HealthmsgError:
        """Return the error to raise, which says plainly whether the call may have taken effect."""
        if isinstance(error, ConnectError):
            error.note_tries(self._request.current.number, self._began.seconds())
        elif isinstance(error, CallError):
            error.attempts = self._request.current.number
        if self._unclear_since is None:
            return error
        unknown = self._request.delivery_unknown(
            _problem(error),
            status=self._status(error),
            started_at=self._unclear_since,
        )
        unknown.transaction_id = error.transaction_id if isinstance(error, CallError) else ""
        unknown.__cause__ = error
        return unknown

    def _status(self, error: HealthmsgError) -> int | None:
        if isinstance(error, StatusError):
            return error.status
        heard = self._request.current.heard  # the body of an answer may have been cut, or have been too large
        is_cut = isinstance(error, TransportError | InvalidResponseError)
        return heard.status if heard is not None and is_cut else None


def _asked_wait(error: CallError) -> float | None:
    """Return the wait that the service asked for, in seconds."""
    return error.retry_after if isinstance(error, StatusError | TokenRenewalError) else None


def _problem(error: HealthmsgError) -> str:
    if not isinstance(error, CallError):
        return "a try got no clear answer, and then it could not be made again"
    if error.outcome is Outcome.UNKNOWN:
        return error.problem
    return f"an earlier try got no clear answer, and the last one failed ({error.problem})"


def _log_retry(request: Request, error: CallError, wait: float) -> None:
    """Log, at INFO, that a call is going to be tried again after `wait` seconds."""
    transaction = " (transaction %(transaction_id)s)" if error.transaction_id else ""
    log(
        logging.INFO,
        f"%(call)s failed with %(error)s{transaction} in attempt %(attempt)d; again in %(wait).3f s",
        call=request.call,
        status=error.status if isinstance(error, StatusError) else None,
        attempt=request.current.number,
        error=type(error).__name__,
        wait=wait,
        transaction_id=error.transaction_id,
    )
