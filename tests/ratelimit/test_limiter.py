import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiolimiter import AsyncLimiter
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from healthmsg.errors import CallTimeoutError, ConnectError, ConnectionLostError, RateLimitedError
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import Slot
from tests.servers import a_request, in_fake_time, response

pytestmark = [pytest.mark.looptime(noop_cycles=0), pytest.mark.usefixtures("ticking_clock")]
# Fake time moves in microseconds, and aiolimiter's sums are inexact.
ABOUT = 1e-4
TWO = RateLimit(calls=2)


@frozen
class Path:
    """A network, a server, and callers that lose patience."""

    seed: int
    way: float = 0.1
    """The longest one-way delay."""
    answer: float = 0.0
    """The longest that the server takes."""
    least_answer: float = 0.0
    trouble: float = 0.0
    """Which share of the calls ends in each of the ways a call can end badly."""
    spread: float = 0.0
    """How long it takes until all callers have come."""


@define
class Run:
    """Many calls over such a path."""

    path: Path
    limiter: Limiter = field(factory=lambda: Limiter(RateLimit()))
    arrivals: list[float] = field(factory=list)
    departures: list[float] = field(factory=list)

    async def calls(self, count: int) -> None:
        dice = random.Random(self.path.seed)  # noqa: S311 - no secret
        step = LimitStep(self.limiter, longest_pause=math.inf)
        started = self.limiter.now()
        await asyncio.gather(*(self._call(step, random.Random(dice.random())) for _ in range(count)))  # noqa: S311
        self.departures = [moment - started for moment in self.departures]
        await asyncio.sleep(5)
        assert self.limiter._window.count_returned(self.limiter.now())
        assert self.limiter._window.free == self.limiter.rate.calls

    async def _call(self, step: LimitStep, dice: random.Random) -> None:
        await asyncio.sleep(dice.uniform(0, self.path.spread))
        priority = dice.choice(list(Priority))
        request = Request("GET x", "GET", "x", priority=priority)
        call = asyncio.create_task(step(request, lambda request: self._carry(request, dice)))
        if dice.random() < self.path.trouble:
            with suppress(TimeoutError, ConnectError, RateLimitedError):
                await asyncio.wait_for(call, dice.uniform(0, 8))
        else:
            with suppress(ConnectError, RateLimitedError):
                await call

    async def _carry(self, request: Request, dice: random.Random) -> Response:
        assert request.current.slot is not None
        if dice.random() < self.path.trouble:
            await asyncio.sleep(dice.uniform(0, 2))
            raise ConnectError("GET x", "no")
        now = self.limiter.now()
        self.departures.append(now)
        request.current.slot.sent()
        way_there = dice.uniform(0, self.path.way)
        self.arrivals.append(now + way_there)
        await asyncio.sleep(
            way_there
            + dice.uniform(self.path.least_answer, self.path.answer)
            + dice.uniform(0, self.path.way)
        )
        request.current.slot.answered()
        if dice.random() < self.path.trouble / 3:
            raise RateLimitedError("GET x", 429, retry_after=dice.choice([None, 0.0, 0.3, 0.5]))
        return response()

    def most_in_one_interval(self) -> int:
        ordered = sorted(self.arrivals)
        per = self.limiter.rate.per - ABOUT
        ends = itertools.count()
        end = next(ends)
        most = 0
        for start, first in enumerate(ordered):
            while end < len(ordered) and ordered[end] < first + per:
                end = next(ends)
            most = max(most, end - start)
        return most


def fire_timers_early() -> None:
    """Do as uvloop does, whose timers count whole milliseconds; the network stays on time."""
    loop = asyncio.get_running_loop()
    on_time = loop.call_at

    def early(when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        if not isinstance(getattr(callback, "__self__", None), Limiter | AsyncLimiter):
            return on_time(when, callback, *args, context=context)
        return on_time(max(when - 0.001, min(when, loop.time() + 0.0003)), callback, *args, context=context)

    loop.call_at = early  # type: ignore[assignment,method-assign]


paths = st.builds(
    Path,
    seed=st.integers(0, 10**9),
    way=st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.1]),
    answer=st.sampled_from([0.0, 0.05, 3.0]),
    trouble=st.sampled_from([0.0, 0.1, 0.4]),
    spread=st.sampled_from([0.0, 3.0, 5.5, 10.0]),
)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(path=paths, burst=st.sampled_from([1, 1, 2, 10, 30]), early=st.booleans())
def test_no_second_holds_more_arrivals_than_the_limit_whatever_befalls_the_calls(
    path: Path, burst: int, *, early: bool
) -> None:
    async def main() -> None:
        if early:
            fire_timers_early()
        run = Run(path, Limiter(RateLimit(burst=burst)))
        await run.calls(150)
        assert run.most_in_one_interval() <= 30
        gaps = [after - before for before, after in zip(run.departures, run.departures[burst:], strict=False)]
        assert min(gaps) > 0.9 / 30

    in_fake_time(main)


@pytest.mark.parametrize("seed", range(25))
def test_a_path_with_jitter_brings_no_burst_in_the_first_seconds(seed: int) -> None:
    # The shortest round trip of the first calls is no measure of the way back yet.
    async def main() -> None:
        run = Run(Path(seed, way=0.1))
        await run.calls(100)
        assert run.most_in_one_interval() <= 30

    in_fake_time(main)


@pytest.mark.parametrize(("answer", "rate"), [(0.0, 29.9), (3.0, 27)])
async def test_the_rate_is_reached(answer: float, rate: float) -> None:
    run = Run(Path(1, way=0.0, answer=answer, least_answer=answer))
    await run.calls(600)
    assert run.departures[-1] < 600 / rate
    assert run.most_in_one_interval() <= 30
    assert min(after - before for before, after in itertools.pairwise(run.departures)) > 0.9 / 30


@pytest.mark.parametrize("burst", [2, 10])
async def test_after_a_rest_a_burst_leaves_close_together_and_the_rest_is_spaced(burst: int) -> None:
    limiter = Limiter(RateLimit(burst=burst))
    for _ in range(2):
        started = limiter.now()
        slots = await asyncio.gather(*(limiter.acquire(Priority.INTERACTIVE) for _ in range(burst + 3)))
        waits = [slot.waited for slot in slots]
        assert max(waits[:burst]) < ABOUT
        assert waits[burst:] == pytest.approx([(1 - 0.06) / 30, 1.94 / 30, 2.94 / 30], abs=0.001)
        assert limiter.now() - started == pytest.approx(2.94 / 30, abs=0.001)
        for slot in slots:
            slot.release_unused()
        await asyncio.sleep(2)


async def take_slot(
    limiter: Limiter, order: list[str], name: str, priority: Priority = Priority.INTERACTIVE
) -> Slot:
    slot = await limiter.acquire(priority)
    slot.sent()
    slot.answered()
    order.append(name)
    return slot


async def test_calls_of_a_lane_go_in_the_order_in_which_they_came() -> None:
    limiter, order = Limiter(RateLimit()), list[str]()
    names = [f"{number}" for number in range(70)]
    await asyncio.gather(*(take_slot(limiter, order, name) for name in names))
    assert order == names


async def test_an_interactive_call_goes_before_all_that_wait_in_the_background() -> None:
    limiter, order = Limiter(RateLimit()), list[str]()
    bulk = [asyncio.create_task(take_slot(limiter, order, "bulk", Priority.BACKGROUND)) for _ in range(200)]
    await asyncio.sleep(3)
    gone = len(order)
    await take_slot(limiter, order, "interactive")
    assert order.index("interactive") <= gone + 1
    await asyncio.gather(*bulk)


async def test_the_end_of_a_bulk_upload_goes_behind_the_interactive_calls_and_before_the_bulk() -> None:
    limiter, order = Limiter(RateLimit()), list[str]()
    upload = await limiter.acquire(Priority.BACKGROUND)
    upload.sent()
    await asyncio.sleep(0.2)
    limiter.pause(0.1)
    bulk = [asyncio.create_task(take_slot(limiter, order, "bulk", Priority.BACKGROUND)) for _ in range(3)]
    await asyncio.sleep(0)
    ending = asyncio.create_task(upload.before_last_chunk())
    ending.add_done_callback(lambda _: order.append("upload"))
    await asyncio.sleep(0)
    await asyncio.gather(ending, take_slot(limiter, order, "interactive"), *bulk)
    assert order == ["interactive", "upload", "bulk", "bulk", "bulk"]


async def test_long_uploads_among_the_calls_take_no_more_than_their_two_slots() -> None:
    limiter = Limiter(RateLimit())
    step = LimitStep(limiter, longest_pause=1)

    async def proceed(request: Request) -> Response:
        slot = request.current.slot
        assert slot is not None
        slot.sent()
        if request.priority is Priority.INTERACTIVE:
            await asyncio.sleep(4)
            await slot.before_last_chunk()
        await asyncio.sleep(0.02)
        slot.answered()
        return response()

    lanes = [Priority.INTERACTIVE] * 60 + [Priority.BACKGROUND] * 480
    started = limiter.now()
    await asyncio.gather(*(step(Request("x", "POST", "x", priority=priority), proceed) for priority in lanes))
    assert limiter.now() - started == pytest.approx(600 / 30, rel=0.02)


async def sends(request: Request) -> None:
    assert request.current.slot is not None
    request.current.slot.sent()


async def is_answered(request: Request, after: float) -> None:
    await sends(request)
    await asyncio.sleep(after)
    assert request.current.slot is not None
    request.current.slot.answered()


async def loses_the_line(request: Request) -> None:
    await sends(request)
    await asyncio.sleep(0.3)
    raise ConnectionLostError("POST x", "lost")


async def is_late(request: Request) -> None:
    await sends(request)
    await asyncio.sleep(0.3)
    raise CallTimeoutError("POST x", "late")


async def never_connects(request: Request) -> None:
    await asyncio.sleep(0.3)
    raise ConnectError("POST x", "no")


async def hangs_unsent(request: Request) -> None:
    await asyncio.sleep(0.3)
    raise asyncio.CancelledError


async def hangs_sent(request: Request) -> None:
    await sends(request)
    await asyncio.sleep(0.3)
    raise asyncio.CancelledError


# Of two slots, the second call has the other until 1.6 s.
@pytest.mark.parametrize(
    ("fate", "third_goes_at"),
    [
        pytest.param(lambda request: is_answered(request, 0.02), 1.02, id="answered"),
        pytest.param(lambda request: is_answered(request, 3.0), 1.1, id="answered late"),
        pytest.param(loses_the_line, 1.1, id="the line broke"),
        pytest.param(is_late, 1.1, id="timed out"),
        pytest.param(hangs_sent, 1.1, id="cancelled after it was sent"),
        pytest.param(hangs_unsent, 1.4, id="cancelled while it may have been leaving"),
        pytest.param(never_connects, 1.0, id="never connected: only the spacing is waited for"),
    ],
)
async def test_a_slot_comes_back_once_and_at_the_right_moment(
    fate: Callable[[Request], Awaitable[None]], third_goes_at: float
) -> None:
    limiter = Limiter(TWO)
    step = LimitStep(limiter, longest_pause=60)
    departures: list[float] = []
    started = limiter.now()

    async def proceed(request: Request) -> Response:
        departures.append(limiter.now() - started)
        if len(departures) == 1:
            await fate(request)
        else:
            await sends(request)
            await asyncio.sleep(9)
        return response()

    await asyncio.gather(*(step(a_request(), proceed) for _ in range(3)), return_exceptions=True)
    assert departures[1] == pytest.approx(0.5, abs=0.04)
    assert departures[2] == pytest.approx(third_goes_at, abs=0.04)
    assert departures[2] >= third_goes_at - (0.04 if fate is never_connects else ABOUT)
    await asyncio.sleep(5)
    assert limiter._window.count_returned(limiter.now())
    assert limiter._window.free == 2


async def test_what_is_reported_twice_or_too_late_counts_once() -> None:
    limiter = Limiter(TWO)
    slot = await limiter.acquire(Priority.INTERACTIVE)
    for _ in range(2):
        slot.sent()
        slot.answered()
        slot.release_unused()
        slot.abandoned()
    await asyncio.sleep(5)
    slot.answered()
    await asyncio.sleep(5)
    assert limiter._window.count_returned(limiter.now())
    assert limiter._window.free == 2


async def test_a_waiter_cancelled_in_the_tick_it_is_let_go_gives_its_slot_back_at_once() -> None:
    limiter = Limiter(RateLimit(calls=3))
    await limiter.acquire(Priority.INTERACTIVE)
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))
    waiter = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))
    await first
    pop = limiter._queue.pop

    def cancelling() -> Any:
        limiter._queue.pop = pop  # type: ignore[method-assign]
        loop.call_soon(waiter.cancel)  # runs when the waiter has been let go, and before it knows
        return pop()

    limiter._queue.pop = cancelling  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert limiter.waiting == 0
    assert limiter._window.count_returned(limiter.now())
    assert limiter._window.free == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_only_a_steady_path_tells_how_long_the_way_back_is() -> None:
    limiter = Limiter(RateLimit(calls=5))
    assert [limiter._window.least_way_back(0.1) for _ in range(5)] == [0.0] * 5
    assert 0.05 < limiter._window.least_way_back(0.1) < 0.1
    assert limiter._window.least_way_back(0.3) == 0.0
    assert limiter._window.least_way_back(0.1) == 0.0


async def test_an_upload_that_took_long_tells_the_way_back_by_its_last_chunk() -> None:
    limiter = Limiter(RateLimit(calls=5))
    for _ in range(6):
        limiter._window.least_way_back(0.1)
    upload = await limiter.acquire(Priority.INTERACTIVE)
    upload.sent()
    await asyncio.sleep(0.6)
    await upload.before_last_chunk()
    await asyncio.sleep(0.1)
    upload.answered()
    assert limiter._window.least_way_back(0.1) == pytest.approx(0.08, abs=0.001)
    await asyncio.sleep(5)
    assert limiter._window.count_returned(limiter.now())
    assert limiter._window.free == 5
