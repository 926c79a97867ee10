"""Conversations and group chats as the service describes them."""

from datetime import datetime

from attrs import field, frozen

from healthmsg.models.base import ServiceModel, by_id, private
from healthmsg.models.users import Member, User
from healthmsg.structuring import ASSUMED


@frozen
class GroupSettings(ServiceModel):
    """What holds in a group chat [V]. Of those to change, only what is set is sent."""

    allow_contacts: bool | None = None
    """Whether people of other organisations may take part."""
    auto_close_after: int | None = None
    """Days without a message after which the chat is closed; 0: never [A]."""
    auto_expire_after: int | None = None
    """Seconds that a message lives; 0: for ever [A]."""
    hybrid_messaging: bool | None = None
    members_can_invite: bool | None = None
    """Whether any member may add others."""


@frozen
class ConversationInfo(ServiceModel):
    """A 1-on-1 conversation. Contract: "Objects" [V]; `user`, the timestamps and `unread` [A].

    Every field but `id` may be missing, and is `None` (or empty) then.
    """

    id: str
    subject: str | None = private()
    closed: bool | None = None
    user: User | None = field(default=None, repr=by_id, metadata=ASSUMED)
    """The other side."""
    members: tuple[User, ...] = field(default=(), repr=by_id)
    aux_id: str | None = private()
    """The integrator's own id, if the chat has one."""
    unread: int | None = field(default=None, metadata=ASSUMED)
    """How many messages are unread."""
    created_at: datetime | None = field(default=None, metadata=ASSUMED)
    """Aware."""
    updated_at: datetime | None = field(default=None, metadata=ASSUMED)
    """Aware."""

    @property
    def title(self) -> str:
        """What to show a reader: the subject, or else the other side's name; empty if neither is known.

        Where the service does not say which is the other side, all members. It names a patient: keep it out
        of logs.
        """
        people = self.members if self.user is None else (self.user,)
        return self.subject or ", ".join(filter(None, (one.full_name for one in people)))


@frozen
class GroupChatInfo(ServiceModel):
    """A group chat. Contract: "Objects" [V]; `avatar`, the timestamps and `unread` [A].

    Every field but `id` may be missing, and is `None` (or empty) then.
    """

    id: str
    subject: str | None = private()
    closed: bool | None = None
    members: tuple[Member, ...] = field(default=(), repr=by_id)
    aux_id: str | None = private()
    """The integrator's own id, if the chat has one."""
    avatar: str | None = private(assumed=True)
    """The picture's URL [A]."""
    settings: GroupSettings | None = field(default=None, metadata=ASSUMED)
    """That they look as what one sets is assumed [A]."""
    dial_in_info: object = field(default=None, repr=False, hash=False)
    """Only the name is known: whatever JSON came."""
    guest_access: object = field(default=None, repr=False, hash=False)
    """Only the name is known: whatever JSON came."""
    unread: int | None = field(default=None, metadata=ASSUMED)
    """How many messages are unread."""
    created_at: datetime | None = field(default=None, metadata=ASSUMED)
    """Aware."""
    updated_at: datetime | None = field(default=None, metadata=ASSUMED)
    """Aware."""

    @property
    def title(self) -> str:
        """What to show a reader: the subject; empty if it is not known."""
        return self.subject or ""
