"""What the models of what the service sends have in common, and how their fields are declared."""

from typing import Any

from attrs import field, frozen

from healthmsg.codec import Model
from healthmsg.json_text import JSONObject
from healthmsg.structuring import ASSUMED


@frozen
class ServiceModel(Model):
    """Something that the service sends. Its fields are those that the SDK knows."""

    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


def by_id(value: object) -> str:
    """Show of a model, or of each of several, the id alone: all else about a person stays out of `repr`."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(by_id, value))}]"
    return repr(getattr(value, "id", None))


def private(*, assumed: bool = False) -> Any:
    """Declare an optional field that says something about a person: never in `repr`."""
    return field(default=None, repr=False, metadata=ASSUMED if assumed else {})
