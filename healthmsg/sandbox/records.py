"""What the sandbox remembers: people, chats, messages and files."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from attrs import define, field, frozen

from healthmsg.sandbox.content import Content


@define(eq=False)
class Company:
    """A care organisation."""

    id: str
    name: str


@frozen
class Provider:
    """An identity provider: who can vouch for who somebody is."""

    id: str
    name: str


PROVIDERS: Final = (
    Provider("0f2f4a53-7f3c-4d6e-9a10-5f0a4c1f7a01", "idin"),
    Provider("0f2f4a53-7f3c-4d6e-9a10-5f0a4c1f7a02", "digid"),
)
"""Those of the installation; the ids are made up. The vendor's software writes names in lower case [V]."""


@define(eq=False)
class Person:
    """A professional, who has a company, or a patient, who has none."""

    id: str
    first_name: str
    last_name: str
    company: Company | None = None
    email: str | None = None
    position: str | None = None
    phone_number: str | None = None
    aux_id: str | None = None
    verified_by: list[Provider] = field(factory=list)

    @property
    def providers_left(self) -> list[Provider]:
        """Those with whom this person is not verified yet."""
        return [provider for provider in PROVIDERS if provider not in self.verified_by]


@define(eq=False)
class File:
    """A file: an attachment, or whatever else can be downloaded."""

    id: str
    name: str
    mime_type: str
    content: Content = field(repr=False)
    announced_size: int | None = None
    """What is said of its size when that is not the truth."""

    @property
    def size(self) -> int:
        """What is said of its size, in bytes."""
        return self.content.bytes.size if self.announced_size is None else self.announced_size


@frozen
class Option:
    """A button of a question [V]."""

    name: str
    label: str
    style: str | None


@define(eq=False)
class Question:
    """A question with buttons [V]."""

    style: str
    multi_answer: bool
    users: Sequence[str]
    """Ids of those who are asked; none: everybody [A]."""
    options: Sequence[Option]
    answers: dict[str, Sequence[str]] = field(factory=dict)
    """The names of the chosen options, by the id of the user who chose."""


@frozen(eq=False)
class VerificationRequest:
    """A request to a person to be verified with an identity provider."""

    person: Person
    provider: Provider


Payload = Question | VerificationRequest


@define(eq=False)
class StoredMessage:
    """A message in a chat."""

    id: str
    sender: Person
    body: str
    created_at: datetime
    files: Sequence[File] = ()
    payload: Payload | None = None
    mentions: Sequence[str] = ()
    """Ids of members."""


@frozen
class GroupSettings:
    """What holds in a group chat [V]; the defaults are assumed [A].

    They are kept and shown; of what they say, `members_can_invite` alone is acted upon.
    """

    allow_contacts: bool = True
    auto_close_after: int = 0
    auto_expire_after: int = 0
    hybrid_messaging: bool = False
    members_can_invite: bool = True


@define(eq=False)
class StoredChat:
    """A conversation, or a group chat, which has an owner."""

    id: str
    members: list[Person]
    created_at: datetime
    owner: Person | None = None
    subject: str | None = None
    group_aux_id: str | None = None
    admins: list[Person] = field(factory=list)
    """Besides the owner."""
    settings: GroupSettings = GroupSettings()
    avatar: str | None = None
    """The picture's URL."""
    closed: bool = False
    messages: list[StoredMessage] = field(factory=list, repr=False)
    """In order of arrival."""
    pinned: set[str] = field(factory=set)
    """Ids of the messages that are listed before all others."""
    hooks: list[str] = field(factory=list, repr=False)
    """URLs to which new messages are announced."""

    @property
    def is_group(self) -> bool:
        """Whether this is a group chat."""
        return self.owner is not None

    @property
    def address(self) -> str:
        """The chat's address by its own id, as `ChatAddress.parse` reads it."""
        return f"{'groupchats' if self.is_group else 'conversations'}/{self.id}"

    def is_admin(self, person: Person) -> bool:
        """Tell whether a person is an admin; the owner is one too."""
        return person is self.owner or person in self.admins

    def other_side(self, person: Person) -> Person:
        """Give the first member who is not `person`."""
        return next((member for member in self.members if member is not person), person)

    def aux_id(self, viewer: Person) -> str | None:
        """Give the auxiliary id: a group's own; a conversation has the other side's [A]."""
        return self.group_aux_id if self.is_group else self.other_side(viewer).aux_id
