"""The quota step: a user's quota that is used up holds back that user alone."""

import asyncio
import math

from healthmsg.errors import QuotaExceededError
from healthmsg.pipeline.exchange import Request, Response, Send


class QuotaStep:
    """Sends nothing for one user until that user's quota is renewed; others go on.

    The quota of the `quota-*` headers counts per user [D], unlike the calls per second, which are the limit
    step's business.
    """

    def __init__(self) -> None:
        self._renewed_at = -math.inf

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Go on, or say at once how long the quota will still be used up."""
        now = asyncio.get_running_loop().time
        left = self._renewed_at - now()
        if left > 0:
            raise QuotaExceededError(request.call, 429, retry_after=left)
        try:
            return await proceed(request)
        except QuotaExceededError as error:
            if error.retry_after is not None:
                self._renewed_at = max(self._renewed_at, now() + error.retry_after)
            raise
