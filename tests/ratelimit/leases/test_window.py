"""The window of what is held on lease, under a limiter."""

import asyncio
import math

from healthmsg.ratelimit.leases.window import LeasedWindow
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.source import Feeds, StoreAwayError
from healthmsg.ratelimit.window import LimitStats
from tests.servers import in_fake_time


class Given:
    """A source of slots that a test gives and takes."""

    window: LeasedWindow

    def attach(self, limiter: Feeds) -> None:
        self.window = LeasedWindow(
            30, 1.0, now=limiter.now, machine_now=limiter.now, wake=limiter.wake, acquire=limiter.acquire
        )
        self.window.hold_off = limiter.hold_off
        self.window.usable_until = math.inf
        self.asked = 0
        self.away: StoreAwayError | None = None

    def start(self) -> None: ...

    def demand_changed(self) -> None:
        self.asked += 1

    def paused(self, seconds: float, *, asked: bool) -> None: ...

    def problem(self) -> StoreAwayError | None:
        return self.away

    def stats(self) -> LimitStats:
        return LimitStats("given", self.window.total)

    async def close(self) -> None: ...


def given(rate: RateLimit | None = None) -> tuple[Limiter, Given]:
    limiter, source = Limiter(rate), Given()
    limiter.use(source)
    return limiter, source


def test_a_slot_that_is_lost_while_it_waits_for_its_spacing_is_not_handed_out() -> None:
    async def main() -> None:
        limiter, source = given()
        source.window.add([0.0] * 3)
        waiting = [asyncio.create_task(limiter.acquire(Priority.INTERACTIVE)) for _ in range(3)]
        await waiting[1]
        await asyncio.sleep(0.01)
        assert source.window.free == 0  # the third one's slot is taken

        source.window.clear()
        await asyncio.sleep(3)

        assert [task.done() for task in waiting] == [True, True, False]
        source.window.add([0.0])
        await asyncio.gather(*waiting)
        assert source.window.free == 0

    in_fake_time(main)


def test_what_is_owed_is_taken_before_the_dispatcher_sees_it() -> None:
    async def main() -> None:
        limiter, source = given()
        source.window.add([0.0] * 2)
        slots = [await limiter.acquire(Priority.BACKGROUND) for _ in range(2)]
        for slot in slots:
            assert slot.sent()
        waiting = asyncio.create_task(limiter.acquire(Priority.BACKGROUND))
        await asyncio.sleep(0.1)

        source.window.owe(2)
        await asyncio.sleep(3)

        assert not waiting.done()
        assert (source.window.total, len(source.window.paid)) == (0, 2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    in_fake_time(main)


def test_a_slot_does_not_leave_after_its_lease() -> None:
    async def main() -> None:
        limiter, source = given()
        source.window.add([0.0])
        slot = await limiter.acquire(Priority.INTERACTIVE)
        source.window.usable_until = limiter.now() - 1

        assert not slot.sent()
        slot.release_unused()
        assert source.window.count_returned(limiter.now())
        assert not source.window.is_one_free(limiter.now())

    in_fake_time(main)


def test_an_interactive_call_does_not_wait_for_the_spreading_of_the_background() -> None:
    async def main() -> None:
        limiter, source = given()
        source.window.add([0.0] * 2)
        began = limiter.now()
        background = [asyncio.create_task(limiter.acquire(Priority.BACKGROUND)) for _ in range(2)]
        await background[0]
        await asyncio.sleep(0.05)

        await limiter.acquire(Priority.INTERACTIVE)

        assert limiter.now() - began < 0.2
        assert not background[1].done()
        background[1].cancel()
        await asyncio.gather(*background, return_exceptions=True)

    in_fake_time(main)


def test_calls_under_way_count_when_the_source_changes_and_changes_back() -> None:
    async def main() -> None:
        limiter, source = Limiter(RateLimit(2, 1.0)), Given()
        for _ in range(2):
            (await limiter.acquire(Priority.INTERACTIVE)).sent()
        limiter.use(source)
        source.window.add([0.0, 0.0])
        assert not source.window.is_one_free(limiter.now())
        began = limiter.now()

        (await limiter.acquire(Priority.INTERACTIVE)).sent()
        assert limiter.now() - began > 0.4
        assert limiter.is_shared

        await limiter.use_own()
        assert limiter.stats() == LimitStats("local")
        (await limiter.acquire(Priority.INTERACTIVE)).sent()
        (await limiter.acquire(Priority.INTERACTIVE)).sent()
        assert limiter.now() - began > 1.5

    in_fake_time(main)
