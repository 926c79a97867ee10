from typing import Any

import pytest

from healthmsg import (
    ConversationStarted,
    Event,
    GroupChatClosed,
    GroupChatCreated,
    GroupChatRemoved,
    MembersAdded,
    MembersRemoved,
    Message,
    MessageCreated,
    MessageDeleted,
    MessageLiked,
    PresenceChanged,
    QuestionAnswered,
    QuestionPayload,
    TypingStarted,
    TypingStopped,
    UnknownEvent,
    User,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.events import Incomplete
from healthmsg.ids import ChatAddress
from healthmsg.models import Attachment
from tests.events.examples import CONVERSATION, FRAMES, GROUP_CHAT, ME, NOON, event_of, read

OF_BOTH = pytest.mark.parametrize(
    ("kind", "chat"), [("conversation", CONVERSATION), ("groupchat", GROUP_CHAT)]
)
CLASSES: dict[str, type[Event]] = {
    "new_message": MessageCreated,
    "message_liked": MessageLiked,
    "message_deleted": MessageDeleted,
    "verification_accepted": VerificationAccepted,
    "verification_rejected": VerificationRejected,
    "question_answer": QuestionAnswered,
    "new_conversation": ConversationStarted,
    "new_groupchat": GroupChatCreated,
    "closed": GroupChatClosed,
    "removed": GroupChatRemoved,
    "members_added": MembersAdded,
    "members_removed": MembersRemoved,
    "typing": TypingStarted,
    "stop_typing": TypingStopped,
    "presence_update": PresenceChanged,
    "something_new": UnknownEvent,
}
DEEP: Any = "x"
for _ in range(300):
    DEEP = [DEEP]


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_every_name_makes_its_event(name: str) -> None:
    event: Any = event_of(name)

    end = name if name in CLASSES else name.partition("_")[2]
    assert type(event).__name__ == CLASSES[end].__name__
    assert (event.received_at, event.is_own, event.caught_up, event.attempt) == (NOON, False, False, 1)
    assert event.extra == {}
    if name != "presence_update":
        assert event.chat == (CONVERSATION if "conversation_id" in FRAMES[name] else GROUP_CHAT)


@pytest.mark.parametrize("name", FRAMES)
def test_what_a_frame_has_beside_is_kept_as_it_came(name: str) -> None:
    beside = {"new": {"deep": [1, None]}, "id": "their id", "kind": "their kind", "chat": 7, "extra": [1]}

    event = event_of(name, **beside)

    assert {**FRAMES[name], **beside} == event.frame if name == "something_new" else event.extra == beside


@pytest.mark.parametrize("name", ["authenticated", "error", "groupchat_subscribed", "groupchat_unsubscribed"])
@pytest.mark.parametrize("data", [{}, {"groupchat_id": "g1", "code": 304}, None])
def test_frames_of_the_protocol_are_no_events(name: str, data: Any) -> None:
    assert read(name, data) is None


@OF_BOTH
def test_a_message_is_the_same_that_rest_gives(kind: str, chat: ChatAddress) -> None:
    event = event_of(
        f"{kind}_new_message",
        body="Dag [mention=u2]",
        attachments=[{"id": "a1", "name": "x.pdf", "size": 3, "mime": "application/pdf"}],
        mentions=[{"id": "u2", "first_name": "An"}],
    )

    assert event.message == Message.from_dict(
        {
            "id": "m1",
            "body": "Dag [mention=u2]",
            "user_id": "u1",
            "attachments": [{"id": "a1", "name": "x.pdf", "size": 3, "mime_type": "application/pdf"}],
            "mentions": [{"id": "u2", "first_name": "An"}],
        }
    )
    assert event == MessageCreated.of(chat, event.message, me=ME, received_at=NOON)
    assert (event.id, event.message_id, event.user_id) == ("message/m1", "m1", "u1")


def test_the_type_of_a_file_is_read_by_either_name() -> None:
    files = [
        {"id": "a", "mime_type": "b/c"},
        {"id": "d", "mime": "e/f"},
        {"id": "g", "mime": 1, "mime_type": "h/i"},
    ]

    event = event_of("groupchat_new_message", attachments=files)

    assert event.message.attachments == (
        Attachment("a", mime_type="b/c"),
        Attachment("d", mime_type="e/f"),
        Attachment("g", mime_type="h/i"),
    )
    assert event.message.attachments[2].extra == {"mime": 1}


def test_a_sender_may_come_whole() -> None:
    frame = {"conversation_id": "c1", "message_id": "m1", "user": {"id": ME, "first_name": "An"}, "body": "x"}

    event: Any = read("conversation_new_message", frame)

    assert event.message.user == User(ME, first_name="An")
    assert event.user_id == ME
    assert event.is_own


def test_mentions_may_be_ids_alone_and_a_question_may_come_with_its_message() -> None:
    question = {"type": "question", "options": [{"name": "ja"}]}

    event = event_of("conversation_new_message", mentions=["u2"], payload=question)

    assert event.message.mentions == (User("u2"),)
    assert type(event.message.payload) is QuestionPayload


def test_nothing_of_a_frame_is_changed_by_reading_it() -> None:
    frame = {**FRAMES["conversation_new_message"], "attachments": [{"id": "a1", "mime": "x/y"}], "new": {}}
    before = repr(frame)

    read("conversation_new_message", frame)

    assert repr(frame) == before


@OF_BOTH
def test_a_message_without_body_is_incomplete(kind: str, chat: ChatAddress) -> None:
    name = f"{kind}_new_message"
    frame = {**FRAMES[name], "attachments": [{"id": "a1"}]}
    del frame["body"]

    assert read(name, frame) == Incomplete(chat, "m1")
    assert read(name, {**FRAMES[name], "body": None}) == Incomplete(chat, "m1")


def test_a_message_may_be_files_or_a_question_alone() -> None:
    with_file = event_of("conversation_new_message", body=None, attachments=[{"id": "a1"}])
    empty = event_of("conversation_new_message", body="")

    assert with_file.message.body is None
    assert empty.message.body == ""


@OF_BOTH
@pytest.mark.parametrize(
    "wrong",
    [
        {"body": 5},
        {"body": ["text"]},
        {"user_id": 5},
        {"user": "u1"},
        {"user": {}},
        {"attachments": {"id": "a1"}},
        {"attachments": "a1"},
        {"attachments": ["a1"]},
        {"attachments": [{"name": "x"}]},
        {"attachments": [{"id": "a1", "mime": 5}]},
        {"mentions": 5},
        {"mentions": [None]},
        {"new": DEEP},
        {"payload": {"type": "verification_request", "attributes": {"x": DEEP}}},
        {"mentions": [{"id": "u2", "new": DEEP}]},
        {"liked_by": [{"id": "u2", "new": DEEP}]},
        {"user": {"id": "u2", "new": DEEP}},
        {"attachments": [{"id": "a2", "new": DEEP}]},
    ],
    ids=lambda wrong: repr(wrong)[:40],
)
def test_a_message_that_cannot_be_read_is_to_be_read_over_rest(
    kind: str, chat: ChatAddress, wrong: dict[str, Any]
) -> None:
    name = f"{kind}_new_message"

    assert read(name, FRAMES[name] | wrong) == Incomplete(chat, "m1")


@pytest.mark.parametrize("message_id", [None, 5, "", ["m1"]])
@pytest.mark.parametrize(
    "name", ["groupchat_new_message", "groupchat_message_deleted", "groupchat_question_answer"]
)
def test_a_chat_is_to_be_read_though_its_message_has_no_id(name: str, message_id: Any) -> None:
    assert read(name, FRAMES[name] | {"message_id": message_id}) == Incomplete(GROUP_CHAT, None)


def test_a_chat_of_the_other_kind_is_to_be_read_too() -> None:
    frame = {"conversation_id": "c1", "message_id": "m1", "body": "x"}

    assert read("groupchat_new_message", frame) == Incomplete(CONVERSATION, "m1")


@pytest.mark.parametrize("chat_id", [None, 5, "", ".", "..", ["c1"], "conversations/c1"])
@pytest.mark.parametrize("name", [name for name in FRAMES if name.startswith(("conversation", "new_conv"))])
def test_what_names_no_chat_is_unknown_and_kept(name: str, chat_id: Any) -> None:
    frame = FRAMES[name] | {"conversation_id": chat_id}

    event: Any = read(name, frame)

    assert type(event) is UnknownEvent
    assert (event.name, event.frame, event.chat) == (name, frame, None)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("conversation_question_answer", {"options": None}),
        ("conversation_question_answer", {"options": [5]}),
        ("conversation_question_answer", {"options": {"ja": 1}}),
        ("conversation_question_answer", {"user_id": None}),
    ],
)
def test_what_else_cannot_be_read_and_names_chat_and_message_is_incomplete(
    name: str, wrong: dict[str, Any]
) -> None:
    assert read(name, FRAMES[name] | wrong) == Incomplete(CONVERSATION, "m1")


@pytest.mark.parametrize(
    "users", [None, [], "u2", ["u2", 5], [{"first_name": "An"}], [{"id": "u", "x": DEEP}]]
)
def test_members_that_cannot_be_read_make_the_chat_incomplete(users: Any) -> None:
    name = "groupchat_members_added"

    assert read(name, FRAMES[name] | {"users": users}) == Incomplete(GROUP_CHAT, None)


@pytest.mark.parametrize("name", ["typing", "groupchat_message_liked", "presence_update"])
def test_what_comes_at_most_once_never_makes_a_chat_be_read(name: str) -> None:
    event: Any = read(name, FRAMES[name] | {"user_id": 5})

    assert type(event) is UnknownEvent
    assert event.frame["user_id"] == 5


@pytest.mark.parametrize("end", ["message_deleted", "verification_accepted", "verification_rejected"])
@pytest.mark.parametrize("user_id", [5, {"id": "u1"}, ["u1"]])
def test_a_user_in_an_unknown_form_is_kept_beside(end: str, user_id: Any) -> None:
    event = event_of(f"conversation_{end}", user_id=user_id)

    assert event.user_id is None
    assert event.extra == {"user_id": user_id}


@pytest.mark.parametrize("end", ["message_deleted", "verification_accepted"])
def test_a_user_may_be_missing(end: str) -> None:
    event = event_of(f"groupchat_{end}", user_id=None)

    assert (event.user_id, event.extra, event.is_own) == (None, {}, False)


@pytest.mark.parametrize("name", [name for name in FRAMES if "user_id" in FRAMES[name]])
def test_an_event_is_own_if_its_user_is_that_of_the_token(name: str) -> None:
    assert event_of(name, user_id=ME).is_own
    assert not event_of(name, user_id="u2").is_own


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("groupchat_new_message", "message/m1"),
        ("groupchat_message_deleted", "deleted/m1"),
        ("groupchat_question_answer", "answer/m1/u1/ja"),
        ("groupchat_verification_accepted", "verified/m1"),
        ("groupchat_verification_rejected", "rejected/m1"),
        ("new_conversation", "chat/c1"),
        ("new_groupchat", "chat/g1"),
        ("groupchat_closed", "closed/g1"),
        ("groupchat_removed", "removed/g1"),
    ],
)
def test_the_same_happening_has_the_same_id(name: str, expected: str) -> None:
    assert event_of(name).id == event_of(name).id == expected


@pytest.mark.parametrize(
    "name",
    ["groupchat_message_liked", "typing", "presence_update", "something_new", "groupchat_members_added"],
)
def test_what_may_happen_twice_has_two_ids(name: str) -> None:
    assert event_of(name).id != event_of(name).id


def test_an_answer_has_one_id_in_whichever_order_and_no_other_answer_has_it() -> None:
    def answer(*options: str) -> str:
        return str(event_of("conversation_question_answer", options=list(options)).id)

    assert answer("b", "a") == answer("a", "b") == "answer/m1/u1/a,b"
    assert len({answer("a", "b"), answer("a,b"), answer("a%2Cb"), answer("a"), answer()}) == 5
    assert event_of("conversation_question_answer", options="ja").options == ("ja",)
    assert event_of("conversation_question_answer", options=["b", "a"]).options == ("b", "a")


@pytest.mark.parametrize("data", [None, 5, "x", [1], [{"conversation_id": "c1"}]])
@pytest.mark.parametrize("name", ["conversation_new_message", "something_new"])
def test_data_that_is_no_object_is_kept(name: str, data: Any) -> None:
    event: Any = read(name, data)

    assert type(event) is UnknownEvent
    assert event.frame == {"data": data}


def test_a_name_that_is_no_text_is_unknown() -> None:
    name: Any = ["authenticated"]

    event: Any = read(name, {"groupchat_id": "g1"})

    assert (type(event), event.name, event.chat) == (UnknownEvent, "", GROUP_CHAT)


@pytest.mark.parametrize("name", [name for name in FRAMES if not name.endswith(("_new_message", "_new"))])
def test_what_is_nested_too_deeply_to_be_written_is_left_out_beside(name: str) -> None:
    event = event_of(name, new=DEEP)

    assert event.extra == {}
    assert "extra" not in event.to_dict()


def test_typing_may_name_the_other_kind_of_chat_as_null() -> None:
    assert event_of("stop_typing", conversation_id=None).chat == GROUP_CHAT


def test_a_frame_that_is_nested_too_deeply_to_be_written_is_not_kept() -> None:
    event: Any = read("something_new", {"x": DEEP, "groupchat_id": "g1"})

    assert event.frame == {}
    assert event.chat == GROUP_CHAT
    assert event.to_dict()["name"] == "something_new"
