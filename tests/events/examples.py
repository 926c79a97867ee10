"""One event of every kind, as frames and as values, and what makes any."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import fields_dict
from hypothesis import strategies as st

from healthmsg.events import KINDS, Event, Incomplete, event_of_frame
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import Message, User
from tests.test_codec_properties import jsons, models_of, moments, texts, unknown_fields

ME: Final = "u-me"
NOON: Final = datetime(2026, 1, 2, 12, tzinfo=UTC)
CONVERSATION: Final = ChatAddress(ChatKind.CONVERSATION, "c1")
GROUP_CHAT: Final = ChatAddress(ChatKind.GROUP_CHAT, "g1")

_OF_MESSAGES: Final[Mapping[str, dict[str, Any]]] = {
    "new_message": {"body": "text", "attachments": [], "mentions": []},
    "message_liked": {},
    "message_deleted": {},
    "verification_accepted": {},
    "verification_rejected": {},
    "question_answer": {"options": ["ja"]},
}
FRAMES: Final[dict[str, dict[str, Any]]] = {
    **{
        f"{kind}_{end}": {f"{kind}_id": chat_id, "message_id": "m1", "user_id": "u1", **data}
        for kind, chat_id in (("conversation", "c1"), ("groupchat", "g1"))
        for end, data in _OF_MESSAGES.items()
    },
    "new_conversation": {"conversation_id": "c1", "user_id": "u1"},
    "new_groupchat": {"groupchat_id": "g1"},
    "groupchat_closed": {"groupchat_id": "g1"},
    "groupchat_removed": {"groupchat_id": "g1"},
    "groupchat_members_added": {"groupchat_id": "g1", "user_id": "u1", "users": [{"id": "u2"}]},
    "groupchat_members_removed": {"groupchat_id": "g1", "user_id": "u1", "users": [{"id": "u2"}]},
    "typing": {"user_id": "u1", "conversation_id": "c1"},
    "stop_typing": {"user_id": "u1", "groupchat_id": "g1"},
    "presence_update": {"user_id": "u1", "status": "online"},
    "something_new": {"groupchat_id": "g1"},
}
"""A frame of every name that makes an event; the last one's is not known."""


def read(name: str, data: Any) -> Event | Incomplete | None:
    return event_of_frame(name, data, me=ME, now=NOON)


def event_of(name: str, **changes: Any) -> Any:
    event = read(name, FRAMES[name] | changes)
    assert isinstance(event, Event)
    return event


EVENTS: Final = [event_of(name) for name in FRAMES]

# Nothing that an address refuses.
chats = st.builds(ChatAddress, st.sampled_from([ChatKind.CONVERSATION, ChatKind.GROUP_CHAT]), texts)
_BY_FIELD: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "chat": chats,
    "received_at": moments,
    "due": moments,
    "is_own": st.booleans(),
    "caught_up": st.booleans(),
    "attempt": st.integers(1, 2**63),
    "extra": unknown_fields,
    "frame": unknown_fields,
    "message": models_of(Message),
    "users": st.lists(models_of(User), max_size=3).map(tuple),
    "options": st.lists(texts, max_size=3).map(tuple),
}


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    optional = {"user_id"} & {
        name for name, field in fields_dict(kind).items() if field.default is None and name == "user_id"
    }
    by_field = {
        name: st.none() | texts if name in optional else _BY_FIELD.get(name, texts)
        for name in fields_dict(kind)
    }
    return st.builds(kind, **by_field)


any_event = st.sampled_from(list(KINDS.values())).flatmap(events_of)

_KEYS: Final = sorted({key for data in FRAMES.values() for key in data})
_keys = st.sampled_from([*_KEYS, "user", "payload", "created_at", "id", "kind", "extra", "chat", "liked_by"])
_pieces = (
    jsons
    | st.sampled_from(["c1", "u1", ME, ".", "", "conversations/c1", "2026-01-02T03:04:05Z", "question"])
    | st.fixed_dictionaries({"id": texts}, optional={"mime": jsons, "name": jsons, "user_id": jsons})
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["question", "verification_request"])},
        optional={
            "options": jsons,
            "answers": jsons,
            "attributes": jsons,
            "users": jsons,
        },
    )
)
_wild = _pieces | st.lists(_pieces, max_size=3) | st.dictionaries(_keys, _pieces, max_size=3)
names = st.sampled_from([*FRAMES, "authenticated", "groupchat_subscribed", "error", ""]) | texts


@st.composite
def any_frame(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a frame: a proper one, of which some things are replaced, missing or added."""
    name = draw(names)
    data = json.loads(json.dumps(FRAMES.get(name, {})))
    data |= draw(st.dictionaries(_keys | texts, _wild, max_size=3))
    for key in draw(st.lists(st.sampled_from(_KEYS), max_size=1)):
        data.pop(key, None)
    return name, data
