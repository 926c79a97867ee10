"""The text of the messages, with fields to fill in."""

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Final

from attrs import field, frozen

from healthmsg.cli.recipients import RefusedError
from healthmsg.cli.recipients.columns import fold

_HOW: Final = "a field is written {first_name}, and a brace as such {{ or }}"


@frozen
class Template:
    """Text and fields in turn."""

    parts: Sequence[tuple[str, str | None]] = field(repr=False)
    """Text, and the folded name of the field that follows it, if one does."""

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read a template. A field is the name of a column, and nothing but that.

        Raises:
            RefusedError: it is empty, or has something else in braces.
        """
        if not text.strip():
            raise RefusedError("the template is empty")
        try:
            found = list(Formatter().parse(text))
        except ValueError:
            found = None
        if found is None:
            raise RefusedError(f"the template has a brace that is not closed, or not opened: {_HOW}")
        return cls(tuple((before, _field(name, form, how)) for before, name, form, how in found))

    @classmethod
    def of_column(cls, name: str) -> "Template":
        """Give the template that is a column as it is."""
        return cls((("", name),))

    @property
    def fields(self) -> tuple[str, ...]:
        """Give the folded names of its fields, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))

    @property
    def own_text(self) -> str:
        """Return what all recipients get; where a field is, the line ends."""
        return "".join(text if name is None else f"{text}\n" for text, name in self.parts)

    def fill_in(self, fields: Mapping[str, str]) -> str:
        """Give the text for one recipient, who has all of the fields."""
        return "".join(text if name is None else text + fields[name] for text, name in self.parts)


def _field(name: str | None, form: str | None, conversion: str | None) -> str | None:
    if name is None:
        return None
    if form or conversion or any(sign in name for sign in ".[]{}:!"):
        raise RefusedError(f"the template has more than a name in a pair of braces: {_HOW}")
    folded = fold(name)
    if not folded or folded.isdecimal():
        raise RefusedError(f"the template has a field without a name: {_HOW}")
    return folded
