"""How users prove who they are."""

from attrs import field, frozen

from healthmsg.models.fields import JSONObject, private


@frozen
class IdentityProvider:
    """A service that can vouch for who a user is [V]."""

    provider_id: str
    name: str | None = None
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


@frozen
class Verification:
    """One way in which a user has proven who he or she is [V]."""

    name: str | None = private()
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


@frozen
class UserVerifications:
    """All verifications of a user, as the service wraps them [V]."""

    user: tuple[Verification, ...] = field(default=(), repr=False)
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""
