"""The limiter driven at random: after each step no interval holds more arrivals than the limit."""

import asyncio

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.ratelimit.queue import Priority
from healthmsg.ratelimit.window import Slot
from tests.servers import in_fake_time

pytestmark = pytest.mark.slow

# Fake time moves in microseconds.
ABOUT = 1e-5
ARRIVAL = 0.1

Step = tuple[str, int, float]
OFTEN = ("call", "call", "leave", "leave", "answer", "wait")
SELDOM = ("cancel", "lose", "fail", "refuse", "finish")
steps = st.lists(
    st.tuples(
        st.sampled_from(OFTEN * 2 + SELDOM),
        st.integers(0, 50),
        st.floats(0, 1),
    ),
    min_size=30,
    max_size=120,
)


@define(eq=False)
class Call:
    slot: Slot
    arrives: float = 0.0


@define(eq=False)
class World:
    """Callers, calls under way, and when each arrives at the service."""

    limiter: Limiter
    steady: bool
    """Whether all ways there take equally long, so that round trips can tell of the way back."""
    waiters: list[asyncio.Task[Slot]] = field(factory=list)
    unsent: list[Call] = field(factory=list)
    under_way: list[Call] = field(factory=list)
    arrivals: list[float] = field(factory=list)
    endings: list[tuple[Call, asyncio.Task[None]]] = field(factory=list)
    given_out: list[Slot] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        if not self.steady:  # a round trip that is drawn at random tells nothing of its way there
            self.limiter._window._round_trips_seen = -1_000

    def way(self, share: float) -> float:
        return ARRIVAL * (0.7 if self.steady else share)

    async def step(self, what: str, which: int, share: float) -> None:
        getattr(self, what)(which, share)
        await asyncio.sleep(share if what == "wait" else 0)
        for call, ending in [(call, ending) for call, ending in self.endings if ending.done()]:
            self.endings.remove((call, ending))
            if call.slot._second is not None:  # the service may count an upload when it is complete
                left_at = call.slot._second.sent_at
                assert left_at is not None
                call.arrives = left_at + self.way(share)
                self.arrivals.append(call.arrives)
        for waiter in [waiter for waiter in self.waiters if waiter.done()]:
            self.waiters.remove(waiter)
            if not waiter.cancelled():
                self.given_out.append(waiter.result())
                self.unsent.append(Call(waiter.result()))

    def call(self, which: int, _: float) -> None:
        priority = Priority.BACKGROUND if which % 2 else Priority.INTERACTIVE
        self.waiters += [asyncio.create_task(self.limiter.acquire(priority)) for _ in range(1 + which % 4)]

    def cancel(self, which: int, _: float) -> None:
        if self.waiters:
            self.waiters[which % len(self.waiters)].cancel()

    def leave(self, which: int, share: float) -> None:
        if self.unsent:
            call = self.unsent.pop(which % len(self.unsent))
            call.slot.sent()
            call.arrives = self.limiter.now() + self.way(share)
            self.arrivals.append(call.arrives)
            self.under_way.append(call)

    def fail(self, which: int, _: float) -> None:
        """Never make a connection."""
        if self.unsent:
            self.unsent.pop(which % len(self.unsent)).slot.release_unused()

    def lose(self, which: int, share: float) -> None:
        """Cut a call, or give it up while it may be leaving: it may still arrive."""
        if self.unsent and which % 2:
            self.unsent.pop(which % len(self.unsent)).slot.abandoned()
            self.arrivals.append(self.limiter.now() + self.way(share))
        elif self.under_way:
            self.under_way.pop(which % len(self.under_way)).slot.abandoned()

    def _arrived(self, which: int) -> Call | None:
        ending = [call for call, _ in self.endings]
        now = self.limiter.now()
        there = [call for call in self.under_way if call.arrives <= now and call not in ending]
        if not there:
            return None
        call = there[which % len(there)]
        self.under_way.remove(call)
        call.slot.answered()
        return call

    def answer(self, which: int, _: float) -> None:
        if call := self._arrived(which):
            self.limiter.record_success(call.slot)

    def refuse(self, which: int, share: float) -> None:
        if call := self._arrived(which):
            self.limiter.record_429(call.slot, share if which % 2 else None)

    def finish(self, which: int, _: float) -> None:
        """Come to the last chunk of an upload, which may need a second slot."""
        ending = [call for call, _ in self.endings]
        sending = [call for call in self.under_way if call.slot._second is None and call not in ending]
        if sending:
            call = sending[which % len(sending)]
            self.endings.append((call, asyncio.create_task(call.slot.before_last_chunk())))

    def wait(self, _: int, __: float) -> None:
        """Let time pass."""

    def check(self) -> None:
        calls, per = self.limiter.rate.calls, self.limiter.rate.per - ABOUT
        ordered = sorted(self.arrivals)
        for first, last in zip(ordered, ordered[calls:], strict=False):
            assert last - first >= per
        assert 0 <= self.limiter._window.free <= calls

    async def end(self) -> None:
        tasks = [*self.waiters, *(task for _, task in self.endings)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in self.unsent:
            call.slot.release_unused()
        for waiter in self.waiters:
            if not waiter.cancelled() and waiter.result() not in self.given_out:
                waiter.result().release_unused()
        await asyncio.sleep(5)
        assert self.limiter._window.count_returned(self.limiter.now())
        assert self.limiter._window.free == self.limiter.rate.calls
        assert not self.limiter.waiting


def rates() -> st.SearchStrategy[RateLimit]:
    def build(calls: int, burst: int) -> RateLimit:
        return RateLimit(calls=calls, burst=min(burst, calls), arrival=ARRIVAL)

    return st.builds(build, st.integers(1, 6), st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(rate=rates(), steps=steps, steady=st.booleans())
def test_after_each_step_no_interval_holds_more_arrivals_than_the_limit(
    rate: RateLimit, steps: list[Step], *, steady: bool
) -> None:
    async def main() -> None:
        world = World(Limiter(rate), steady)
        for what, which, share in steps:
            await world.step(what, which, share)
            world.check()
        await world.end()

    in_fake_time(main)
