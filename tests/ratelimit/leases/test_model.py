"""Slots on lease, in a model of processes, store and server: what must hold whatever happens."""

from collections.abc import Callable
from random import Random

import pytest

from tests.ratelimit.leases.model import Fleet, Network, bulk, restart, run_at_random

QUIET, JITTER = (0.0005, 0.002), (0.005, 0.08)


@pytest.mark.parametrize("seed", range(4))
def test_no_second_holds_more_arrivals_than_the_limit_whatever_happens(seed: int) -> None:
    fleet = run_at_random(seed, 10)

    assert len(fleet.arrivals) > 30
    assert fleet.most_in_a_second() <= 30


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_no_second_holds_more_arrivals_than_the_limit_in_many_schedules(seed: int) -> None:
    assert run_at_random(seed, 20).most_in_a_second() <= 30


@pytest.mark.parametrize(
    ("processes", "jitter", "least"), [(3, QUIET, 29.0), (3, JITTER, 27.0), (10, JITTER, 27.0)]
)
def test_processes_that_send_in_bulk_use_the_whole_limit(
    processes: int, jitter: tuple[float, float], least: float
) -> None:
    fleet = Fleet(1, jitter=jitter)
    for _ in range(processes):
        fleet.join(bulk)
    fleet.run(4)
    requests = fleet.requests

    # In four seconds alone there are 1.5 calls a second more or less by chance.
    fleet.run(20)

    assert fleet.rate(4, 20) >= least
    assert fleet.most_in_a_second() <= 30
    assert (fleet.requests - requests) / processes / 16 < 4


@pytest.mark.parametrize("seed", range(1, 5))
def test_many_processes_that_begin_at_once_use_the_limit_soon(seed: int) -> None:
    fleet = Fleet(seed, jitter=JITTER)
    for _ in range(10):
        fleet.join(bulk)
    fleet.run(5)

    assert fleet.rate(1, 5) >= 25


def three_leave(fleet: Fleet) -> None:
    for process in fleet.processes[:3]:
        process.leave()


CHANGES: dict[str, Callable[[Fleet], object]] = {
    "one is killed": lambda fleet: fleet.processes[0].kill(),
    "one is frozen": lambda fleet: fleet.processes[0].sleep(20, machine=False),
    "one machine sleeps": lambda fleet: fleet.processes[0].sleep(20, machine=True),
    "one joins": lambda fleet: fleet.join(bulk),
    "one leaves": lambda fleet: fleet.processes[0].leave(),
    "three leave": three_leave,
    "one session ends": lambda fleet: fleet.processes[0].lose_connection(),
    "the store is away for a moment": lambda fleet: restart(fleet, 0.3),
    "the store loses what it had last": lambda fleet: restart(fleet, 0.3, forget=0.6),
}


@pytest.mark.parametrize(
    ("change", "pooled"),
    [*((change, False) for change in CHANGES), ("one is killed", True), ("one joins", True)],
)
def test_the_rate_is_back_three_seconds_after(change: str, pooled: bool) -> None:
    fleet = Fleet(3)
    for _ in range(4):
        fleet.join(bulk, pooled=pooled)
    fleet.run(3)

    CHANGES[change](fleet)
    fleet.run(8)

    assert fleet.rate(6, 8) >= 27
    assert fleet.most_in_a_second() <= 30


def test_a_process_that_dies_is_missed_before_its_lease_is_over() -> None:
    fleet = Fleet(3)
    for _ in range(3):
        fleet.join(bulk)
    fleet.run(3)

    fleet.processes[0].kill()
    fleet.run(8)

    assert fleet.rate(4.7, 8) >= 29


def test_when_the_store_was_away_for_longer_than_a_lease_calls_go_on_as_soon_as_it_is_back() -> None:
    fleet = Fleet(3)
    for _ in range(3):
        fleet.join(bulk)
    fleet.run(3)

    restart(fleet, 4)
    fleet.run(10)

    assert fleet.rate(4.3, 7) == 0
    assert fleet.rate(7.5, 10) >= 28
    assert fleet.most_in_a_second() <= 30


def test_an_interactive_call_of_one_goes_before_the_bulk_of_the_others() -> None:
    fleet, random = Fleet(1, network=Network(0.0005, 0.004)), Random(1)  # noqa: S311 - a schedule
    asking = fleet.join(lambda _: (0, 0))
    asking.demand = lambda _: (len(asking.waiting_since) + (random.random() < 3 * 0.004), 0)
    for _ in range(2):
        fleet.join(bulk)

    fleet.run(25)

    waits = sorted(asking.waits)
    assert len(waits) > 50
    assert waits[int(0.99 * len(waits))] < 0.15
    assert fleet.rate(3, 25) > 24
    assert fleet.most_in_a_second() <= 30
