"""The gateway's frames to events: no JSON whatever makes this raise.

A frame that cannot be read is not dropped: where it names a chat, that chat is to be read over REST.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache, partial
from typing import Final

import orjson
from attrs import frozen

from healthmsg.codec import structured
from healthmsg.errors import InvalidInputError
from healthmsg.events.base import Event, UnknownEvent, random_id
from healthmsg.events.chats import (
    ConversationStarted,
    GroupChatClosed,
    GroupChatCreated,
    GroupChatRemoved,
    MembersAdded,
    MembersRemoved,
    PresenceChanged,
    TypingStarted,
    TypingStopped,
)
from healthmsg.events.messages import (
    MessageCreated,
    MessageDeleted,
    MessageLiked,
    QuestionAnswered,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.json_text import JSONObject
from healthmsg.models import Message, User
from healthmsg.models.users import UserOrId
from healthmsg.structuring import MismatchError

_CONVERSATION: Final = "conversation_id"
_GROUP_CHAT: Final = "groupchat_id"
_KINDS_OF_CHAT: Final = {_CONVERSATION: ChatKind.CONVERSATION, _GROUP_CHAT: ChatKind.GROUP_CHAT}
_KEYS: Final = {"conversation": _CONVERSATION, "groupchat": _GROUP_CHAT}
_PROTOCOL: Final = frozenset({"authenticated", "groupchat_subscribed", "groupchat_unsubscribed", "error"})
_ADDRESSES_KEPT: Final = 1_000


@frozen
class Incomplete:
    """A frame that says too little: this chat is to be read over REST.

    A group's message comes without `body` unless the group is subscribed to [V]; and a frame may have
    something in it that is not as it is known to be.
    """

    chat: ChatAddress
    message_id: str | None = None
    """The message that it is about, where it names one."""


_Found = Event | Incomplete
_Reader = Callable[..., _Found]


def event_of_frame(name: str, data: JSONObject, *, me: str, now: datetime) -> Event | Incomplete | None:
    """Return what a frame of the gateway says, or `None` where that concerns the protocol alone.

    *me* is the id of the user whose token the connection has, *now* the moment that the frame came. It never
    raises, whatever JSON comes. A conversation keeps the id that the frame has, which may be the other side's
    user id [V].
    """
    if type(name) is not str:
        name = ""
    read = _READERS.get(name)
    if read is None and name in _PROTOCOL:
        return None
    if type(data) is not dict:
        return _unknown(name, {"data": data}, now)
    if read is None:
        return _unknown(name, data, now)
    try:
        return read(data, me, now)
    except (MismatchError, InvalidInputError):
        pass
    return _unreadable(name, data, now)


# --- what all frames have


@lru_cache(_ADDRESSES_KEPT)
def _address(key: str, value: str) -> ChatAddress:
    return ChatAddress(_KINDS_OF_CHAT[key], value)


def _chat(data: Mapping[str, object], key: str) -> ChatAddress:
    value = data.get(key)
    if type(value) is not str:
        raise MismatchError
    return _address(key, value)


def _chat_if_named(data: Mapping[str, object]) -> ChatAddress | None:
    for key in _KINDS_OF_CHAT:
        try:
            return _chat(data, key)
        except (MismatchError, InvalidInputError):
            pass
    return None


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    if type(value) is not str or not value:
        raise MismatchError
    return value


def _user_if_named(data: Mapping[str, object]) -> str | None:
    value = data.get("user_id")
    return value if type(value) is str and value else None


def _rest(data: Mapping[str, object], *read: str) -> dict[str, object]:
    """Return what is in a frame beside what was read of it.

    It is left out where it could not be written: a deletion, say, cannot be read over REST instead.
    """
    extra = {key: value for key, value in data.items() if key not in read}
    return extra if not extra or _can_be_written(extra) else {}


def _can_be_written(value: object) -> bool:
    """Return whether it can go into an inbox: what is nested deeply can be read, but not written again."""
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])
    except TypeError:
        return False
    return True


def _unreadable(name: str, data: dict[str, object], now: datetime) -> _Found:
    chat = _chat_if_named(data)
    if chat is None or name in _AT_MOST_ONCE:
        return _unknown(name, data, now)
    message_id = data.get("message_id")
    return Incomplete(chat, message_id if type(message_id) is str and message_id else None)


def _unknown(name: str, data: dict[str, object], now: datetime) -> UnknownEvent:
    return UnknownEvent(
        id=random_id(UnknownEvent.id_start),
        received_at=now,
        name=name,
        chat=_chat_if_named(data),
        frame=data if _can_be_written(data) else {},
    )


# --- messages


def _message(key: str, data: dict[str, object], me: str, now: datetime) -> _Found:
    chat, message_id = _chat(data, key), _text(data, "message_id")
    document = data.copy()
    del document[key], document["message_id"]
    document["id"] = message_id
    attachments = document.get("attachments")
    if document.get("body") is None and ("body" not in document or not (attachments or data.get("payload"))):
        return Incomplete(chat, message_id)
    if attachments:
        document["attachments"] = _attachments(attachments)
    message = structured(document, Message)
    extra = message.extra
    if "id" in data:
        extra = {**extra, "id": data["id"]}
    # What may hold JSON of any depth.
    people = message.user or message.mentions or message.liked_by
    if (people or attachments or extra or message.payload) and not _can_be_written(data):
        raise MismatchError
    return MessageCreated.of(chat, message, me=me, received_at=now, extra=extra)


def _attachments(attachments: object) -> object:
    """Return files as REST has them: the gateway may call their type `mime` [V]."""
    if type(attachments) is not list:
        raise MismatchError
    return [
        {
            "mime_type" if key == "mime" and "mime_type" not in one else key: value
            for key, value in one.items()
        }
        if type(one) is dict and "mime" in one
        else one
        for one in attachments
    ]


def _deleted_or_verified(
    key: str,
    data: dict[str, object],
    me: str,
    now: datetime,
    *,
    event: type[MessageDeleted | VerificationAccepted | VerificationRejected],
) -> _Found:
    chat, message_id, user_id = _chat(data, key), _text(data, "message_id"), _user_if_named(data)
    return event(
        id=f"{event.id_start}/{message_id}",
        chat=chat,
        received_at=now,
        is_own=user_id == me,
        extra=_rest(data, key, "message_id", *_read_user(data, user_id)),
        message_id=message_id,
        user_id=user_id,
    )


def _read_user(data: Mapping[str, object], user_id: str | None) -> tuple[str, ...]:
    """Return which key was read: a user that could not be read stays in `extra`."""
    return ("user_id",) if user_id is not None or not data.get("user_id", "") else ()


def _liked(key: str, data: dict[str, object], me: str, now: datetime) -> _Found:
    chat, message_id, user_id = _chat(data, key), _text(data, "message_id"), _text(data, "user_id")
    return MessageLiked(
        id=random_id(MessageLiked.id_start),
        chat=chat,
        received_at=now,
        is_own=user_id == me,
        extra=_rest(data, key, "message_id", "user_id"),
        message_id=message_id,
        user_id=user_id,
    )


def _answered(key: str, data: dict[str, object], me: str, now: datetime) -> _Found:
    options = data.get("options")
    if type(options) is str:  # usually an array also for one [V]
        options = [options]
    elif options is None:
        raise MismatchError
    names = structured(options, tuple[str, ...])
    return QuestionAnswered.of(
        _chat(data, key),
        _text(data, "message_id"),
        _text(data, "user_id"),
        names,
        me=me,
        received_at=now,
        extra=_rest(data, key, "message_id", "user_id", "options"),
    )


# --- chats and people


def _started(data: dict[str, object], me: str, now: datetime) -> _Found:
    chat, user_id = _chat(data, _CONVERSATION), _user_if_named(data)
    return ConversationStarted(
        id=f"{ConversationStarted.id_start}/{chat.id}",
        chat=chat,
        received_at=now,
        is_own=user_id == me,
        extra=_rest(data, _CONVERSATION, *_read_user(data, user_id)),
        user_id=user_id,
    )


def _group_chat(
    data: dict[str, object],
    me: str,
    now: datetime,
    *,
    event: type[GroupChatCreated | GroupChatClosed | GroupChatRemoved],
) -> _Found:
    chat = _chat(data, _GROUP_CHAT)
    return event(
        id=f"{event.id_start}/{chat.id}",
        chat=chat,
        received_at=now,
        is_own=_user_if_named(data) == me,
        extra=_rest(data, _GROUP_CHAT),
    )


def _members(
    data: dict[str, object], me: str, now: datetime, *, event: type[MembersAdded | MembersRemoved]
) -> _Found:
    chat, user_id = _chat(data, _GROUP_CHAT), _user_if_named(data)
    users: tuple[User, ...] = structured(data.get("users"), tuple[UserOrId, ...])
    if not users or not _can_be_written(data["users"]):
        raise MismatchError
    return event(
        id=random_id(f"{event.id_start}/{chat.id}"),
        chat=chat,
        received_at=now,
        is_own=user_id == me,
        extra=_rest(data, _GROUP_CHAT, "users", *_read_user(data, user_id)),
        user_id=user_id,
        users=users,
    )


def _typing(
    data: dict[str, object], me: str, now: datetime, *, event: type[TypingStarted | TypingStopped]
) -> _Found:
    user_id = _text(data, "user_id")
    key = _GROUP_CHAT if data.get(_CONVERSATION) is None else _CONVERSATION
    return event(
        id=random_id(event.id_start),
        chat=_chat(data, key),
        received_at=now,
        is_own=user_id == me,
        extra=_rest(data, key, "user_id"),
        user_id=user_id,
    )


def _presence(data: dict[str, object], me: str, now: datetime) -> _Found:
    user_id = _text(data, "user_id")
    return PresenceChanged(
        id=random_id(PresenceChanged.id_start),
        received_at=now,
        is_own=user_id == me,
        extra=_rest(data, "user_id", "status"),
        user_id=user_id,
        status=_text(data, "status"),
    )


_OF_BOTH: Final[Mapping[str, _Reader]] = {
    "new_message": _message,
    "message_liked": _liked,
    "message_deleted": partial(_deleted_or_verified, event=MessageDeleted),
    "verification_accepted": partial(_deleted_or_verified, event=VerificationAccepted),
    "verification_rejected": partial(_deleted_or_verified, event=VerificationRejected),
    "question_answer": _answered,
}
"""By the end of the frame's name; its start is that of the chat's kind."""
_READERS: Final[Mapping[str, _Reader]] = {
    **{f"{kind}_{end}": partial(read, key) for kind, key in _KEYS.items() for end, read in _OF_BOTH.items()},
    "new_conversation": _started,
    "new_groupchat": partial(_group_chat, event=GroupChatCreated),
    "groupchat_closed": partial(_group_chat, event=GroupChatClosed),
    "groupchat_removed": partial(_group_chat, event=GroupChatRemoved),
    "groupchat_members_added": partial(_members, event=MembersAdded),
    "groupchat_members_removed": partial(_members, event=MembersRemoved),
    "typing": partial(_typing, event=TypingStarted),
    "stop_typing": partial(_typing, event=TypingStopped),
    "presence_update": _presence,
}
_AT_MOST_ONCE: Final = frozenset(
    {"typing", "stop_typing", "presence_update", "conversation_message_liked", "groupchat_message_liked"}
)
