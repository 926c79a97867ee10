"""What goes to the service and comes from it: frozen values that know nothing of the client."""

from healthmsg.errors import Outcome
from healthmsg.models.chats import ConversationInfo, GroupChatInfo
from healthmsg.models.companies import Company
from healthmsg.models.groups import GroupSettings
from healthmsg.models.invitations import GroupInvite, ImportUser
from healthmsg.models.messages import Attachment, Message, SentMessage
from healthmsg.models.payloads import (
    Payload,
    QuestionAnswer,
    QuestionOption,
    QuestionPayload,
    VerificationPayload,
)
from healthmsg.models.questions import Option, Question
from healthmsg.models.users import Member, User
from healthmsg.models.verifications import IdentityProvider, UserVerifications, Verification
from healthmsg.quota import Quota

__all__ = [
    "Attachment",
    "Company",
    "ConversationInfo",
    "GroupChatInfo",
    "GroupInvite",
    "GroupSettings",
    "IdentityProvider",
    "ImportUser",
    "Member",
    "Message",
    "Option",
    "Outcome",
    "Payload",
    "Question",
    "QuestionAnswer",
    "QuestionOption",
    "QuestionPayload",
    "Quota",
    "SentMessage",
    "User",
    "UserVerifications",
    "Verification",
    "VerificationPayload",
]
