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
        return MessageCreated(
            id=f"message/{message.id}",
            chat=self.chat,
            received_at=self.moment(),
            is_own=message.sender_id == self.me,
            caught_up=not is_pushed,
            message=message,
        )

    def deleted(self, message_id: str) -> MessageDeleted:
        """Return the event of a message that is not listed any more."""
        return MessageDeleted(
            id=f"deleted/{message_id}",
            chat=self.chat,
            received_at=self.moment(),
            caught_up=True,
            message_id=message_id,
        )

    def found(self, user_id: str | None) -> ConversationStarted | GroupChatCreated:
        """Return the event of a chat that was not known."""
        chat = self.chat
        kind = GroupChatCreated if chat.kind.is_group else ConversationStarted
        return kind(
            id=f"chat/{chat.id}", chat=chat, received_at=self.moment(), caught_up=True, user_id=user_id
        )

    def removed(self) -> GroupChatRemoved:
        """Return the event of a group chat that is not there any more."""
        chat = self.chat
        return GroupChatRemoved(
            id=f"removed/{chat.id}", chat=chat, received_at=self.moment(), caught_up=True
        )
