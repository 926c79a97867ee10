"""What happens in the user's chats: frozen values, made of the gateway's frames or of what REST says."""

from healthmsg.events.base import ChatEvent, Event, UnknownEvent
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
    in_chat,
    numbered,
)
from healthmsg.events.frames import Incomplete, event_of_frame
from healthmsg.events.kinds import KINDS, event_from_dict
from healthmsg.events.messages import (
    MessageCreated,
    MessageDeleted,
    MessageLiked,
    QuestionAnswered,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.events.questions import (
    VerificationRequest,
    answers_of,
    is_open,
    request_in,
    verification_of,
)
from healthmsg.events.timers import TimerDue

__all__ = [
    "KINDS",
    "ChatEvent",
    "ConversationStarted",
    "Event",
    "GroupChatClosed",
    "GroupChatCreated",
    "GroupChatRemoved",
    "Incomplete",
    "MembersAdded",
    "MembersRemoved",
    "MessageCreated",
    "MessageDeleted",
    "MessageLiked",
    "PresenceChanged",
    "QuestionAnswered",
    "TimerDue",
    "TypingStarted",
    "TypingStopped",
    "UnknownEvent",
    "VerificationAccepted",
    "VerificationRejected",
    "VerificationRequest",
    "answers_of",
    "event_from_dict",
    "event_of_frame",
    "in_chat",
    "is_open",
    "numbered",
    "request_in",
    "verification_of",
]
