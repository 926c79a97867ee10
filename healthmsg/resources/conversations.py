"""`client.conversations`: 1-on-1 conversations."""

from healthmsg.addresses import ChatKind
from healthmsg.models import ConversationInfo
from healthmsg.resources.chats import Chat
from healthmsg.resources.namespace import ChatNamespace
from healthmsg.routes import LIST_CONVERSATIONS


class Conversations(ChatNamespace[ConversationInfo, Chat]):
    """The user's 1-on-1 conversations."""

    _kind = ChatKind.CONVERSATION
    _list_route = LIST_CONVERSATIONS
    _info = ConversationInfo
    _handle = Chat
