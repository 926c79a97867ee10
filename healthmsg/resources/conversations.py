"""`client.conversations`: 1-on-1 conversations."""

from healthmsg.api import Created, json_body, user_id
from healthmsg.ids import ChatKind
from healthmsg.models import ConversationInfo, User
from healthmsg.resources.chat import Chat, ChatNamespace
from healthmsg.routes import LIST_CONVERSATIONS, START_CONVERSATION


class Conversations(ChatNamespace[ConversationInfo, Chat]):
    """The user's 1-on-1 conversations."""

    _kind = ChatKind.CONVERSATION
    _list_route = LIST_CONVERSATIONS
    _info = ConversationInfo
    _handle = Chat

    async def start(self, user: str | User) -> Chat:
        """Start a conversation with a user, and return its handle. Contract: `POST conversations` [A].

        Raises:
            InvalidIdError: it is no user's id.
            DeliveryUnknownError: it may have been started, and was not started again.
        """
        other = user_id(user)
        started = await self._api.create(Created, START_CONVERSATION, json_body({"user_id": other}))
        self._api.aliases.learn_conversation(conversation=started.id, user=other)
        return self(started.id)
