"""The buttons of a question, as an `Enum` or one by one."""

from collections.abc import Iterable
from enum import Enum
from functools import cache
from typing import TypeVar

from healthmsg.errors import InvalidInputError
from healthmsg.models import Option

EnumT = TypeVar("EnumT", bound=Enum)


def option_of(member: Enum) -> Option:
    """Return the button of an enum's member.

    Its value is the button's label (`YES = "Ja"`) or an `Option`; any other value, such as that of `auto()`,
    leaves the member's name as the label: `CALL_ME` is `Call me`.
    """
    return member.value if isinstance(member.value, Option) else Option(label_of(member))


def label_of(member: Enum) -> str:
    """Return the label of a member whose value is no button by itself: its value, or else its name."""
    value: object = member.value
    return value if isinstance(value, str) else member.name.replace("_", " ").capitalize()


def options_of(options: "Iterable[Option] | type[Enum]") -> tuple[Option, ...]:
    """Return buttons one by one, in their order."""
    if isinstance(options, type) and issubclass(options, Enum):
        return tuple(map(option_of, options))
    return tuple(options)


@cache
def members_by_name(options: type[EnumT]) -> dict[str, EnumT]:
    """Return an enum's members by what an answer calls them.

    Raises:
        InvalidInputError: it has no members, or two whose answers would look the same.
    """
    found: dict[str, EnumT] = {}
    for member in options:
        if found.setdefault(option_of(member).name, member) is not member:
            raise InvalidInputError(
                f"two options of {options.__name__} have one name, so their answers would look the same:"
                f" {found[option_of(member).name].name} and {member.name}. Give one of them as"
                ' Option("label", name="…")'
            )
    if not found:
        raise InvalidInputError(f"{options.__name__} has no members: a question needs at least one option")
    return found
