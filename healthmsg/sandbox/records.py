"""What the sandbox remembers, and how the API shows it: people, chats, messages and files, and its habits.

Contract: "Objects". `to_json` writes what the API answers; a new field of the API's goes there.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, Literal, Protocol, TypeVar
from zlib import crc32

from attrs import asdict, define, field, frozen
from attrs.validators import ge, le

from healthmsg.sandbox.content import Content

JSON = dict[str, object]
_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


class _Listable(Protocol):
    id: str
    created_at: datetime


MessageT = TypeVar("MessageT", bound=_Listable)


def _unchanged_text(value: str) -> str:
    return value


def _unchanged_size(size: int) -> int:
    return size


@frozen(kw_only=True)
class Habits:
    """What a sandbox does with stamps, texts, files, lists and live events. All of it is assumed [A]."""

    resolution: timedelta = _SECOND
    """Of the stamps of messages and chats; every date that the vendor shows is in whole seconds [V]."""
    rounds: bool = False
    """Whether stamps are rounded, as MySQL does, instead of truncated."""
    clock_ahead: timedelta = timedelta()
    """By how much the clock of the stamps is ahead of the one of `Date`."""
    utc_offset: timedelta | None = None
    """Stamps are in local time, so far ahead of UTC, without an offset; `None`: in UTC, marked as such."""
    sends_date: bool = True
    """Whether answers have a `Date`; otherwise it is empty."""
    order: Literal["newest first", "oldest first", "none"] = "newest first"
    """Of lists of messages."""
    listing_lag: timedelta = timedelta()
    """How long it takes until a new message is listed: lists of messages lag behind the gateway."""
    chats_lag: timedelta = timedelta()
    """How long it takes until lists of chats show a new chat, and in `updated_at` a new message."""
    wrong_hints: float = field(default=0.0, validator=[ge(0), le(1)])
    """The share of the chats whose `updated_at` no message changes; their ids decide which these are."""
    needs_subscription: bool = True
    """Whether the gateway leaves out a group message's text until the client subscribes to the group [D].

    The vendor's own adapter drops such messages and does not subscribe, unless it is configured to [V].
    """
    textless_lag: timedelta = timedelta(milliseconds=200)
    """How late the gateway is with a group's messages where the client did not subscribe to the group."""
    rewrite_text: Callable[[str], str] = field(default=_unchanged_text)
    """Return the text that is stored instead of the one that was sent."""
    rewrite_file_name: Callable[[str], str] = field(default=_unchanged_text)
    """Return the file name that is stored instead of the one that was sent."""
    rewrite_file_size: Callable[[int], int] = field(default=_unchanged_size)
    """Return the file size that is shown instead of the real one."""

    def stamp(self, moment: datetime) -> str:
        """Write a moment as ISO 8601."""
        passed = moment.astimezone(UTC) + self.clock_ahead - _EPOCH
        if self.rounds:
            passed += self.resolution / 2
        stamped = _EPOCH + passed // self.resolution * self.resolution
        timespec = "seconds" if self.resolution >= _SECOND else "auto"
        if self.utc_offset is not None:
            local = stamped.astimezone(timezone(self.utc_offset))
            return local.replace(tzinfo=None).isoformat(timespec=timespec)
        return stamped.isoformat(timespec=timespec).replace("+00:00", "Z")

    def has_wrong_hint(self, chat_id: str) -> bool:
        """Return whether a chat's `updated_at` is never changed by a message."""
        return crc32(chat_id.encode()) < self.wrong_hints * 2**32

    def listed(
        self, messages: Sequence[MessageT], now: datetime, pinned: AbstractSet[str] = frozenset()
    ) -> Sequence[MessageT]:
        """Return messages, which are in order of arrival, as they are listed: pinned ones come first."""
        lag = self.listing_lag
        shown = [message for message in messages if not lag or message.created_at <= now - lag]
        if self.order == "newest first":
            shown.reverse()
        elif self.order == "none":
            shown.sort(key=lambda message: message.id)
        return sorted(shown, key=lambda message: message.id not in pinned)


@define(eq=False)
class Company:
    """A care organisation."""

    id: str
    name: str

    def to_json(self) -> JSON:
        """Describe the company [A]."""
        return {"id": self.id, "name": self.name}


@frozen
class Provider:
    """An identity provider, with which a person can be verified."""

    id: str
    name: str

    def to_json(self) -> JSON:
        """Describe the provider [V]."""
        return {"provider_id": self.id, "name": self.name}


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
    presence: str = "offline"
    """What the person's client said last, over the gateway."""

    @property
    def providers_left(self) -> list[Provider]:
        """Those with which this person is not verified yet."""
        return [provider for provider in PROVIDERS if provider not in self.verified_by]

    def to_json(self) -> JSON:
        """Describe the user [D]; `private_user` and `email` [V]."""
        company = self.company
        return {
            "id": self.id,
            "type": "user",
            "first_name": self.first_name,
            "last_name": self.last_name,
            "email": self.email,
            "company_name": company.name if company else None,
            "company_id": company.id if company else None,
            "position": self.position,
            "avatar": None,
            "active": True,
            "private_user": company is None,
        }


@define(eq=False)
class File:
    """A file: an attachment, an avatar or a PDF."""

    id: str
    name: str
    mime_type: str
    content: Content = field(repr=False)
    announced_size: int | None = None
    """The size that is announced where that is not the real one."""

    def to_json(self, habits: Habits) -> JSON:
        """Describe the attachment [V]."""
        size = self.content.bytes.size if self.announced_size is None else self.announced_size
        return {
            "id": self.id,
            "name": self.name,
            "size": habits.rewrite_file_size(size),
            "mime_type": self.mime_type,
        }


class Payload(Protocol):
    """What a message carries besides text and files: a `Question` or a `VerificationRequest`."""

    def to_json(self) -> JSON:
        """Describe it; its `type` says what it is."""


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
    liked_by: list[Person] = field(factory=list)

    def to_json(self, habits: Habits) -> JSON:
        """Describe the message [V]; `created_at` and `liked_by` [A]."""
        return {
            "id": self.id,
            "body": self.body,
            "user": self.sender.to_json(),
            "attachments": [file.to_json(habits) for file in self.files],
            "mentions": [{"id": user_id} for user_id in self.mentions],
            "payload": None if self.payload is None else self.payload.to_json(),
            "created_at": habits.stamp(self.created_at),
            "liked_by": [person.to_json() for person in self.liked_by],
        }


@frozen
class GroupSettings:
    """The settings of a group chat [V]; the defaults are assumed [A].

    They are kept and shown; only `members_can_invite` changes what the sandbox does.
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
        """Return whether a person is an admin; the owner is one too."""
        return person is self.owner or person in self.admins

    def other_side(self, person: Person) -> Person:
        """Return the first member who is not `person`."""
        return next((member for member in self.members if member is not person), person)

    def aux_id(self, viewer: Person) -> str | None:
        """Return the auxiliary id: a group's own; a conversation has the other side's [A]."""
        return self.group_aux_id if self.is_group else self.other_side(viewer).aux_id

    def members_to_json(self) -> list[JSON]:
        """Describe the members of a group chat [V]; that the owner is an admin too is assumed [A]."""
        return [
            member.to_json() | {"owner": member is self.owner, "admin": self.is_admin(member)}
            for member in self.members
        ]

    def updated_at(self, habits: Habits, until: datetime) -> datetime:
        """Return when the last message came that came by then; or else when the chat was started."""
        if habits.has_wrong_hint(self.id):
            return self.created_at
        times = (message.created_at for message in reversed(self.messages))
        return next((moment for moment in times if moment <= until), self.created_at)

    def to_json(self, viewer: Person, habits: Habits, until: datetime = _LATEST) -> JSON:
        """Describe the chat as one member sees it [V]; `user`, `avatar` and the timestamps [A].

        What is sent after `until` does not show.
        """
        document: JSON = {
            "id": self.id,
            "subject": self.subject,
            "closed": self.closed,
            "aux_id": self.aux_id(viewer),
            "created_at": habits.stamp(self.created_at),
            "updated_at": habits.stamp(self.updated_at(habits, until)),
        }
        if self.is_group:
            return document | {
                "members": self.members_to_json(),
                "settings": asdict(self.settings),
                "avatar": self.avatar,
                # Objects [V]; what they hold is not known.
                "dial_in_info": {},
                "guest_access": {},
            }
        return document | {"user": self.other_side(viewer).to_json()}
