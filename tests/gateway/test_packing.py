"""A record that was packed comes back as it was, whatever its ids are, and takes little memory."""

import sys
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthmsg.gateway.inbox import MemoryInbox
from healthmsg.gateway.inbox.base import Change, ChatRecord
from healthmsg.gateway.inbox.packing import hint_in, packed, unpacked

KEY = "conversations/c1"
IDS = st.uuids().map(str) | st.text(max_size=40) | st.uuids().map(lambda one: str(one).upper())
LISTS = st.none() | st.lists(IDS, max_size=20).map(tuple) | st.lists(st.uuids().map(str)).map(tuple)
RECORDS = st.builds(
    ChatRecord,
    st.just(KEY),
    LISTS,
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.none() | st.text() | st.binary(min_size=8, max_size=8).map(bytes.hex),
    LISTS,
    st.booleans(),
    st.integers(0, 2**31),
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: ChatRecord) -> None:
    assert unpacked(KEY, packed(record)) == record
    assert hint_in(packed(record)) == record.hint


@pytest.mark.parametrize(
    "ids",
    [
        ("",),
        ("", ""),
        ("0b44928a77345904-8def-8752524a231e",),
        ("0B44928A-7734-5904-8DEF-8752524A231E",),
        (" 0b44928a-7734-5904-8def-8752524a231",),
        ("0b44928a-7734-5904", "8def-8752524a231e"),
        ("\ud800", "€\0,"),
    ],
)
def test_ids_that_only_look_like_uuids_come_back_as_they_were(ids: tuple[str, ...]) -> None:
    assert unpacked(KEY, packed(ChatRecord(KEY, ids, members=ids))).anchor == ids
    assert unpacked(KEY, packed(ChatRecord(KEY, ids, members=ids))).members == ids


def test_a_stamp_of_another_zone_is_the_same_moment() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=1)))

    assert unpacked(KEY, packed(ChatRecord(KEY, (), at))).anchor_at == at


async def test_a_chat_whose_ids_are_uuids_takes_little_more_than_their_bytes() -> None:
    anchor = tuple(str(UUID(int=number)) for number in range(20))
    inbox = MemoryInbox()
    await inbox.apply([Change(ChatRecord(KEY, anchor, datetime(2026, 1, 1, tzinfo=UTC), f"{7:016x}"), ())])

    assert sys.getsizeof(inbox._records[KEY]) < 20 * 16 + 80
    assert (await inbox.load([KEY]))[KEY].anchor == anchor
    assert await inbox.keys() == [(KEY, f"{7:016x}")]
