from attrs import field, frozen
from healthmsg.events.base import ChatEvent, Event
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, User

@frozen(kw_only=True)
class MessageCreated(ChatEvent):
    kind = "message_created"
    message: Message
@frozen(kw_only=True)
class MessageLiked(ChatEvent):
    durable = False
    message_id: str
    user_id: str | None = None
@frozen(kw_only=True)
class MessageDeleted(ChatEvent):
    message_id: str
    user_id: str | None = None
@frozen(kw_only=True)
class QuestionAnswered(ChatEvent):
    message_id: str
    user_id: str | None = None
    options: tuple[str, ...] = ()
@frozen(kw_only=True)
class ConversationStarted(ChatEvent):
    user_id: str | None = None
@frozen(kw_only=True)
class GroupChatCreated(ChatEvent):
    user_id: str | None = None
@frozen(kw_only=True)
class GroupChatClosed(ChatEvent):
    user_id: str | None = None
@frozen(kw_only=True)
class GroupChatRemoved(ChatEvent):
    user_id: str | None = None
@frozen(kw_only=True)
class MembersAdded(ChatEvent):
    user_id: str | None = None
    users: tuple[User, ...] = ()
@frozen(kw_only=True)
class MembersRemoved(ChatEvent):
    user_id: str | None = None
    users: tuple[User, ...] = ()
@frozen
class Incomplete:
    chat: ChatAddress
    message_id: str
