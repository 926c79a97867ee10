"""How each effect is written: what it executes in the transaction that has begun."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from attrs import frozen
from sqlalchemy import Connection, Executable

from healthmsg.bot.store import effects, statements
from healthmsg.bot.store.effects import Effect
from healthmsg.bot.store.records import DialogRecord, TimerRecord
from healthmsg.bot.store.rows import (
    Row,
    moment_of,
    row_of_dialog,
    row_of_step,
    row_of_timer,
    storable,
    timer_of,
)
from healthmsg.database.quick import answer, change
from healthmsg.errors import InvalidInputError
from healthmsg.events import Event, TimerDue
from healthmsg.gateway.inbox.event_rows import chat_of, event_of
from healthmsg.gateway.inbox.sql import SqlInbox
from healthmsg.gateway.inbox.statements import LAST_SEQUENCE

Write = Callable[[Connection], object]
_TAKEN: Final = (
    "this chat and user have another dialog already: stop that one first, or hand over. Nothing of this was"
    " written."
)
_OTHER: Final = (
    "another schedule has this id: cancel that one first, or say that this one replaces it. Nothing of this"
    " was written."
)


@frozen
class Writing:
    """What one commit does, prepared before its transaction: whatever cannot be stored is refused here."""

    writes: Sequence[Write]
    dialogs: Sequence[DialogRecord]
    closed: frozenset[str]
    timers: Sequence[TimerRecord]
    """Those that replace no other one."""

    def make(self, connection: Connection) -> str:
        """Do all of it, or nothing: then return why."""
        if not all(self._is_free(connection, one) for one in self.dialogs):
            return _TAKEN
        if not all(_is_like_what_is_there(connection, one) for one in self.timers):
            return _OTHER
        for write in self.writes:
            write(connection)
        return ""

    def _is_free(self, connection: Connection, dialog: DialogRecord) -> bool:
        place = {"chat": storable(dialog.chat), "user": storable(dialog.user)}
        found = answer(connection, statements.DIALOG_WITH, place)
        return all(row[0] == dialog.id or row[0] in self.closed for row in found)


@frozen
class EffectWriter:
    """Prepares the effects of commits."""

    inbox: SqlInbox
    puts: statements.Puts

    def prepare(self, changes: Iterable[Effect], now: datetime) -> Writing:
        """Return what writes these, in this order.

        Raises:
            InvalidInputError: a moment has no time zone, or an event cannot be written.
        """
        known = [*changes]
        dialogs = [one.dialog for one in known if isinstance(one, effects.PutDialog)]
        closed = frozenset(one.id for one in known if isinstance(one, effects.CloseDialog))
        if len({(one.chat, one.user) for one in dialogs}) < len({one.id for one in dialogs}):
            raise InvalidInputError(_TAKEN)
        timers = [one.timer for one in known if isinstance(one, effects.PutTimer) and one.is_new]
        return Writing([write for one in known for write in self._writes(one, now)], dialogs, closed, timers)

    def _writes(self, effect: Effect, now: datetime) -> Sequence[Write]:
        match effect:
            case effects.Fire():
                return [self._fire(effect)]
            case effects.PutDialog(dialog):
                return [_write(self.puts.dialogs, row_of_dialog(dialog))]
            case effects.PutStep(step):
                return [_write(self.puts.steps, row_of_step(step))]
            case effects.PutTimer():
                return [self._put_timer(effect)]
            case effects.Unpark(sequence):
                return [partial(_unpark, sequence, self.inbox.take_number())]
            case _:
                return _of_event(effect, now) or self._of_others(effect)

    def _put_timer(self, effect: effects.PutTimer) -> Write:
        row = row_of_timer(effect.timer)
        if effect.is_new:
            return _write(self.puts.new_timers, (*row, self.inbox.hash_of(effect.timer.event_id)))
        return _write(self.puts.timers, row)

    def _of_others(self, effect: Effect) -> Sequence[Write]:
        match effect:
            case effects.CloseDialog(dialog):
                whole = (self.puts.ended, statements.FORGET_DIALOG, statements.CANCEL_ALL)
                return [*(_write(one, (storable(dialog),)) for one in whole), _forget(dialog, 0)]
            case effects.ForgetSteps(dialog, number):
                return [_forget(dialog, number)]
            case effects.MoveTimer(timer, due, to):
                return [_write(statements.MOVE, (storable(timer), moment_of(due), moment_of(to)))]
            case effects.CancelTimer(timer):
                return [_write(statements.CANCEL, (storable(timer),))]
            case effects.CancelTimers(dialog):
                return [_write(statements.CANCEL_OF_STEPS, (storable(dialog),))]
            case _:
                raise InvalidInputError(f"{type(effect).__name__} is no effect of a bot's store")

    def _fire(self, effect: effects.Fire) -> Write:
        event = effect.event
        row = _row_of_firing(effect.timer, event)
        numbered = self.inbox.number([event])
        again = None if effect.again is None else row_of_timer(effect.again)

        def fire(connection: Connection) -> None:
            if change(connection, statements.TAKE, {"rows": [row]}) == 0:
                return
            if again is None or not _waits(connection, event):
                self.inbox.write_events(connection, numbered)
            if again is not None:
                change(connection, self.puts.timers, {"rows": [again]})

        return fire


def _row_of_firing(timer: str, event: TimerDue) -> Row:
    chat = "" if event.chat is None else event.chat.text
    what = map(storable, (event.document, chat, event.user_id or ""))
    return (storable(timer), moment_of(event.due), *what)


def _waits(connection: Connection, event: TimerDue) -> bool:
    """Return whether an event of the same timer, for the same, waits in the inbox and has not begun."""
    bodies = answer(connection, statements.TIMERS_WAITING_IN, {"chat": chat_of(event)})
    return any(_is_for_the_same(event_of(body), event) for (body,) in bodies)


def _is_for_the_same(one: Event, event: TimerDue) -> bool:
    # By another document it does something else: that schedule was replaced meanwhile.
    return isinstance(one, TimerDue) and (one.timer, one.document, one.user_id) == (
        *(event.timer, event.document, event.user_id),
    )


def _is_like_what_is_there(connection: Connection, timer: TimerRecord) -> bool:
    found = answer(connection, statements.TIMER, {"id": storable(timer.id)})
    return all(timer_of(row).is_like(timer) for row in found)


def _of_event(effect: Effect, now: datetime) -> Sequence[Write]:
    match effect:
        case effects.Begin(sequence):
            return [_write(statements.BEGIN, (sequence,))]
        case effects.Finish(sequence):
            return [_write(statements.FINISH, (sequence,))]
        case effects.Postpone(sequence, not_before):
            return [_write(statements.POSTPONE, (sequence, moment_of(not_before)))]
        case effects.Park(sequence, reason):
            return [_write(statements.PARK, (sequence, storable(reason), moment_of(now)))]
        case _:
            return ()


def _unpark(sequence: int, number: int | None, connection: Connection) -> None:
    if number is None:  # no bot runs: no event that is about to be written has a number yet
        number = connection.execute(LAST_SEQUENCE).scalar_one() + 1
    change(connection, statements.UNPARK, {"rows": [(sequence, number)]})


def _write(statement: Executable, row: Row) -> Write:
    return partial(_change, statement, {"rows": [row]})


def _forget(dialog: str, number: int) -> Write:
    return partial(_change, statements.FORGET_STEPS, {"dialog": storable(dialog), "number": number})


def _change(statement: Executable, values: Mapping[str, Any], connection: Connection) -> None:
    change(connection, statement, values)
