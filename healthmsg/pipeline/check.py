"""The check step: an error code becomes a typed error."""

from collections.abc import Mapping
from typing import Final

import orjson

from healthmsg.errors import (
    BadGatewayError,
    BadRequestError,
    ForbiddenError,
    InternalServerError,
    MethodNotAllowedError,
    NotFoundError,
    PreconditionFailedError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
    StatusError,
    UnauthorizedError,
)
from healthmsg.pipeline.exchange import Request, Response, Send
from healthmsg.pipeline.headers import http_date, quota_headers, quota_of, service_time, wait_for_reset
from healthmsg.pipeline.notices import Notices
from healthmsg.pipeline.server_clock import ServerClock

_ERRORS: Final[Mapping[int, type[StatusError]]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    412: PreconditionFailedError,
    429: RateLimitedError,
    500: InternalServerError,
    502: BadGatewayError,
    503: ServiceUnavailableError,
}
_LONGEST_MESSAGE: Final = 300
_SUCCESS: Final = frozenset({*range(200, 300), 304})  # the vendor's client accepts 304 [V]
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Answers that carry a link."""


class CheckStep:
    """Passes an answer of success on, and raises the error that any other stands for."""

    def __init__(self, notices: Notices | None = None, clock: ServerClock | None = None) -> None:
        self._notices = notices
        self._clock = clock

    async def __call__(self, request: Request, proceed: Send) -> Response:
        """Check one answer."""
        clock = self._clock
        if clock is not None:
            request.departed_at = clock.now()
        response = await proceed(request)
        if clock is not None:
            request.answered_at = clock.now()
            clock.seen(response.headers.get("Date"), request.departed_at, request.answered_at)
        if self._notices is not None:
            self._notices.look_at(request.call, response.headers)
        if response.status in _SUCCESS or (request.answers_with_link and response.status in REDIRECTS):
            return response
        raise status_error(response, request)


def status_error(response: Response, request: Request) -> StatusError:
    """Make the error that an answer stands for. The error body's shape is assumed [A]."""
    headers = quota_headers(response.headers)
    quota = None if headers is None else quota_of(headers)
    failed = response.status >= 500  # noqa: PLR2004 - HTTP
    kind = _ERRORS.get(response.status, ServerError if failed else StatusError)
    if kind is RateLimitedError and quota and quota.remaining == 0:
        kind = QuotaExceededError
    code, message = _servers_words(response.body)
    retry_after = _retry_after(response.headers)
    if kind is QuotaExceededError and retry_after is None and quota:
        retry_after = wait_for_reset(quota, service_time(response.headers))
    return kind(
        response.call,
        response.status,
        server_message=message,
        server_code=code,
        retry_after=retry_after,
        outcome=request.outcome_unheard if failed or response.status < 400 else None,  # noqa: PLR2004 - HTTP
        quota=quota,
    )


def _servers_words(body: bytes) -> tuple[str, str]:
    try:
        words = orjson.loads(body)
    except orjson.JSONDecodeError:
        words = None
    if not isinstance(words, dict):
        return "", body[: 4 * _LONGEST_MESSAGE].decode(errors="replace")[:_LONGEST_MESSAGE]
    error, message = words.get("error"), words.get("message")
    code = error if isinstance(error, str) else ""
    return code[:_LONGEST_MESSAGE], (message if isinstance(message, str) else code)[:_LONGEST_MESSAGE]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read seconds or a date [A: RFC 9110] as seconds from now."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    moment = http_date(value)
    if moment is None:
        return None
    return max(0.0, (moment - service_time(headers)).total_seconds())
