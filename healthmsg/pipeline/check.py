"""The check step: an error code becomes a typed error."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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


async def check(request: Request, proceed: Send) -> Response:
    """Pass an answer of success on; raise the error that any other stands for."""
    response = await proceed(request)
    if response.status in _SUCCESS or (request.answers_with_link and response.status in REDIRECTS):
        return response
    raise status_error(response, request)


def status_error(response: Response, request: Request) -> StatusError:
    """Make the error that an answer stands for. The error body's shape is assumed [A]."""
    failed = response.status >= 500  # noqa: PLR2004 - HTTP
    error = _ERRORS.get(response.status, ServerError if failed else StatusError)
    if error is RateLimitedError and _is_quota_used_up(response.headers):
        error = QuotaExceededError
    code, message = _servers_words(response.body)
    return error(
        response.call,
        response.status,
        server_message=message,
        server_code=code,
        retry_after=_retry_after(response.headers.get("Retry-After", "")),
        outcome=request.outcome_unheard if failed or response.status < 400 else None,  # noqa: PLR2004 - HTTP
    )


def _is_quota_used_up(headers: Mapping[str, str]) -> bool:
    try:
        return int(headers["quota-used"]) >= int(headers["quota-limit"])
    except (KeyError, ValueError):
        return False


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


def _retry_after(value: str) -> float | None:
    """Read seconds or a date [A: RFC 9110] as seconds from now."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
