"""Campaigns get claims in proportion to their weights, whatever each of them has to claim."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as some

from healthmsg.bulk.journal import Claim, State
from healthmsg.bulk.journal.shares import Shares


def claim(campaign: str) -> Claim:
    return Claim("k", "c", "b", (), None, State.WAITING, 0, None, None, 1, campaign=campaign)


class Stock:
    """What each campaign still has to claim."""

    def __init__(self, **left: int) -> None:
        self.left = left
        self.taken = Counter[str]()

    def take(self, name: str, most: int) -> list[Claim]:
        count = min(most, self.left[name])
        self.left[name] -= count
        self.taken[name] += count
        return [claim(name) for _ in range(count)]

    def draw(self, shares: Shares, most: int, **weights: int) -> list[str | None]:
        claims = shares.fill(most, weights, self.take)
        shares.charge()
        return [one.campaign for one in claims]


@given(
    some.dictionaries(some.sampled_from("abcde"), some.integers(1, 100), min_size=1),
    some.lists(some.integers(1, 64), min_size=1, max_size=60),
)
def test_shares_are_in_proportion_however_many_are_claimed_at_a_time(
    weights: Mapping[str, int], draws: list[int]
) -> None:
    shares, stock = Shares(), Stock(**dict.fromkeys(weights, 10_000))

    for most in draws:
        assert len(stock.draw(shares, most, **weights)) == most

    total = sum(weights.values())
    for name, weight in weights.items():
        assert abs(stock.taken[name] - sum(draws) * weight / total) <= len(weights)


def test_no_campaign_starves_beside_one_of_the_greatest_weight() -> None:
    shares, stock = Shares(), Stock(a=10_000, b=10_000)

    drawn = [stock.draw(shares, 1, a=1, b=100)[0] for _ in range(303)]

    assert drawn.count("a") == 3


def test_the_messages_of_each_campaign_are_spread_over_the_others() -> None:
    shares, stock = Shares(), Stock(a=100, b=100)

    assert "".join(map(str, stock.draw(shares, 12, a=1, b=3))) == "bbabbbabbbab"


def test_what_one_leaves_over_the_others_get() -> None:
    shares, stock = Shares(), Stock(a=100, b=2)

    assert Counter(stock.draw(shares, 30, a=1, b=9)) == {"a": 28, "b": 2}


def test_one_that_had_nothing_to_claim_catches_nothing_up() -> None:
    shares, stock = Shares(), Stock(a=1_000, b=0)
    stock.draw(shares, 300, a=1, b=1)
    stock.left["b"] = 1_000

    assert Counter(stock.draw(shares, 20, a=1, b=1)) == {"a": 10, "b": 10}


def test_one_that_is_new_begins_where_the_others_are() -> None:
    shares, stock = Shares(), Stock(a=1_000, b=1_000)
    stock.draw(shares, 300, a=1)

    assert Counter(stock.draw(shares, 20, a=1, b=3)) == {"a": 5, "b": 15}


def test_what_was_not_charged_does_not_count() -> None:
    shares, stock = Shares(), Stock(a=1_000, b=1_000)
    for _ in range(50):
        shares.fill(1, {"a": 1, "b": 2}, stock.take)  # a transaction that was undone

    assert Counter(stock.draw(shares, 3, a=1, b=2)) == {"a": 1, "b": 2}
