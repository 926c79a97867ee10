"""The four ways to count calls. Time is a number here."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.sandbox import (
    FixedWindow,
    RateLimitPolicy,
    SlidingWindow,
    SpikeArrest,
    TokenBucket,
    count_rejections,
    most_in_any_period,
)


def admitted(policy: RateLimitPolicy, arrivals: list[float]) -> list[float]:
    return [arrived for arrived in arrivals if policy.admit(arrived) is None]


def test_a_sliding_window_admits_thirty_in_a_second() -> None:
    policy = SlidingWindow()
    assert admitted(policy, [10.0] * 30) == [10.0] * 30
    assert policy.admit(10.25) == pytest.approx(0.75)
    assert policy.admit(11.0) is None


def test_a_sliding_window_sees_a_burst_across_the_border_of_two_seconds() -> None:
    around = [0.95] * 20 + [1.05] * 20
    assert len(admitted(SlidingWindow(), around)) == 30
    assert len(admitted(FixedWindow(), around)) == 40


def test_a_fixed_window_starts_again_at_each_border() -> None:
    policy = FixedWindow(limit=2)
    assert admitted(policy, [0.0, 0.9, 0.95, 1.0]) == [0.0, 0.9, 1.0]
    assert policy.admit(1.5) is None
    assert policy.admit(1.75) == pytest.approx(0.25)


def test_a_token_bucket_allows_a_burst_and_then_its_rate() -> None:
    policy = TokenBucket(rate=10, capacity=3)
    assert admitted(policy, [0.0] * 5) == [0.0] * 3
    assert policy.admit(0.05) == pytest.approx(0.05)
    assert policy.admit(0.1) is None
    assert admitted(policy, [100.0] * 5) == [100.0] * 3


def test_spike_arrest_wants_spacing_and_forgives_its_tolerance() -> None:
    policy = SpikeArrest(rate=10, tolerance=0.005)
    assert policy.admit(0.0) is None
    assert policy.admit(0.05) == pytest.approx(0.045)
    assert policy.admit(0.096) is None


@pytest.mark.parametrize("policy", [SlidingWindow, FixedWindow, TokenBucket, SpikeArrest])
def test_a_refused_call_counts_for_nothing(policy: type[RateLimitPolicy]) -> None:
    arrivals = sorted(Random(7).uniform(0, 10) for _ in range(1000))  # noqa: S311 - no secret
    kept = admitted(policy(), arrivals)
    assert len(kept) < len(arrivals)
    assert count_rejections(policy(), kept) == 0


@given(st.lists(st.floats(0, 5), max_size=200).map(sorted))
def test_a_sliding_window_never_admits_more_than_its_limit_in_any_second(arrivals: list[float]) -> None:
    kept = admitted(SlidingWindow(limit=5), arrivals)
    assert most_in_any_period(kept) <= 5


def test_the_busiest_second_does_not_include_its_end() -> None:
    assert most_in_any_period([]) == 0
    assert most_in_any_period([0.0, 1.0, 2.0]) == 1
    assert most_in_any_period([0.0, 0.5, 0.999, 1.0, 1.4]) == 4


def test_one_run_can_be_judged_by_several_policies() -> None:
    burst = [n / 60 for n in range(60)]
    assert count_rejections(SlidingWindow(), burst) == 30
    assert count_rejections(SpikeArrest(), burst) == 30
    assert count_rejections(TokenBucket(), burst) < 30
