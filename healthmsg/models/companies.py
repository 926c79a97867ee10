"""The organisation that users belong to."""

from attrs import field, frozen

from healthmsg.models.fields import JSONObject, private


@frozen
class Company:
    """A care organisation [A]."""

    id: str
    name: str | None = private()
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""
