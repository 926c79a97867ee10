"""A message of which nobody knows yet whether it was delivered."""

from datetime import datetime

from attrs import field, frozen

from healthmsg.addresses import ChatAddress


@frozen
class Attempt:
    """A message that may have been delivered, and when that can have been.

    Both moments are aware, and by the service's clock: `began_at` is one before which the attempt certainly
    did not run, `ended_at` one at which it was certainly given up here.
    """

    chat: ChatAddress
    body: str = field(repr=False)
    began_at: datetime
    ended_at: datetime
    files: tuple[tuple[str, int | None], ...] = field(default=(), repr=False)
    """Name and, where it is known, size in bytes."""
    sender: tuple[str, int] = ("", 0)
    """Which process, and which user of it."""
