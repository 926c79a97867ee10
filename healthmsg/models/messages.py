"""Messages and what comes with them."""

from datetime import datetime

from attrs import field, frozen

from healthmsg.models.fields import ASSUMED, JSONObject, by_id, private
from healthmsg.models.payloads import Payload
from healthmsg.models.users import User, UserOrId


@frozen
class Attachment:
    """A file in a chat [V]. Every field but `id` may be missing, and is `None` then."""

    id: str
    name: str | None = private()
    size: int | None = None
    """Bytes."""
    mime_type: str | None = None
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


@frozen
class Message:
    """A message in a chat [V]; `created_at` and `liked_by` [A].

    Every field but `id` may be missing, and is `None` (or empty) then.
    """

    id: str
    body: str | None = private()
    user: User | None = field(default=None, repr=by_id)
    """The sender, where the service gives it whole."""
    user_id: str | None = None
    """The sender, where the service gives the id alone."""
    attachments: tuple[Attachment, ...] = field(default=(), repr=by_id)
    mentions: tuple[UserOrId, ...] = field(default=(), repr=by_id)
    """Users, some of them known by `id` alone; the id `@all` stands for all members of a group."""
    payload: Payload | None = field(default=None, metadata=ASSUMED)
    """A `QuestionPayload`, a `VerificationPayload`, or a `Payload` of another kind."""
    created_at: datetime | None = field(default=None, metadata=ASSUMED)
    """Aware."""
    liked_by: tuple[UserOrId, ...] = field(default=(), repr=by_id, metadata=ASSUMED)
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""

    @property
    def sender_id(self) -> str | None:
        """The sender's id, in whichever form the service gives it; `None` if in neither."""
        return self.user.id if self.user is not None else self.user_id


@frozen
class SentMessage:
    """The service accepted a message [V]."""

    id: str
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""
