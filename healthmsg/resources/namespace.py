"""What the four chat namespaces have in common."""

from typing import ClassVar, Final, Generic, Protocol, TypeVar

from healthmsg.api import Api
from healthmsg.errors import InvalidIdError
from healthmsg.ids import ChatAddress, ChatKind, exact_aux_id
from healthmsg.models import ConversationInfo, GroupChatInfo, User
from healthmsg.paging import PAGE_SIZE, Pager
from healthmsg.resources.chat import BaseChat
from healthmsg.routes import GET_CHAT, Route

_OF_A_USER: Final = ": the conversation with a user is client.users(user).conversation()"
InfoT = TypeVar("InfoT", ConversationInfo, GroupChatInfo)
HandleT = TypeVar("HandleT", bound=BaseChat)
HandleT_co = TypeVar("HandleT_co", bound=BaseChat, covariant=True)


class _MakesHandle(Protocol[HandleT_co]):
    def __call__(self, api: Api, address: ChatAddress) -> HandleT_co: ...


class ChatNamespace(Generic[InfoT, HandleT]):
    """All chats of one kind. Calling it with an id, or a model of its kind, gives the handle of a chat."""

    _kind: ClassVar[ChatKind]
    _list_route: ClassVar[Route]
    _info: type[InfoT]
    _handle: _MakesHandle[HandleT]

    def __init__(self, api: Api) -> None:
        self._api = api

    def __call__(self, chat: str | InfoT) -> HandleT:
        """Give the handle of a chat; nothing is sent.

        Raises:
            InvalidIdError: the id cannot be one, or belongs to another kind of chat.
        """
        return self._handle(self._api, self._address(chat))

    def list(self, *, limit: int | None = None, page_size: int = PAGE_SIZE) -> Pager[InfoT]:
        """Read the user's chats of this kind; with `limit`, so many at most.

        Contract: `GET` of the namespace's path [A].

        Raises:
            InvalidInputError: `limit` or `page_size` is not a whole number of at least 1.
        """
        return self._api.pages(
            self._info, self._list_route, page_size=page_size, limit=limit, look_at=self._look_at
        )

    async def get(self, chat: str | InfoT) -> InfoT:
        """Read one chat. Contract: `GET {chat}` [V]."""
        address = self._address(chat)
        info = await self._api.read(self._info, GET_CHAT, address)
        self._api.aliases.learn_info(info, address.text, self._api.deliveries.me)
        return info

    def _look_at(self, info: InfoT) -> None:
        self._api.aliases.learn_info(info, me=self._api.deliveries.me)

    def _address(self, chat: str | InfoT) -> ChatAddress:
        if isinstance(chat, str):
            return ChatAddress(self._kind, chat)
        if not isinstance(chat, self._info):
            raise InvalidIdError(
                f"a chat under {self._kind.path} is meant by its id or a {self._info.__name__},"
                f" not by a {type(chat).__name__}{_OF_A_USER if isinstance(chat, User) else ''}"
            )
        if not self._kind.is_auxiliary:
            return ChatAddress(self._kind, chat.id)
        if chat.aux_id is None:
            raise InvalidIdError("this chat has no auxiliary id")
        # The service itself gave this id, so it is meant exactly so.
        return ChatAddress(self._kind, exact_aux_id(chat.aux_id))
