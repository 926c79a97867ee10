"""A message that may have been delivered, and may not."""

from datetime import datetime, timedelta

from attrs import field, frozen

from healthmsg.addresses import ChatAddress


@frozen
class Attempt:
    """A message that may have been delivered, and when its call was under way.

    Both moments are aware, and by the clock of this machine as it was when the client was made: setting the
    machine's time later does not move them. The call did not leave before `departed_at`, and was given up
    here by `ended_at`.
    """

    chat: ChatAddress
    body: str = field(repr=False)
    departed_at: datetime
    ended_at: datetime
    files: tuple[tuple[str, int | None], ...] = field(default=(), repr=False)
    """Name and, where it is known, size in bytes."""
    sender: tuple[str, int] = ("", 0)
    """Which process, and which user of it."""
    date_ahead: timedelta | None = None
    """By how much the service's `Date` was ahead of our clock when the call left; `None`: not known."""
