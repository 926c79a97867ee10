import asyncio
import copy
import math
import pickle
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from attrs import define, evolve, field

from healthmsg.errors import ConnectError, QuotaExceededError, RateLimitedError, StatusError
from healthmsg.pipeline import fold
from healthmsg.pipeline.check import CheckStep
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.quota import QuotaStep, UsedUp
from healthmsg.pipeline.request import Request, Response, Send
from healthmsg.quota import Quota
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from tests.machine import Machine
from tests.servers import a_request, response

pytestmark = pytest.mark.looptime(noop_cycles=0)


def quota_headers(used: int, *, limit: int = 10, reset: float | None = None) -> dict[str, str]:
    """Return quota headers; `reset` is in seconds from now."""
    headers = {"quota-limit": str(limit), "quota-used": str(used)}
    if reset is not None:
        headers["quota-reset-UTC"] = (datetime.now(UTC) + timedelta(seconds=reset)).isoformat()
    return headers


def answer(
    headers: dict[str, str] | None = None, status: int = 200, *, retry_after: str | None = None
) -> Response:
    wait = {} if retry_after is None else {"Retry-After": retry_after}
    return evolve(response(status), headers=(headers or {}) | wait)


@define
class User:
    """One user's way to a service that gives the answers it is ordered to, the last one for ever."""

    answers: list[Response]
    calls: int = 0
    step: QuotaStep = field(factory=QuotaStep)
    send: Send = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.send = fold([self.step, CheckStep()], self._answer)

    async def _answer(self, _: Request) -> Response:
        self.calls += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _answer_later(self, request: Request) -> Response:
        await asyncio.sleep(0.01)
        return await self._answer(request)

    async def call(self) -> Response:
        return await self.send(a_request("GET"))

    async def refused(self) -> QuotaExceededError:
        with pytest.raises(QuotaExceededError) as caught:
            await self.call()
        return caught.value


async def test_the_quota_is_as_last_seen() -> None:
    without_headers = answer()  # a proxy's
    user = User([answer(quota_headers(1)), without_headers, answer(quota_headers(2))])
    seen = [user.step.quota]
    for _ in range(3):
        await user.call()
        seen.append(user.step.quota)

    first, second = Quota(limit=10, used=1), Quota(limit=10, used=2)
    assert seen == [None, first, first, second]


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 405, 412, 418, 429, 500, 503])
async def test_an_answer_that_is_an_error_tells_the_quota_too(status: int) -> None:
    user = User([answer(quota_headers(3), status)])

    with pytest.raises(StatusError):
        await user.call()

    assert user.step.quota == Quota(limit=10, used=3)


async def test_a_429_holds_the_user_back_for_as_long_as_it_says() -> None:
    user = User([answer(quota_headers(10), 429, retry_after="100"), answer()])

    first = await user.refused()
    await asyncio.sleep(60)
    second = await user.refused()
    assert (first.retry_after, user.calls) == (100, 1)
    assert second.retry_after == pytest.approx(40)
    assert second.quota == Quota(limit=10, used=10)

    await asyncio.sleep(40)
    assert (await user.call()).status == 200
    assert (await user.call()).status == 200


async def test_a_429_without_a_wait_holds_the_user_back_until_the_reset() -> None:
    user = User([answer(quota_headers(10, reset=3600), 429), answer()])

    first = await user.refused()
    await asyncio.sleep(3590)
    await user.refused()
    assert first.retry_after == pytest.approx(3600, abs=5)
    assert user.calls == 1

    await asyncio.sleep(10)
    await user.call()


async def test_the_wait_that_a_429_names_counts_more_than_the_reset() -> None:
    user = User([answer(quota_headers(10, reset=3600), 429, retry_after="60"), answer()])

    assert (await user.refused()).retry_after == 60
    await asyncio.sleep(60)

    await user.call()


@pytest.mark.parametrize("reset", [None, -5])
async def test_a_429_that_names_no_time_to_come_holds_no_call_back(reset: float | None) -> None:
    user = User([answer(quota_headers(10, reset=reset), 429), answer()])

    assert (await user.refused()).retry_after is None

    await user.call()


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_the_last_call_of_a_quota_holds_the_next_one_back_until_the_reset(status: int) -> None:
    user = User([answer(quota_headers(10, reset=600), status), answer()])

    if status == 200:
        await user.call()
    else:
        with pytest.raises(StatusError):
            await user.call()
    error = await user.refused()
    assert error.retry_after == pytest.approx(600, abs=5)
    assert error.quota is not None
    assert error.quota.remaining == 0
    assert user.calls == 1

    await asyncio.sleep(600)
    await user.call()


@pytest.mark.parametrize(
    "headers",
    [
        quota_headers(9, reset=600),
        quota_headers(10),
        quota_headers(10, reset=-1),
        quota_headers(0, limit=0, reset=600),
    ],
)
async def test_no_call_is_held_back_without_need(headers: dict[str, str]) -> None:
    user = User([answer(headers)])

    await user.call()
    await user.call()

    assert user.calls == 2


async def test_what_is_known_of_a_token_ends_with_its_wait() -> None:
    used_up: dict[str | None, UsedUp] = {}
    step, another = QuotaStep(used_up), QuotaStep(used_up)
    for name in ("a", "b"):
        request = a_request("GET")
        request.current.token = name
        step._hold_back(request, 10)
    await asyncio.sleep(10)
    another._hold_back(a_request("GET"), 10)

    assert list(used_up) == [a_request("GET").current.token]


async def test_an_answer_that_comes_late_does_not_shorten_the_wait() -> None:
    user = User([answer(quota_headers(10, reset=600)), answer()])
    await user.call()
    user.step._hold_back(a_request("GET"), 5)

    assert (await user.refused()).retry_after == pytest.approx(600, abs=5)


async def test_a_429_of_the_calls_per_second_holds_no_call_back_for_the_quota() -> None:
    user = User([answer(quota_headers(3, reset=600), 429, retry_after="1"), answer()])

    with pytest.raises(RateLimitedError) as caught:
        await user.call()

    assert type(caught.value) is RateLimitedError
    assert caught.value.quota is not None
    assert caught.value.quota.used == 3
    await user.call()


FAR = "9" * 400


async def test_after_an_hour_one_call_goes_and_sees_whatever_the_wait() -> None:
    user = User(
        [
            answer(quota_headers(10), 429, retry_after=FAR),
            answer(quota_headers(10), 429, retry_after=FAR),
            answer(),
        ]
    )

    await user.refused()
    await asyncio.sleep(3599)
    assert (await user.refused()).retry_after == math.inf
    assert user.calls == 1

    await asyncio.sleep(2)
    await user.refused()
    assert user.calls == 2
    await user.refused()
    assert user.calls == 2

    await asyncio.sleep(3601)
    await user.call()
    await user.call()
    assert user.calls == 4


@pytest.mark.parametrize(
    "headers",
    [
        quota_headers(10) | {"quota-reset-UTC": "9999-12-31T23:59:59Z"},
        quota_headers(11) | {"quota-reset-UTC": "2031-01-01T00:00:00Z", "quota-time-unit": "fortnight"},
    ],
)
async def test_a_quota_that_says_used_up_while_calls_are_answered_locks_no_user_out(
    headers: dict[str, str],
) -> None:
    user = User([answer(headers)])

    await user.call()
    await user.refused()
    await asyncio.sleep(3601)
    for _ in range(5):
        await user.call()

    assert user.calls == 6


async def test_after_such_an_answer_a_429_holds_back_again() -> None:
    far = quota_headers(10, reset=10**8)
    user = User([answer(far), answer(far), answer(far, 429, retry_after="600"), answer(far)])

    await user.call()
    await asyncio.sleep(3601)
    await user.call()
    await user.refused()

    assert (await user.refused()).retry_after == pytest.approx(600)
    await asyncio.sleep(600)
    await user.call()


async def test_only_one_call_goes_and_sees_at_a_time() -> None:
    user = User([answer(quota_headers(10, reset=10**8)), answer()])
    user.send = fold([user.step, CheckStep()], user._answer_later)
    await user.call()
    await asyncio.sleep(3601)

    ends = await asyncio.gather(*(user.call() for _ in range(3)), return_exceptions=True)

    assert [type(end) for end in ends] == [Response, QuotaExceededError, QuotaExceededError]


@pytest.mark.parametrize("failure", [ConnectError("GET me", "x"), asyncio.CancelledError(), 503, 401, 429])
async def test_a_call_that_learns_nothing_leaves_it_to_the_next(failure: BaseException | int) -> None:
    ends: list[BaseException | int] = [failure, 200]

    async def fails_first(request: Request) -> Response:
        if user.calls == 0:
            return await user._answer(request)
        end = ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return answer({}, end)

    user = User([answer(quota_headers(10, reset=10**8))])
    user.send = fold([user.step, CheckStep()], fails_first)
    await user.call()
    await asyncio.sleep(3601)

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is what is given
        await user.call()
    assert not isinstance(caught.value, QuotaExceededError)
    await user.call()
    assert not ends


@pytest.mark.parametrize("kind", [RateLimitedError, QuotaExceededError])
def test_the_quota_survives_pickle_and_copy_and_is_not_in_the_message(kind: type[RateLimitedError]) -> None:
    reset = datetime(2026, 1, 2, tzinfo=UTC)
    quota = Quota(limit=4711, used=4712, interval=1, unit="day", reset=reset)
    error = kind("GET me", 429, retry_after=5, quota=quota)

    restored = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (restored.quota, copy.copy(error).quota, copy.deepcopy(error).quota) == (quota, quota, quota)
    assert restored.retry_after == 5
    assert "4711" not in f"{error} {error!r}"
    assert kind("GET me", 429).quota is None


async def test_who_queues_for_the_limit_when_the_quota_is_used_up_is_not_sent(ticking_clock: None) -> None:
    user, other = User([answer(quota_headers(10, reset=600)), answer()]), User([answer()])
    limit = LimitStep(Limiter(RateLimit()), longest_pause=60)
    for one in (user, other):
        one.send = fold([one.step, limit, CheckStep()], one._answer_later)

    started = asyncio.get_running_loop().time()
    calls = [one.call() for one in (user, user, other, user, other)]
    first, *ends = await asyncio.gather(*calls, return_exceptions=True)

    assert isinstance(first, Response)
    assert [type(end) for end in ends] == [QuotaExceededError, Response, QuotaExceededError, Response]
    assert (user.calls, other.calls) == (1, 2)
    # Those who were not sent have given their slots back.
    await asyncio.gather(*(other.call() for _ in range(27)))
    assert asyncio.get_running_loop().time() - started < 1.1
    await asyncio.sleep(600)
    await user.call()


@pytest.mark.parametrize("status", [200, 429])
async def test_a_quota_that_was_renewed_while_the_machine_slept_holds_no_call_back(
    machine: Machine, status: int
) -> None:
    user = User([answer(quota_headers(10, reset=3600), status), answer()])
    with suppress(QuotaExceededError):
        await user.call()
    machine.sleep(3000)
    assert (await user.refused()).retry_after == pytest.approx(600, abs=5)

    machine.sleep(700)
    assert (await user.call()).status == 200


@pytest.mark.parametrize("status", [200, 429])
async def test_the_wait_until_the_reset_is_by_the_services_clock(status: int) -> None:
    headers = quota_headers(10) | {
        "quota-reset-UTC": "2031-01-02T04:00:00Z",
        "Date": "Thu, 02 Jan 2031 03:00:00 GMT",
    }
    user = User([answer(headers, status), answer()])
    with suppress(QuotaExceededError):
        await user.call()

    assert (await user.refused()).retry_after == pytest.approx(3600, abs=1)
