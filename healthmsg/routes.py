"""Every endpoint that the SDK knows: the API's table of contents.

Each is marked with how well it is known: `D` documented by the vendor, `V` seen from the vendor's own
client, `A` assumed; and each that changes something without being a POST, with whether it may be repeated.
`{chat}` stands for any of the four kinds of chat, `{group_chat}` for the two kinds of group chat.
"""

from enum import Enum
from typing import Final

from attrs import Factory, field, frozen

from healthmsg.ids import ChatAddress, ChatKind, encode_aux_id, encode_segment


class Known(Enum):
    """How well a part of the contract is known."""

    D = "documented by the vendor"
    V = "seen from the vendor's own client"
    A = "assumed"


class Idempotency(Enum):
    """Whether a call may be made again when it may already have run."""

    SAFE = "it only reads"
    IDEMPOTENT = "a second run leaves what the first one left, and is answered alike"
    NOT_IDEMPOTENT = (
        "a second run would have an effect of its own, or be refused as if the first one had failed"
    )

    @classmethod
    def of_method(cls, method: str) -> "Idempotency":
        """Return what can be said of any call with this method: that reading is safe, and nothing more."""
        return cls.SAFE if method in {"GET", "HEAD"} else cls.NOT_IDEMPOTENT


@frozen
class Route:
    """One endpoint: a method and a path with its ids left open."""

    method: str
    template: str
    known: Known
    idempotency: Idempotency = Factory(lambda self: Idempotency.of_method(self.method), takes_self=True)
    _below_chat: str = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        below = self.template.removeprefix("{chat}").removeprefix("{group_chat}")
        object.__setattr__(self, "_below_chat", below)

    @property
    def kinds(self) -> tuple[ChatKind, ...]:
        """The kinds of chat that it exists for; none if it is about no chat."""
        if self.template.startswith("{group_chat}"):
            return tuple(kind for kind in ChatKind if kind.is_group)
        return tuple(ChatKind) if self.template.startswith("{chat}") else ()

    def path(self, chat: ChatAddress | None = None, **ids: object) -> str:
        """Fill the ids in, each encoded as one segment.

        Raises:
            InvalidIdError: an id cannot be one.
            AmbiguousAuxIdError: an auxiliary id has a diacritic.
        """
        below = self._below_chat
        if ids:
            below = below.format_map({name: _encoded(name, value) for name, value in ids.items()})
        return f"{chat.path}{below}" if chat else below

    def call(self, chat: ChatAddress | None = None) -> str:
        """Name the call for logs and errors, with no id in it."""
        return f"{self.method} {chat.kind.template if chat else ''}{self._below_chat}"


def _encoded(name: str, value: object) -> str:
    return (encode_aux_id if name == "aux_id" else encode_segment)(value, name)


_V, _A = Known.V, Known.A
_IDEMPOTENT, _NOT_IDEMPOTENT = Idempotency.IDEMPOTENT, Idempotency.NOT_IDEMPOTENT

GET_ME: Final = Route("GET", "me", _V)
LIST_CONTACTS: Final = Route("GET", "me/contacts", _V)

GET_COMPANY: Final = Route("GET", "company", _A)
LIST_COMPANY_USERS: Final = Route("GET", "company/users", _A)
IMPORT_COMPANY_USERS: Final = Route("POST", "company/import", _V)

GET_USER: Final = Route("GET", "users/{user_id}", _V)
GET_AUX_USER: Final = Route("GET", "aux/users/{aux_id}", _V)
LIST_PROVIDERS: Final = Route("GET", "users/{user_id}/providers", _V)
LIST_VERIFICATIONS: Final = Route("GET", "users/{user_id}/verifications", _V)
INVITE_COWORKER: Final = Route("POST", "users/invite/coworker", _V)
INVITE_CONTACT: Final = Route("POST", "users/invite/contact", _V)
INVITE_PRIVATE_USER: Final = Route("POST", "users/invite/private", _V)

LIST_CONVERSATIONS: Final = Route("GET", "conversations", _A)
LIST_GROUP_CHATS: Final = Route("GET", "groupchats", _A)
LIST_AUX_CONVERSATIONS: Final = Route("GET", "aux/conversations", _A)
LIST_AUX_GROUP_CHATS: Final = Route("GET", "aux/groupchats", _A)
START_CONVERSATION: Final = Route("POST", "conversations", _A)
CREATE_GROUP_CHAT: Final = Route("POST", "groupchats", _V)
CREATE_AUX_GROUP_CHAT: Final = Route("POST", "aux/groupchats", _V)

GET_CHAT: Final = Route("GET", "{chat}", _V)
LIST_MESSAGES: Final = Route("GET", "{chat}/messages", _A)
GET_MESSAGE: Final = Route("GET", "{chat}/messages/{message_id}", _V)
SEND_MESSAGE: Final = Route("POST", "{chat}/messages", _V)
UPLOAD_FILES: Final = Route("POST", "{chat}/attachments", _V)
GET_ATTACHMENT: Final = Route("GET", "{chat}/attachments/{attachment_id}", _V)
GET_PDF: Final = Route("GET", "{chat}/pdf", _V)
REQUEST_VERIFICATION: Final = Route("POST", "{chat}/verification", _V)

# A PUT that sets or adds is taken to be idempotent [A: RFC 9110]; the vendor says nothing of it.
RENAME_GROUP_CHAT: Final = Route("PUT", "{group_chat}", _V, _IDEMPOTENT)  # to the same subject
CHANGE_SETTINGS: Final = Route("PUT", "{group_chat}/settings", _V, _IDEMPOTENT)  # to the same settings
ADD_MEMBERS: Final = Route("PUT", "{group_chat}/members", _V, _IDEMPOTENT)  # who is one stays one
ADD_ADMINS: Final = Route("PUT", "{group_chat}/admins", _V, _IDEMPOTENT)  # who is one stays one

# Once it has run, the caller is the owner no more: a second run would be refused.
SET_OWNER: Final = Route("PUT", "{group_chat}/owner", _V, _NOT_IDEMPOTENT)
# Once these have run, there is nothing left to remove: a second run may be refused.
REMOVE_MEMBERS: Final = Route("DELETE", "{group_chat}/members", _V, _NOT_IDEMPOTENT)
REMOVE_ADMINS: Final = Route("DELETE", "{group_chat}/admins", _V, _NOT_IDEMPOTENT)
# The same, and a second run may send everybody the e-mail again.
CLOSE_GROUP_CHAT: Final = Route("DELETE", "{group_chat}", _V, _NOT_IDEMPOTENT)

LIST_MEMBERS: Final = Route("GET", "{group_chat}/members", _V)
SET_AVATAR: Final = Route("POST", "{group_chat}/avatar", _V)
