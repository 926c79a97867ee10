"""What a process says that it needs."""

import asyncio

from healthmsg.ratelimit.leases.holder import Holder, Read
from healthmsg.ratelimit.leases.ledger import Terms
from healthmsg.ratelimit.leases.window import LeasedWindow
from healthmsg.ratelimit.queue import Priority


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_holder(clock: Clock) -> Holder:
    async def never(_: Priority) -> object:
        return await asyncio.Event().wait()

    window = LeasedWindow(
        30,
        1.0,
        now=clock,
        machine_now=clock,
        wake=lambda: None,
        acquire=never,  # type: ignore[arg-type] # none is asked for here
    )
    window.assume_arrival(0.1)
    return Holder(Terms(30, 1.0, 0.1, 1.2), window)


def test_what_a_burst_needed_is_kept_while_its_calls_hold_slots_and_forgotten_after_them() -> None:
    clock = Clock()
    holder = a_holder(clock)
    for _ in range(5):
        holder.window.used(Priority.INTERACTIVE)
    assert holder.needs(clock.now, (0, 0, 0)) == (6, 0, 0)

    clock.now = 0.9
    assert holder.needs(clock.now, (0, 0, 0)) == (6, 0, 0)

    # Idle slots of this process are what the bulk of the others lacks.
    clock.now = 1.2
    assert holder.needs(clock.now, (0, 0, 0)) == (0, 0, 0)


def test_calls_that_come_again_and_again_keep_what_the_most_of_a_second_needed() -> None:
    clock = Clock()
    holder = a_holder(clock)
    for number in range(3):
        clock.now = 0.5 + number * 0.01
        holder.window.used(Priority.INTERACTIVE)
        holder.needs(clock.now, (0, 0, 0))
    clock.now = 1.45
    holder.window.used(Priority.INTERACTIVE)
    assert holder.needs(clock.now, (0, 0, 0))[0] == 5

    clock.now = 1.8  # three of the four are over
    assert holder.needs(clock.now, (0, 0, 0))[0] == 5


def test_the_beat_of_one_that_is_about_to_join_is_left_alone_until_it_stands_still() -> None:
    # Ten that began at once deleted each other's, waited for each other's rows, and none ever joined.
    clock = Clock()
    holder = a_holder(clock)

    def over(beat: int) -> dict[str, int]:
        read = Read(None, "a start", {"joining": beat}, None)
        change = holder.decide(read, clock.now, (0, 0, 0))
        holder.refused()
        return dict(change.over)

    assert over(1) == {}
    clock.now = 2.0
    assert over(2) == {}
    clock.now = 4.0
    assert over(2) == {}
    clock.now = 4.5
    assert over(2) == {"joining": 2}
