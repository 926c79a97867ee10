import asyncio
from datetime import timedelta

import pytest

from healthmsg import clock
from healthmsg.clock import SteadyClock, machine_seconds


class Machine:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(clock, "machine_seconds", machine)
    return machine


@pytest.fixture
async def loop_seconds(monkeypatch: pytest.MonkeyPatch) -> Machine:
    seconds = Machine()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", seconds)
    return seconds


async def test_it_goes_on_while_the_machine_sleeps(machine: Machine, loop_seconds: Machine) -> None:
    steady = SteadyClock()
    before = steady.now()
    machine.seconds += 600
    loop_seconds.seconds += 1  # as CLOCK_MONOTONIC does in suspend
    assert steady.now() - before == 600


async def test_it_follows_an_event_loop_whose_time_is_fake(machine: Machine, loop_seconds: Machine) -> None:
    steady = SteadyClock()
    before = steady.now()
    loop_seconds.seconds += 90
    assert steady.now() - before == 90
    machine.seconds += 5
    loop_seconds.seconds += 5
    assert steady.now() - before == 95


async def test_small_differences_of_the_two_clocks_do_not_add_up(
    machine: Machine, loop_seconds: Machine
) -> None:
    steady = SteadyClock()
    start = steady.now()
    for _ in range(1000):
        machine.seconds += 1.01
        steady.now()
        loop_seconds.seconds += 1.01
        steady.now()
    assert steady.now() - start == pytest.approx(1010, abs=1.1)


async def test_its_time_of_day_is_not_changed_by_setting_the_machine_s(
    machine: Machine, loop_seconds: Machine
) -> None:
    steady = SteadyClock()
    before = steady.moment()
    machine.seconds += 10
    assert steady.moment() - before == timedelta(seconds=10)
    assert steady.moment(0.0) == before


def test_the_clock_of_the_machine_does_not_go_back() -> None:
    first = machine_seconds()
    assert machine_seconds() >= first
