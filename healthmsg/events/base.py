"""What every event has, and what makes its id."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import ClassVar, Final, Self
from uuid import uuid4

from attrs import field, frozen

from healthmsg.codec import Model, fields_of
from healthmsg.errors import InvalidInputError
from healthmsg.ids import ADDRESS_STARTS, ChatAddress
from healthmsg.json_text import JSONObject
from healthmsg.structuring import in_json

_STARTS: Final = tuple(start for start, _ in ADDRESS_STARTS)
_ANSWER: Final = "answer"
_is_word: Final = re.compile(r"[a-z0-9_]{1,64}").fullmatch


def random_id(kind: str) -> str:
    """Return the id of an event that cannot be learnt in a second way."""
    return f"{kind}/{uuid4().hex}"


def answer_id(message_id: str, user_id: str, options: Iterable[str]) -> str:
    """Return the id of an answer: the same in whichever order the service names the options."""
    # Names that a bot's author chose go out unchecked [V]: one with a comma must not look like two.
    names = sorted(option.replace("%", "%25").replace(",", "%2C") for option in options)
    return f"{_ANSWER}/{message_id}/{user_id}/{','.join(names)}"


def shown_id(event_id: str) -> str:
    """Show an event's id without what a user answered, which may say something about the user."""
    if event_id.startswith(f"{_ANSWER}/"):
        event_id = "/".join([*event_id.split("/", 3)[:3], "…"])
    return repr(event_id)


def shown_word(value: object) -> str:
    """Show what is a word of the protocol; any other text may be anything."""
    return repr(value) if isinstance(value, str) and _is_word(value) else "…"


def _address(value: ChatAddress | str) -> ChatAddress:
    if isinstance(value, ChatAddress):
        return value
    # What was written by `to_dict` is exact; anything else is refused there.
    is_address = isinstance(value, str) and value.startswith(_STARTS)
    return ChatAddress.of_text(value) if is_address else ChatAddress.parse(value)


def known_address(value: ChatAddress | str | None) -> ChatAddress | None:
    """Return the address that a field holds, if it holds one."""
    return None if value is None else _address(value)


def _text(address: ChatAddress | None) -> str | None:
    return None if address is None else address.text


# In JSON an address is text, such as `conversations/c1`.
_AS_TEXT: Final = in_json(str, _text)
AS_TEXT_IF_KNOWN: Final = in_json(str | None, _text)


@frozen(kw_only=True)
class Event(Model):
    """Something that happened in a chat of the user whose token the client has.

    Its class says what; `kind` says the same as a word. `to_dict` has that word under `kind`, and
    `event_from_dict` makes an event of it again.
    """

    kind: ClassVar[str] = ""
    """What happened, as a word: `message_created`."""
    durable: ClassVar[bool] = True
    """Whether it comes at least once; otherwise at most once, since nothing tells later what was missed."""
    id_start: ClassVar[str] = ""
    """How the ids of such events begin, up to the first slash."""

    id: str = field(repr=shown_id)
    """Equal for the same happening, whichever way it was learnt; two happenings never have the same.

    It may hold what a user answered: keep that of an answer out of logs.
    """
    received_at: datetime
    """When this program learnt of it, by this machine's clock; aware."""
    is_own: bool = False
    """Whether the user of the client's token did it, in this program or elsewhere."""
    caught_up: bool = False
    """Whether it was read over REST, since it was not seen when it happened or not seen whole."""
    attempt: int = 1
    """Which time this is that the event is handed out, from 1; more where an earlier one did not end well."""
    extra: JSONObject = field(factory=dict, repr=False, eq=False)
    """What the gateway sent beside what the SDK knows."""

    def _document(self) -> dict[str, object]:
        # `extra` stays a key of its own: its keys are the service's, and may be the same as ours.
        document: dict[str, object] = {"kind": self.kind} | fields_of(self)
        if self.extra:
            document["extra"] = self.extra
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Self:
        """Make an event of this class of what `to_dict` returned; see `event_from_dict` for any class.

        Raises:
            InvalidInputError: it is not of that form, or an event of another kind; it names the field.
        """
        if not cls.kind or not isinstance(document, Mapping) or document.get("kind") != cls.kind:
            raise InvalidInputError(f"from_dict: this is not a {cls.__name__}, at $.kind")
        return super().from_dict(document)


@frozen(kw_only=True)
class ChatEvent(Event):
    """Something that happened in one chat."""

    chat: ChatAddress = field(converter=_address, metadata=_AS_TEXT)
    """Which chat; `chat.text` is an address as `send_many` takes it."""


@frozen(kw_only=True)
class UnknownEvent(Event):
    """A frame of the gateway that this version does not know, or that is not as it is known to be."""

    kind: ClassVar[str] = "unknown"
    id_start: ClassVar[str] = "unknown"

    name: str = field(repr=shown_word)
    """What the gateway calls it; empty if that is no text."""
    chat: ChatAddress | None = field(default=None, converter=known_address, metadata=AS_TEXT_IF_KNOWN)
    """The chat that the frame names, if it names one."""
    frame: JSONObject = field(factory=dict, repr=False, hash=False)
    """The frame's `data`, as it came."""
