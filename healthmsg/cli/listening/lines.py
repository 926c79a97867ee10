"""An event as one line for a person: who did what, and where. Texts only if they are wanted.

Whatever a name or a text holds, the line stays one line, and nothing in it moves the cursor.
"""

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from healthmsg.cli.listening.documents import word
from healthmsg.cli.listening.names import MOST_PEOPLE, Names
from healthmsg.cli.terminal import printable
from healthmsg.events import (
    ConversationStarted,
    Event,
    GroupChatClosed,
    GroupChatCreated,
    GroupChatRemoved,
    MembersAdded,
    MembersRemoved,
    MessageCreated,
    MessageDeleted,
    MessageLiked,
    PresenceChanged,
    QuestionAnswered,
    TypingStarted,
    TypingStopped,
    UnknownEvent,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.ids import ChatAddress
from healthmsg.models import Message, QuestionPayload, User, VerificationPayload

_LONGEST_NAME: Final = 80
_LONGEST_TEXT: Final = 1000
_UNKNOWN_USER: Final = "Someone"
_DONE: Final[Mapping[type[Event], str]] = {
    MessageLiked: "liked a message",
    MessageDeleted: "deleted a message",
    VerificationAccepted: "proved who they are",
    VerificationRejected: "did not prove who they are",
    TypingStarted: "is typing",
    TypingStopped: "is typing no more",
}
_OF_CHATS: Final[Mapping[type[Event], str]] = {
    ConversationStarted: "New conversation: {}",
    GroupChatCreated: "New group chat: {}",
    GroupChatClosed: "Group chat closed: {}",
    GroupChatRemoved: "Group chat removed: {}",
}


@frozen
class EventLines:
    """Writes events as lines, with names, which have to be looked up before."""

    names: Names
    with_texts: bool = False

    def line(self, event: Event) -> str:
        """Return the line, which begins with when the event was learnt, by this machine's clock."""
        return f"{event.received_at.astimezone():%H:%M:%S}  {self._what(event)}{_remarks(event)}"

    def _what(self, event: Event) -> str:
        if template := _OF_CHATS.get(type(event)):
            return template.format(self._chat(event))
        if isinstance(event, UnknownEvent):
            where = f" in {self._chat(event)}" if event.chat is not None else ""
            return f"Unknown event{where}: {word(event.name)}"
        return f"{self._who(event)}{self._where(event)}{self._did(event)}"

    def _did(self, event: Event) -> str:
        if isinstance(event, MessageCreated):
            return f": {self._message(event.message)}"
        if isinstance(event, QuestionAnswered):
            return f" answered{self._answer(event)}"
        if isinstance(event, PresenceChanged):
            return f" is {word(event.status)}"
        if isinstance(event, MembersAdded | MembersRemoved):
            did = "added" if isinstance(event, MembersAdded) else "removed"
            return f" {did} {self._people(event.users)}"
        return f" {_DONE.get(type(event), event.kind)}"

    def _who(self, event: Event) -> str:
        user_id: str | None = getattr(event, "user_id", None)
        name = _UNKNOWN_USER if user_id is None else self._user(user_id)
        return f"{name} (you)" if event.is_own else name

    def _where(self, event: Event) -> str:
        """Return in which chat; nothing where that is the conversation with who did it."""
        chat: ChatAddress | None = getattr(event, "chat", None)
        if chat is None:
            return ""
        user_id: str | None = getattr(event, "user_id", None)
        is_theirs = user_id is not None and not event.is_own and not chat.kind.is_group
        if is_theirs and self.names.chat(chat) == self.names.user(user_id or ""):
            return ""
        return f" in {self._chat(event)}"

    def _chat(self, event: Event) -> str:
        chat: ChatAddress | None = getattr(event, "chat", None)
        if chat is None:
            return "…"
        title = self.names.chat(chat)
        return f'"{_short(title)}"' if title else _short(chat.text)

    def _user(self, user_id: str) -> str:
        return _short(self.names.user(user_id))

    def _people(self, users: tuple[User, ...]) -> str:
        names = ", ".join(self._user(user.id) for user in users[:MOST_PEOPLE])
        more = len(users) - MOST_PEOPLE
        return f"{names} and {more:,} more" if more > 0 else names

    def _message(self, message: Message) -> str:
        parts = []
        if isinstance(message.payload, QuestionPayload):
            parts.append("question")
        elif isinstance(message.payload, VerificationPayload):
            parts.append("request for verification")
        if count := len(message.attachments):
            parts.append("1 file" if count == 1 else f"{count:,} files")
        what = f"message ({', '.join(parts)})" if parts else "message"
        return f"{what}: {_short(message.body, _LONGEST_TEXT)}" if self.with_texts and message.body else what

    def _answer(self, event: QuestionAnswered) -> str:
        if not self.with_texts:
            return " a question"
        return f": {_short(', '.join(event.options), _LONGEST_TEXT)}"


def _remarks(event: Event) -> str:
    remarks = []
    if event.caught_up:
        written = event.message.created_at if isinstance(event, MessageCreated) else None
        when = "" if written is None else f", written {written.astimezone():%Y-%m-%d %H:%M}"
        remarks.append(f"caught up{when}")
    if event.attempt > 1:
        remarks.append(f"attempt {event.attempt}")
    return f"  [{'; '.join(remarks)}]" if remarks else ""


def _short(text: str, most: int = _LONGEST_NAME) -> str:
    """Return text for one line: what is longer is cut, and what would move the cursor is escaped."""
    return printable(text if len(text) <= most else f"{text[:most]}…")
