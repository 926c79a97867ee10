"""Keeping claims: renewed in time, and lost before anybody else may take them. In fake time."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import cast

import pytest

from healthmsg.bulk.journal import Journal
from healthmsg.bulk.lease import Lease
from healthmsg.errors import JournalError

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("nothing_is_left_behind")]
LENGTH = 60.0


class Renewals:
    """A journal that notes when it is renewed, until it cannot be."""

    def __init__(self, lease: float | None = LENGTH, *, fails_after: int = 10**9, takes: float = 0.0) -> None:
        self.lease = None if lease is None else timedelta(seconds=lease)
        self.at: list[float] = []
        self.lost_at: list[float] = []
        self._fails_after = fails_after
        self._takes = takes

    async def renew(self) -> None:
        if len(self.at) >= self._fails_after:
            raise JournalError("The journal failed.")
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._takes)

    def held(self) -> Lease:
        loop = asyncio.get_running_loop()
        return Lease(cast(Journal, self), lambda: self.lost_at.append(loop.time()))


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
