"""The address of a chat: one of four kinds, and an id."""

from enum import Enum
from typing import Final

from attrs import field, frozen

from healthmsg.errors import InvalidIdError
from healthmsg.identifiers import encode_aux_id, encode_segment, exact_aux_id


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
"""How the address of a user begins in bulk sending."""
_CONVERSATIONS: Final = f"{ChatKind.CONVERSATION.path}/"
ADDRESS_STARTS: Final = tuple((f"{kind.path}/", kind) for kind in ChatKind)
"""How an address as text begins, with its kind."""


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
        object.__setattr__(self, "path", f"{self.kind.path}/{encode(self.id, 'the id of a chat')}")

    @property
    def text(self) -> str:
        """The address as text, of which `of_text` makes the same address."""
        return f"{self.kind.path}/{self.id}"

    @classmethod
    def of_text(cls, text: str) -> "ChatAddress":
        """Read what `text` gave: what was ambiguous in it was decided then."""
        start, kind = next(found for found in ADDRESS_STARTS if text.startswith(found[0]))
        chat_id = text.removeprefix(start)
        return cls(kind, exact_aux_id(chat_id) if kind.is_auxiliary else chat_id)

    @classmethod
    def parse(cls, text: str) -> "ChatAddress":
        """Read an address such as `conversations/c1` or `aux/conversations/patient 7`.

        All after the kind is the id, taken literally: nothing is unescaped.

        Raises:
            InvalidIdError: it does not start with one of the four kinds, or the id cannot be one.
        """
        if isinstance(text, str):
            for start, kind in ADDRESS_STARTS:
                if text.startswith(start):
                    return cls(kind, text.removeprefix(start))
        kinds = ", ".join(f"{kind.path}/…" for kind in ChatKind)
        raise InvalidIdError(f"a chat's address must be one of {kinds}")


def plain_address(address: str) -> str:
    """Return an address in the one form in which addresses are compared: of a user, `conversations/…` [V]."""
    return _CONVERSATIONS + address[len(USERS) :] if address.startswith(USERS) else address
