"""The question that `healthmsg send-many --option` asks with each message."""

import re
from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from healthmsg.cli.problems import RefusedError
from healthmsg.errors import InvalidInputError
from healthmsg.models import Option, Question
from healthmsg.validation import check_name

_MOST_OPTIONS: Final = 20
# A journal takes 1,000 bytes, of which the line and what stands around it have some.
_LONGEST_LABEL: Final = 200
_WITH_NAME: Final = re.compile(r"(\w{1,32})=(.+)", re.ASCII | re.DOTALL)


@frozen
class Asked:
    """A question, and the name by which a bot knows its answers."""

    question: Question = field(repr=False)
    name: str | None = None

    @classmethod
    def read(cls, options: Sequence[str], name: str | None) -> "Asked":
        """Read what was given: `Ja`, whose name is derived from it, or `ja=Ja, graag`.

        Raises:
            RefusedError: with everything that is wrong with it.
        """
        problems, buttons = list[str](), list[Option]()
        for text in options:
            try:
                buttons.append(_option_of(text))
            except InvalidInputError as error:
                problems.append(f"--option: {error}")
        if len({button.name for button in buttons}) < len(buttons):
            problems.append("--option: two have one name; give them names of their own: --option yes=Ja")
        if len(options) > _MOST_OPTIONS:
            problems.append(f"--option: at most {_MOST_OPTIONS} buttons")
        problems += _problems_of_name(name)
        if problems:
            raise RefusedError(*problems)
        return cls(Question(tuple(buttons)), name)

    def facts(self) -> list[tuple[str, str]]:
        """Return what is shown of it before anything is sent."""
        buttons = ", ".join(f"{button.label} ({button.name})" for button in self.question.options)
        return [("Buttons", buttons), *([] if self.name is None else [("Question", self.name)])]


def _option_of(text: str) -> Option:
    found = _WITH_NAME.fullmatch(text)
    label, name = (text, None) if found is None else (found[2], found[1])
    check_name(label, "an option's label")
    return Option(label, name=name)


def _problems_of_name(name: str | None) -> list[str]:
    if name is None:
        return []
    try:
        check_name(name, "--label")
    except InvalidInputError as error:
        return [str(error)]
    if not name.strip() or len(name.encode(errors="replace")) > _LONGEST_LABEL:
        return [f"--label must be text of 1 to {_LONGEST_LABEL} bytes"]
    return []
