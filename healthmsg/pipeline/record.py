"""The record step: each try is logged and reported, with nothing private in it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from healthmsg.errors import StatusError
from healthmsg.pipeline.exchange import Request, Response, Send

logger: Final = logging.getLogger("healthmsg")


class CallRecord(NamedTuple):  # which costs half of what a frozen attrs class does, for every call
    """One try of one call."""

    call: str
    """Method and route template."""
    status: int | None
    """The answer's code, or `None` when there was no answer."""
    duration: float
    """Seconds from the moment the limit let it go."""
    waited: float
    """Seconds spent waiting for the limit before."""
    attempt: int
    """1 for the first try."""
    error: str | None
    """The error's class."""


OnCall = Callable[[CallRecord], None]
"""Receives a record of each try. It must be quick; what it raises is logged by name."""


class RecordStep:
    """Logs each try at DEBUG on the logger `healthmsg`, and hands its record to `on_call`."""

    def __init__(self, on_call: OnCall | None) -> None:
        self._on_call = on_call

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Time one try."""
        if self._on_call is None and not logger.isEnabledFor(logging.DEBUG):
            return await proceed(request)
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            response = await proceed(request)
        except BaseException as error:
            status = error.status if isinstance(error, StatusError) else None
            self._report(request, status, clock() - started, type(error).__name__)
            raise
        self._report(request, response.status, clock() - started, None)
        return response

    def _report(self, request: Request, status: int | None, duration: float, error: str | None) -> None:
        record = CallRecord(request.call, status, duration, request.waited, request.attempt, error)
        if logger.isEnabledFor(logging.DEBUG):
            outcome = status if status is not None else error
            logger.debug("%s -> %s in %.3f s, attempt %d", record.call, outcome, duration, record.attempt)
        if self._on_call is None:
            return
        try:
            self._on_call(record)
        except Exception as failure:  # noqa: BLE001 - a message that was sent must not look as if it was not
            logger.error("on_call raised %s", type(failure).__name__)  # noqa: TRY400 - no traceback: it may be private
