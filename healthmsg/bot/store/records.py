"""What a bot's store holds, as values."""

from datetime import UTC, datetime
from typing import Final, Literal

import orjson
from attrs import define, evolve, field, frozen

from healthmsg.events import Event


@define  # frozen, it would take three times as long to make, and each event makes one
class Waiting:
    """An event that waits to be handled; its `attempt` is which start the next one would be."""

    sequence: int
    event: Event
    crashes: int = 0
    """How often the process died while it was being handled."""
    not_before: datetime | None = None


@frozen
class ParkedEvent:
    """An event that is not handled any more until a person wants it."""

    sequence: int
    event: Event
    reason: str = field(repr=False)
    parked_at: datetime


@frozen
class DialogRecord:
    """A dialog that has begun and not ended. There is at most one of a chat and user."""

    id: str
    name: str
    version: int
    chat: str = field(repr=False)
    user: str = field(repr=False)
    state: Literal["open", "held"]
    """Held: it no longer fits the code. It sends nothing, and a person decides."""
    document: str = field(repr=False)
    """JSON of the engine's own: arguments, prefilled answers, why it is held."""
    started_at: datetime
    updated_at: datetime


@define  # frozen, it would take three times as long to make, and a replay makes one for each answer
class StepRecord:
    """A step of a dialog. It is not changed."""

    dialog: str
    number: int
    kind: str
    key: str = field(repr=False)
    value: str | None = field(default=None, repr=False)
    """JSON; `None`: it is open, such as a question that has been asked."""
    event: str | None = field(default=None, repr=False)
    """The hash of the id of the event that completed it: it is not taken twice."""


TIMERS_OF_STEPS: Final = ("remind", "timeout", "sleep")
"""The kinds of timers that a step of a dialog sets. Its others are what was asked of it from outside."""


@frozen
class TimerRecord:
    """Something that is due at a moment."""

    id: str
    due: datetime
    chat: str | None = field(default=None, repr=False)
    user: str | None = field(default=None, repr=False)
    dialog: str | None = None
    kind: str = ""
    document: str = field(default="{}", repr=False)
    """JSON of the one that has set it."""

    @property
    def event_id(self) -> str:
        """The id of the event that it becomes."""
        return f"timer/{self.id}/{self.due.astimezone(UTC).isoformat()}"

    def is_like(self, other: "TimerRecord") -> bool:
        """Return whether it differs in nothing but when it is due next."""
        plain = evolve(self, due=other.due, document=other.document)
        return plain == other and orjson.loads(self.document) == orjson.loads(other.document)
