"""Where a dialog is held, and with which user: proven before anything is begun or said there."""

from collections import OrderedDict
from typing import Final

from healthmsg.client import Client
from healthmsg.errors import InvalidInputError, NotFoundError
from healthmsg.events import Event, MessageCreated, QuestionAnswered
from healthmsg.ids import USERS, ChatAddress, ChatKind
from healthmsg.models import ConversationInfo, GroupChatInfo

_MOST_KEPT: Final = 10_000
_NOT_THERE: Final = (
    "this user is not in this chat: a dialog is held with the other side of a conversation, or with a member"
    " of a group chat. Nothing was begun."
)
_NOT_SAID: Final = (
    "the service does not say who this conversation is with: give the user alone, and the dialog is held in"
    " the conversation with them. Nothing was begun."
)


class Places:
    """Finds out where a chat with a user is, and proves that the user takes part in it.

    The last 10,000 conversations that were proven are kept: whose they are does not change. Groups are asked
    for their members each time.
    """

    def __init__(self, client: Client, most: int = _MOST_KEPT) -> None:
        self._client, self._most = client, most
        self._proven: OrderedDict[tuple[str, str], ChatAddress] = OrderedDict()
        self.me: str = ""
        """The id of the bot's own user, when it is known."""

    def __repr__(self) -> str:
        return f"<Places {len(self._proven)}>"

    async def of(self, chat: ChatAddress | None, user: str | None) -> tuple[ChatAddress, str]:
        """Return the chat and the user of a dialog, of which one may be left out, as events have them.

        Raises:
            InvalidInputError: both are left out, the user is not in the chat, or the chat is no conversation
                and has no user.
            CallError: the service was asked, and did not say.
        """
        if chat is None:
            if not user:
                raise InvalidInputError("a dialog needs a chat or a user")
            return await self._started(user), user
        if user:
            return await self.prove(chat, user), user
        if chat.kind.is_group:
            raise InvalidInputError("a dialog in a group chat needs a user")
        found = await self._client.chat(chat).get()
        other = found.user if isinstance(found, ConversationInfo) else None
        if other is None:
            raise InvalidInputError("the service does not say who this conversation is with: name the user")
        return self._keep(chat, other.id, found.id), other.id

    async def prove(self, chat: ChatAddress, user: str, event: Event | None = None) -> ChatAddress:
        """Return the address of a chat as events have it, if the user is its other side or a member of it.

        An event that the user made there shows it, and no call is needed.

        Raises:
            InvalidInputError: the user is not, or the service does not say who is.
            CallError: the service was asked, and did not answer.
        """
        if _has_acted_in(event, chat, user):
            return chat
        if chat.kind.is_group:
            return await self._with_member(chat, user)
        if (known := self._known(chat, user)) is not None:
            return known
        if self._has_seen(chat, user):
            return chat
        found = await self._conversation(chat, user)
        if found is None:
            return await self._started(user)
        others = self._others(found)
        if not others and not _is_by_user(chat, user):
            raise InvalidInputError(_NOT_SAID)
        if others and user not in others:
            raise InvalidInputError(_NOT_THERE)
        return self._keep(chat, user, found.id)

    async def locate(self, chat: ChatAddress, user: str) -> ChatAddress:
        """Return the address of a chat with a user as events have it, whether the user is in it or not.

        The vendor's software addresses a conversation by the other side's user [V], and one may have an
        auxiliary id: messages come from its own id all the same.

        Raises:
            CallError: the service was asked, and did not say.
        """
        if chat.kind is ChatKind.GROUP_CHAT or (chat.kind is ChatKind.CONVERSATION and chat.id != user):
            return chat
        if (known := self._known(chat, user)) is not None:
            return known
        if chat.kind.is_group:
            return ChatAddress(ChatKind.GROUP_CHAT, (await self._client.chat(chat).get()).id)
        found = await self._conversation(chat, user)
        return await self._started(user) if found is None else ChatAddress(ChatKind.CONVERSATION, found.id)

    # --- asking the service

    async def _conversation(self, chat: ChatAddress, user: str) -> ConversationInfo | GroupChatInfo | None:
        """Return what the service says of it; `None`: it is that with this user, and there is none yet."""
        try:
            return await self._client.chat(chat).get()
        except NotFoundError:
            if not _is_by_user(chat, user):
                raise
        return None

    async def _started(self, user: str) -> ChatAddress:
        started = (await self._client.conversations.start(user)).address
        return self._keep(started, user, started.id)

    async def _with_member(self, chat: ChatAddress, user: str) -> ChatAddress:
        located = await self.locate(chat, user)
        members = await self._client.groupchats(located.id).members()
        if all(member.id != user for member in members):
            raise InvalidInputError(_NOT_THERE)
        return located

    def _others(self, found: ConversationInfo | GroupChatInfo) -> set[str]:
        """Return who is on the other side; nothing, where the service does not say."""
        if isinstance(found, ConversationInfo) and found.user is not None:
            return {found.user.id}
        return {member.id for member in found.members} - {self.me}

    # --- what is known already

    def _has_seen(self, chat: ChatAddress, user: str) -> bool:
        """Return whether the client has started or read the conversation with this user under this id."""
        if chat.kind is not ChatKind.CONVERSATION or _is_by_user(chat, user):
            return False
        aliases = self._client._api.aliases  # noqa: SLF001 - as the bot's other parts see it
        return aliases.are_same(chat.text, f"{USERS}{user}") is True

    def _known(self, chat: ChatAddress, user: str) -> ChatAddress | None:
        known = self._proven.get((chat.text, user))
        if known is not None:
            self._proven.move_to_end((chat.text, user))
        return known

    def _keep(self, chat: ChatAddress, user: str, conversation: str) -> ChatAddress:
        located = ChatAddress(ChatKind.CONVERSATION, conversation)
        # Not under an auxiliary id, which can move to another user [D].
        for one in {located.text} if chat.kind.is_auxiliary else {located.text, chat.text}:
            self._proven[one, user] = located
        while len(self._proven) > self._most:
            self._proven.popitem(last=False)
        return located


def _is_by_user(chat: ChatAddress, user: str) -> bool:
    """Return whether a conversation is addressed by its other side's user [V]."""
    return chat.kind is ChatKind.CONVERSATION and chat.id == user


def _has_acted_in(event: Event | None, chat: ChatAddress, user: str) -> bool:
    """Return whether a user wrote or answered this in a chat. A timer has what a program said of it."""
    if not isinstance(event, MessageCreated | QuestionAnswered) or event.is_own:
        return False
    return event.chat == chat and event.user_id == user
