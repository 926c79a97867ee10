"""What happens to chats and to the people in them."""

from typing import ClassVar

from attrs import evolve, field, frozen

from healthmsg.events.base import ChatEvent, Event
from healthmsg.ids import ChatAddress
from healthmsg.models import User
from healthmsg.models.base import by_id


@frozen(kw_only=True)
class ConversationStarted(ChatEvent):
    """A conversation of two people came into being [V]. Its id is `chat/{chat id}`."""

    kind: ClassVar[str] = "conversation_started"
    id_start: ClassVar[str] = "chat"

    user_id: str | None = None
    """As the service says it: the other side's [A]; `None` where it does not."""


@frozen(kw_only=True)
class GroupChatCreated(ChatEvent):
    """A group chat came into being, or the user was added to one [V]. Its id is `chat/{chat id}`."""

    kind: ClassVar[str] = "group_chat_created"
    id_start: ClassVar[str] = "chat"


@frozen(kw_only=True)
class GroupChatClosed(ChatEvent):
    """A group chat was closed: it can be read, but not written to [V]. Its id is `closed/{chat id}`."""

    kind: ClassVar[str] = "group_chat_closed"
    id_start: ClassVar[str] = "closed"


@frozen(kw_only=True)
class GroupChatRemoved(ChatEvent):
    """A group chat is there no more, for everybody or for the user [V]. Its id is `removed/{chat id}`."""

    kind: ClassVar[str] = "group_chat_removed"
    id_start: ClassVar[str] = "removed"


@frozen(kw_only=True)
class MembersAdded(ChatEvent):
    """Users were added to a group chat [V]. Its id is `added/{chat id}/{number}`."""

    kind: ClassVar[str] = "members_added"
    id_start: ClassVar[str] = "added"

    user_id: str | None = None
    """Who added them [V]; `None` where the service does not say."""
    users: tuple[User, ...] = field(repr=by_id)
    """Those who were added, some of them known by `id` alone."""


@frozen(kw_only=True)
class MembersRemoved(ChatEvent):
    """Users were removed from a group chat, or left it [V]. Its id is `left/{chat id}/{number}`."""

    kind: ClassVar[str] = "members_removed"
    id_start: ClassVar[str] = "left"

    user_id: str | None = None
    """Who removed them [V]; `None` where the service does not say."""
    users: tuple[User, ...] = field(repr=by_id)
    """Those who were removed, some of them known by `id` alone."""


@frozen(kw_only=True)
class TypingStarted(ChatEvent):
    """A user types in a chat [V]. At most once: one that was missed is not learnt later."""

    kind: ClassVar[str] = "typing_started"
    id_start: ClassVar[str] = "typing"
    durable: ClassVar[bool] = False

    user_id: str


@frozen(kw_only=True)
class TypingStopped(ChatEvent):
    """A user types no more [V]. At most once; it may never come after a `TypingStarted`."""

    kind: ClassVar[str] = "typing_stopped"
    id_start: ClassVar[str] = "typing_stopped"
    durable: ClassVar[bool] = False

    user_id: str


@frozen(kw_only=True)
class PresenceChanged(Event):
    """A user is there, or is there no more [V]. At most once: one that was missed is not learnt later."""

    kind: ClassVar[str] = "presence_changed"
    id_start: ClassVar[str] = "presence"
    durable: ClassVar[bool] = False

    user_id: str
    status: str = field(repr=False)
    """`online`, `busy`, `away` or `offline` [V], or another word of the service's."""


def numbered(event: MembersAdded | MembersRemoved, number: int) -> MembersAdded | MembersRemoved:
    """Return such an event with the id that tells it from earlier ones of its chat.

    The same people can be added twice: what reads frames cannot know that, and makes an id at random.
    """
    return evolve(event, id=f"{event.id_start}/{event.chat.id}/{number}")


def in_chat(event: ChatEvent, chat: ChatAddress) -> ChatEvent:
    """Return an event as that of another address of its chat.

    A conversation may be named by the other side's user id [V]; to a program, both are one chat.
    """
    renamed = f"{event.id_start}/{chat.id}" if isinstance(event, ConversationStarted) else event.id
    return evolve(event, chat=chat, id=renamed)
