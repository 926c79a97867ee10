"""The address of a chat: one of four kinds, and an id."""

from enum import Enum
from typing import Final

from attrs import field, frozen

from healthmsg.errors import InvalidIdError
from healthmsg.identifiers import encode_aux_id, encode_segment


class ChatKind(Enum):
    """The four kinds of chat. The value is the start of the path [V]."""

    CONVERSATION = "conversations"
    GROUP_CHAT = "groupchats"
    AUX_CONVERSATION = "aux/conversations"
    AUX_GROUP_CHAT = "aux/groupchats"

    @property
    def is_auxiliary(self) -> bool:
        """Whether the id is the integrator's own."""
        return self in _AUXILIARY

    @property
    def is_group(self) -> bool:
        """Whether it is a group chat."""
        return self in _GROUPS

    @property
    def template(self) -> str:
        """The path with the id left open, for logs and errors."""
        return _TEMPLATES[self]


_AUXILIARY: Final = frozenset({ChatKind.AUX_CONVERSATION, ChatKind.AUX_GROUP_CHAT})
_GROUPS: Final = frozenset({ChatKind.GROUP_CHAT, ChatKind.AUX_GROUP_CHAT})
_TEMPLATES: Final = {
    kind: f"{kind.value}/{{aux_id}}" if kind in _AUXILIARY else f"{kind.value}/{{id}}" for kind in ChatKind
}


@frozen
class ChatAddress:
    """Which chat is meant. Making one sends nothing.

    Raises:
        InvalidIdError: the id cannot be one.
        AmbiguousAuxIdError: an auxiliary id has a diacritic; see there.
    """

    kind: ChatKind
    id: str = field(repr=False)
    path: str = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        encode = encode_aux_id if self.kind.is_auxiliary else encode_segment
        segment = encode(self.id, f"the id of a chat under {self.kind.value}")
        object.__setattr__(self, "path", f"{self.kind.value}/{segment}")

    @classmethod
    def parse(cls, text: str) -> "ChatAddress":
        """Read an address such as `conversations/c1` or `aux/conversations/patient 7`.

        All after the kind is the id, taken literally: nothing is unescaped.

        Raises:
            InvalidIdError: it does not start with one of the four kinds, or the id cannot be one.
        """
        if isinstance(text, str):
            for kind in ChatKind:
                if text.startswith(f"{kind.value}/"):
                    return cls(kind, text.removeprefix(f"{kind.value}/"))
        kinds = ", ".join(f"{kind.value}/…" for kind in ChatKind)
        raise InvalidIdError(f"a chat's address must be one of {kinds}")
