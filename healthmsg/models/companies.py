"""The organisation that users belong to."""

from attrs import frozen

from healthmsg.models.fields import JSONObject, private, unknown_fields


@frozen
class Company:
    """A care organisation [A]."""

    id: str
    name: str | None = private()
    extra: JSONObject = unknown_fields()
    """JSON fields that the SDK does not know (yet)."""
