import pytest

from healthmsg.errors import (
    NotFoundError,
    RateLimitedError,
    ReauthorizationRequiredError,
    ServiceUnavailableError,
    StatusError,
)
from healthmsg.pipeline.request import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from tests.pipeline.failures import (
    AGAIN,
    OFTEN,
    RAISED,
    UNHEARD,
    Course,
    Failure,
    Service,
    failure_of,
    idempotent,
    lost,
    not_connected,
    status,
    timed_out,
)
from tests.servers import a_request, response

pytestmark = pytest.mark.looptime(noop_cycles=0)


@pytest.mark.parametrize("failure", UNHEARD)
async def test_an_idempotent_call_is_made_again_and_unknown_since_its_first_unclear_try(
    failure: Failure,
) -> None:
    course = Course(failure)
    error = await course.unknown(idempotent())
    assert error.attempts == OFTEN
    assert error.started_at == course.began[0]
    assert error.is_idempotent
    assert "does no harm" in str(error)
    assert "not sent again" not in str(error)
    assert type(error.__cause__) is type(failure(a_request()))


@pytest.mark.parametrize("failure", UNHEARD)
async def test_an_idempotent_call_succeeds_when_a_later_try_does(failure: Failure) -> None:
    service, request = Service(failure), idempotent()

    async def third_time(request: Request) -> Response:
        return response() if request.current.number == 3 else await service(request)

    await RetryStep(Retries())(request, third_time)
    assert request.current.number == 3


@pytest.mark.parametrize("refusal", RAISED)
async def test_an_idempotent_call_that_is_refused_after_an_unclear_try_is_unknown(refusal: Failure) -> None:
    course, request = Course(not_connected, lost, refusal), idempotent()
    error = await course.unknown(request)
    assert error.attempts == 3
    assert error.started_at == course.began[1]
    assert error.status == getattr(refusal(request), "status", None)
    assert type(error.__cause__) is type(refusal(request))
    assert "an earlier try" in error.problem


async def test_an_idempotent_call_that_is_refused_after_tries_that_did_not_run_is_refused() -> None:
    service = Service(not_connected, status(RateLimitedError, 429), status(NotFoundError, 404))
    error = await failure_of(service, idempotent())
    assert isinstance(error, NotFoundError)
    assert error.attempts == 3


@pytest.mark.parametrize("failure", AGAIN)
async def test_an_idempotent_call_stays_unknown_when_no_later_try_runs(failure: Failure) -> None:
    course = Course(timed_out, failure)
    error = await course.unknown(idempotent())
    assert error.attempts == OFTEN
    assert error.started_at == course.began[0]


async def test_an_idempotent_call_stays_unknown_when_its_user_has_to_sign_in_again_meanwhile() -> None:
    course = Course(lost, lambda _: ReauthorizationRequiredError("again"))
    error = await course.unknown(idempotent())
    assert error.attempts == 2
    assert error.status is None
    assert isinstance(error.__cause__, ReauthorizationRequiredError)


async def test_an_idempotent_call_that_should_wait_too_long_is_unknown_at_once() -> None:
    course = Course(status(ServiceUnavailableError, 503, retry_after=61.0))
    error = await course.unknown(idempotent())
    assert (error.attempts, error.status) == (1, 503)
    assert isinstance(error.__cause__, StatusError)
    assert error.__cause__.retry_after == 61


async def test_an_unexpected_redirect_of_an_idempotent_call_is_not_tried_again() -> None:
    course = Course(lambda request: StatusError(request.call, 302, outcome=request.outcome_unheard))
    assert (await course.unknown(idempotent())).attempts == 1
