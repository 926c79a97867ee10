"""What a handler's failure means for its event: it waits, or it is left to a person."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from healthmsg.bot.store.effects import Effect

LONGEST: Final = timedelta(days=366)
"""For how long an event may wait, and its chat with it."""


class RetryLater(Exception):  # noqa: N818 - no failure of its own: what is to be done about one
    """The event is to be handled again later; its chat waits with it.

    If its handler has not begun, because something else is waited for, this counts as no start of that.
    """

    def __init__(self, after: timedelta, *, has_begun: bool = True) -> None:
        self.has_begun: bool = has_begun
        # A moment further away than the calendar goes would end the bot.
        self.after: timedelta = min(max(after, timedelta()), LONGEST)
        super().__init__(f"again in {self.after.total_seconds():.1f} s")


class ParkThis(Exception):  # noqa: N818 - as above
    """The event is to be parked; its chat goes on. The reason names no text and no person."""

    def __init__(self, reason: str, effects: Sequence[Effect] = ()) -> None:
        self.reason: str = reason
        self.effects: tuple[Effect, ...] = tuple(effects)
        """What an error handler wanted to be committed with it."""
        super().__init__(reason)
