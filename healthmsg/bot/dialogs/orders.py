"""What is asked of a dialog from outside: a timer that is due at once, so it comes in its chat's order."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import uuid4

import orjson
from attrs import define, evolve, field

from healthmsg.bot.clock import BotClock
from healthmsg.bot.dialogs.journal import timer_id
from healthmsg.bot.store.records import DialogRecord, TimerRecord

START: Final = "start"
STOP: Final = "stop"
TAKE_BACK: Final = "take_back"
HAND_OVER: Final = "hand_over"
_BEFORE: Final = timedelta(milliseconds=1)
_APART: Final = timedelta(microseconds=1)
_NOTHING: Final[Mapping[str, object]] = {}
_NOT_BEGUN: Final = "the {} has not begun. {} Then `healthmsg bot retry` begins it"
_PARKED_FOR: Final = "{} [dialog {}]"


def id_of_new(key: str, name: str, chat: str, user: str) -> str:
    """Return the id of a dialog that begins: the same when its event is handled again.

    Of a call that starts another one then, or one with another user, it is another one.
    """
    return sha256(f"dialog\n{key}\n{name}\n{chat}\n{user}".encode()).hexdigest()[:24]


def order(  # noqa: PLR0913, PLR0917 - what a timer has
    kind: str, dialog: str, chat: str, user: str, moment: datetime, document: Mapping[str, object] = _NOTHING
) -> TimerRecord:
    """Return the timer that has something done to a dialog, or begins it."""
    text = orjson.dumps(document).decode()
    return TimerRecord(timer_id(dialog, 0, kind), moment, chat, user, dialog, kind, text)


def order_of(
    kind: str, record: DialogRecord, moment: datetime, document: Mapping[str, object] = _NOTHING
) -> TimerRecord:
    """Return the same for one that is there."""
    return order(kind, record.id, record.chat, record.user, moment, document)


@define(eq=False)
class Orders:
    """Makes those of a bot. They come in the order in which they are asked for, also if its clock is coarse.

    Timers come by their moments, and of one moment in any order. So these are due a little before now, each
    later than the one before.
    """

    _clock: BotClock
    _last: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)

    def start(self, dialog: str, place: tuple[str, str], document: Mapping[str, object]) -> TimerRecord:
        """Return what begins a dialog in a chat, with a user of it."""
        return order(START, dialog, *place, self._next_moment(), document)

    def of(self, kind: str, record: DialogRecord, **document: object) -> TimerRecord:
        """Return another one than all before, also at one moment: an event is taken in once by its id."""
        timer = order_of(kind, record, self._next_moment(), document)
        return evolve(timer, id=f"{timer.id}/{uuid4().hex}")

    def _next_moment(self) -> datetime:
        now = self._clock.now()
        first = now - _BEFORE
        self._last = self._last + _APART if first <= self._last < now else first
        return self._last


def not_begun(what: str, why: str) -> str:
    """Return the reason for which the event is parked that was to begin a dialog: "dialog intake"."""
    return _NOT_BEGUN.format(what, why)


def parked_for(dialog: str, why: str) -> str:
    """Return the reason for which an event is parked that came for a dialog that is held."""
    return _PARKED_FOR.format(why, dialog)


def those_for(dialog: str, parked: Iterable[tuple[int, str]]) -> list[int]:
    """Return, of parked events with their reasons, the sequences of those that came for a dialog."""
    end = parked_for(dialog, "")
    return [sequence for sequence, reason in parked if reason.endswith(end)]
