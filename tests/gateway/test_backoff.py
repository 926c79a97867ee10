from collections import Counter
from random import Random

import pytest

from healthmsg.gateway.backoff import Backoff


def longest() -> Backoff:
    return Backoff(lambda _, most: most)


def test_the_wait_doubles_up_to_a_minute() -> None:
    backoff = longest()

    assert [backoff.next_wait() for _ in range(6)] == [5, 10, 20, 40, 60, 60]


def test_thousands_of_failures_do_no_harm() -> None:
    backoff = longest()

    assert {backoff.next_wait() for _ in range(5000)} == {5, 10, 20, 40, 60}


@pytest.mark.parametrize(
    ("seconds", "is_settled", "wait"), [(60, True, 5), (59.9, True, 20), (10_000, False, 20)]
)
def test_it_falls_back_only_after_a_minute_and_a_finished_catch_up(
    seconds: float, is_settled: bool, wait: float
) -> None:
    backoff = longest()
    backoff.next_wait()
    backoff.next_wait()
    backoff.note_alive(seconds, is_settled=is_settled)

    assert backoff.next_wait() == wait


def test_after_a_limit_error_it_waits_a_minute_at_least() -> None:
    assert Backoff(lambda least, _: least).next_wait(is_limited=True) == 60


def test_many_clients_do_not_come_back_together_after_a_limit_error() -> None:
    assert longest().next_wait(is_limited=True) > 60


def test_it_waits_as_long_as_the_service_asks_for_but_not_for_ever() -> None:
    assert Backoff(lambda least, _: least).next_wait(asked_for=30) == 30
    assert Backoff(lambda least, _: least).next_wait(asked_for=10**6) == 600


@pytest.mark.parametrize("seed", range(20))
def test_of_a_thousand_clients_no_second_sees_more_than_a_quarter(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    waits = sorted(Backoff(random.uniform).next_wait() for _ in range(1000))
    # Any second, not only those that begin with a whole one.
    most = max(sum(start <= wait < start + 1 for wait in waits) for start in waits)

    assert most <= 250


@pytest.mark.parametrize("seed", range(20))
def test_nor_does_a_service_that_stays_away_for_minutes(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    seconds: Counter[int] = Counter()
    for _ in range(1000):
        backoff, at = Backoff(random.uniform), 0.0
        back_at = 120.0
        while at < back_at:
            at += backoff.next_wait()
        seconds[int(at)] += 1

    assert max(seconds.values()) <= 250


@pytest.mark.parametrize("seed", range(50))
def test_a_service_that_accepts_and_closes_is_asked_at_most_40_times_in_ten_minutes(seed: int) -> None:
    backoff, at, connections = Backoff(Random(seed).uniform), 0.0, 0  # noqa: S311 - no secret
    while at < 600:
        connections += 1
        backoff.note_alive(0.1, is_settled=True)
        at += backoff.next_wait()

    assert connections <= 40
