import asyncio
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from servers import METHODS, a_request, response

from healthmsg.errors import (
    BadRequestError,
    CallError,
    CallTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeliveryUnknownError,
    ForbiddenError,
    InternalServerError,
    NotFoundError,
    RateLimitedError,
    ReauthorizationRequiredError,
    ServerError,
    ServiceUnavailableError,
    UnauthorizedError,
    UploadFileError,
)
from healthmsg.outcome import Outcome
from healthmsg.pipeline.exchange import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep

pytestmark = pytest.mark.looptime(noop_cycles=0)
Failure = Callable[[Request], Exception]
OFTEN = Retries().attempts


class Service:
    """Fails as it is told to, then answers."""

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


# The table of the module's docstring.
AGAIN = [not_connected, status(RateLimitedError, 429), status(RateLimitedError, 429, retry_after=2.0)]
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
    bad_file,
]


async def failure_of(service: Service, request: Request, retries: Retries | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        await RetryStep(retries or Retries())(request, service)
    return caught.value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", AGAIN)
async def test_what_certainly_did_not_run_is_tried_again(method: str, failure: Failure) -> None:
    service, request = Service(failure), a_request(method)
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == request.attempt == OFTEN >= 6
    assert type(error) is type(failure(request))
    assert error.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", AGAIN)
async def test_a_call_succeeds_when_a_later_try_does(method: str, failure: Failure) -> None:
    service, request = Service(failure), a_request(method)

    async def sixth_time(request: Request) -> Response:
        return response() if request.attempt == 6 else await service(request)

    await RetryStep(Retries())(request, sixth_time)
    assert request.attempt == 6


@pytest.mark.parametrize("failure", UNHEARD)
async def test_a_reading_call_is_tried_again_whatever_became_of_it(failure: Failure) -> None:
    service, request = Service(failure), a_request("GET")
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == OFTEN
    assert type(error) is type(failure(request))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("failure", UNHEARD)
async def test_any_other_call_that_may_have_run_is_never_sent_again(method: str, failure: Failure) -> None:
    service, request = Service(failure), a_request(method)
    before = datetime.now(UTC)
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == 1
    assert isinstance(error, DeliveryUnknownError)
    assert error.outcome is Outcome.UNKNOWN
    assert before <= error.started_at <= datetime.now(UTC)
    cause = error.__cause__
    assert type(cause) is type(failure(request))
    assert error.status == getattr(cause, "status", None)
    assert isinstance(cause, CallError)
    assert cause.attempts == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("failure", RAISED)
async def test_anything_else_is_raised_at_once(method: str, failure: Failure) -> None:
    service, request = Service(failure), a_request(method)
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == 1
    assert type(error) is type(failure(request))


async def test_a_later_try_of_unknown_outcome_says_when_it_began_and_which_it_was() -> None:
    service, request = Service(not_connected, lost), a_request()
    began: list[float] = []

    async def proceed(request: Request) -> Response:
        began.append(request.started_at)
        return await service(request)

    with pytest.raises(DeliveryUnknownError) as caught:
        await RetryStep(Retries())(request, proceed)
    error = caught.value
    assert began[0] < began[1]
    assert error.attempts == len(service.tries) == 2
    assert error.started_at == datetime.fromtimestamp(began[1], UTC)
    assert isinstance(error.__cause__, ConnectionLostError)


@pytest.mark.parametrize("kind", [RateLimitedError, ServiceUnavailableError])
async def test_the_wait_that_the_service_asks_for_wins(kind: type[CallError]) -> None:
    service = Service(status(kind, 429, retry_after=17.0))
    await failure_of(service, a_request("GET"), Retries(attempts=3))
    assert service.tries == pytest.approx([0, 17, 34])


async def test_without_it_the_waits_grow_and_stay_below_the_longest() -> None:
    service = Service(not_connected)
    await failure_of(service, a_request(), Retries(attempts=40, max_wait=4, total=1000))
    waits = [after - before for before, after in zip(service.tries, service.tries[1:], strict=False)]
    assert len(waits) == 39
    assert max(waits) <= 4.001
    assert waits[0] <= 0.501
    assert max(waits) > 1  # one of 35 draws from 0..4: it fails once in 10**21 runs


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("asked", [60.5, 1e9, math.inf])
async def test_a_wait_that_is_too_long_is_not_waited(method: str, asked: float) -> None:
    service = Service(status(RateLimitedError, 429, retry_after=asked))
    error = await failure_of(service, a_request(method))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == asked
    assert service.tries == [0]


async def test_a_later_wait_that_is_too_long_is_not_waited_either() -> None:
    service = Service(not_connected, status(RateLimitedError, 429, retry_after=61))
    error = await failure_of(service, a_request())
    assert isinstance(error, RateLimitedError)
    assert error.attempts == 2


async def test_no_try_begins_after_the_total() -> None:
    service = Service(status(RateLimitedError, 429, retry_after=10.0))
    error = await failure_of(service, a_request(), Retries(total=25))
    assert service.tries == pytest.approx([0, 10, 20])
    assert error.attempts == 3


async def test_the_total_counts_from_the_first_failure_so_that_a_long_queue_costs_no_try() -> None:
    service = Service(status(RateLimitedError, 429, retry_after=10.0))

    async def queued(request: Request) -> Response:
        await asyncio.sleep(30 if request.attempt == 1 else 0)
        return await service(request)

    with pytest.raises(RateLimitedError):
        await RetryStep(Retries(total=25))(a_request(), queued)
    assert service.tries == pytest.approx([30, 40, 50])


@pytest.mark.parametrize("failure", [*AGAIN, *UNHEARD])
async def test_without_retries_there_is_one_try(failure: Failure) -> None:
    service = Service(failure)
    error = await failure_of(service, a_request("GET"), Retries.none())
    assert len(service.tries) == error.attempts == 1


async def test_who_is_cancelled_while_waiting_is_not_tried_again() -> None:
    service = Service(status(RateLimitedError, 429, retry_after=10.0))
    call = asyncio.create_task(RetryStep(Retries())(a_request(), service))
    await asyncio.sleep(5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(60)
    assert service.tries == [0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_is_cancelled_in_a_later_try_is_not_tried_again() -> None:
    service = Service(not_connected, lambda _: pytest.fail("not reached"))

    async def hangs_later(request: Request) -> Response:
        return await (service(request) if request.attempt == 1 else asyncio.sleep(99, response()))

    call = asyncio.create_task(RetryStep(Retries())(a_request(), hangs_later))
    await asyncio.sleep(5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_an_error_that_is_not_of_the_call_passes_through() -> None:
    # A renewal that fails on the second try.
    service = Service(not_connected, lambda _: ReauthorizationRequiredError("again"))
    with pytest.raises(ReauthorizationRequiredError):
        await RetryStep(Retries())(a_request(), service)
    assert len(service.tries) == 2


async def test_calls_that_wait_do_not_disturb_each_other() -> None:
    step = RetryStep(Retries())
    services = [Service(status(RateLimitedError, 429, retry_after=float(wait))) for wait in range(1, 20)]
    calls = (step(a_request(), service) for service in services)
    assert all(
        isinstance(end, RateLimitedError) for end in await asyncio.gather(*calls, return_exceptions=True)
    )
    assert [len(service.tries) for service in services] == [OFTEN] * len(services)


@pytest.mark.parametrize("name", ["attempts", "max_wait", "total"])
@pytest.mark.parametrize("value", [-1, True, math.nan, math.inf, "8", None])
def test_a_number_that_cannot_be_right_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Retries(**{name: value})


ONE_GOOD_CALL = """
import asyncio, sys
from healthmsg.pipeline.exchange import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep

async def answer(_):
    return Response("GET x", 200, {})

asyncio.run(RetryStep(Retries())(Request("GET x", "GET", "x"), answer))
sys.exit("tenacity" in sys.modules)
"""


def test_the_retry_library_is_not_loaded_for_a_call_that_succeeds() -> None:
    subprocess.run([sys.executable, "-c", ONE_GOOD_CALL], check=True)  # noqa: S603 - our own
