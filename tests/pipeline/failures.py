"""What can go wrong with a call, for the tests of the retry step."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from healthmsg.errors import (
    BadRequestError,
    CallError,
    CallTimeoutError,
    ConnectError,
    ConnectionLostError,
    DeliveryUnknownError,
    ForbiddenError,
    InternalServerError,
    NotFoundError,
    Outcome,
    PreconditionFailedError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    ServiceUnavailableError,
    TokenRenewalError,
    UnauthorizedError,
    UploadFileError,
)
from healthmsg.pipeline.request import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.routes import Idempotency
from tests.servers import a_request, response

Failure = Callable[[Request], Exception]
OFTEN = Retries().attempts
every_kind = pytest.mark.parametrize(
    ("method", "idempotency"),
    [
        ("GET", Idempotency.SAFE),
        ("PUT", Idempotency.IDEMPOTENT),
        ("PUT", Idempotency.NOT_IDEMPOTENT),
        ("DELETE", Idempotency.NOT_IDEMPOTENT),
        ("POST", Idempotency.NOT_IDEMPOTENT),
    ],
)


class Service:
    """Fails as it is ordered to, then answers."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = list(failures)
        self.tries: list[float] = []

    async def __call__(self, request: Request) -> Response:
        self.tries.append(asyncio.get_running_loop().time())
        if not self.failures:
            return response()
        failure = self.failures.pop(0) if len(self.failures) > 1 else self.failures[0]
        raise failure(request)


def status(kind: type[Any], code: int, **more: Any) -> Failure:
    is_server = issubclass(kind, ServerError)
    return lambda request: kind(
        request.call, code, outcome=request.outcome_unheard if is_server else None, **more
    )


def not_connected(request: Request) -> Exception:
    return ConnectError(request.call, "no")


def lost(request: Request) -> Exception:
    return ConnectionLostError(request.call, "lost", outcome=request.outcome_unheard)


def timed_out(request: Request) -> Exception:
    return CallTimeoutError(request.call, "late", outcome=request.outcome_unheard)


def bad_file(request: Request) -> Exception:
    return UploadFileError(request.call, "changed")


def no_token(request: Request) -> Exception:
    return TokenRenewalError(request.call)


# The table of the module's docstring.
AGAIN = [
    not_connected,
    no_token,
    status(RateLimitedError, 429),
    status(RateLimitedError, 429, retry_after=2.0),
    status(QuotaExceededError, 429, retry_after=2.0),
]
UNHEARD = [
    timed_out,
    lost,
    status(InternalServerError, 500),
    status(ServiceUnavailableError, 503, retry_after=1.0),
    status(ServerError, 599),
]
RAISED = [
    status(BadRequestError, 400),
    status(UnauthorizedError, 401),
    status(ForbiddenError, 403),
    status(NotFoundError, 404),
    status(PreconditionFailedError, 412),
    bad_file,
]


def a_call(method: str = "POST", idempotency: Idempotency = Idempotency.NOT_IDEMPOTENT) -> Request:
    request = a_request(method)
    request.idempotency = idempotency
    return request


def idempotent() -> Request:
    return a_call("PUT", Idempotency.IDEMPOTENT)


async def failure_of(service: Service, request: Request, retries: Retries | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        await RetryStep(retries or Retries())(request, service)
    return caught.value


class Course:
    """Notes when each try began."""

    def __init__(self, *failures: Failure) -> None:
        self.service = Service(*failures)
        self.began: list[datetime] = []

    async def __call__(self, request: Request) -> Response:
        self.began.append(datetime.fromtimestamp(request.current.started_at, UTC))
        return await self.service(request)

    async def unknown(self, request: Request, retries: Retries | None = None) -> DeliveryUnknownError:
        with pytest.raises(DeliveryUnknownError) as caught:
            await RetryStep(retries or Retries())(request, self)
        assert len(self.began) == len(set(self.began)) == caught.value.attempts == request.current.number
        assert caught.value.outcome is Outcome.UNKNOWN
        assert caught.value.call == request.call
        return caught.value
