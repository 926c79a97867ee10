"""The quota step: a user's quota that is used up holds back that user alone."""

import asyncio

from healthmsg.errors import QuotaExceededError, StatusError
from healthmsg.models.quota import Quota
from healthmsg.pipeline.exchange import Request, Response, Send
from healthmsg.pipeline.headers import QuotaHeaders, may_be_used_up, quota_headers, quota_of, wait_for_reset


class QuotaStep:
    """Sends nothing for one user until that user's quota is renewed; others go on.

    The quota of the `quota-*` headers counts per user [D], unlike the calls per second, which are the limit
    step's business.
    """

    def __init__(self) -> None:
        self._last_seen: Quota | QuotaHeaders | None = None
        """As they came, until somebody asks."""
        self._renewed_at: float | None = None

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
            self._look_at_error(error)
            raise
        headers = quota_headers(response.headers)
        if headers is not None:
            self._last_seen = headers
            if may_be_used_up(headers):
                self._hold_back(wait_for_reset(quota_of(headers)))
        return response

    def _look_at_error(self, error: StatusError) -> None:
        wait = None
        if error.quota is not None:
            self._last_seen = error.quota
            wait = wait_for_reset(error.quota)
        if isinstance(error, QuotaExceededError):
            wait = error.retry_after  # what the service wants, and where it does not say, the reset
        self._hold_back(wait)

    def _hold_back(self, seconds: float | None) -> None:
        if seconds is not None:
            self._renewed_at = max(self._renewed_at or 0.0, _now() + seconds)

    def _check(self, request: Request) -> None:
        if self._renewed_at is None:
            return
        left = self._renewed_at - _now()
        if left > 0:
            raise QuotaExceededError(request.call, 429, retry_after=left, quota=self.quota)
        self._renewed_at = None


def _now() -> float:
    return asyncio.get_running_loop().time()
