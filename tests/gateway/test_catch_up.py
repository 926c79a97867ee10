"""The pure core of catching up, step by step."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from healthmsg.events import GroupChatRemoved, MessageCreated, MessageDeleted
from healthmsg.gateway.catch_up import CatchUp
from healthmsg.gateway.hints import Listed
from healthmsg.gateway.inbox.base import Change, ChatRecord
from healthmsg.gateway.questions import Questions
from healthmsg.gateway.reading import Found, Reached
from healthmsg.gateway.schedule import IdentifyChat, Job, ListChats, ReadChat
from healthmsg.ids import ChatAddress
from healthmsg.models import Message

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = 5.0


def core_of(*keys: str, is_first_start: bool = False) -> CatchUp:
    return CatchUp(
        dict.fromkeys(keys, "0"),
        Questions((), "me", lambda: EPOCH),
        is_first_start=is_first_start,
        started_at=EPOCH,
        moment=lambda: EPOCH,
        settle=SETTLE,
    )


def jobs_at(core: CatchUp, now: float) -> list[Job]:
    jobs: list[Job] = []
    while (job := core.next_job(now)) is not None:
        jobs.append(job)
    return jobs


def list_chats(core: CatchUp, keys: Sequence[str], now: float) -> None:
    """Let the core read the lists, which show these chats, at a moment when it wants to."""
    core._listing.begin(now)
    core._listed_now = set()
    core.listed([Listed(key, "0") for key in keys])
    core.listing_ended()


def found(*ids: str) -> Found:
    return Found(
        tuple(Message(id=one, body="x", user_id="u", created_at=EPOCH) for one in ids), Reached.ANCHOR
    )


def events_of(changes: Sequence[Change]) -> list[object]:
    return [event for change in changes for event in change.events]


def test_a_group_that_is_removed_twice_while_it_is_read_is_removed() -> None:
    key = "groupchats/g"
    core = core_of(key)
    core.connected(0.0, "me")
    job = next(job for job in jobs_at(core, 0.0) if isinstance(job, ReadChat))
    core.loaded(key, ChatRecord(key, anchor=("m1",), anchor_at=EPOCH), 0.0)
    assert core.begin(job.key, 0.0) is not None

    removed = GroupChatRemoved(id="removed/g", chat=ChatAddress.of_text(key), received_at=EPOCH)
    core.loaded(key, None, 0.0)
    for _ in range(2):
        core.event(removed, 0.1)
    core.identified(key, None, 0.2)
    core.event(removed, 0.3)

    assert core.finish(key, found("m1"), 0.4, room=100) == []
    (identify,) = (job for job in jobs_at(core, 0.5) if isinstance(job, IdentifyChat))
    core.identified(identify.key, None, 0.6)
    assert key not in core.keys


def test_a_chat_that_is_being_identified_is_not_read_meanwhile() -> None:
    key = "conversations/c"
    core = core_of(key)
    core.connected(0.0, "me")
    core.look_for(key)
    core.connected(1.0, "me")
    jobs = jobs_at(core, 1.0)
    assert [type(job) for job in jobs] == [ListChats, IdentifyChat]

    core.identified(key, Listed(key, "0"), 1.1)

    assert jobs_at(core, 1.2) == [ReadChat(key, needs_record=True)]


def test_a_chat_that_cannot_be_asked_for_is_asked_for_later() -> None:
    key = "conversations/c"
    core = core_of(key)
    core.connected(0.0, "me")
    core.look_for(key)
    job = next(job for job in jobs_at(core, 0.0) if isinstance(job, IdentifyChat))
    core.failed(job, 1.0)

    assert not any(isinstance(job, IdentifyChat) for job in jobs_at(core, 1.0))
    core.failed(ReadChat(key, needs_record=True), 1.1)
    due = core.due()
    assert due is not None
    assert due > 1.0
    assert any(isinstance(job, IdentifyChat) for job in jobs_at(core, 6.1))


def test_what_a_chat_holds_does_not_keep_it_from_being_handled() -> None:
    key = "conversations/c"
    core = core_of(key)
    core.connected(0.0, "me")
    deleted = MessageDeleted(
        id="deleted/m1", chat=ChatAddress.of_text(key), received_at=EPOCH, message_id="m1", user_id="u"
    )
    core.event(deleted, 1.0)
    jobs_at(core, 6.0)
    core.loaded(key, ChatRecord(key, anchor=("m0",), anchor_at=EPOCH), 6.0)
    core.begin(key, 6.0)

    room = 1 - core.held  # for one event, were this one not held
    assert events_of(core.finish(key, found("m0"), 6.1, room=room)) == [deleted]


def test_a_chat_that_was_not_there_for_a_while_goes_on_where_it_was() -> None:
    key = "conversations/c"
    core = core_of(key)
    core.connected(0.0, "me")
    jobs_at(core, 0.0)
    core.loaded(key, ChatRecord(key, anchor=("m1",), anchor_at=EPOCH), 0.0)
    core.begin(key, 0.0)
    core.look_for(key)
    core.identified(key, None, 0.1)
    assert key not in core.keys

    list_chats(core, [key], 5.0)
    core.begin(key, 5.1)
    read = found("m2", "m1", "m0")
    created = [e for e in events_of(core.finish(key, read, 5.2, room=100)) if isinstance(e, MessageCreated)]
    assert [event.message.id for event in created] == ["m2"]


def test_what_is_far_older_than_the_inbox_is_not_new_in_a_chat_that_was_not_known() -> None:
    core = core_of()
    core.connected(0.0, "me")
    list_chats(core, ["groupchats/g"], 5.0)
    core.begin("groupchats/g", 5.1)
    old, new = found("m1", "m2").messages
    old = Message(id="m1", body="x", user_id="u", created_at=EPOCH - timedelta(days=2))
    changes = core.finish("groupchats/g", Found((new, old), Reached.END), 5.2, room=100)
    created = [event for event in events_of(changes) if isinstance(event, MessageCreated)]
    assert [event.message.id for event in created] == ["m2"]


def test_a_chat_that_was_not_there_for_a_while_is_looked_for_in_the_lists() -> None:
    key = "conversations/c"
    core = core_of(key)
    core.connected(0.0, "me")
    for now in (0.0, 5.0):
        jobs_at(core, now)
        core.listing_ended()
    core.look_for(key)
    core.identified(key, None, 10.0)

    assert not any(isinstance(job, ListChats) for job in jobs_at(core, 14.0))
    assert any(isinstance(job, ListChats) for job in jobs_at(core, 15.0))
    core.listed([Listed(key, "0")])
    core.listing_ended()
    assert ReadChat(key, needs_record=False) in jobs_at(core, 15.0)

    core.look_for(key)
    core.identified(key, None, 16.0)
    assert not any(isinstance(job, ListChats) for job in jobs_at(core, 600.0))
    assert any(isinstance(job, ListChats) for job in jobs_at(core, 616.0))


def test_an_anchor_goes_on_where_the_page_ended_within_it() -> None:
    key = "conversations/c"
    core = core_of(key)
    core.connected(0.0, "me")
    anchor = tuple(f"m{number}" for number in range(20, 0, -1))
    new = [f"m{number}" for number in range(39, 20, -1)]
    for job in jobs_at(core, SETTLE):
        if isinstance(job, ReadChat):
            core.loaded(key, ChatRecord(key, anchor=anchor), SETTLE)
            core.begin(key, SETTLE)

    changes = core.finish(key, found(*new, "m20"), SETTLE, room=1000)

    assert len(events_of(changes)) == len(new)
    # Only m20 of the page is settled. If it is deleted next, m19 still says what is new.
    assert [change.chat and change.chat.anchor for change in changes] == [anchor]
