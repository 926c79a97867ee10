"""A message that may have been delivered, and may not."""

from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from healthmsg.ids import ChatAddress


@frozen
class Attempt:
    """A message that may have been delivered, and when its call was under way.

    Both moments are aware, and by the clock of this machine as it was when the client was made: setting the
    machine's time later does not move them. The call did not leave before `departed_at`, and was given up
    here by `ended_at`.
    """

    chat: "ChatAddress"
    body: str = field(repr=False)
    departed_at: datetime
    ended_at: datetime
    files: tuple[tuple[str, int | None], ...] = field(default=(), repr=False)
    """Name and, where it is known, size in bytes."""
    sender: tuple[str, int] = ("", 0)
    """Which process, and which user of it."""
    date_ahead: timedelta | None = None
    """By how much the service's `Date` was ahead of our clock when the call left; `None`: not known."""


class Outcome(Enum):
    """What became of a message, or of any call that changes something.

    There is no fourth possibility, and `UNKNOWN` is never reported as one of the other two.
    """

    DELIVERED = "delivered"
    """The service accepted it."""

    NOT_SENT = "not sent"
    """It certainly had no effect; sending it (again) is safe."""

    UNKNOWN = "unknown"
    """The line broke when it may already have been accepted; sending it again may send it twice."""
