"""What a bot takes of a stream: it handles events side by side, and notes itself what is done."""
# ruff: noqa: SLF001 - a part of the stream, for the one that reads it in place of a loop

import asyncio

from healthmsg.events import Event
from healthmsg.gateway.stream import Events


class EventSource:
    """A stream of which what is durable is taken from the inbox, and what is not from here."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.arrived: asyncio.Event = events._arrived
        """Set when something may have arrived, or the stream has ended."""

    @property
    def is_prepared(self) -> bool:
        """Whether this process has the store, and what a dead one held waits again."""
        return self._events._is_prepared

    async def prepared(self) -> None:
        """Wait until that is so.

        Raises:
            HealthmsgError: what has ended the stream.
        """
        while not self.is_prepared:
            self.arrived.clear()
            await self._events._wait()

    def require_going_on(self) -> None:
        """Look whether the stream goes on.

        Raises:
            HealthmsgError: what has ended it.
        """
        self._events._require_going_on()

    def take_passing(self) -> list[Event]:
        """Return what comes at most once, and has come."""
        passing = [*self._events._passing]
        self._events._passing.clear()
        return passing

    def note_handed_out(self, count: int) -> None:
        """Count in the stream's figures what was handed out."""
        self._events._counters.handed_out += count

    @property
    def is_written(self) -> bool:
        """Whether all that has arrived is in the inbox."""
        return not self._events._pending_events
