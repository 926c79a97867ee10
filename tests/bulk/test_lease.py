"""Keeping claims: renewed in time, and lost before another worker may take them. In fake time."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import cast

import pytest

from healthmsg.bulk.dispatch import Lease
from healthmsg.bulk.journal import Claim, State
from healthmsg.bulk.journal.store import SqlJournal
from healthmsg.errors import ClaimLostError, JournalError
from tests.machine import Machine

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("nothing_is_left_behind")]
LENGTH = 60.0


class Renewals:
    """A journal that notes when it is renewed, until it cannot be."""

    def __init__(self, lease: float | None = LENGTH, *, fails_after: int = 10**9, takes: float = 0.0) -> None:
        self.lease = None if lease is None else timedelta(seconds=lease)
        self.at: list[float] = []
        self.lost_at: list[float] = []
        self.kept: dict[str, int] = {}
        self._fails_after = fails_after
        self._takes = takes

    async def renew(self) -> dict[str, int]:
        if len(self.at) >= self._fails_after:
            raise JournalError("The journal failed.")
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._takes)
        return self.kept

    def held(self) -> Lease:
        loop = asyncio.get_running_loop()
        return Lease(cast(SqlJournal, self), lambda: self.lost_at.append(loop.time()))


async def test_it_is_renewed_several_times_within_its_length() -> None:
    journal = Renewals()
    async with journal.held():
        await asyncio.sleep(LENGTH * 10)

    assert journal.lost_at == []
    times = [0.0, *journal.at]
    assert max(later - earlier for earlier, later in pairwise(times)) <= LENGTH / 3


async def test_it_is_lost_before_its_end_when_it_cannot_be_renewed() -> None:
    journal = Renewals(fails_after=3)
    async with journal.held():
        await asyncio.sleep(LENGTH * 10)

    (lost_at,) = journal.lost_at
    assert journal.at[-1] < lost_at < journal.at[-1] + LENGTH


async def test_a_renewal_that_hangs_loses_it_before_its_end() -> None:
    journal = Renewals(takes=LENGTH * 100)
    async with journal.held():
        await asyncio.sleep(LENGTH * 10)

    assert journal.lost_at
    assert journal.lost_at[0] < LENGTH


async def test_a_slow_renewal_counts_from_when_it_was_asked_for() -> None:
    journal = Renewals(takes=LENGTH / 6)
    async with journal.held():
        await asyncio.sleep(LENGTH * 10)
        assert journal.lost_at == []
        journal._takes = LENGTH * 100
        await asyncio.sleep(LENGTH * 10)
    assert journal.lost_at[0] < journal.at[-2] + LENGTH


async def test_nothing_is_lost_after_it_was_given_back() -> None:
    journal = Renewals()
    async with journal.held():
        pass
    await asyncio.sleep(LENGTH * 10)

    assert journal.at == journal.lost_at == []


async def test_where_there_is_no_lease_there_is_nothing_to_do() -> None:
    journal = Renewals(None)
    async with journal.held():
        await asyncio.sleep(LENGTH * 10)

    assert journal.at == journal.lost_at == []


# --- whether a call may leave


def claim(key: str = "a", fence: int = 1) -> Claim:
    return Claim(key, "conversations/c", "Hallo", (), None, State.WAITING, 0, None, None, fence)


def may_send(lease: Lease, claimed: Claim | None = None) -> Callable[[], bool]:
    """Begin with a message, and give what tells whether its call may be made."""
    check = lease.of(claimed or claim())
    assert check is not None

    def look() -> bool:
        try:
            check()
        except ClaimLostError:
            return False
        return True

    return look


async def test_a_call_may_leave_while_the_lease_holds(machine: Machine) -> None:
    async with Renewals().held() as lease:
        look = may_send(lease)
        assert look()
        machine.sleep(LENGTH / 2)
        assert look()


async def test_no_call_leaves_after_the_machine_slept_beyond_the_lease(machine: Machine) -> None:
    async with Renewals().held() as lease:
        look = may_send(lease)
        machine.sleep(LENGTH * 10)
        assert not look()


async def test_no_call_leaves_shortly_before_the_lease_ends(machine: Machine) -> None:
    async with Renewals().held() as lease:
        look = may_send(lease)
        machine.sleep(LENGTH * 0.8)
        assert not look()


async def test_no_call_leaves_after_a_pause_that_only_the_time_of_day_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Renewals().held() as lease:
        look, real = may_send(lease), time.time
        monkeypatch.setattr(time, "time", lambda: real() + LENGTH)
        assert not look()


async def test_a_time_of_day_that_is_set_back_lengthens_no_lease(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Renewals().held() as lease:
        look, real = may_send(lease), time.time
        monkeypatch.setattr(time, "time", lambda: real() - LENGTH * 100)
        assert look()
        machine.sleep(LENGTH)
        assert not look()


async def test_a_call_that_waits_for_long_leaves_if_its_claim_was_renewed() -> None:
    journal = Renewals()
    journal.kept = {"a": 1}
    async with journal.held() as lease:
        look = may_send(lease)
        await asyncio.sleep(LENGTH * 10)
        assert look()


@pytest.mark.parametrize("kept", [{}, {"a": 2}, {"b": 1}], ids=["none", "another claim", "another message"])
async def test_no_call_leaves_whose_claim_a_renewal_did_not_find(kept: dict[str, int]) -> None:
    journal = Renewals()
    journal.kept = kept
    async with journal.held() as lease:
        look = may_send(lease)
        await asyncio.sleep(LENGTH)
        assert not look()


async def test_a_renewal_after_the_machine_slept_brings_no_lost_claim_back(machine: Machine) -> None:
    journal = Renewals()
    journal.kept = {"a": 1, "b": 1}
    async with journal.held() as lease:
        lost, kept = may_send(lease), may_send(lease, claim("b"))
        await asyncio.sleep(LENGTH / 2)
        machine.sleep(LENGTH * 10)
        assert not lost()
        journal.kept = {"b": 1}
        await asyncio.sleep(LENGTH / 2)
        assert not lost()
        assert kept()


async def test_without_a_lease_every_call_may_leave(machine: Machine) -> None:
    async with Renewals(None).held() as lease:
        machine.sleep(LENGTH)
        assert lease.of(claim()) is None
