"""Every kind of event by its word, and events of what was written with `to_dict`."""

from collections.abc import Mapping
from typing import Final

from healthmsg.errors import InvalidInputError
from healthmsg.events.base import Event, UnknownEvent
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
from healthmsg.events.timers import TimerDue

KINDS: Final[Mapping[str, type[Event]]] = {
    kind.kind: kind
    for kind in (
        MessageCreated,
        MessageLiked,
        MessageDeleted,
        QuestionAnswered,
        VerificationAccepted,
        VerificationRejected,
        ConversationStarted,
        GroupChatCreated,
        GroupChatClosed,
        GroupChatRemoved,
        MembersAdded,
        MembersRemoved,
        TypingStarted,
        TypingStopped,
        PresenceChanged,
        TimerDue,
        UnknownEvent,
    )
}
"""The class of each kind of event."""


def event_from_dict(document: Mapping[str, object]) -> Event:
    """Make an event of what `to_dict` returned, of the class that its `kind` names.

    Raises:
        InvalidInputError: it is not of that form, or of a kind that this version does not know.
    """
    kind = document.get("kind") if isinstance(document, Mapping) else None
    event_class = KINDS.get(kind) if isinstance(kind, str) else None
    if event_class is None:
        raise InvalidInputError(
            "event_from_dict: this is no event, or of a kind that is not known, at $.kind"
        )
    return event_class.from_dict(document)
