"""What happens in the sandbox, announced to all parts that want to hear of it; the gateway is one.

Every change that concerns people is announced once, whether a call, the gateway or a test caused it, just
after it was made. Contract: "The gateway", server to client.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import define, field, frozen

from healthmsg.sandbox.records import JSON, File, Habits, Person, StoredChat, StoredMessage

GROUP_MESSAGE: Final = "groupchat_new_message"


@frozen(eq=False)
class Announcement:
    """Something that happened, with the people it concerns: those who caused it are among them."""

    name: str
    """The event's, as the gateway names it."""
    people: tuple[Person, ...] = field(repr=False)
    data_for: Callable[[Person], JSON] = field(repr=False)
    """Describe it as one of these people sees it: a new object at each call."""
    chat: StoredChat | None = field(default=None, repr=False)
    message: StoredMessage | None = field(default=None, repr=False)
    """Of a new message."""


Listener = Callable[[Announcement], object]


@define(eq=False)
class Hub:
    """Tells every listener of every announcement, in the order in which they began to listen."""

    _listeners: list[Listener] = field(factory=list, init=False)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call the listener with each announcement from now on; return what ends that.

        It is called before the call that caused the change is answered, so it must be quick. What it raises
        goes to the one who caused the change.
        """
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def announce(self, announcement: Announcement) -> None:
        """Tell the listeners."""
        for listener in tuple(self._listeners):
            listener(announcement)


# --- What can happen, in the order of the contract.


def typing(chat: StoredChat, person: Person, *, stopped: bool = False) -> Announcement:
    """Say that a person is typing; to the others only [A]."""
    others = [member for member in chat.members if member is not person]
    return _in_chat("stop_typing" if stopped else "typing", chat, {"user_id": person.id}, others)


def presence(person: Person, status: str, people: Iterable[Person]) -> Announcement:
    """Say that a person's presence is another one; to those who know the person [A]."""
    data: JSON = {"user_id": person.id, "status": status}
    return Announcement("presence_update", tuple(people), lambda _: dict(data))


def new_conversation(chat: StoredChat) -> Announcement:
    """Say that a conversation was started; `user_id` is the other side's [A: for both sides]."""

    def data_for(viewer: Person) -> JSON:
        return {"conversation_id": chat.id, "user_id": chat.other_side(viewer).id}

    return Announcement("new_conversation", tuple(chat.members), data_for, chat)


def new_message(chat: StoredChat, message: StoredMessage, habits: Habits) -> Announcement:
    """Say what was sent, to all members: the sender too [V]."""

    def data_for(_: Person) -> JSON:
        members = {member.id: member for member in chat.members} if message.mentions else {}
        return {
            **_chat_id(chat),
            "message_id": message.id,
            "user_id": message.sender.id,
            "body": message.body,
            "attachments": [_attachment(file, habits) for file in message.files],
            # Whole users, where REST has their ids [V].
            "mentions": [members[user_id].to_json() for user_id in message.mentions if user_id in members],
        }

    name = GROUP_MESSAGE if chat.is_group else "conversation_new_message"
    return Announcement(name, tuple(chat.members), data_for, chat, message)


def message_liked(chat: StoredChat, message: StoredMessage, person: Person) -> Announcement:
    """Say that a person likes a message."""
    return _of_message("message_liked", chat, message, person)


def message_deleted(chat: StoredChat, message: StoredMessage, person: Person) -> Announcement:
    """Say that a person deleted a message."""
    return _of_message("message_deleted", chat, message, person)


def verification_answered(
    chat: StoredChat, message: StoredMessage, person: Person, *, accepted: bool
) -> Announcement:
    """Say how a request for verification, which the message is, ended [V]."""
    name = "verification_accepted" if accepted else "verification_rejected"
    return _of_message(name, chat, message, person)


def question_answered(
    chat: StoredChat, message: StoredMessage, person: Person, options: Sequence[str]
) -> Announcement:
    """Say which options a person chose, by name: an array also for one [V]."""
    return _of_message("question_answer", chat, message, person, {"options": list(options)})


def new_group_chat(chat: StoredChat, people: Iterable[Person]) -> Announcement:
    """Say that a group chat is there, to people who were not in it before."""
    return _in_chat("new_groupchat", chat, {}, people)


def group_chat_closed(chat: StoredChat) -> Announcement:
    """Say that a group chat was closed."""
    return _in_chat("groupchat_closed", chat, {}, chat.members)


def group_chat_removed(chat: StoredChat) -> Announcement:
    """Say that a group chat was removed."""
    return _in_chat("groupchat_removed", chat, {}, chat.members)


def members_added(chat: StoredChat, person: Person, added: Sequence[Person]) -> Announcement:
    """Say who was added, and by which person [V]; to the members, with those who are new [A]."""
    return _members("groupchat_members_added", chat, person, added)


def members_removed(chat: StoredChat, person: Person, removed: Sequence[Person]) -> Announcement:
    """Say who was removed, and by which person [V]; to those who are left, and to the removed ones [A]."""
    return _members("groupchat_members_removed", chat, person, removed)


def _members(name: str, chat: StoredChat, person: Person, changed: Sequence[Person]) -> Announcement:
    data: JSON = {"user_id": person.id, "users": [user.to_json() for user in changed]}
    return _in_chat(name, chat, data, dict.fromkeys([*chat.members, *changed]))


def _of_message(
    name: str, chat: StoredChat, message: StoredMessage, person: Person, more: JSON | None = None
) -> Announcement:
    data = {"user_id": person.id, "message_id": message.id} | (more or {})
    prefix = "groupchat" if chat.is_group else "conversation"
    return _in_chat(f"{prefix}_{name}", chat, data, chat.members)


def _in_chat(name: str, chat: StoredChat, data: JSON, people: Iterable[Person]) -> Announcement:
    whole = _chat_id(chat) | data
    return Announcement(name, tuple(people), lambda _: dict(whole), chat)


def _chat_id(chat: StoredChat) -> JSON:
    return {"groupchat_id" if chat.is_group else "conversation_id": chat.id}


def _attachment(file: File, habits: Habits) -> JSON:
    """Describe an attachment: `mime` is here what REST names `mime_type` [V]."""
    document = file.to_json(habits)
    document["mime"] = document.pop("mime_type")
    return document
