"""What the sandbox knows: people, chats, messages and files, in memory."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID, uuid5

from attrs import define, field

from healthmsg.addresses import ChatKind

# Fixed, so that the same steps give the same ids in every run.
_NAMESPACE = UUID("6d1f6a0e-3c53-4c57-9d3f-0b7c5b6f3a11")
_GROUPS = frozenset({ChatKind.GROUP_CHAT, ChatKind.AUX_GROUP_CHAT})


@define(eq=False)
class Company:
    """A care organisation."""

    id: str
    name: str


@define(eq=False)
class Person:
    """A professional, who has a company, or a patient, who has none."""

    id: str
    first_name: str
    last_name: str
    company: Company | None = None
    email: str | None = None
    position: str | None = None
    aux_id: str | None = None


@define(eq=False)
class File:
    """A file: an attachment, or whatever else can be downloaded."""

    id: str
    name: str
    mime_type: str
    content: bytes | bytearray = field(repr=False)


@define(eq=False)
class StoredMessage:
    """A message in a chat."""

    id: str
    sender: Person
    body: str
    created_at: datetime
    files: Sequence[File] = ()
    payload: dict[str, object] | None = None


@define(eq=False)
class StoredChat:
    """A conversation or a group chat."""

    id: str
    is_group: bool
    members: list[Person]
    """The one who started it first: a group's owner and admin."""
    created_at: datetime
    subject: str | None = None
    group_aux_id: str | None = None
    closed: bool = False
    messages: list[StoredMessage] = field(factory=list, repr=False)
    """In order of arrival."""

    @property
    def address(self) -> str:
        """The chat's address by its own id, as `ChatAddress.parse` reads it."""
        return f"{'groupchats' if self.is_group else 'conversations'}/{self.id}"

    def other_side(self, person: Person) -> Person:
        """Give the first member who is not `person`."""
        return next((member for member in self.members if member is not person), person)

    def aux_id(self, viewer: Person) -> str | None:
        """Give the auxiliary id: a group's own; a conversation has the other side's [A]."""
        return self.group_aux_id if self.is_group else self.other_side(viewer).aux_id


class Store:
    """The sandbox's memory. Every list keeps the order in which things were added."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._made = 0
        self._groups_by_aux_id: dict[str, StoredChat] = {}
        self._conversations: dict[frozenset[str], StoredChat] = {}
        self.people: dict[str, Person] = {}
        self.people_by_aux_id: dict[str, Person] = {}
        self.chats: dict[str, StoredChat] = {}

    def new_id(self) -> str:
        """Make an id: a UUID that is the same in every run."""
        self._made += 1
        return str(uuid5(_NAMESPACE, str(self._made)))

    def add_company(self, name: str) -> Company:
        """Add a company."""
        return Company(self.new_id(), name)

    def add_person(  # noqa: PLR0913 - one argument a field
        self,
        first_name: str,
        last_name: str,
        *,
        company: Company | None = None,
        position: str | None = None,
        email: str | None = None,
        aux_id: str | None = None,
    ) -> Person:
        """Add a professional (with a company) or a patient (without)."""
        person = Person(self.new_id(), first_name, last_name, company, email, position)
        self.people[person.id] = person
        if aux_id is not None:
            self.assign_aux_id(person, aux_id)
        return person

    def assign_aux_id(self, person: Person, aux_id: str) -> None:
        """Give a person an auxiliary id; it moves silently from whoever had it [D]."""
        before = self.people_by_aux_id.get(aux_id)
        if before is not None:
            before.aux_id = None
        if person.aux_id is not None:
            del self.people_by_aux_id[person.aux_id]
        person.aux_id = aux_id
        self.people_by_aux_id[aux_id] = person

    def conversation_between(self, one: Person, other: Person) -> StoredChat | None:
        """Give the conversation between two people, if there is one."""
        return self._conversations.get(frozenset({one.id, other.id}))

    def start_conversation(self, one: Person, other: Person) -> StoredChat:
        """Give the conversation between two people; there is one at most [A]."""
        chat = self.conversation_between(one, other)
        if chat is None:
            chat = self._add_chat(is_group=False, members=[one, other])
            self._conversations[frozenset({one.id, other.id})] = chat
        return chat

    def start_group_chat(
        self, subject: str, owner: Person, members: Iterable[Person], *, aux_id: str | None = None
    ) -> StoredChat:
        """Start a group chat.

        Several can have one auxiliary id [D]; which of them is then found is assumed: the last [A].
        """
        chat = self._add_chat(is_group=True, members=[owner, *members], subject=subject)
        if aux_id is not None:
            chat.group_aux_id = aux_id
            self._groups_by_aux_id[aux_id] = chat
        return chat

    def _add_chat(self, *, is_group: bool, members: list[Person], subject: str | None = None) -> StoredChat:
        chat = StoredChat(self.new_id(), is_group, members, self._now(), subject)
        self.chats[chat.id] = chat
        return chat

    def chat(self, kind: ChatKind, chat_id: str, viewer: Person) -> StoredChat | None:
        """Find a chat by its id or its auxiliary id, whichever `kind` has."""
        if kind is ChatKind.AUX_GROUP_CHAT:
            return self._groups_by_aux_id.get(chat_id)
        if kind is ChatKind.AUX_CONVERSATION:
            other = self.people_by_aux_id.get(chat_id)
            return self.conversation_between(viewer, other) if other else None
        chat = self.chats.get(chat_id)
        return chat if chat is not None and chat.is_group == (kind in _GROUPS) else None

    def chats_of(self, person: Person, kind: ChatKind) -> list[StoredChat]:
        """List a person's chats of one kind; an auxiliary kind has those with an auxiliary id [A]."""
        return [
            chat
            for chat in self.chats.values()
            if chat.is_group == (kind in _GROUPS)
            and person in chat.members
            and (not kind.is_auxiliary or chat.aux_id(person) is not None)
        ]

    def contacts_of(self, person: Person) -> list[Person]:
        """List everybody with whom a person shares a company or a chat [A]."""
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
        payload: dict[str, object] | None = None,
    ) -> StoredMessage:
        """Put a message into a chat."""
        message = StoredMessage(self.new_id(), sender, body, self._now(), tuple(files), payload)
        chat.messages.append(message)
        return message
