"""`client.groupchats`: group chats."""

from healthmsg.addresses import ChatKind
from healthmsg.models import GroupChatInfo
from healthmsg.resources.chats import GroupChat
from healthmsg.resources.namespace import ChatNamespace
from healthmsg.routes import LIST_GROUP_CHATS


class GroupChats(ChatNamespace[GroupChatInfo, GroupChat]):
    """The user's group chats."""

    _kind = ChatKind.GROUP_CHAT
    _list_route = LIST_GROUP_CHATS
    _info = GroupChatInfo
    _handle = GroupChat
