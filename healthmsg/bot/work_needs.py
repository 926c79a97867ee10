"""What the work loop of a bot needs of others."""

import asyncio
from datetime import datetime
from typing import Protocol

from healthmsg.bot.store.effects import Effect, Watchers
from healthmsg.bot.store.records import TimerRecord, Waiting
from healthmsg.events import Event


class WorkStore(Protocol):
    """What the work loop needs of a store; see `BotStore`."""

    watchers: Watchers

    @property
    def newest(self) -> int:
        """The sequence of the last event."""

    async def commit(self, *effects: Effect) -> None:
        """Write all of it, or nothing."""

    async def waiting(
        self, after: int, most: int, *, chat: str | None = None, until: int = ...
    ) -> list[Waiting]:
        """Return what waits."""

    async def crashed(self) -> list[Waiting]:
        """Return what was being handled when a process died."""

    async def due(self, now: datetime, most: int) -> list[TimerRecord]:
        """Return timers whose moment has come."""

    async def next_due(self) -> datetime | None:
        """Return when the next timer is due."""


class WorkEvents(Protocol):
    """What the work loop needs of a stream of events; see `EventSource`."""

    @property
    def arrived(self) -> asyncio.Event:
        """Set when something may have arrived."""

    @property
    def is_prepared(self) -> bool:
        """Whether this process has the store."""

    @property
    def is_written(self) -> bool:
        """Whether all that has arrived is in the store."""

    def require_going_on(self) -> None:
        """Raise what has ended the stream."""

    def take_passing(self) -> list[Event]:
        """Return what comes at most once."""

    def note_handed_out(self, count: int) -> None:
        """Count what was handed out."""
