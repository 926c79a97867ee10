"""Every endpoint that the SDK knows: the API's table of contents.

Each is marked with how well it is known: `D` documented by the vendor, `V` seen from the vendor's own
client, `A` assumed. `{chat}` stands for any of the four kinds of chat.
"""

from enum import Enum
from typing import Final

from attrs import field, frozen

from healthmsg.addresses import ChatAddress
from healthmsg.identifiers import encode_segment


class Known(Enum):
    """How well a part of the contract is known."""

    D = "documented by the vendor"
    V = "seen from the vendor's own client"
    A = "assumed"


@frozen
class Route:
    """One endpoint: a method and a path with its ids left open."""

    method: str
    template: str
    known: Known
    _below_chat: str = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_below_chat", self.template.removeprefix("{chat}"))

    def path(self, chat: ChatAddress | None = None, **ids: object) -> str:
        """Fill the ids in, each encoded as one segment.

        Raises:
            InvalidIdError: an id cannot be one.
        """
        below = self._below_chat
        if ids:
            below = below.format_map({name: encode_segment(value, name) for name, value in ids.items()})
        return f"{chat.path}{below}" if chat else below

    def call(self, chat: ChatAddress | None = None) -> str:
        """Name the call for logs and errors, with no id in it."""
        return f"{self.method} {chat.kind.template if chat else ''}{self._below_chat}"


_D, _V, _A = Known.D, Known.V, Known.A

GET_ME: Final = Route("GET", "me", _V)
GET_USER: Final = Route("GET", "users/{user_id}", _V)
LIST_CONVERSATIONS: Final = Route("GET", "conversations", _A)
LIST_GROUP_CHATS: Final = Route("GET", "groupchats", _A)
LIST_AUX_CONVERSATIONS: Final = Route("GET", "aux/conversations", _A)
LIST_AUX_GROUP_CHATS: Final = Route("GET", "aux/groupchats", _A)

GET_CHAT: Final = Route("GET", "{chat}", _V)
LIST_MESSAGES: Final = Route("GET", "{chat}/messages", _A)
GET_MESSAGE: Final = Route("GET", "{chat}/messages/{message_id}", _V)
SEND_MESSAGE: Final = Route("POST", "{chat}/messages", _V)
UPLOAD_FILES: Final = Route("POST", "{chat}/attachments", _V)
GET_ATTACHMENT: Final = Route("GET", "{chat}/attachments/{attachment_id}", _V)
