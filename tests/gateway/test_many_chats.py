"""How long catching up on thousands of chats takes, with a service that is asked 29 times a second."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from attrs import define, field

from healthmsg.gateway.catch_up import CatchUp
from healthmsg.gateway.hints import Listed
from healthmsg.gateway.inbox.base import Change, ChatRecord
from healthmsg.gateway.questions import Questions
from healthmsg.gateway.schedule import ListChats, ReadChat
from healthmsg.models import Message

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
CALLS_A_SECOND = 29
CHATS = 5000
PAGE = 100


@define(eq=False)
class Service:
    """A user's chats, of which some have a hint that never changes."""

    counts: dict[str, int]
    lying: set[str] = field(factory=set)
    now: float = 0.0
    calls: int = 0

    def called(self, times: int = 1) -> None:
        self.calls += times
        self.now += times / CALLS_A_SECOND

    def listed(self) -> list[Listed]:
        self.called(len(self.counts) // PAGE + 1)
        return [Listed(key, "x" if key in self.lying else str(count)) for key, count in self.counts.items()]

    def messages(self, key: str, amount: int) -> list[Message]:
        self.called()
        numbers = range(self.counts[key], 0, -1)
        return [
            Message(id=f"{key}/{number}", created_at=EPOCH + timedelta(minutes=number))
            for number in numbers[:amount]
        ]


@define(eq=False)
class Reader:
    """Does what the core asks for, one call after another."""

    service: Service
    core: CatchUp
    records: dict[str, ChatRecord] = field(factory=dict)
    events: list[str] = field(factory=list)

    def write(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.chat is not None:
                self.records[change.chat.key] = change.chat
            self.events += [event.id for event in change.events]

    def step(self) -> None:
        service, core = self.service, self.core
        job = core.next_job(service.now)
        if job is None:
            due = core.due()
            assert due is not None
            service.now = max(due, service.now + 0.01)
        elif isinstance(job, ListChats):
            self.write(core.listed(service.listed()))
            core.listing_ended()
        else:
            assert isinstance(job, ReadChat)
            self.read(job)

    def read(self, job: ReadChat) -> None:
        service, core = self.service, self.core
        if job.needs_record:
            self.write(core.loaded(job.key, self.records.get(job.key), service.now))
        reading = core.begin(job.key, service.now)
        if reading is None:
            return
        ask = next(reading)
        while True:
            page = service.messages(job.key, ask.amount) if ask.page == 0 else []
            try:
                ask = reading.send(page)
            except StopIteration as end:
                self.write(core.finish(job.key, end.value, service.now, room=1000))
                return

    def rest(self, seconds: float) -> None:
        """Let the audit go on for a while."""
        until = self.service.now + seconds
        while self.service.now < until:
            self.step()

    def catch_up(self) -> tuple[float, int]:
        """Connect, and return how long it took and how many calls until all was read."""
        began, calls = self.service.now, self.service.calls
        self.core.lost()
        self.core.connected(began, "me")
        while not self.core.is_settled:
            self.step()
        return self.service.now - began, self.service.calls - calls


@pytest.fixture(scope="module")
def settled() -> Reader:
    service = Service({f"conversations/c{number}": 30 for number in range(CHATS)})
    core = CatchUp(
        {},
        Questions((), "me", lambda: EPOCH),
        is_first_start=True,
        started_at=EPOCH + timedelta(days=1),
        moment=lambda: EPOCH,
    )
    reader = Reader(service, core)
    reader.catch_up()
    assert reader.events == []
    return reader


def change(reader: Reader, keys: Iterable[str]) -> set[str]:
    """Let a message come in some chats; return the ids of the events to expect."""
    expected = set()
    for key in keys:
        reader.service.counts[key] += 1
        expected.add(f"message/{key}/{reader.service.counts[key]}")
    return expected


@pytest.mark.slow
def test_all_is_read_in_time_and_hints_spare_most_of_it_until_one_lies(settled: Reader) -> None:
    reader = settled
    keys = list(reader.service.counts)

    expected = change(reader, keys[::25])
    reader.core.trust.lies = 1  # as if hints had never been confirmed
    seconds, _ = reader.catch_up()
    reader.core.trust.lies = 0
    assert expected <= set(reader.events)
    assert seconds <= 200

    assert reader.core.trust.is_given
    reader.rest(300)
    expected = change(reader, keys[7::25])
    seconds, calls = reader.catch_up()
    assert expected <= set(reader.events)
    assert seconds <= 20
    assert calls <= 500

    reader.service.lying = set(keys[::100])
    reader.catch_up()  # their hints have changed once more by that
    expected = change(reader, keys[::100])
    reader.catch_up()
    assert expected.isdisjoint(reader.events)
    until = reader.service.now + CHATS * 1.5
    while not expected <= set(reader.events):
        assert reader.service.now < until
        reader.step()
    assert reader.core.trust.lies >= 1
    assert reader.core.late >= 1
    assert len(reader.events) == len(set(reader.events))
