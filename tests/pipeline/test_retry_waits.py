import asyncio
import math

import pytest

from healthmsg.errors import (
    CallError,
    ConnectError,
    RateLimitedError,
    ServiceUnavailableError,
    TokenRenewalError,
)
from healthmsg.pipeline.request import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from tests.machine import Machine
from tests.pipeline.failures import (
    Failure,
    Service,
    a_call,
    failure_of,
    no_token,
    not_connected,
    status,
)
from tests.servers import a_request

pytestmark = pytest.mark.looptime(noop_cycles=0)


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


@pytest.mark.parametrize("failure", [status(RateLimitedError, 429, retry_after=0.0), no_token])
async def test_who_asks_for_no_wait_is_not_hammered(failure: Failure) -> None:
    service = Service(failure)
    await failure_of(service, a_call(), Retries(attempts=40, max_wait=4, total=1000))
    assert service.tries[-1] > 10  # the sum of 39 draws, most of them from 0..4


async def test_a_token_call_can_ask_for_a_wait_as_well() -> None:
    service = Service(lambda request: TokenRenewalError(request.call, retry_after=17.0))
    await failure_of(service, a_call(), Retries(attempts=3))
    assert service.tries == pytest.approx([0, 17, 34])


async def test_no_try_begins_after_the_total() -> None:
    service = Service(status(RateLimitedError, 429, retry_after=10.0))
    error = await failure_of(service, a_request(), Retries(total=25))
    assert service.tries == pytest.approx([0, 10, 20])
    assert error.attempts == 3


@pytest.mark.parametrize("is_queue", [True, False])
async def test_the_total_counts_from_the_calls_beginning_without_the_wait_for_our_own_limit(
    *, is_queue: bool
) -> None:
    service = Service(status(RateLimitedError, 429, retry_after=10.0))

    async def after_30_seconds(request: Request) -> Response:
        await asyncio.sleep(30)
        request.current.waited = 30.0 if is_queue else 0.0
        return await service(request)

    with pytest.raises(RateLimitedError):
        await RetryStep(Retries(total=25))(a_request(), after_30_seconds)
    assert service.tries == pytest.approx([30, 70, 110] if is_queue else [30])


async def test_a_try_that_never_queued_does_not_count_the_wait_of_the_one_before() -> None:
    service = Service(status(RateLimitedError, 429, retry_after=10.0))
    waited: list[float] = []

    async def queues_at_first(request: Request) -> Response:
        waited.append(request.current.waited)
        if request.current.number == 1:
            await asyncio.sleep(30)
            request.current.waited = 30.0
        return await service(request)

    with pytest.raises(RateLimitedError):
        await RetryStep(Retries(total=25))(a_request(), queues_at_first)
    assert service.tries == pytest.approx([30, 40, 50])
    assert waited == [0, 0, 0]


async def test_a_try_that_another_step_adds_counts_too() -> None:
    request = a_call()

    async def two_at_once(request: Request) -> Response:
        request.begin_another_try()
        raise not_connected(request)

    with pytest.raises(ConnectError) as caught:
        await RetryStep(Retries(attempts=6))(request, two_at_once)
    assert caught.value.attempts == 6


@pytest.mark.parametrize(("method", "tries"), [("POST", 1), ("GET", 2)])
async def test_a_call_that_sends_is_not_tried_again_after_the_machine_slept_beyond_the_total(
    machine: Machine, method: str, tries: int
) -> None:
    service = Service(not_connected)

    async def sleep(request: Request) -> Response:
        machine.sleep(601)
        return await service(request)

    with pytest.raises(ConnectError) as caught:
        await RetryStep(Retries(attempts=2))(a_request(method), sleep)
    assert caught.value.attempts == tries


@pytest.mark.parametrize(("method", "tries"), [("POST", 1), ("GET", 2)])
async def test_nor_after_it_slept_in_the_wait_between_two_tries(
    machine: Machine, method: str, tries: int
) -> None:
    service = Service(status(RateLimitedError, 429, retry_after=30.0))
    call = asyncio.create_task(failure_of(service, a_request(method), Retries(attempts=2)))
    await asyncio.sleep(10)
    machine.sleep(600)
    assert (await call).attempts == tries
    assert len(service.tries) == tries
