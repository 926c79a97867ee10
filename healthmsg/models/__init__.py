"""What the service's objects look like: frozen values that know nothing of the client."""

from healthmsg.models.chats import ConversationInfo, GroupChatInfo
from healthmsg.models.messages import Attachment, Message, SentMessage
from healthmsg.models.outcome import Outcome
from healthmsg.models.users import Member, User

__all__ = [
    "Attachment",
    "ConversationInfo",
    "GroupChatInfo",
    "Member",
    "Message",
    "Outcome",
    "SentMessage",
    "User",
]
