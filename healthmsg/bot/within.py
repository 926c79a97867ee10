"""Within what an author's code runs, for what it asks of the bot itself."""

from contextvars import ContextVar
from hashlib import sha256
from typing import Final, Protocol

from attrs import define, field

from healthmsg.bot.store.effects import Effect


class Within(Protocol):
    """An event that is being handled, or a step of a dialog: either may be done again from its beginning."""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""

    @property
    def effects(self) -> list[Effect] | None:
        """What is committed together with its end; `None`: what is asked for is committed at once."""

    @property
    def store(self) -> object:
        """Whose effects those are: what is asked of another bot is of another store."""

    def next_schedule(self) -> str:
        """Return the id of the next schedule that is set: the same one when all of it is done again."""


CURRENT: Final[ContextVar[Within | None]] = ContextVar("healthmsg_bot_within", default=None)
"""Tasks that an author's code starts are within the same."""


def schedule_id(start: str, number: int) -> str:
    """Return the id of a schedule, by what set it and its number among those."""
    return sha256(f"schedule/{start}{number}".encode()).hexdigest()[:24]


@define(eq=False)
class WithinStep:
    """A function of `d.once`. It has ended before its event has: nothing is kept until then."""

    _start: str
    is_open: bool = True
    effects: None = field(default=None, init=False)
    store: None = field(default=None, init=False)
    _number: int = field(default=0, init=False)

    def next_schedule(self) -> str:
        """Return the id of the next schedule: the same one if the function runs again."""
        self._number += 1
        return schedule_id(self._start, self._number)
