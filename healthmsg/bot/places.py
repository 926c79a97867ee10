"""Who is in which chat: a dialog with one patient must never be held in the chat of another one."""

from collections import OrderedDict
from typing import Final

from healthmsg.client import Client
from healthmsg.errors import InvalidInputError, NotFoundError
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import ConversationInfo

_MOST_PROVEN: Final = 10_000
_ELSEWHERE: Final = (
    "this user is not in this chat, or the service does not say so. Leave the chat out for the conversation"
    " with the user. Nothing was begun or sent."
)


class Places:
    """The chats and users that dialogs are held with. What the service has said of them is kept."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._proven: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def of(self, chat: ChatAddress | None, user: str | None) -> tuple[ChatAddress, str]:
        """Return the chat and the user of a dialog, of which one may be left out.

        Raises:
            InvalidInputError: both are, or the chat is no conversation and has no user.
            CallError: the service was asked, and did not say.
        """
        if chat is None:
            if not user:
                raise InvalidInputError("a dialog needs a chat or a user")
            return await self._started(user), user
        if user:
            return chat, user
        if chat.kind.is_group:
            raise InvalidInputError("a dialog in a group chat needs a user")
        found = await self._client.chat(chat).get()
        other = found.user if isinstance(found, ConversationInfo) else None
        if other is None:
            raise InvalidInputError("the service does not say who this conversation is with: name the user")
        self._note(ChatAddress(ChatKind.CONVERSATION, found.id), other.id)
        return chat, other.id

    async def locate(self, chat: ChatAddress, user: str) -> ChatAddress:
        """Return the address of a chat with a user as events have it.

        The vendor's software addresses a conversation by the other side's user [V], and one may have an
        auxiliary id: messages come from its own id all the same.

        Raises:
            CallError: the service was asked, and did not say.
        """
        kind = ChatKind.GROUP_CHAT if chat.kind.is_group else ChatKind.CONVERSATION
        if chat.kind is kind and (kind is ChatKind.GROUP_CHAT or chat.id != user):
            return chat
        try:
            return ChatAddress(kind, (await self._client.chat(chat).get()).id)
        except NotFoundError:
            if chat.id != user:
                raise
        # There is no conversation with this user yet.
        return await self._started(user)

    async def prove(self, chat: ChatAddress, user: str) -> None:
        """Prove that a user is the other side of a conversation, or a member of a group chat.

        Raises:
            InvalidInputError: the user is not, or the service does not say.
            CallError: the service was asked, and did not answer.
        """
        if (chat.text, user) in self._proven:
            self._proven.move_to_end((chat.text, user))
            return
        found = await self._client.chat(chat).get()
        other = found.user if isinstance(found, ConversationInfo) else None
        there = found.members if other is None else (other,)
        if user.lower() not in {one.id.lower() for one in there}:
            raise InvalidInputError(_ELSEWHERE)
        self._note(chat, user)

    async def _started(self, user: str) -> ChatAddress:
        chat = (await self._client.conversations.start(user)).address
        self._note(chat, user)
        return chat

    def _note(self, chat: ChatAddress, user: str) -> None:
        self._proven[chat.text, user] = None
        if len(self._proven) > _MOST_PROVEN:
            self._proven.popitem(last=False)
