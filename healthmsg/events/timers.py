"""Timers of a bot that are due."""

from datetime import datetime
from typing import ClassVar

from attrs import field, frozen

from healthmsg.events.base import AS_TEXT_IF_KNOWN, Event, known_address
from healthmsg.ids import ChatAddress


@frozen(kw_only=True)
class TimerDue(Event):
    """A moment has come that a bot waited for. Its id is `timer/{timer}/{due}`."""

    kind: ClassVar[str] = "timer_due"
    id_start: ClassVar[str] = "timer"

    timer: str
    """The timer's id."""
    due: datetime
    """When it was due, which may be long ago: a bot that was down learns of it later."""
    chat: ChatAddress | None = field(default=None, converter=known_address, metadata=AS_TEXT_IF_KNOWN)
    user_id: str | None = None
    dialog: str | None = None
    """The id of the dialog that set it."""
    timer_kind: str = ""
    document: str = field(default="{}", repr=False)
    """JSON of the one that set it."""
