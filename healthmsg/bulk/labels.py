"""The label of a message that the command line sends: its place in the file, and the question's name."""

import re
from typing import Final

from attrs import field, frozen

_LABEL: Final = re.compile(r"line (\d{1,12})([,;\t|])(.*)", re.DOTALL)


@frozen
class LineLabel:
    """What a journal keeps of a message, for results without the file, and for a bot that gets answers."""

    line: int
    delimiter: str = ","
    """That of the file."""
    name: str | None = field(default=None, repr=False)
    """The question's, if it was given one."""

    @classmethod
    def parse(cls, text: str | None) -> "LineLabel | None":
        """Parse what `str` wrote; return `None` for any other text."""
        found = _LABEL.fullmatch(text or "")
        return None if found is None else cls(int(found[1]), found[2], found[3] or None)

    def __str__(self) -> str:
        return f"line {self.line}{self.delimiter}{self.name or ''}"


def name_in(label: str | None) -> str | None:
    """Return the name that a message has by its label, whichever way it was sent."""
    found = LineLabel.parse(label)
    return label if found is None else found.name
