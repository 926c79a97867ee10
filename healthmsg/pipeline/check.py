"""The check step: an error code becomes a typed error, and what headers announce is noted."""

import inspect
import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from healthmsg.clock import ServerClock, http_date, service_time
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
from healthmsg.json_text import NotJSONError, parse_json
from healthmsg.log import call_back, log
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.quota import has_quota, quota_of, wait_for_reset

_NOTICE: Final = "%(call)s is going to disappear; the service says: %(sunset)s"
_LONGEST_NOTICE: Final = 300
_NO_NOTICE: Final = frozenset({"", "n/a"})
# `call_back` and what it calls.
_FRAMES_BETWEEN: Final = 2
# What can stand between the user's own code and this step.
_NOT_THE_USERS: Final = frozenset({"healthmsg", "asyncio"})


class Notices:
    """Remembers the API's version, and warns once of each call that is going to disappear."""

    def __init__(self) -> None:
        self.api_version: str | None = None
        """The `api-version` header [D] as last seen."""
        self._announced: set[str] = set()

    def record(self, call: str, headers: Mapping[str, str]) -> None:
        """Record what the headers of one answer announce."""
        version = headers.get("api-version")
        if version and version.isprintable():  # what is no UTF-8 could not be written anywhere
            self.api_version = version
        sunset = headers.get("sunset")  # [D]: `n/a` when there is nothing to say
        if sunset and sunset != "n/a" and sunset.strip().lower() not in _NO_NOTICE:
            self._announce(call, sunset.strip())

    def _announce(self, call: str, sunset: str) -> None:
        if call in self._announced:
            return
        self._announced.add(call)
        words = "".join(sign if sign.isprintable() else "?" for sign in sunset[:_LONGEST_NOTICE])
        fields = {"call": call, "sunset": words}
        log(logging.WARNING, _NOTICE, **fields)
        level = _level_of_the_users_frame()
        call_back("showing a warning", _warn, _NOTICE % fields, level + _FRAMES_BETWEEN)


def _warn(notice: str, level: int) -> None:
    with suppress(DeprecationWarning):  # where warnings are errors
        warnings.warn(notice, DeprecationWarning, stacklevel=level)


def _level_of_the_users_frame() -> int:
    """Return the `stacklevel`, for the caller, of the innermost frame that is the user's own."""
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        frame, level = frame.f_back, level + 1
    return level


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
# Bytes: no more of an error's body is read as JSON, since that takes its time.
_LARGEST_ERROR: Final = 256 * 1024
# What stands for a transaction. It is logged, so it may be no text.
_is_transaction: Final = re.compile(r"[A-Za-z0-9_.:/+=-]{1,100}").fullmatch
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
        response = await proceed(request)
        clock, headers = self._clock, response.headers
        if clock is not None:
            current = request.current
            current.answered_at = answered_at = clock.now()
            clock.seen(headers.get("Date"), current.departed_at, answered_at)
        if self._notices is not None:
            self._notices.record(request.call, headers)
        if response.status in _SUCCESS or (request.answers_with_link and response.status in REDIRECTS):
            return response
        raise status_error(response, request)


def status_error(response: Response, request: Request) -> StatusError:
    """Make the error that an answer stands for. The error body's shape is assumed [A]."""
    quota = quota_of(response.headers) if has_quota(response.headers) else None
    failed = response.status >= 500  # noqa: PLR2004 - HTTP
    kind = _ERRORS.get(response.status, ServerError if failed else StatusError)
    if kind is RateLimitedError and quota and quota.remaining == 0:
        kind = QuotaExceededError
    words = _servers_words(response.body)
    retry_after = _retry_after(response.headers)
    if kind is QuotaExceededError and retry_after is None and quota:
        retry_after = wait_for_reset(quota, service_time(response.headers))
    return kind(
        response.call,
        response.status,
        server_message=words.message,
        server_code=words.code,
        server_info=words.info,
        transaction_id=words.transaction_id,
        retry_after=retry_after,
        outcome=request.outcome_unheard if failed or response.status < 400 else None,  # noqa: PLR2004 - HTTP
        quota=quota,
    )


class _Words(NamedTuple):
    """What the service says of an error."""

    message: str
    code: str = ""
    info: str = ""
    transaction_id: str = ""


def _servers_words(body: bytes) -> _Words:
    """Read the service's own words, or those of KPN's gateway in front of it [A: as elsewhere]."""
    document = None
    with suppress(NotJSONError):
        document = parse_json(body) if len(body) <= _LARGEST_ERROR else None
    if not isinstance(document, dict):
        return _Words(body[: 4 * _LONGEST_MESSAGE].decode(errors="replace")[:_LONGEST_MESSAGE])
    code = _text(document, "error") or _text(document, "name")
    transaction = document.get("transactionId")
    is_plain = isinstance(transaction, str) and _is_transaction(transaction) is not None
    return _Words(
        _text(document, "message") or _text(document, "error"),
        code,
        _text(document, "info"),
        str(transaction) if is_plain else "",
    )


def _text(document: Mapping[str, object], name: str) -> str:
    text = document.get(name)
    return text[:_LONGEST_MESSAGE] if isinstance(text, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read seconds or a date [A: RFC 9110] as seconds from now."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    moment = http_date(value)
    if moment is None:
        return None
    return max(0.0, (moment - service_time(headers)).total_seconds())
