"""An event as one JSON object for a program. Texts and names only if they are wanted."""

import re
from typing import Final

from attrs import evolve

from healthmsg.codec import encode
from healthmsg.events import (
    Event,
    MembersAdded,
    MembersRemoved,
    MessageCreated,
    PresenceChanged,
    QuestionAnswered,
    UnknownEvent,
)
from healthmsg.models import Attachment, Message, User
from healthmsg.models.messages import Payload

_is_word: Final = re.compile(r"[A-Za-z0-9_]{1,64}").fullmatch
# Written empty, they would say that there was nothing.
_LEFT_OUT: Final = ("options", "frame", "extra")
_OF_ANSWERS: Final = f"{QuestionAnswered.id_start}/"


def document(event: Event, *, with_texts: bool) -> str:
    """Return what `event.to_dict()` has, as one line of JSON.

    Without texts, what stays is: `kind`, `id` (of an answer without its options: `answer/m1/u1/…`), `chat`,
    `received_at`, `is_own`, `caught_up`, `attempt`, `message_id`, `user_id`, `status`, `name` (of an unknown
    event); of `users` the `id`s; of `message` its `id`, `user_id`, `created_at`, the `id`s of `user`,
    `mentions` and `liked_by`, of `attachments` `id`, `size` and `mime_type`, and the `type` of `payload`.
    """
    if with_texts:
        return encode(event.to_dict()).decode()
    bare = _without_texts(event).to_dict()
    return encode({key: value for key, value in bare.items() if key not in _LEFT_OUT}).decode()


def _without_texts(event: Event) -> Event:
    """Return the event with nothing in it that a person has written, but for what JSON leaves out."""
    if isinstance(event, MessageCreated):
        return evolve(event, message=_without_body(event.message))
    if isinstance(event, QuestionAnswered):
        return evolve(event, id=f"{_OF_ANSWERS}{event.message_id}/{event.user_id}/…")
    if isinstance(event, MembersAdded | MembersRemoved):
        return evolve(event, users=_ids(event.users))
    if isinstance(event, UnknownEvent):
        return evolve(event, name=word(event.name))
    if isinstance(event, PresenceChanged):
        return evolve(event, status=word(event.status))
    return event


def _without_body(message: Message) -> Message:
    return Message(
        message.id,
        user=None if message.user is None else User(message.user.id),
        user_id=message.user_id,
        attachments=tuple(
            Attachment(one.id, size=one.size, mime_type=one.mime_type) for one in message.attachments
        ),
        mentions=_ids(message.mentions),
        payload=None if message.payload is None else Payload(word(message.payload.type)),
        created_at=message.created_at,
        liked_by=_ids(message.liked_by),
    )


def _ids(users: tuple[User, ...]) -> tuple[User, ...]:
    return tuple(User(user.id) for user in users)


def word(text: str | None) -> str:
    """Return a word of the protocol; `…` for any other text, which may be anything."""
    return text if text is not None and _is_word(text) else "…"
