"""How the models' fields are declared.

`extra` keeps the JSON fields that the SDK does not know (yet). It is written out in each model, since type
checkers cannot look into a function that declares a field.
"""

from collections.abc import Mapping
from typing import Any, Final

from attrs import field

JSONObject = Mapping[str, object]
"""A JSON object as it came."""

ASSUMED: Final = {"assumed": True}
"""Marks a field whose form is assumed [A]: what has another one goes to `extra`, and all else is read."""


def by_id(value: object) -> str:
    """Show of a model, or of each of several, the id alone: all else about a person stays out of `repr`."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(by_id, value))}]"
    return repr(getattr(value, "id", None))


def private(*, assumed: bool = False) -> Any:
    """Declare an optional field that says something about a person: never in `repr`."""
    return field(default=None, repr=False, metadata=ASSUMED if assumed else {})
