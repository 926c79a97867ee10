"""What is asked in a chat."""

import re
import warnings
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Literal

from attrs import field, frozen

from healthmsg.codec import Model
from healthmsg.errors import InvalidInputError
from healthmsg.ids import fold_aux_id
from healthmsg.validation import check_text

_LONGEST_NAME: Final = 32
_is_name: Final = re.compile(rf"[A-Za-z0-9_]{{1,{_LONGEST_NAME}}}").fullmatch
STYLES: Final = ("green", "red", "orange", "theme")
"""The colours of buttons that the vendor's own software uses [V]."""
_OTHER_STYLE: Final = (
    f"an option's style is none of {', '.join(STYLES)}: the service may refuse it, or show another colour"
)
_STARS: Final = str.maketrans("★☆", "10")
# What JavaScript takes for white space, and the vendor's client trims [V].
_BLANKS: Final = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@frozen(init=False)
class Option(Model):
    """A button of a question [V].

    `label` is what the reader sees. `name` is what the answer gives back: at most 32 letters, digits and
    underscores; without it, it is derived from the label as the vendor's client does (`"Ja, graag"` becomes
    `ja_graag`). `style` is a colour word [V]: `green`, `red`, `orange`, or `theme` for the application's own
    colour. Which others the service knows is not documented, so another one is sent with a warning.

    Raises:
        InvalidInputError: one of them cannot be right.
    """

    label: str = field(repr=False)
    name: str = field(repr=False)
    style: str | None

    def __init__(self, label: str, *, name: str | None = None, style: str | None = None) -> None:
        check_text(label, "an option's label")
        if name is not None and (not isinstance(name, str) or not _is_name(name)):
            raise InvalidInputError(
                f"an option's name must be 1 to {_LONGEST_NAME} letters (a-z), digits or underscores"
            )
        if style is not None:
            check_text(style, "an option's style")
            if style not in STYLES:
                warnings.warn(_OTHER_STYLE, stacklevel=2)
        self.__attrs_init__(label, name or _name_for(label), style)


@frozen
class Question(Model):
    """What is asked with buttons [V]; see `ask` of a chat for what each part means."""

    options: Sequence[Option] = field(repr=False)
    users: Sequence[str] = ()
    """Ids of those who are asked."""
    multi_answer: bool = False
    style: Literal["horizontal", "vertical"] = "horizontal"


def _name_for(label: str) -> str:
    folded = fold_aux_id(label.strip(_BLANKS).translate(_STARS))
    name = re.sub(r"\W+", "_", folded, flags=re.ASCII)[:_LONGEST_NAME].lower()
    if name.strip("_"):
        return name
    # No letter is left of a label in another script: any name will do that is always the same.
    return f"option_{sha256(label.encode(errors='replace')).hexdigest()[:12]}"
