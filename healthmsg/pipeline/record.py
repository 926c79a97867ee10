"""The record step: each try is counted, logged and reported, with nothing private in it."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from attrs import define, frozen

from healthmsg.clock import SteadyClock
from healthmsg.environment import port_of
from healthmsg.errors import CallError, StatusError
from healthmsg.live import EventsStats
from healthmsg.log import call_back, log, logger
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.ratelimit.window import LimitStats

_TOO_MANY_CALLS: Final = 429


class CallRecord(NamedTuple):  # which costs half of what a frozen attrs class does, for every call
    """One try of one call. It is made when the try ends: it began `duration` seconds before."""

    call: str
    """Method and route template."""
    status: int | None
    """The answer's code, or `None` when there was no answer."""
    duration: float
    """Seconds from the moment the limit let it go to its answer's end; of a download, to its beginning."""
    waited: float
    """Seconds spent waiting for the limit before."""
    attempt: int
    """1 for the first try."""
    error: str | None
    """The error's class."""
    host: str | None = None
    """The service's host, or that of its token URL; `None` for a file on a host that an answer named."""
    port: int | None = None
    """The port there."""
    transaction_id: str = ""
    """What KPN's gateway calls the call in an error of its own."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.call.partition(" ")[0]

    @property
    def route(self) -> str | None:
        """The path below the API's URL with its ids left open, as in `conversations/{id}/messages`.

        It is `None` for what has no route: a path of the caller's own, a token call, a file behind a link.
        """
        route = self.call.partition(" ")[2]
        return None if " " in route else route


OnCall = Callable[[CallRecord], None]
"""Receives a record of each try, in the task that makes the call.

It must be quick; what it raises is logged by name.
"""


@frozen
class Stats:
    """The figures of a client and all its views together, at one moment.

    They count tries, not calls: each repetition and each token call is one more. What is known of single
    tries is what `on_call` receives.
    """

    calls: int
    """Tries begun since the client was made."""
    retries: int
    """Those among them that repeated a try that had failed."""
    rate_limited: int
    """429s received [D]: over the limit, or over a user's quota."""
    waited: float
    """Seconds that the tries have waited for the limit, all added up; calls wait side by side."""
    in_flight: int
    """Tries under way now: past the limit, not answered yet. A download is answered when it begins."""
    queued: int
    """Calls that wait for the limit now; where clients share a limiter, those of all of them."""
    limit: LimitStats = LimitStats("local")
    """Where the slots of the limit come from, and whether what they are shared over can be reached."""
    events: EventsStats | None = None
    """Those of the stream of events that this client, or this view, has open."""


@define(eq=False)
class Counters:
    """The same figures while they are counted, by all record steps of a client."""

    calls: int = 0
    retries: int = 0
    rate_limited: int = 0
    waited: float = 0.0
    in_flight: int = 0

    def stats(self, *, queued: int) -> Stats:
        """Return the figures of this moment."""
        return Stats(self.calls, self.retries, self.rate_limited, self.waited, self.in_flight, queued)


class RecordStep:
    """Counts each try, logs it at DEBUG on the logger `healthmsg`, and hands its record to `on_call`.

    `url` is one on the host that the calls go to, if that is known beforehand. `now` is the client's steady
    clock.
    """

    def __init__(
        self,
        on_call: OnCall | None,
        counters: Counters,
        *,
        url: str | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._on_call = on_call
        self._counters = counters
        self._now = now or SteadyClock().now
        parts = urlsplit(url or "")
        self._host = parts.hostname
        self._port = port_of(parts)

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Count and time one try."""
        counters, current = self._counters, request.current
        counters.calls += 1
        counters.in_flight += 1
        if current.waited:
            counters.waited += current.waited
        if current.number > 1:
            counters.retries += 1
        current.departed_at = self._now()
        try:
            response = await proceed(request)
        except BaseException as error:
            counters.in_flight -= 1
            status = error.status if isinstance(error, StatusError) else None
            if status == _TOO_MANY_CALLS:
                counters.rate_limited += 1
            transaction_id = error.transaction_id if isinstance(error, CallError) else ""
            self._report(request, status, type(error).__name__, transaction_id)
            raise
        counters.in_flight -= 1
        self._report(request, response.status)
        return response

    def _report(
        self, request: Request, status: int | None, error: str | None = None, transaction_id: str = ""
    ) -> None:
        on_call, is_logged = self._on_call, logger.isEnabledFor(logging.DEBUG)
        if on_call is None and not is_logged:
            return
        current = request.current
        duration = (current.answered_at or self._now()) - current.departed_at
        if is_logged:
            _log(request, status, duration, error, transaction_id)
        if on_call is None:
            return
        record = CallRecord(
            request.call,
            status,
            duration,
            current.waited,
            current.number,
            error,
            self._host,
            self._port,
            transaction_id,
        )
        call_back("on_call", on_call, record)


def _log(
    request: Request, status: int | None, duration: float, error: str | None, transaction_id: str
) -> None:
    outcome = "%(error)s" if status is None else "%(status)d"
    transaction = ", transaction %(transaction_id)s" if transaction_id else ""
    log(
        logging.DEBUG,
        f"%(call)s -> {outcome} in %(duration).3f s, attempt %(attempt)d{transaction}",
        call=request.call,
        status=status,
        duration=duration,
        waited=request.current.waited,
        attempt=request.current.number,
        error=error,
        transaction_id=transaction_id,
    )
