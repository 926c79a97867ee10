"""How the models' fields are declared."""

from collections.abc import Mapping
from typing import Any

from attrs import field

JSONObject = Mapping[str, object]
"""A JSON object as it came."""


def private() -> Any:
    """Declare an optional field that says something about a person: never in `repr`."""
    return field(default=None, repr=False)


def unknown_fields() -> Any:
    """Declare `extra`, which keeps the JSON fields that the SDK does not know (yet)."""
    return field(factory=dict, repr=False, eq=False, kw_only=True)
