"""The inbox that ends with the process: in order, once, and no more than it has room for."""

from healthmsg.gateway.inbox import Change, OpenQuestion, open_inbox
from healthmsg.gateway.inbox.memory import MOST_EVENTS
from tests.gateway.inbox.inboxes import NOW, URL, message, of, record


async def test_events_come_in_order_and_once() -> None:
    async with open_inbox(None) as inbox:
        await inbox.hold()
        assert not (await inbox.start("u-me", URL, NOW)).has_baseline
        assert await inbox.apply(of(message(2), message(1), message(2))) == 2
        (first,) = await inbox.next(1)
        assert first == message(2)
        assert await inbox.next(9, [first.id]) == [message(1)]
        assert await inbox.apply(of(message(1), message(2))) == 0
        assert await inbox.next(9, ["message/m1"]) == []
        assert not inbox.is_durable


async def test_what_is_released_comes_again_in_its_old_place() -> None:
    async with open_inbox(None) as inbox:
        await inbox.apply(of(*(message(number) for number in range(3))))
        await inbox.release([event.id for event in await inbox.next(2)])
        again = await inbox.next(9)

    assert [(event.id, event.attempt) for event in again] == [
        ("message/m0", 2),
        ("message/m1", 2),
        ("message/m2", 1),
    ]


async def test_there_is_room_for_what_is_done_and_not_for_what_is_at_work() -> None:
    async with open_inbox(None) as inbox:
        await inbox.apply(of(message(1), message(2)))
        assert inbox.room() == MOST_EVENTS - 2
        await inbox.next(2)
        assert inbox.room() == MOST_EVENTS - 2
        await inbox.next(0, ["message/m1"])
        assert inbox.room() == MOST_EVENTS - 1


async def test_chats_and_questions_are_kept_and_forgotten() -> None:
    question = OpenQuestion("q1", "conversations/c1")
    async with open_inbox(None) as inbox:
        await inbox.apply([Change(record(1, "hint"), (), (question,)), Change(record(2), ())])
        assert await inbox.keys() == [("conversations/c1", "hint"), ("conversations/c2", None)]
        assert await inbox.load(["conversations/c2", "unknown"]) == {"conversations/c2": record(2)}
        assert await inbox.open_questions() == [question]
        await inbox.apply([Change(record(1), (), closed_questions=("q1",), removed=True)])
        assert await inbox.keys() == [("conversations/c2", None)]
        assert await inbox.open_questions() == []
