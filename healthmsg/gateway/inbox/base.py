"""What the inbox keeps."""

from datetime import datetime

from attrs import field, frozen

from healthmsg.events import Event


@frozen
class ChatRecord:
    """What is known of a chat."""

    key: str = field(repr=False)
    anchor: tuple[str, ...] | None = None
    anchor_at: datetime | None = None
    hint: str | None = None
    members: tuple[str, ...] | None = field(default=None, repr=False)
    closed: bool = False
    counter: int = 0


@frozen
class OpenQuestion:
    """A question, or a request for verification, that can still be answered."""

    message_id: str
    chat: str = field(repr=False)
    users: tuple[str, ...] = field(default=(), repr=False)
    answered: tuple[str, ...] = field(default=(), repr=False)


@frozen
class Change:
    """What one transaction does for one chat."""

    chat: ChatRecord | None
    events: tuple[Event, ...]
    questions: tuple[OpenQuestion, ...] = ()
    closed_questions: tuple[str, ...] = ()
    removed: bool = False
