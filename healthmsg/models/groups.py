"""The settings of a group chat."""

from attrs import field, frozen

from healthmsg.models.fields import JSONObject


@frozen
class GroupSettings:
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
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""
