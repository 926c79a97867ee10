"""What a 429 does to the pace, against services that enforce a limit. In fake time."""

import asyncio
import itertools
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from attrs import define, field

from healthmsg.errors import (
    BadRequestError,
    CallError,
    InternalServerError,
    QuotaExceededError,
    RateLimitedError,
    ServiceUnavailableError,
    StatusError,
)
from healthmsg.pipeline import fold
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.pipeline.retry import Retries, RetryStep
from healthmsg.ratelimit.adaptive import AdaptiveRate
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.sandbox.limits import FixedWindow, RateLimitPolicy, SlidingWindow, SpikeArrest
from tests.servers import a_request, in_fake_time, response

pytestmark = [pytest.mark.looptime(noop_cycles=0), pytest.mark.usefixtures("ticking_clock")]
BEAT = 1 / 30


@define
class Service:
    """A service that enforces a policy, over a path with jitter."""

    policy: RateLimitPolicy
    dice: random.Random
    jitter: float = 0.0
    reported: bool = False
    """Whether a 429 says how long to wait."""
    admitted: list[float] = field(factory=list)
    refused: list[float] = field(factory=list)

    async def __call__(self, request: Request) -> Response:
        assert request.current.slot is not None
        request.current.slot.sent()
        await asyncio.sleep(self.dice.uniform(0, self.jitter))
        now = asyncio.get_running_loop().time()
        wait = self.policy.admit(now)
        (self.admitted if wait is None else self.refused).append(now)
        await asyncio.sleep(self.dice.uniform(0, self.jitter) + 0.001)
        request.current.slot.answered()
        if wait is not None:
            raise RateLimitedError("POST x", 429, retry_after=1 if self.reported else None)
        return response()

    async def serve_another_client(self, calls_a_second: float) -> None:
        while True:
            await asyncio.sleep(1 / calls_a_second)
            self.policy.admit(asyncio.get_running_loop().time())

    def rate(self) -> float:
        return (len(self.admitted) - 1) / (self.admitted[-1] - self.admitted[0])


async def lost_of(service: Service, calls: int, *, at_a_time: int | None = None) -> int:
    """Make calls with the default retries, and count those that fail for good."""
    send = fold([RetryStep(Retries()), LimitStep(Limiter(), longest_pause=60)], service)
    turns = asyncio.Semaphore(at_a_time or calls)

    async def call() -> bool:
        async with turns:
            try:
                await send(a_request())
            except CallError:
                return True
            return False

    return sum(await asyncio.gather(*(call() for _ in range(calls))))


@pytest.fixture(autouse=True)
def the_same_waits_in_every_run() -> Iterator[None]:
    # The retries draw their waits from here.
    state = random.getstate()
    random.seed(1)
    yield
    random.setstate(state)


def no_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "healthmsg")


@pytest.mark.parametrize("seed", range(3))
def test_under_jitter_a_spike_arrest_loses_nothing_and_passes_more_than_one_call_at_a_time(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    no_lines(caplog)

    async def main() -> None:
        rates = []
        for at_a_time in (None, 1):
            service = Service(SpikeArrest(), random.Random(seed), jitter=0.08)  # noqa: S311 - no secret
            assert await lost_of(service, 400, at_a_time=at_a_time) == 0
            rates.append(service.rate())
        together, one_at_a_time = rates
        assert together > one_at_a_time
        assert together > 12.5

    in_fake_time(main)


@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize("policy", [SlidingWindow, FixedWindow])
def test_when_another_program_takes_half_of_the_limit_we_settle_at_the_other_half(
    policy: Callable[[], RateLimitPolicy], caplog: pytest.LogCaptureFixture, *, reported: bool
) -> None:
    no_lines(caplog)

    async def main() -> None:
        service = Service(policy(), random.Random(1), reported=reported)  # noqa: S311 - no secret
        other = asyncio.create_task(service.serve_another_client(15))
        assert await lost_of(service, 400) == 0
        other.cancel()
        await asyncio.wait([other])
        assert service.rate() > (7 if reported else 13)
        half = service.admitted[200]
        assert sum(moment > half for moment in service.refused) < 200 * 0.15

    in_fake_time(main)


def test_when_all_of_the_limit_is_taken_for_a_while_nothing_is_lost_and_few_calls_are_wasted() -> None:
    async def main() -> None:
        service = Service(SlidingWindow(limit=1, period=5), random.Random(1))  # noqa: S311 - no secret
        service.policy.admit(asyncio.get_running_loop().time() - 0.01)
        asyncio.get_running_loop().call_later(5, setattr, service, "policy", SlidingWindow())
        assert await lost_of(service, 100) == 0
        assert len(service.refused) <= 12

    in_fake_time(main)


def test_a_limit_that_is_ours_alone_never_answers_429() -> None:
    async def main() -> None:
        for policy in (FixedWindow(), SlidingWindow(), SpikeArrest()):
            service = Service(policy, random.Random(1))  # noqa: S311 - no secret
            assert await lost_of(service, 200) == 0
            assert not service.refused
            assert service.rate() > 29.8

    in_fake_time(main)


class Refusing:
    """Answers as it is ordered to, and notes when each call left."""

    def __init__(self) -> None:
        self.error: StatusError | None = None
        self.left: list[float] = []

    async def __call__(self, request: Request) -> Response:
        assert request.current.slot is not None
        self.left.append(asyncio.get_running_loop().time())
        request.current.slot.sent()
        request.current.slot.answered()
        if self.error is not None:
            raise self.error
        return response()

    def gaps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.left)]


async def call(step: LimitStep, service: Refusing, *errors: StatusError | None) -> None:
    for error in errors:
        service.error = error
        with suppress(StatusError):
            await step(a_request(), service)


async def test_after_a_429_calls_leave_further_apart_until_good_answers_bring_them_together_again() -> None:
    step, service = LimitStep(Limiter(), longest_pause=60), Refusing()
    await call(step, service, None, None, RateLimitedError("x", 429), *[None] * 60)
    gaps = service.gaps()
    assert gaps[1] == pytest.approx(BEAT, rel=0.1)
    assert gaps[3] == pytest.approx(BEAT / 0.8, rel=0.02)
    assert gaps[3:30] == sorted(gaps[3:30], reverse=True)
    assert gaps[-1] == pytest.approx(BEAT, rel=0.1)


async def test_a_queue_leaves_further_apart_too() -> None:
    limiter, service = Limiter(RateLimit(burst=5)), Refusing()
    step = LimitStep(limiter, longest_pause=60)
    await call(step, service, RateLimitedError("x", 429))
    service.error = None
    await asyncio.gather(*(step(a_request(), service) for _ in range(10)))
    assert service.gaps()[1] == pytest.approx(BEAT / 0.8, rel=0.02)
    assert min(service.gaps()[1:]) > BEAT


@pytest.mark.parametrize(
    ("error", "raises"),
    [
        (None, True),
        (BadRequestError("x", 400), True),
        (InternalServerError("x", 500), False),
        (QuotaExceededError("x", 429), False),
    ],
)
async def test_what_the_service_took_in_raises_the_pace_again(
    error: StatusError | None, *, raises: bool
) -> None:
    limiter, service = Limiter(), Refusing()
    step = LimitStep(limiter, longest_pause=60)
    await call(step, service, RateLimitedError("x", 429), *[error] * 5)
    assert (limiter.adaptive.interval < BEAT / 0.8 - 1e-9) == raises


async def test_a_503_that_names_a_wait_pauses_all_and_does_not_slow_down() -> None:
    limiter, service = Limiter(), Refusing()
    step = LimitStep(limiter, longest_pause=60)
    await call(step, service, ServiceUnavailableError("x", 503, retry_after=5), None)
    await call(step, service, ServiceUnavailableError("x", 503), None)
    assert service.gaps() == pytest.approx([5, BEAT, BEAT], abs=0.002)
    assert not limiter.adaptive.is_slowed


async def test_pauses_without_a_named_wait_double_while_nothing_passes_up_to_an_interval() -> None:
    step, service = LimitStep(Limiter(), longest_pause=60), Refusing()
    nothing = RateLimitedError("x", 429)
    await call(step, service, *[nothing] * 9, None, nothing, None)
    gaps = service.gaps()
    assert gaps[3] == pytest.approx(2 * gaps[2], rel=0.1)
    assert gaps[4] == pytest.approx(2 * gaps[3], rel=0.1)
    assert gaps[7:9] == pytest.approx([1, 1], abs=0.01)
    assert gaps[-1] < 0.1


async def test_a_429_doubles_how_long_a_call_may_be_under_way_for_a_while() -> None:
    limiter, service = Limiter(RateLimit(calls=10)), Refusing()
    step = LimitStep(limiter, longest_pause=60)
    await call(step, service, RateLimitedError("x", 429))
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    assert slot.due - limiter.now() == pytest.approx(1.2, abs=0.001)
    await call(step, service, *[None] * 150)
    assert 0.1 < limiter.adaptive.arrival < 0.2
    await call(step, service, *[None] * 160)
    assert limiter.adaptive.arrival == 0.1
    assert not limiter.adaptive.is_recovering
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    assert slot.due - limiter.now() == pytest.approx(1.1, abs=0.001)


# The following look at the pace alone. All times are given.


def test_the_pace_is_lowered_once_for_all_calls_that_left_within_one_interval() -> None:
    pace = AdaptiveRate(30, 1.0, 0.1)
    for now, left_at in [(5.0, 4.9), (5.1, 4.95), (5.9, 5.8), (6.1, 5.99)]:
        pace.record_429(now, left_at)
        assert pace.interval == pytest.approx(BEAT / 0.8)
    pace.record_429(6.2, 6.0)
    assert pace.interval == pytest.approx(BEAT / 0.64)


def test_neither_the_pace_nor_the_time_under_way_goes_beyond_its_bound() -> None:
    pace = AdaptiveRate(30, 1.0, 0.1)
    for second in range(100):
        pace.record_429(2.0 * second, 2.0 * second)
    assert pace.interval == pytest.approx(60 * BEAT)
    assert pace.arrival == 1.0


def test_a_good_answer_to_a_call_from_before_the_429_changes_nothing() -> None:
    pace = AdaptiveRate(30, 1.0, 0.1)
    pace.record_429(5.0, 4.9)
    assert pace.backoff(5.0, 4.9) == pytest.approx(BEAT / 0.8 / 2)
    pace.record_success(4.95)
    assert pace.interval == pytest.approx(BEAT / 0.8)
    assert pace.backoff(5.1, 4.97) == pytest.approx(BEAT / 0.8 / 2)
    assert pace.backoff(5.2, 5.15) == pytest.approx(BEAT / 0.8)


def test_the_longest_pause_wins() -> None:
    pace = AdaptiveRate(30, 1.0, 0.1)
    pace.pause(5)
    pace.pause(4)
    assert pace.pause_until == 5
