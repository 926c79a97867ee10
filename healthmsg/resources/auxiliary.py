"""`client.auxiliary`: the same things, under the integrator's own ids."""

from healthmsg.addresses import ChatKind
from healthmsg.models import ConversationInfo, GroupChatInfo
from healthmsg.resources.api import Api
from healthmsg.resources.chats import Chat, GroupChat
from healthmsg.resources.namespace import ChatNamespace
from healthmsg.routes import LIST_AUX_CONVERSATIONS, LIST_AUX_GROUP_CHATS


class AuxiliaryConversations(ChatNamespace[ConversationInfo, Chat]):
    """1-on-1 conversations by auxiliary id."""

    _kind = ChatKind.AUX_CONVERSATION
    _list_route = LIST_AUX_CONVERSATIONS
    _info = ConversationInfo
    _handle = Chat


class AuxiliaryGroupChats(ChatNamespace[GroupChatInfo, GroupChat]):
    """Group chats by auxiliary id."""

    _kind = ChatKind.AUX_GROUP_CHAT
    _list_route = LIST_AUX_GROUP_CHATS
    _info = GroupChatInfo
    _handle = GroupChat


class Auxiliary:
    """Things by auxiliary id: the integrator's own, usable only by the application that added it [D]."""

    def __init__(self, api: Api) -> None:
        self.conversations = AuxiliaryConversations(api)
        self.groupchats = AuxiliaryGroupChats(api)
