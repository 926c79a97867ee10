"""What goes to the service and comes from it: frozen values that know nothing of the client."""

from healthmsg.errors import Outcome
from healthmsg.models.chats import ConversationInfo, GroupChatInfo, GroupSettings
from healthmsg.models.invitations import GroupInvite, ImportUser
from healthmsg.models.messages import (
    Attachment,
    Message,
    Option,
    Payload,
    Question,
    QuestionAnswer,
    QuestionOption,
    QuestionPayload,
    SentMessage,
    VerificationPayload,
)
from healthmsg.models.users import (
    CompanyInfo,
    IdentityProvider,
    Member,
    User,
    UserVerifications,
    Verification,
)
from healthmsg.quota import Quota

__all__ = [
    "Attachment",
    "CompanyInfo",
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
