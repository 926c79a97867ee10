"""Checks that the settings share."""

import math

from attrs import Attribute

from healthmsg.errors import ConfigurationError


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def positive(_: object, attribute: "Attribute[float]", value: float) -> None:
    """Refuse all but finite numbers above 0."""
    if not _is_number(value, int, float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{attribute.name} must be a number above 0")


def not_negative(_: object, attribute: "Attribute[float]", value: float) -> None:
    """Refuse all but finite numbers of at least 0."""
    if not _is_number(value, int, float) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{attribute.name} must be a number of at least 0")


def at_least_one(_: object, attribute: "Attribute[int]", value: int) -> None:
    """Refuse all but whole numbers of at least 1."""
    if not _is_number(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number of at least 1")
