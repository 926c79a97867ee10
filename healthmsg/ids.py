"""Ids and addresses: checked, and percent-encoded as one segment of a path."""

import re
import unicodedata
from enum import Enum
from functools import cache
from typing import Final
from urllib.parse import quote

from attrs import field, frozen

from healthmsg.errors import AmbiguousAuxIdError, InvalidIdError

# What the vendor's client leaves as it is: JavaScript's encodeURIComponent [V].
_UNESCAPED: Final = "!'()*"
_needs_no_escape: Final = re.compile(r"[A-Za-z0-9_.~!'()*-]+").fullmatch
# The vendor's client replaces, from À to ž, the letters with a mark [V],
_LETTERS: Final = range(0xC0, 0x17F)
# and, though they have none, dotless i, n with apostrophe, and eng [V].
_UNMARKED: Final = {"\u0131": "i", "\u0149": "n", "\u014a": "N", "\u014b": "n"}


class ExactAuxId(str):
    """An auxiliary id that is meant as it stands, diacritics included. See `exact_aux_id`."""

    __slots__ = ()


def encode_segment(value: object, name: str) -> str:
    """Return an id as one path segment that nothing can escape from.

    Raises:
        InvalidIdError: it is not text, empty, `.`, `..`, or has no UTF-8 form.
    """
    value = value if isinstance(value, str) else _text_of(value, name)
    if value in {"", ".", ".."}:
        raise InvalidIdError(f"{name} must not be empty, '.' or '..'")
    if _needs_no_escape(value):
        return value
    try:
        return quote(value, safe=_UNESCAPED)
    except UnicodeEncodeError:
        pass
    raise InvalidIdError(f"{name} holds half of a surrogate pair, which cannot be encoded")


def encode_aux_id(value: object, name: str = "aux_id") -> str:
    """Return an auxiliary id as one path segment.

    Raises:
        AmbiguousAuxIdError: it has a diacritic and is neither folded nor marked as exact.
        InvalidIdError: as `encode_segment`.
    """
    segment = encode_segment(value, name)
    if not isinstance(value, ExactAuxId) and fold_aux_id(_text_of(value, name)) != value:
        raise AmbiguousAuxIdError(
            f"{name} has a diacritic, which the vendor's own client folds away (é becomes e), so that two"
            " patients can share one id. Pass fold_aux_id(...) to address what that client addresses, or"
            " exact_aux_id(...) to send the id as it is."
        )
    return segment


def fold_aux_id(aux_id: str) -> str:
    """Return an auxiliary id without diacritics, as the vendor's client sends it: `José` → `Jose` [V].

    That client has a table of 177 letters of Western, Central and Northern Europe and Turkish (`á`, `ł`,
    `ğ`), and leaves everything else as it is [V]: `æ` and `ß`, letters of other languages (`ș`, `ệ`), and a
    mark that is a character of its own, as in text that was decomposed.
    """
    _text_of(aux_id, "aux_id")
    return str(aux_id) if aux_id.isascii() else aux_id.translate(_fold_table())


def exact_aux_id(aux_id: str) -> ExactAuxId:
    """Return an auxiliary id marked as exact: it is sent as it is, diacritics included."""
    return ExactAuxId(_text_of(aux_id, "aux_id"))


def check_aux_id(value: object) -> str:
    """Return an auxiliary id that can be used in a path afterwards.

    Raises:
        InvalidIdError: it cannot be one.
        AmbiguousAuxIdError: it has a diacritic.
    """
    encode_aux_id(value)
    return str(value)


def _text_of(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    raise InvalidIdError(f"{name} must be text, not {type(value).__name__}")


@cache
def _fold_table() -> dict[int, str]:
    table = {ord(letter): plain for letter, plain in _UNMARKED.items()}
    for code in _LETTERS:
        plain, has_mark, _ = unicodedata.name(chr(code)).partition(" WITH ")
        if has_mark:
            table[code] = unicodedata.lookup(plain)
    return table


class ChatKind(Enum):
    """The four kinds of chat. The value is the start of the path [V]."""

    CONVERSATION = "conversations"
    GROUP_CHAT = "groupchats"
    AUX_CONVERSATION = "aux/conversations"
    AUX_GROUP_CHAT = "aux/groupchats"

    def __init__(self, path: str) -> None:
        self.path: str = path
        self.is_auxiliary: bool = path.startswith("aux/")
        """Whether the id is the integrator's own."""
        self.is_group: bool = path.endswith("groupchats")
        self.template: str = f"{path}/{{aux_id}}" if self.is_auxiliary else f"{path}/{{id}}"
        """The path with the id left open, for logs and errors."""


USERS: Final = "users/"
"""How the address of a user begins, in bulk sending."""
_CONVERSATIONS: Final = f"{ChatKind.CONVERSATION.path}/"
ADDRESS_STARTS: Final = tuple((f"{kind.path}/", kind) for kind in ChatKind)
"""How an address as text begins, with its kind."""
_STARTS: Final = (USERS, *(start for start, _ in ADDRESS_STARTS))


@frozen
class ChatAddress:
    """Which chat is meant. Making one sends nothing.

    Raises:
        InvalidIdError: the id cannot be one.
        AmbiguousAuxIdError: an auxiliary id has a diacritic; see there.
    """

    kind: ChatKind
    id: str
    path: str = field(init=False, eq=False)
    text: str = field(init=False, eq=False)
    """The address as text, of which `of_text` makes the same address."""

    def __attrs_post_init__(self) -> None:
        kind, chat_id = self.kind, self.id
        if kind.is_auxiliary:
            segment = encode_aux_id(chat_id, "the id of a chat")
        elif isinstance(chat_id, str) and chat_id.startswith(_STARTS):
            raise InvalidIdError(
                f"the id of a chat under {kind.path} is given alone, without conversations/ or the like"
            )
        else:
            segment = encode_segment(chat_id, "the id of a chat")
        path = f"{kind.path}/{segment}"
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "text", path if segment == chat_id else f"{kind.path}/{chat_id}")

    def __repr__(self) -> str:
        return f"<ChatAddress {self.shown}>"

    @property
    def shown(self) -> str:
        """The address for `repr`. An auxiliary id, which may name a patient, is left out."""
        return self.kind.template if self.kind.is_auxiliary else self.text

    @classmethod
    def of_text(cls, text: str) -> "ChatAddress":
        """Return the address of such a text. An auxiliary id in it counts as exact."""
        start, kind = next(found for found in ADDRESS_STARTS if text.startswith(found[0]))
        chat_id = text.removeprefix(start)
        return cls(kind, exact_aux_id(chat_id) if kind.is_auxiliary else chat_id)

    @classmethod
    def parse(cls, text: str) -> "ChatAddress":
        """Return the address that a text means, such as `conversations/c1` or `aux/conversations/patient 7`.

        All after the kind is the id, taken literally: nothing is unescaped. An auxiliary id in a text that
        `exact_aux_id` has marked counts as exact.

        Raises:
            InvalidIdError: it does not start with one of the four kinds, or the id cannot be one.
        """
        if isinstance(text, str):
            for start, kind in ADDRESS_STARTS:
                if text.startswith(start):
                    chat_id = text.removeprefix(start)
                    return cls(kind, exact_aux_id(chat_id) if isinstance(text, ExactAuxId) else chat_id)
        raise InvalidIdError(_no_address(text))


def _no_address(given: object) -> str:
    """Return the message that says how to write an address. It repeats nothing of a patient's."""
    kinds = ", ".join(f"{kind.path}/…" for kind in ChatKind)
    problem = f"a chat's address must be one of {kinds} (in bulk sending also {USERS}…), or a handle"
    if not isinstance(given, str):
        kind = type(given).__name__
        return f"{problem}, not a {kind}: client.conversations(…) and client.groupchats(…) make one"
    if given and "/" not in given:
        return f"{problem}; an id alone does not say what it is the id of"
    return problem


def plain_address(address: str) -> str:
    """Return an address in the one form in which addresses are compared: of a user, `conversations/…` [V]."""
    return _CONVERSATIONS + address[len(USERS) :] if address.startswith(USERS) else address
