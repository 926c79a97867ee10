"""The quota step: a user's quota that is used up holds back that user alone."""

from attrs import Factory, frozen

from healthmsg.clock import Stopwatch
from healthmsg.errors import QuotaExceededError, StatusError
from healthmsg.models.quota import Quota
from healthmsg.pipeline.exchange import Request, Response, Send
from healthmsg.pipeline.headers import (
    QuotaHeaders,
    may_be_used_up,
    quota_headers,
    quota_of,
    service_time,
    wait_for_reset,
)


@frozen
class UsedUp:
    """A quota that is used up."""

    seconds: float
    """How long it is so from now on, by the machine's clock: it is renewed also while the machine sleeps."""
    quota: Quota | None
    _since: Stopwatch = Factory(Stopwatch)

    @property
    def left(self) -> float:
        """How many seconds are left."""
        return self.seconds - self._since.seconds()


class QuotaStep:
    """Sends nothing for one user until that user's quota is renewed; others go on.

    The quota of the `quota-*` headers counts per user [D], unlike the calls per second, which are the limit
    step's business. `used_up` is by token: a program may make a view anew for each call of a user.
    """

    def __init__(self, used_up: dict[str | None, UsedUp] | None = None) -> None:
        self._used_up: dict[str | None, UsedUp] = {} if used_up is None else used_up
        self._last_seen: Quota | QuotaHeaders | None = None
        """As they came, until somebody asks."""

    def for_another_user(self) -> "QuotaStep":
        """Give a step for a view."""
        return QuotaStep(self._used_up)

    @property
    def quota(self) -> Quota | None:
        """The user's quota as last seen."""
        if isinstance(self._last_seen, tuple):
            self._last_seen = quota_of(self._last_seen)
        return self._last_seen

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go on, or say at once how long the quota will still be used up."""
        self._check(request)
        request.before_leaving = self._check  # it may have been used up by those who queued in front
        try:
            response = await proceed(request)
        except StatusError as error:
            self._look_at_error(error, request)
            raise
        headers = quota_headers(response.headers)
        if headers is not None:
            self._last_seen = headers
            if may_be_used_up(headers):
                wait = wait_for_reset(quota_of(headers), service_time(response.headers))
                self._hold_back(request, wait)
        return response

    def _look_at_error(self, error: StatusError, request: Request) -> None:
        wait = None
        if error.quota is not None:
            self._last_seen = error.quota
            wait = wait_for_reset(error.quota)
        if isinstance(error, QuotaExceededError):
            wait = error.retry_after  # what the service wants, and where it does not say, the reset
        self._hold_back(request, wait)

    def _hold_back(self, request: Request, seconds: float | None) -> None:
        if seconds is None:
            return
        for token in [token for token, known in self._used_up.items() if known.left <= 0]:
            del self._used_up[token]
        known = self._used_up.get(request.token)
        self._used_up[request.token] = UsedUp(max(seconds, known.left if known else 0.0), self.quota)

    def _check(self, request: Request) -> None:
        if not self._used_up:
            return
        known = self._used_up.get(request.token)
        left = known.left if known else 0.0
        if known and left > 0:
            raise QuotaExceededError(
                request.call, 429, retry_after=left, quota=known.quota, of_earlier_call=True
            )
