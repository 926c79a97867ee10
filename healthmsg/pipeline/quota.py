"""The quota step: a user's quota that is used up holds back that user alone."""

import asyncio

from healthmsg.errors import QuotaExceededError
from healthmsg.pipeline.exchange import Request, Response, Send


class QuotaStep:
    """Sends nothing for one user until that user's quota is renewed; others go on.

    The quota of the `quota-*` headers counts per user [D], unlike the calls per second, which are the limit
    step's business.
    """

    def __init__(self) -> None:
        self._renewed_at: float | None = None

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go on, or say at once how long the quota will still be used up."""
        if self._renewed_at is not None:
            self._check(request, self._renewed_at)
        try:
            return await proceed(request)
        except QuotaExceededError as error:
            if error.retry_after is not None:
                self._renewed_at = max(self._renewed_at or 0.0, _now() + error.retry_after)
            raise

    def _check(self, request: Request, renewed_at: float) -> None:
        left = renewed_at - _now()
        if left > 0:
            raise QuotaExceededError(request.call, 429, retry_after=left)
        self._renewed_at = None


def _now() -> float:
    return asyncio.get_running_loop().time()
