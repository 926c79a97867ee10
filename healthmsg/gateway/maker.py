"""Makes events of what the service's lists say."""

from collections.abc import Callable
from datetime import datetime

from attrs import frozen

from healthmsg.events import (
    ConversationStarted,
    GroupChatCreated,
    GroupChatRemoved,
    MessageCreated,
    MessageDeleted,
)
from healthmsg.ids import ChatAddress
from healthmsg.models import Message


@frozen
class Maker:
    """Makes the events of one chat."""

    key: str
    me: str
    """The id of the user whose client this is."""
    moment: Callable[[], datetime]

    @property
    def chat(self) -> ChatAddress:
        """Its address."""
        return ChatAddress.of_text(self.key)

    def created(self, message: Message, *, is_pushed: bool) -> MessageCreated:
        """Return the event of a message; `is_pushed`: a frame has brought it, too."""
        return MessageCreated.of(
            self.chat, message, me=self.me, received_at=self.moment(), caught_up=not is_pushed
        )

    def deleted(self, message_id: str) -> MessageDeleted:
        """Return the event of a message that is not listed any more."""
        return MessageDeleted(
            id=f"{MessageDeleted.id_start}/{message_id}",
            chat=self.chat,
            received_at=self.moment(),
            caught_up=True,
            message_id=message_id,
        )

    def found(self, user_id: str | None) -> ConversationStarted | GroupChatCreated:
        """Return the event of a chat that was not known; `user_id`: the other side's."""
        chat = self.chat
        event_id, received_at = f"{GroupChatCreated.id_start}/{chat.id}", self.moment()
        if chat.kind.is_group:
            return GroupChatCreated(id=event_id, chat=chat, received_at=received_at, caught_up=True)
        return ConversationStarted(
            id=event_id, chat=chat, received_at=received_at, caught_up=True, user_id=user_id
        )

    def removed(self) -> GroupChatRemoved:
        """Return the event of a group chat that is not there any more."""
        chat = self.chat
        return GroupChatRemoved(
            id=f"{GroupChatRemoved.id_start}/{chat.id}",
            chat=chat,
            received_at=self.moment(),
            caught_up=True,
        )
