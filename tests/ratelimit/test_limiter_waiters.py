import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from healthmsg.errors import ConfigurationError, QuotaExceededError, RateLimitedError
from healthmsg.pipeline.limit import LimitStep
from healthmsg.pipeline.request import Request, Response
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import Slot
from tests.machine import Machine
from tests.ratelimit.waiters import (
    all_slots_come_back,
    answered_slot,
    is_empty,
    until_the_spacing_holds,
    waiting,
)
from tests.servers import a_request, in_fake_time, response

pytestmark = [pytest.mark.looptime(noop_cycles=0), pytest.mark.usefixtures("ticking_clock")]
TWO = RateLimit(calls=2)


@pytest.fixture
def limiter() -> Limiter:
    return Limiter(TWO)


@pytest.mark.slow
@pytest.mark.thorough
async def test_a_hundred_thousand_cancelled_waiters_leave_nothing_behind(limiter: Limiter) -> None:
    await until_the_spacing_holds(limiter)
    tasks = await waiting(limiter, 100_000)
    assert limiter.waiting == 100_000
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert is_empty(limiter)
    assert (await answered_slot(limiter)).waited < 0.6
    assert await all_slots_come_back(limiter)


async def test_a_newcomer_in_the_tick_of_the_last_cancellation_is_not_forgotten(limiter: Limiter) -> None:
    await until_the_spacing_holds(limiter)
    (task,) = await waiting(limiter)
    task.cancel()
    newcomer = asyncio.create_task(answered_slot(limiter))
    async with asyncio.timeout(2):
        await newcomer
    assert is_empty(limiter)
    assert await all_slots_come_back(limiter)


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.46, 0.47, 0.5, 1.0])
async def test_a_cancelled_waiter_costs_the_others_nothing(limiter: Limiter, moment: float) -> None:
    await until_the_spacing_holds(limiter)
    first, second = await waiting(limiter, 2)
    await asyncio.sleep(moment)
    first.cancel()
    (await second).release_unused()
    assert limiter.now() < 1.6
    if not first.cancelled():
        first.result().release_unused()
    assert is_empty(limiter)
    assert await all_slots_come_back(limiter)


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.46])
async def test_who_waited_first_can_be_cancelled_while_others_wait(limiter: Limiter, moment: float) -> None:
    await until_the_spacing_holds(limiter)
    [first] = await waiting(limiter)
    others = [asyncio.create_task(answered_slot(limiter)) for _ in range(3)]
    await asyncio.sleep(moment)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()

    await asyncio.wait_for(asyncio.gather(*others), 10)
    assert is_empty(limiter)
    assert await all_slots_come_back(limiter)


async def test_who_waited_first_lets_a_person_go_before_a_bulk_run(limiter: Limiter) -> None:
    await until_the_spacing_holds(limiter)
    order: list[Priority] = []

    async def call(priority: Priority) -> None:
        slot = await limiter.acquire(priority)
        order.append(priority)
        slot.release_unused()

    lanes = [Priority.BACKGROUND, Priority.BACKGROUND, Priority.INTERACTIVE, Priority.FINISHING]
    calls = [asyncio.create_task(call(priority)) for priority in lanes]
    await asyncio.gather(*calls)

    assert order == sorted(lanes)
    assert is_empty(limiter)


async def test_who_waits_alone_needs_no_task_of_the_limiter(limiter: Limiter) -> None:
    await until_the_spacing_holds(limiter)
    [waiter] = await waiting(limiter)
    assert asyncio.all_tasks() == {asyncio.current_task(), waiter}
    await waiter


async def test_a_newcomer_does_not_overtake_who_waits_already(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter.pause(1)
    order: list[str] = []
    (first,) = await waiting(limiter)
    first.add_done_callback(lambda _: order.append("first"))
    await asyncio.sleep(0.1)
    # The pause is over, but the loop has been busy, so that the dispatcher does not know yet.
    now = limiter._window.now
    monkeypatch.setattr(limiter._window, "now", lambda: now() + 1)
    newcomer = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))
    newcomer.add_done_callback(lambda _: order.append("newcomer"))
    await asyncio.wait([first, newcomer])
    assert order == ["first", "newcomer"]


async def test_right_after_the_last_of_a_queue_a_newcomer_gets_in_line(limiter: Limiter) -> None:
    for task in await waiting(limiter, 3):
        (await task).release_unused()
    (newcomer,) = await waiting(limiter)
    assert limiter.waiting == 1
    (await newcomer).release_unused()


async def test_a_waiter_gets_a_slot_that_comes_back_sooner(limiter: Limiter) -> None:
    first, second, third = await waiting(limiter, 3)
    unsent = await first
    await second
    await asyncio.sleep(2)
    assert not third.done()
    unsent.release_unused()
    async with asyncio.timeout(0.1):
        await third


async def test_a_call_that_was_sent_is_never_taken_for_one_that_never_left(limiter: Limiter) -> None:
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    slot.release_unused()
    await asyncio.sleep(1.09)
    limiter._window.count_returned(limiter.now())
    assert limiter._window.free == 1
    assert await all_slots_come_back(limiter)


async def test_the_dispatcher_ends_when_no_call_waits(limiter: Limiter) -> None:
    for task in await waiting(limiter, 5):
        (await task).release_unused()
    await asyncio.sleep(0)
    assert is_empty(limiter)


def test_nothing_leaks_when_the_loop_ends_while_callers_wait() -> None:
    async def main() -> None:
        limiter = Limiter(TWO)
        await asyncio.sleep(0)
        for task in await waiting(limiter, 50):
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    in_fake_time(main)


async def test_who_survives_the_cancellation_of_all_tasks_still_gets_a_turn(limiter: Limiter) -> None:
    # Such as a task that says goodbye when Ctrl-C cancels everything.
    async def stubborn() -> Slot:
        try:
            return await limiter.acquire(Priority.INTERACTIVE)
        except asyncio.CancelledError:
            return await limiter.acquire(Priority.INTERACTIVE)

    await answered_slot(limiter)
    survivor = asyncio.create_task(stubborn())
    others = await waiting(limiter, 3)
    for task in (survivor, *others, *(asyncio.all_tasks() - {asyncio.current_task(), survivor, *others})):
        task.cancel()
    async with asyncio.timeout(3):
        (await survivor).release_unused()
    await asyncio.sleep(0)
    assert is_empty(limiter)


async def test_if_the_dispatcher_failed_no_call_would_wait_for_ever(limiter: Limiter) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    await answered_slot(limiter)
    limiter._spacing = SimpleNamespace(acquire=broken)  # type: ignore[assignment]
    first, second = await waiting(limiter, 2)
    for task in (first, second):
        with pytest.raises(ZeroDivisionError):
            await task


async def test_a_pause_holds_everybody_and_the_longest_one_wins(limiter: Limiter) -> None:
    started = limiter.now()
    limiter.pause(3)
    limiter.pause(1)
    interactive, background = (
        asyncio.create_task(limiter.acquire(priority))
        for priority in (Priority.INTERACTIVE, Priority.BACKGROUND)
    )
    (await interactive).release_unused()
    assert limiter.now() - started == pytest.approx(3, abs=0.001)
    (await background).release_unused()


async def test_a_pause_that_comes_while_callers_wait_holds_them_too(limiter: Limiter) -> None:
    await until_the_spacing_holds(limiter)
    started = limiter.now()
    (waiter,) = await waiting(limiter)
    await asyncio.sleep(0.2)
    limiter.pause(2)
    await asyncio.sleep(1)
    limiter.pause(4)
    (await waiter).release_unused()
    assert limiter.now() - started == pytest.approx(5.2, abs=0.001)


async def test_a_waiter_cancelled_in_a_pause_does_not_wedge_the_others(limiter: Limiter) -> None:
    limiter.pause(3)
    first, second = await waiting(limiter, 2)
    await asyncio.sleep(1)
    first.cancel()
    async with asyncio.timeout(2.6):
        (await second).release_unused()
    assert limiter.now() > 3
    assert is_empty(limiter)


@pytest.mark.parametrize(
    ("error", "held"),
    [
        (RateLimitedError("GET x", 429), 0.5),
        (RateLimitedError("GET x", 429, retry_after=3.0), 3),
        (RateLimitedError("GET x", 429, retry_after=1e9), 3600),
        (RateLimitedError("GET x", 429, retry_after=math.inf), 3600),
        (QuotaExceededError("GET x", 429, retry_after=3.0), 0.5),
    ],
)
async def test_a_429_holds_everybody_as_long_as_it_says_but_not_for_ever(
    limiter: Limiter, error: RateLimitedError, held: float
) -> None:
    step = LimitStep(limiter, longest_pause=7)

    async def refuse(request: Request) -> Response:
        assert request.current.slot is not None
        request.current.slot.sent()
        request.current.slot.answered()
        raise error

    with pytest.raises(RateLimitedError):
        await step(a_request(), refuse)
    started = limiter.now()
    (await limiter.acquire(Priority.INTERACTIVE)).release_unused()
    assert limiter.now() - started == pytest.approx(held, abs=0.04)


async def test_the_step_notes_how_long_a_call_waited(limiter: Limiter) -> None:
    async def proceed(request: Request) -> Response:
        return response()

    limiter.pause(2)
    request = a_request()
    await LimitStep(limiter, longest_pause=9)(request, proceed)
    assert request.current.waited == pytest.approx(2, abs=0.001)


# The first slot comes back after 1.1 s, so that none is held in between.
@pytest.mark.parametrize(("seconds", "held"), [(0.0, 1), (0.09, 1), (0.11, 2), (4.0, 1)])
async def test_only_an_upload_that_took_longer_than_the_arrival_takes_a_second_slot(
    limiter: Limiter, seconds: float, held: int
) -> None:
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    await asyncio.sleep(seconds)
    limiter._window.count_returned(limiter.now())
    before = limiter._window.free
    await slot.before_last_chunk()
    limiter._window.count_returned(limiter.now())
    assert limiter._window.free == 2 - held
    assert before - limiter._window.free == (seconds > limiter.rate.arrival)
    assert await all_slots_come_back(limiter)


async def test_the_last_chunk_of_a_long_upload_waits_for_the_limit(limiter: Limiter) -> None:
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    await asyncio.sleep(0.2)
    limiter.pause(3)
    await slot.before_last_chunk()
    assert limiter.now() > 3.2


@pytest.mark.parametrize("name", ["calls", "per", "burst", "arrival"])
@pytest.mark.parametrize("value", [0, -1, True, False, math.nan, math.inf, -math.inf, "30", None])
def test_a_number_that_cannot_be_a_limit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        RateLimit(**{name: value})


def test_a_burst_of_more_than_the_limit_is_refused() -> None:
    RateLimit(calls=3, burst=3)
    with pytest.raises(ConfigurationError, match="burst"):
        RateLimit(calls=3, burst=4)


@pytest.mark.parametrize("calls", [0.5, 1.5, 30.0])
def test_calls_are_counted_whole(calls: Any) -> None:
    with pytest.raises(ConfigurationError, match="calls"):
        RateLimit(calls=calls)


async def test_who_waits_learns_of_a_call_that_leaves_only_now(limiter: Limiter) -> None:
    first, second, third = await waiting(limiter, 3)
    unsent = [await first, await second]
    await asyncio.sleep(2)
    for slot in unsent:
        slot.sent()
    async with asyncio.timeout(1.2):
        await third


async def test_a_call_that_is_said_to_leave_again_is_counted_from_the_first_time(limiter: Limiter) -> None:
    slot = await limiter.acquire(Priority.INTERACTIVE)
    slot.sent()
    due = slot.due
    await asyncio.sleep(0.5)
    slot.sent()
    assert slot.due == due


@pytest.mark.parametrize("busy", [0.1, 3.0])
async def test_when_a_busy_event_loop_holds_up_the_first_call_the_second_waits_for_a_beat_from_then(
    limiter: Limiter, busy: float
) -> None:
    await answered_slot(limiter)
    second = asyncio.create_task(limiter.acquire(Priority.INTERACTIVE))
    loop = asyncio.get_running_loop()
    time = loop.time
    for owner, name in ((loop, "time"), (limiter._window, "now")):
        loop.call_soon(setattr, owner, name, lambda: time() + busy)  # runs when it has got in line
    slot = await second
    assert slot.waited == pytest.approx(busy + 0.5, abs=0.01)


async def test_a_long_pause_is_over_when_the_machine_has_slept_through_it(
    limiter: Limiter, machine: Machine
) -> None:
    limiter.pause_as_asked(3600)
    (waiter,) = await waiting(limiter)
    await asyncio.sleep(100)
    assert not waiter.done()
    machine.sleep(4000)

    (await waiter).release_unused()
    assert limiter.now() < 115
    assert limiter.asked_pause_left() == 0
    await asyncio.sleep(1)
    assert limiter.try_acquire(Priority.INTERACTIVE) is not None


async def test_what_is_left_of_a_long_pause_is_waited_for_after_a_sleep(
    limiter: Limiter, machine: Machine
) -> None:
    limiter.pause_as_asked(3600)
    machine.sleep(3000)
    assert limiter.asked_pause_left() == pytest.approx(600, abs=1)
    (waiter,) = await waiting(limiter)
    (await waiter).release_unused()
    assert limiter.now() == pytest.approx(600, abs=1)


async def test_a_sleep_shortens_no_pause_of_our_own(limiter: Limiter, machine: Machine) -> None:
    limiter.pause_as_asked(100)
    limiter.pause(200)
    machine.sleep(1000)
    assert limiter.asked_pause_left() == 0
    (await limiter.acquire(Priority.INTERACTIVE)).release_unused()
    assert limiter.now() == pytest.approx(200, abs=1)


async def test_what_was_sent_before_a_sleep_holds_its_slot_after_it(machine: Machine) -> None:
    limiter = Limiter(RateLimit(calls=1, per=1, arrival=0.1))
    (await limiter.acquire(Priority.INTERACTIVE)).sent()
    machine.sleep(1000)  # it may still be in the hands of the network
    await limiter.acquire(Priority.INTERACTIVE)
    assert limiter.now() == pytest.approx(1.1, abs=0.01)
