import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from healthmsg.errors import (
    CallError,
    ConfigurationError,
    ConnectionLostError,
    DeliveryUnknownError,
    Outcome,
    RateLimitedError,
    ReauthorizationRequiredError,
)
from healthmsg.pipeline.request import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.routes import Idempotency
from tests.pipeline.failures import (
    AGAIN,
    OFTEN,
    RAISED,
    UNHEARD,
    Course,
    Failure,
    Service,
    a_call,
    every_kind,
    failure_of,
    lost,
    not_connected,
    status,
)
from tests.servers import a_request, response

pytestmark = pytest.mark.looptime(noop_cycles=0)


@every_kind
@pytest.mark.parametrize("failure", AGAIN)
async def test_what_certainly_did_not_run_is_tried_again(
    method: str, idempotency: Idempotency, failure: Failure
) -> None:
    service, request = Service(failure), a_call(method, idempotency)
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == request.current.number == OFTEN >= 6
    assert type(error) is type(failure(request))
    assert error.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("seconds", [2, 10, 30, 60])
async def test_what_certainly_did_not_run_is_tried_as_often_however_long_it_has_to_wait(seconds: int) -> None:
    service = Service(status(RateLimitedError, 429, retry_after=float(seconds)))

    async def slow(request: Request) -> Response:
        await asyncio.sleep(10)
        return await service(request)

    with pytest.raises(RateLimitedError) as caught:
        await RetryStep(Retries())(a_call(), slow)
    assert caught.value.attempts == OFTEN


@every_kind
@pytest.mark.parametrize("failure", AGAIN)
async def test_a_call_succeeds_when_a_later_try_does(
    method: str, idempotency: Idempotency, failure: Failure
) -> None:
    service, request = Service(failure), a_call(method, idempotency)

    async def sixth_time(request: Request) -> Response:
        return response() if request.current.number == 6 else await service(request)

    await RetryStep(Retries())(request, sixth_time)
    assert request.current.number == 6


@pytest.mark.parametrize("failure", UNHEARD)
async def test_a_reading_call_is_tried_again_whatever_became_of_it(failure: Failure) -> None:
    service, request = Service(failure), a_request("GET")
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == OFTEN
    assert type(error) is type(failure(request))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("failure", UNHEARD)
async def test_a_call_to_be_made_once_that_may_have_run_is_never_made_again(
    method: str, failure: Failure
) -> None:
    service, request = Service(failure), a_call(method)
    before = datetime.now(UTC)
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == 1
    assert isinstance(error, DeliveryUnknownError)
    assert error.outcome is Outcome.UNKNOWN
    assert not error.is_idempotent
    assert "not sent again" in str(error)
    assert before <= error.started_at <= datetime.now(UTC)
    cause = error.__cause__
    assert type(cause) is type(failure(request))
    assert error.status == getattr(cause, "status", None)
    assert isinstance(cause, CallError)
    assert cause.attempts == 1
    assert error.problem == cause.problem


@every_kind
@pytest.mark.parametrize("failure", RAISED)
async def test_anything_else_is_raised_at_once(
    method: str, idempotency: Idempotency, failure: Failure
) -> None:
    service, request = Service(failure), a_call(method, idempotency)
    error = await failure_of(service, request)
    assert len(service.tries) == error.attempts == 1
    assert type(error) is type(failure(request))


async def test_a_later_try_of_unknown_outcome_says_when_it_began_and_which_it_was() -> None:
    course = Course(not_connected, lost)
    error = await course.unknown(a_call())
    assert error.attempts == 2
    assert error.started_at == course.began[1] > course.began[0]
    assert isinstance(error.__cause__, ConnectionLostError)


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
        return await (service(request) if request.current.number == 1 else asyncio.sleep(99, response()))

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
