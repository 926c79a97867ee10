import copy
import json
import pickle
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError
from hypothesis import example, given, settings
from hypothesis import strategies as st

import healthmsg
from healthmsg import ChatEvent, Event, Message, MessageCreated, User, event_from_dict
from healthmsg.codec import encode
from healthmsg.errors import InvalidInputError
from healthmsg.events import KINDS, Incomplete, TimerDue, event_of_frame, in_chat, numbered
from healthmsg.ids import ChatAddress, ChatKind
from tests.events.examples import (
    CONVERSATION,
    EVENTS,
    FRAMES,
    GROUP_CHAT,
    ME,
    NOON,
    any_event,
    any_frame,
    event_of,
    read,
)
from tests.test_codec_properties import jsons

CANARY = "canary-3f9"
AT_MOST_ONCE = {"message_liked", "typing_started", "typing_stopped", "presence_changed"}
many = settings(max_examples=60, deadline=None)


def through_json(event: Event) -> Event:
    return event_from_dict(json.loads(json.dumps(event.to_dict())))


def assert_comes_back(event: Event) -> None:
    again = through_json(event)
    assert type(again) is type(event)
    assert again == event
    assert again.extra == event.extra
    assert again.to_dict() == event.to_dict() == json.loads(encode(event))
    assert again.to_dict()["kind"] == event.kind
    pickled = pickle.loads(pickle.dumps(event))  # noqa: S301 - our own
    assert pickled == event
    assert pickled.to_dict() == event.to_dict()
    assert hash(again) == hash(event) == hash(pickled)


@many
@given(any_event)
def test_every_event_comes_back_from_its_dict_and_from_a_pickle(event: Event) -> None:
    assert_comes_back(event)


@many
@given(any_frame())
@example(
    ("conversation_new_message", {"conversation_id": "c1", "message_id": "m1", "body": "", "mentions": [[]]})
)
def test_no_frame_whatever_raises_and_each_event_of_one_can_be_stored(
    frame: tuple[str, dict[str, Any]],
) -> None:
    found = read(*frame)

    if isinstance(found, Event):
        assert_comes_back(found)
    elif found is not None:
        assert isinstance(found, Incomplete)


@many
@given(name=jsons | st.sampled_from(list(FRAMES)), data=jsons)
def test_no_json_whatever_raises(name: Any, data: Any) -> None:
    found = event_of_frame(name, data, me=ME, now=NOON)

    if isinstance(found, Event):
        assert_comes_back(found)


def test_a_number_that_json_libraries_read_but_cannot_write_raises_nothing() -> None:
    assert read(
        "conversation_new_message", FRAMES["conversation_new_message"] | {"new": 2**70}
    ) == Incomplete(CONVERSATION, "m1")


@pytest.mark.parametrize("name", FRAMES)
def test_nothing_private_is_in_the_repr_of_an_event(name: str) -> None:
    person = {"id": "u2", "first_name": CANARY, "email": CANARY, "new": CANARY}
    secret = {
        "body": CANARY,
        "attachments": [{"id": "a1", "name": CANARY, "mime": CANARY}],
        "mentions": [person],
        "user": person,
        "users": [person],
        "options": [CANARY, f"{CANARY}/{CANARY}"],
        "status": CANARY,
        "payload": {"type": CANARY, "new": CANARY},
        "new": CANARY,
    }
    beside = {CANARY: CANARY}

    event = event_of(name, **secret, **beside)

    assert CANARY in str(event.to_dict())
    assert CANARY not in f"{event!r} {event} {[event]}"
    assert type(event).__name__ in repr(event)


def test_an_unknown_name_is_shown_if_it_is_a_word() -> None:
    assert "something_new" in repr(event_of("something_new"))
    assert CANARY not in repr(read(CANARY, {CANARY: CANARY}))


def test_every_kind_is_tested_is_public_and_has_a_word_and_a_start_of_its_own() -> None:
    assert {type(event) for event in EVENTS} | {TimerDue} == set(KINDS.values())
    assert len(KINDS) == 17
    for word, kind in KINDS.items():
        assert kind.kind == word
        assert getattr(healthmsg, kind.__name__) is kind
    starts = [kind.id_start for kind in KINDS.values()]
    # A chat comes into being as one or the other.
    assert len(set(starts)) == len(starts) - 1


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_is_frozen_small_and_begins_its_id_as_its_kind_does(event: Event) -> None:
    with pytest.raises(FrozenInstanceError):
        event.id = "x"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")
    assert event.id.startswith(f"{event.id_start}/")
    assert event.durable is (event.kind not in AT_MOST_ONCE)
    assert copy.deepcopy(event) == event


def test_an_event_of_the_first_attempt_differs_from_that_of_the_second() -> None:
    event = event_of("new_groupchat")

    assert event_from_dict(event.to_dict() | {"attempt": 2}) != event


def test_a_dict_has_the_kind_the_address_as_text_and_no_names_of_ours_lost() -> None:
    event = event_of("groupchat_closed", kind="theirs", chat="theirs", id=5, attempt=9)

    assert event.to_dict() == {
        "kind": "group_chat_closed",
        "id": "closed/g1",
        "received_at": "2026-01-02T12:00:00+00:00",
        "is_own": False,
        "caught_up": False,
        "attempt": 1,
        "extra": {"kind": "theirs", "chat": "theirs", "id": 5, "attempt": 9},
        "chat": "groupchats/g1",
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"kind": CANARY}, r"\$\.kind"),
        ({"kind": [CANARY]}, r"\$\.kind"),
        ({"kind": None}, r"\$\.kind"),
        ({"kind": "message_liked"}, r"\$\.message_id"),
        ({"id": [CANARY]}, r"\$\.id"),
        ({"received_at": CANARY}, r"\$\.received_at"),
        ({"chat": 5}, r"\$\.chat"),
        ({"chat": CANARY}, "a chat's address"),
        ({"message": {"body": CANARY}}, r"\$\.message\.id"),
        ({"attempt": "2"}, r"\$\.attempt"),
    ],
)
def test_a_wrong_dict_is_refused_by_path_and_never_by_value(change: dict[str, Any], path: str) -> None:
    document = event_of("conversation_new_message").to_dict() | change

    with pytest.raises(InvalidInputError, match=path) as caught:
        event_from_dict(document)

    assert CANARY not in f"{caught.value} {caught.value.args}"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("document", [None, 5, CANARY, [CANARY], {}])
def test_what_is_no_event_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"\$\.kind"):
        event_from_dict(document)
    with pytest.raises(InvalidInputError, match=r"not a MessageCreated, at \$\.kind"):
        MessageCreated.from_dict(document)


def test_a_class_reads_its_own_kind_alone() -> None:
    document = event_of("conversation_new_message").to_dict()

    assert MessageCreated.from_dict(document) == event_from_dict(document)
    for other in (Event, ChatEvent, KINDS["typing_started"]):
        with pytest.raises(InvalidInputError):
            other.from_dict(document)


def test_a_key_of_a_newer_version_does_no_harm() -> None:
    event = event_of("conversation_new_message")

    assert event_from_dict(event.to_dict() | {"newer": 1}) == event


def test_a_test_may_make_an_event_with_an_address_as_text() -> None:
    event = MessageCreated(
        id="message/m1", chat="conversations/c1", received_at=NOON, message=Message("m1", body="x")
    )

    assert event.chat == CONVERSATION
    assert event.user_id is None


def test_an_address_of_the_integrators_own_comes_back_as_exact() -> None:
    chat = ChatAddress.of_text("aux/conversations/José")

    assert_comes_back(in_chat(event_of("groupchat_closed"), chat))


def test_an_event_moves_to_another_address_of_its_chat() -> None:
    canonical = ChatAddress(ChatKind.CONVERSATION, "c9")

    started = in_chat(event_of("new_conversation"), canonical)
    created = in_chat(event_of("conversation_new_message"), canonical)

    assert (started.chat, started.id) == (canonical, "chat/c9")
    assert (created.chat, created.id) == (canonical, "message/m1")


def test_members_are_numbered_within_their_chat() -> None:
    assert numbered(event_of("groupchat_members_added"), 3).id == "added/g1/3"
    assert numbered(event_of("groupchat_members_removed"), 4).id == "left/g1/4"


def test_a_message_of_rest_makes_the_event_that_its_frame_makes() -> None:
    whole = Message("m1", body="x", user=User(ME), created_at=NOON)

    event = MessageCreated.of(GROUP_CHAT, whole, me=ME, received_at=NOON, caught_up=True)

    assert event.id == event_of("groupchat_new_message").id
    assert event.is_own
    assert event.caught_up
