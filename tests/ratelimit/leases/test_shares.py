"""Who should have how many slots."""

from healthmsg.ratelimit.leases.ledger import Ledger, Member, Pause, Terms
from healthmsg.ratelimit.leases.shares import shares

TERMS = Terms(30, 1.0, 0.1, 1.2)


def test_each_has_one_and_the_rest_goes_evenly_to_the_background() -> None:
    needs = {"a": (0, 0, 30), "b": (0, 0, 30), "c": (0, 0, 30), "idle": (0, 0, 0)}

    assert shares(30, needs, {}) == {"a": 10, "b": 10, "c": 9, "idle": 1}


def test_interactive_calls_go_before_the_catching_up_and_that_before_the_background() -> None:
    needs = {"a": (20, 0, 0), "b": (0, 8, 0), "c": (0, 0, 30)}

    assert shares(30, needs, {}) == {"a": 20, "b": 8, "c": 2}


def test_what_cannot_be_divided_stays_where_it_is() -> None:
    needs = dict.fromkeys("abcd", (0, 0, 30))

    assert shares(30, needs, {"c": 8, "d": 8}) == {"a": 7, "b": 7, "c": 8, "d": 8}


def test_many_idle_processes_leave_two_thirds_to_those_who_need_them() -> None:
    needs = {str(number): (0, 0, 0) for number in range(50)} | {"bulk": (0, 0, 30)}

    granted = shares(30, needs, {})

    assert granted["bulk"] >= 20
    assert sum(granted.values()) <= 30


def test_a_debt_is_no_more_than_others_need_and_than_is_not_needed_here() -> None:
    ledger = Ledger(TERMS, "1", [0.0])
    ledger.members = {
        "a": Member(0.1, held=20, needs=(0, 0, 30)),
        "b": Member(0.1, held=9, needs=(0, 0, 30)),
        "c": Member(0.1, held=0, needs=(3, 0, 0)),
    }

    assert ledger.debts() == {"a": 6, "b": 0, "c": 0}


def test_what_rests_least_goes_to_what_goes_first() -> None:
    ledger = Ledger(TERMS, "1", [0.5, 0.1, 0.0])
    ledger.members = {
        "a": Member(0.1, held=26, needs=(0, 0, 30)),
        "b": Member(0.1, held=1, needs=(2, 0, 0)),
    }

    ledger.hand_out()

    assert ledger.members["b"].gifts == [0.0]
    assert ledger.members["a"].gifts == [0.1, 0.5]
    assert ledger.free == []


def test_a_ledger_survives_the_store() -> None:
    ledger = Ledger(TERMS, "1", [0.5], {"a": Member(0.1, held=29, lock=7)}, Pause(1, 2.5, asked=True))

    assert Ledger.from_json(ledger.to_json()) == ledger
