"""The inbox in both databases: in order, once, erased when done, one chat at a time, all or nothing."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve
from sqlalchemy import Connection, text

from healthmsg.bulk.journal import Entry, open_journal
from healthmsg.errors import JournalError, JournalInUseError, JournalMismatchError
from healthmsg.events import Event, UnknownEvent
from healthmsg.gateway.inbox import Change, ChatRecord, OpenQuestion, open_inbox, sql
from healthmsg.gateway.inbox.sql import SqlInbox
from healthmsg.ids import ChatAddress
from tests.gateway.inbox.inboxes import NOW, TEXT, answer, begin, message, of, opened, record


def ids(events: object) -> list[str]:
    assert isinstance(events, list)
    return [event.id for event in events]


async def bodies(inbox: SqlInbox) -> list[tuple[str, str | None]]:
    def read(connection: Connection) -> list[tuple[str, str | None]]:
        found = connection.execute(text("SELECT state, body FROM healthmsg_inbox ORDER BY sequence"))
        return [(state, body) for state, body in found]

    return await inbox._do(read)


async def test_events_come_in_the_order_in_which_they_were_entered(target: str) -> None:
    async with opened(target) as inbox:
        assert await inbox.apply(of(message(3, "c1"), message(1, "c2"))) == 2
        assert await inbox.apply(of(message(2, "c1"))) == 1
        assert await inbox.waiting() == 3

        events = await inbox.next(2)
        assert [(event.id, event.attempt) for event in events] == [("message/m3", 1), ("message/m1", 1)]
        assert events == [message(3, "c1"), message(1, "c2")]
        assert ids(await inbox.next(9, ids(events))) == ["message/m2"]
        assert await inbox.next(9, ["message/m2"]) == []


async def test_what_is_read_from_the_disk_is_what_was_entered(target: str) -> None:
    entered: list[Event] = [
        message(1, body='één "\0" 😀'),
        answer("ja"),
        evolve(message(2), caught_up=True, extra={"a": [1]}),
    ]
    async with opened(target) as inbox:
        await inbox.apply([Change(None, tuple(entered))])
    async with opened(target) as inbox:
        events = await inbox.next(9)

    assert events == entered
    assert [event.to_dict() for event in events] == [event.to_dict() for event in entered]


async def test_an_event_is_entered_once_even_when_it_is_done(target: str) -> None:
    async with opened(target) as inbox:
        assert await inbox.apply(of(message(1), message(1), message(2))) == 2
        assert ids(await inbox.next(9)) == ["message/m1", "message/m2"]
        assert await inbox.apply(of(message(2))) == 0
        await inbox.next(0, ["message/m1", "message/m2"])
        assert await inbox.apply(of(message(1), message(2), message(3))) == 1
    async with opened(target) as inbox:
        assert await inbox.apply(of(message(1), message(3))) == 0
        assert ids(await inbox.next(9)) == ["message/m3"]


async def test_the_text_is_erased_when_the_event_is_done(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2)))
        await inbox.next(2)
        await inbox.next(0, ["message/m1"])
        (first, second) = await bodies(inbox)

    assert first == ("done", None)
    assert second[0] == "running"
    assert second[1] is not None
    assert TEXT in second[1]


async def test_no_file_has_the_text_or_the_answer_when_all_is_done(file: Path) -> None:
    async with opened(file) as inbox:
        for start in range(0, 600, 100):
            events = [message(number, f"c{number}") for number in range(start, start + 100)]
            await inbox.apply(of(*events, answer(f"gevoelig{start}")))
            await inbox.next(0, ids(await inbox.next(200)))

    for path in file.parent.iterdir():
        assert TEXT.encode() not in path.read_bytes(), path
        assert b"gevoelig" not in path.read_bytes(), path


async def test_only_its_owner_can_read_the_files(file: Path) -> None:
    async with opened(file) as inbox:
        await inbox.apply(of(message(1)))
        modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}

    assert {"recall.db", "recall.db-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


async def test_a_chat_is_at_work_once(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1, "c1"), message(2, "c2"), message(3, "c1"), message(4, "c3")))
        assert ids(await inbox.next(1)) == ["message/m1"]
        assert ids(await inbox.next(1)) == ["message/m2"]
        assert ids(await inbox.next(9)) == ["message/m4"]
        assert await inbox.next(9) == []
        assert ids(await inbox.next(9, ["message/m1"])) == ["message/m3"]


async def test_events_of_no_chat_do_not_wait_for_each_other(target: str) -> None:
    without = [UnknownEvent(id=f"unknown/{number}", received_at=NOW, name="x") for number in range(2)]
    async with opened(target) as inbox:
        await inbox.apply([Change(None, tuple(without))])
        assert await inbox.next(1) == without[:1]
        assert await inbox.next(1) == without[1:]


async def test_what_is_released_comes_again_in_its_old_place(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2)))
        await inbox.next(2)
        await inbox.release(["message/m1", "message/m2"])
        again = await inbox.next(1)

    assert [(event.id, event.attempt) for event in again] == [("message/m1", 2)]


async def test_what_was_running_when_the_inbox_was_closed_comes_again(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2)))
        await inbox.next(1)
    async with opened(target) as inbox:
        assert [(event.id, event.attempt) for event in await inbox.next(9)] == [
            ("message/m1", 2),
            ("message/m2", 1),
        ]


async def test_what_a_cancelled_caller_did_not_get_comes_again_and_does_not_count(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2)))
        (first,) = await inbox.next(1)
        caller = asyncio.ensure_future(inbox.next(1, [first.id]))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        async with asyncio.timeout(5):
            while await inbox.waiting() != 1:  # noqa: ASYNC110 - the inbox is asked
                await asyncio.sleep(0)

        assert [(event.id, event.attempt) for event in await inbox.next(9)] == [("message/m2", 1)]
        assert [state for state, _ in await bodies(inbox)] == ["done", "running"]


@pytest.mark.parametrize("turns", range(8))
async def test_who_asks_next_after_a_cancelled_caller_gets_what_that_one_did_not(
    target: str, turns: int
) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2)))
        (first,) = await inbox.next(1)
        caller = asyncio.ensure_future(inbox.next(1, [first.id]))
        for _ in range(turns + 1):
            await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

        (second,) = await inbox.next(9)
        assert (second.id, second.attempt) == ("message/m2", 1)


async def test_what_is_done_stays_done_if_the_next_caller_is_cancelled_too(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1), message(2), message(3, "c2")))
        first, _ = await inbox.next(2)
        for done in ([], [first.id]):
            caller = asyncio.ensure_future(inbox.next(1, done))
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller

        await inbox.next(9)
        assert [state for state, _ in await bodies(inbox)] == ["done", "running", "running"]


async def test_several_changes_are_made_or_none(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(target) as inbox:
        await inbox.apply([Change(record(1), (message(1),))])
    questions = (OpenQuestion("q1", "conversations/c1"),)
    changes = [Change(record(1, "new"), (message(2),)), Change(record(2), (message(3),), questions)]
    with monkeypatch.context() as patched:
        # The last of the statements cannot be made.
        patched.setattr(sql, "_row_of_question", lambda _: (None, None, None))
        with pytest.raises(JournalError, match=r"CONSTRAINT|Error"):
            async with opened(target) as inbox:
                await inbox.apply(changes)
    async with opened(target) as inbox:
        assert ids(await inbox.next(9)) == ["message/m1"]
        assert await inbox.keys() == [("conversations/c1", None)]
        assert await inbox.open_questions() == []
        assert await inbox.apply(changes) == 2
        assert await inbox.open_questions() == list(questions)
        assert dict(await inbox.keys()) == {"conversations/c1": "new", "conversations/c2": None}


async def test_chats_are_kept_replaced_and_forgotten(target: str) -> None:
    first = ChatRecord("conversations/c1", ("m2", "m1"), NOW, "hint", ("u1", "u2"), closed=True, counter=3)
    unread = ChatRecord("groupchats/g1")
    async with opened(target) as inbox:
        await inbox.apply([Change(first, ()), Change(unread, ())])
    async with opened(target) as inbox:
        assert await inbox.load(["conversations/c1", "groupchats/g1", "groupchats/g2"]) == {
            "conversations/c1": first,
            "groupchats/g1": unread,
        }
        changed = evolve(unread, anchor=(), anchor_at=NOW + timedelta(microseconds=1))
        await inbox.apply(
            [Change(first, (), removed=True), Change(record(1), ()), Change(unread, ()), Change(changed, ())]
        )
        await inbox.apply([Change(record(2), ()), Change(record(2), (), removed=True)])
        assert await inbox.load(["conversations/c1", "conversations/c2", "groupchats/g1"]) == {
            "conversations/c1": record(1),
            "groupchats/g1": changed,
        }


async def test_questions_are_remembered_until_they_are_closed(target: str) -> None:
    asked = tuple(OpenQuestion(f"q{number}", "conversations/c1", ("a", "b")) for number in range(3))
    async with opened(target) as inbox:
        await inbox.apply([Change(None, (), asked)])
        await inbox.apply([Change(None, (), closed_questions=("q1", "unknown"))])
        assert await inbox.open_questions() == [asked[0], asked[2]]


async def test_the_baseline_is_remembered(target: str) -> None:
    async with opened(target) as inbox:
        assert not (await begin(inbox)).has_baseline
        await inbox.set_baseline()
    async with open_inbox(target) as reopened:
        assert isinstance(reopened, SqlInbox)
        started = await begin(reopened)
        assert (started.started_at, started.has_baseline) == (NOW, True)


async def test_an_inbox_of_another_account_is_refused(target: str) -> None:
    async with opened(target) as inbox:
        with pytest.raises(JournalMismatchError, match="another account"):
            await begin(inbox, account="u-other")
        with pytest.raises(JournalMismatchError, match="this client is for"):
            await begin(inbox, url="https://other.example/v1")


async def test_a_file_has_a_journal_and_an_inbox_one_at_a_time(file: Path) -> None:
    async with opened(file) as inbox:
        await inbox.apply(of(message(1)))
        with pytest.raises(JournalInUseError):
            async with open_journal(file):
                pass
    async with open_journal(file) as journal:
        await journal.enter([Entry("k", "conversations/c1", "text")])
        with pytest.raises(JournalInUseError):
            async with open_inbox(file):
                pass
    async with opened(file) as inbox:
        assert ids(await inbox.next(1)) == ["message/m1"]
    async with open_journal(file) as journal:
        assert [claim.key for claim in await journal.claim(9)] == ["k"]


async def test_an_event_of_a_kind_that_is_not_known_is_handed_out_as_it_is(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1)))
        rename = text("UPDATE healthmsg_inbox SET body = replace(body, 'message_created', 'message_sung')")
        await inbox._do(lambda connection: connection.execute(rename).rowcount)
    async with opened(target) as inbox:
        (event,) = await inbox.next(1)

    assert isinstance(event, UnknownEvent)
    assert (event.id, event.name) == ("message/m1", "message_sung")
    assert event.chat == ChatAddress.of_text("conversations/c1")


async def test_an_event_that_cannot_be_read_is_not_shown(target: str) -> None:
    async with opened(target) as inbox:
        await inbox.apply(of(message(1)))
        spoil = text("UPDATE healthmsg_inbox SET body = replace(body, '}', '')")
        await inbox._do(lambda connection: connection.execute(spoil).rowcount)
    with pytest.raises(JournalError) as raised:
        async with opened(target) as inbox:
            await inbox.next(1)

    assert TEXT not in repr(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.slow
async def test_50_000_known_chats_are_listed_within_2_seconds(target: str) -> None:
    async with opened(target) as inbox:
        for first in range(0, 50_000, 5_000):
            await inbox.apply(
                [Change(record(number, "h" * 20), ()) for number in range(first, first + 5_000)]
            )
    start = time.process_time()
    async with opened(target) as inbox:
        keys = await inbox.keys()
        assert time.process_time() - start < 2

    assert len(keys) == 50_000
    assert ("conversations/c49999", "h" * 20) in keys
