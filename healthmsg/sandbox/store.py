"""The sandbox's memory, and how things get into it and are found."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Final, TypeVar
from uuid import UUID, uuid5

from healthmsg.ids import ChatKind
from healthmsg.sandbox import hub
from healthmsg.sandbox.content import Bytes, Content, Stored
from healthmsg.sandbox.records import Company, File, Habits, Payload, Person, StoredChat, StoredMessage

T = TypeVar("T")

# Fixed, so that the same steps give the same ids in every run.
_NAMESPACE = UUID("6d1f6a0e-3c53-4c57-9d3f-0b7c5b6f3a11")
_MENTION: Final = re.compile(r"\[mention=([\w-]+)\]", re.ASCII | re.IGNORECASE)


class Store:
    """The sandbox's memory. Every list keeps the order in which things were added."""

    def __init__(self, now: Callable[[], datetime], habits: Habits) -> None:
        self._now = now
        self.habits: Habits = habits
        self._made = 0
        self._groups_by_aux_id: dict[str, list[StoredChat]] = {}
        self._conversations: dict[frozenset[str], StoredChat] = {}
        self.people: dict[str, Person] = {}
        self.people_by_aux_id: dict[str, Person] = {}
        self._people_by_email: dict[str, Person] = {}
        self._people_by_phone_number: dict[str, Person] = {}
        self.chats: dict[str, StoredChat] = {}
        self.hub: hub.Hub = hub.Hub()

    def new_id(self) -> str:
        """Make an id: a UUID that is the same in every run."""
        self._made += 1
        return str(uuid5(_NAMESPACE, str(self._made)))

    def add_company(self, name: str) -> Company:
        """Add a company."""
        return Company(self.new_id(), name)

    @cached_property
    def other_company(self) -> Company:
        """The company of the professionals who are invited from elsewhere [A]."""
        return self.add_company("Externe praktijk")

    def add_person(  # noqa: PLR0913 - one argument a field
        self,
        first_name: str,
        last_name: str,
        *,
        company: Company | None = None,
        position: str | None = None,
        email: str | None = None,
        phone_number: str | None = None,
        aux_id: str | None = None,
    ) -> Person:
        """Add a professional (with a company) or a patient (without)."""
        person = Person(self.new_id(), first_name, last_name, company, email, position, phone_number)
        self.people[person.id] = person
        if email is not None:
            self._people_by_email.setdefault(email.casefold(), person)
        if phone_number is not None:
            self._people_by_phone_number.setdefault(phone_number, person)
        if aux_id is not None:
            self.assign_aux_id(person, aux_id)
        return person

    def person_at(self, *, email: str | None, phone_number: str | None) -> Person | None:
        """Find the person with this address: by `email`, whose case does not matter [A], or else by phone."""
        if email is not None:
            return self._people_by_email.get(email.casefold())
        return None if phone_number is None else self._people_by_phone_number.get(phone_number)

    def assign_aux_id(self, person: Person, aux_id: str) -> None:
        """Assign an auxiliary id to a person; it moves silently from the person who had it [D]."""
        before = self.people_by_aux_id.get(aux_id)
        if before is not None:
            before.aux_id = None
        if person.aux_id is not None:
            del self.people_by_aux_id[person.aux_id]
        person.aux_id = aux_id
        self.people_by_aux_id[aux_id] = person

    def conversation_between(self, one: Person, other: Person) -> StoredChat | None:
        """Return the conversation between two people, if there is one."""
        return self._conversations.get(frozenset({one.id, other.id}))

    def start_conversation(self, one: Person, other: Person) -> StoredChat:
        """Return the conversation between two people, started if there is none; there is one at most [A]."""
        chat = self.conversation_between(one, other)
        if chat is None:
            chat = StoredChat(self.new_id(), [one, other], self._now())
            self.chats[chat.id] = chat
            self._conversations[frozenset({one.id, other.id})] = chat
            self.hub.announce(hub.new_conversation(chat))
        return chat

    def start_group_chat(
        self, subject: str, owner: Person, members: Iterable[Person], *, aux_id: str | None = None
    ) -> StoredChat:
        """Start a group chat; several can have one auxiliary id [D]."""
        everyone = list(dict.fromkeys([owner, *members]))
        chat = StoredChat(self.new_id(), everyone, self._now(), owner, subject, aux_id)
        self.chats[chat.id] = chat
        if aux_id is not None:
            self._groups_by_aux_id.setdefault(aux_id, []).append(chat)
        self.hub.announce(hub.new_group_chat(chat, everyone))
        return chat

    def remove_group_chat(self, chat: StoredChat) -> None:
        """Forget a group chat and all that is in it."""
        del self.chats[chat.id]
        if chat.group_aux_id is not None:
            self._groups_by_aux_id[chat.group_aux_id].remove(chat)
        self.hub.announce(hub.group_chat_removed(chat))

    def close_chat(self, chat: StoredChat) -> None:
        """Close a chat, if it is open; no event is known for the end of a conversation."""
        if chat.closed:
            return
        chat.closed = True
        if chat.is_group:
            self.hub.announce(hub.group_chat_closed(chat))

    def add_members(self, chat: StoredChat, adder: Person, people: Iterable[Person]) -> None:
        """Add those who are not in a group chat yet; for them the chat is new [A]."""
        added = [person for person in dict.fromkeys(people) if person not in chat.members]
        if not added:
            return
        chat.members = [*chat.members, *added]
        self.hub.announce(hub.new_group_chat(chat, added))
        self.hub.announce(hub.members_added(chat, adder, added))

    def remove_members(self, chat: StoredChat, remover: Person, people: Iterable[Person]) -> None:
        """Remove members, who are no admins either any more."""
        removed = list(dict.fromkeys(people))
        chat.members = [member for member in chat.members if member not in removed]
        chat.admins = [admin for admin in chat.admins if admin not in removed]
        self.hub.announce(hub.members_removed(chat, remover, removed))

    def chat(self, kind: ChatKind, chat_id: str, viewer: Person) -> StoredChat | None:
        """Find a chat by its id or its auxiliary id, whichever `kind` has.

        A conversation is found by the id of its other side, too [V]. Of the group chats that share an
        auxiliary id, the last one is found [A].
        """
        if kind is ChatKind.AUX_GROUP_CHAT:
            sharing = self._groups_by_aux_id.get(chat_id)
            return sharing[-1] if sharing else None
        if kind is ChatKind.AUX_CONVERSATION:
            other = self.people_by_aux_id.get(chat_id)
            return self.conversation_between(viewer, other) if other else None
        chat = self.chats.get(chat_id)
        if chat is None and not kind.is_group and chat_id in self.people:
            return self.conversation_between(viewer, self.people[chat_id])
        return chat if chat is not None and chat.is_group == kind.is_group else None

    def chats_of(self, person: Person, kind: ChatKind) -> list[StoredChat]:
        """List a person's chats of one kind; an auxiliary kind has those with an auxiliary id [A]."""
        return [
            chat
            for chat in self.chats.values()
            if chat.is_group == kind.is_group
            and person in chat.members
            and (not kind.is_auxiliary or chat.aux_id(person) is not None)
        ]

    def contacts_of(self, person: Person) -> list[Person]:
        """List the people who share a company or a chat with a person [A]."""
        known = {
            member.id for chat in self.chats.values() if person in chat.members for member in chat.members
        }
        return [
            other
            for other in self.people.values()
            if other is not person
            and (other.id in known or (other.company is not None and other.company is person.company))
        ]

    def colleagues_of(self, person: Person) -> list[Person]:
        """List the people of a person's company, the person included."""
        company = person.company
        return [other for other in self.people.values() if company is not None and other.company is company]

    def post(
        self,
        chat: StoredChat,
        sender: Person,
        body: str,
        *,
        files: Sequence[File] = (),
        payload: Payload | None = None,
    ) -> StoredMessage:
        """Put a message into a chat."""
        mentions = _mentioned(chat, body) if "[" in body else ()
        text = self.habits.rewrite_text(body)
        message = StoredMessage(self.new_id(), sender, text, self._now(), tuple(files), payload, mentions)
        chat.messages.append(message)
        self.hub.announce(hub.new_message(chat, message, self.habits))
        return message

    def like(self, chat: StoredChat, message: StoredMessage, person: Person) -> None:
        """Like a message, once a person."""
        if person not in message.liked_by:
            message.liked_by.append(person)
            self.hub.announce(hub.message_liked(chat, message, person))

    def delete_message(self, chat: StoredChat, message: StoredMessage, person: Person) -> None:
        """Delete a message, which is in no list any more [A]."""
        chat.messages.remove(message)
        self.hub.announce(hub.message_deleted(chat, message, person))

    def listed(self, chat: StoredChat) -> Sequence[StoredMessage]:
        """Return a chat's messages as they are listed."""
        return self.habits.listed(chat.messages, self._now(), chat.pinned)

    def new_file(
        self, name: str, mime_type: str, content: Bytes | bytes, *, announced_size: int | None = None
    ) -> File:
        """Make a file that is in no message yet."""
        held = Stored.of(content) if isinstance(content, bytes) else content
        now = self._now()
        name = self.habits.rewrite_file_name(name)
        return File(self.new_id(), name, mime_type, Content(held, now), announced_size)

    def file(self, file_id: str) -> File | None:
        """Find the file of an attachment."""
        return next((file for file in self._files() if file.id == file_id), None)

    def replace_file(self, file: File, content: bytes) -> None:
        """Replace the bytes of a file."""
        file.content.replace(Stored.of(content), self._now())

    def close(self) -> None:
        """Release what is on the disk."""
        for file in self._files():
            if file.content.bytes.is_on_disk:
                file.content.bytes.close()

    def message(self, message_id: str) -> tuple[StoredChat, StoredMessage] | None:
        """Find a message and its chat."""
        return next((found for found in self._messages() if found[1].id == message_id), None)

    def _messages(self) -> Iterator[tuple[StoredChat, StoredMessage]]:
        return ((chat, message) for chat in self.chats.values() for message in chat.messages)

    def _files(self) -> Iterator[File]:
        return (file for _, message in self._messages() for file in message.files)


def known(found: T | None, what: str) -> T:
    """Return what was found.

    Raises:
        KeyError: nothing was.
    """
    if found is None:
        raise KeyError(f"there is no such {what} in this sandbox")
    return found


def _mentioned(chat: StoredChat, body: str) -> Sequence[str]:
    """Find the members that a text mentions, as `[mention=<id>]`; `[mention=@all]` is not listed [V]."""
    members = {member.id.lower(): member.id for member in chat.members}
    named = dict.fromkeys(user_id.lower() for user_id in _MENTION.findall(body))
    return [members[user_id] for user_id in named if user_id in members]
