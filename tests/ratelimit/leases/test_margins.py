"""For how long a lease is used, and when others take what was on it: the margins that keep a limit.

The model tries what may happen at random; it does not meet each of these at its narrowest.
"""

import math
from functools import partial

import pytest
from attrs import evolve

from healthmsg.fleet.leases import LEASE
from healthmsg.fleet.limit import SharedLimit
from healthmsg.ratelimit.leases.holder import Change, Holder, Read
from healthmsg.ratelimit.leases.ledger import Ledger, Terms
from healthmsg.ratelimit.leases.window import LeasedSlot
from healthmsg.ratelimit.queue import Priority
from tests.ratelimit.leases.test_holder import Clock, a_holder

TERMS = Terms(30, 1.0, 0.1, 1.2)
BULK = (0, 0, 30)
# The lease of 1.2 s, the interval, the way there; and one per cent, by which clocks may differ.
OVER = (1.2 + 1.0 + 0.1) * 1.01
# Once a session is gone: the interval, the way there, and a moment in which its end is seen.
GONE = 1.0 + 0.1 + 0.1


class Table:
    """What a database keeps, for holders that ask one after the other and are answered at once."""

    def __init__(self) -> None:
        self.text: str | None = None
        self.beats: dict[str, int] = {}
        self.locks: set[int] = set()
        self.server = "first"

    def turn(self, holder: Holder, now: float) -> bool:
        """Let a holder take a turn; return whether it had something to write."""
        holder.begin(now)
        ledger = None if self.text is None else Ledger.from_json(self.text)
        read = Read(ledger, self.server, dict(self.beats), set(self.locks))
        if holder.id in self.beats:
            self.beats[holder.id] += 1
        if not holder.renewed(read, now, BULK):
            return False
        self.write(holder.decide(read, now, BULK))
        assert self.text is not None
        holder.committed(Ledger.from_json(self.text), now)
        return True

    def write(self, change: Change) -> None:
        self.beats[change.id] = self.beats.get(change.id, 0) + 1
        for name in change.over:
            self.beats.pop(name, None)
        self.text = change.ledger.to_json()

    def ledger(self) -> Ledger:
        assert self.text is not None
        return Ledger.from_json(self.text)


def two_that_share(clock: Clock) -> tuple[Table, Holder, Holder]:
    table, holders = Table(), []
    for number in range(2):
        holder = a_holder(clock)
        holder.new_id = partial(f"{number}.{{}}".format, 0)
        holder.lock = number
        table.locks.add(number)
        holders.append(holder)
    for holder in (*holders, *holders, *holders):
        table.turn(holder, clock.now)
    assert [holder.window.total for holder in holders] == [15, 15]
    return table, holders[0], holders[1]


def test_the_terms_of_a_shared_limit_are_what_these_tests_count_with() -> None:
    source = SharedLimit("postgresql://127.0.0.1/x").source("https://api.example/v1")
    assert source._terms == TERMS  # type: ignore[attr-defined]
    assert TERMS.lease == LEASE


def test_a_lease_counts_from_before_it_was_asked_for_and_less_one_per_cent() -> None:
    clock = Clock()
    table, one, _ = two_that_share(clock)
    asked_at = clock.now = 10.0
    one.begin(asked_at)
    table.beats[one.id] += 1
    clock.now = 10.3  # the answer comes
    one.renewed(Read(table.ledger(), table.server, dict(table.beats), set(table.locks)), clock.now, BULK)

    assert one.lease_until == pytest.approx(asked_at + 0.99 * 1.2)
    assert one.window.usable_until == one.lease_until


def test_no_call_leaves_at_the_end_of_the_lease() -> None:
    clock = Clock()
    _, one, _ = two_that_share(clock)
    one.window.free -= 1
    slot = LeasedSlot(one.window, Priority.BACKGROUND)

    clock.now = math.nextafter(one.lease_until, -math.inf)
    assert one.window.is_one_free(clock.now)

    clock.now = one.lease_until
    assert not one.window.is_one_free(clock.now)
    assert not slot.sent()


def test_what_one_that_stands_still_has_is_left_until_its_calls_are_out_of_every_count() -> None:
    clock = Clock()
    table, one, other = two_that_share(clock)
    # The other sees the last beat of this one at the moment when it rose.
    table.turn(one, clock.now)
    table.turn(other, clock.now)

    clock.now = OVER - 0.001
    table.turn(other, clock.now)
    assert set(table.ledger().members) == {one.id, other.id}
    assert other.window.total == 15
    # Its last call left at the end of its lease, and counted for the way there and an interval.
    assert one.lease_until + 1.0 + 0.1 < OVER

    clock.now = OVER
    table.turn(other, clock.now)
    assert set(table.ledger().members) == {other.id}
    assert other.window.total == 30


def test_what_one_has_whose_session_is_gone_is_left_until_its_calls_are_out_of_every_count() -> None:
    clock = Clock()
    table, one, other = two_that_share(clock)
    clock.now = 0.3
    table.turn(one, clock.now)
    clock.now = 0.4
    table.locks.discard(0)
    table.turn(other, clock.now)

    clock.now = 0.4 + GONE - 0.001
    table.turn(other, clock.now)
    assert one.id in table.ledger().members

    clock.now = 0.4 + GONE
    table.turn(other, clock.now)
    assert one.id not in table.ledger().members


def test_an_end_of_a_session_that_came_with_the_stores_is_no_death() -> None:
    clock = Clock()
    table, one, other = two_that_share(clock)
    table.locks.clear()
    table.server = "second"
    other.lock = 7
    table.locks.add(7)
    table.turn(other, clock.now)

    clock.now = GONE + 0.2
    table.turn(other, clock.now)
    assert one.id in table.ledger().members


def test_a_longer_way_there_of_one_lets_the_others_wait_longer() -> None:
    clock = Clock()
    table, one, other = two_that_share(clock)
    one.window.assume_arrival(0.4)
    ledger = table.ledger()
    ledger.members[one.id].arrival = 0.4
    table.text = ledger.to_json()
    table.turn(other, clock.now)

    clock.now = OVER + 0.2
    table.turn(other, clock.now)
    assert one.id in table.ledger().members

    clock.now = OVER + 0.3 * 1.01
    table.turn(other, clock.now)
    assert one.id not in table.ledger().members


def test_after_the_store_was_started_again_what_is_free_rests_as_if_it_were_in_use() -> None:
    """What it acknowledged last may be lost: then a slot that is free there is held by a process."""
    clock = Clock()
    table, one, other = two_that_share(clock)
    for holder in (one, other):  # both have left, by a ledger that may be an old one
        table.beats.pop(holder.id)
    table.text = evolve(table.ledger(), free=[0.0] * 30, members={}).to_json()
    table.server = "second"
    third = a_holder(clock)
    third.new_id = lambda: "third"
    table.turn(third, clock.now)
    assert third.window.total == 30

    clock.now = OVER - 0.001
    third.window.usable_until = math.inf
    assert not third.window.is_one_free(clock.now)
    clock.now = OVER
    assert third.window.is_one_free(clock.now)


def test_slots_in_its_name_of_which_a_process_knows_nothing_rest_as_if_they_were_in_use() -> None:
    clock = Clock()
    table, one, _ = two_that_share(clock)
    ledger = table.ledger()
    ledger.members[one.id].held += 1
    next(iter(member for name, member in ledger.members.items() if name != one.id)).held -= 1
    table.text = ledger.to_json()

    table.turn(one, clock.now)

    # It is handed on at once, to be used when its call must be over.
    ledger = table.ledger()
    assert one.window.total == ledger.members[one.id].held == 15
    gifts = [rest for member in ledger.members.values() for rest in member.gifts]
    assert max(gifts) == pytest.approx(OVER, abs=0.001)


def test_a_process_goes_on_with_a_store_that_has_lost_what_it_had_handed_out_last() -> None:
    """It took what it read for older than what it knew, asked again at once, and never came to an end."""
    clock = Clock()
    table, one, other = two_that_share(clock)
    ledger = table.ledger()
    ledger.members[one.id].given -= 2
    table.text = ledger.to_json()
    table.server = "second"
    clock.now = 0.5
    for holder in (one, other):
        table.turn(holder, clock.now)

    assert not one.is_outdated(Read(table.ledger(), table.server, dict(table.beats), None))
    assert one.lease_until == pytest.approx(0.5 + 0.99 * 1.2)
    assert one.window.total == 15

    ledger = table.ledger()
    ledger.members[one.id].take(0.0)
    ledger.members[other.id].held -= 1
    table.text = ledger.to_json()
    one.renewed(Read(table.ledger(), table.server, dict(table.beats), None), clock.now, BULK)
    assert one.window.total == 16
