"""What a dialog has done: its steps in order, the way of a replay along them, and what is to be written.

A number is given out once in a dialog's life: it is part of the key of a message. So steps that no longer
count stay as `void`, and what takes their place has a higher number.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define, evolve, field, frozen

from healthmsg.bot.store.effects import CancelTimer, Effect, PutStep
from healthmsg.bot.store.records import TIMERS_OF_STEPS, StepRecord

MOST_STEPS: Final = 1000
_NO_STEP: Final = "-"
"""How the kinds begin of what is no step of the code."""
ASK: Final = "ask/"
"""How the kind of a question's step begins; the question's own kind follows."""
SAY: Final = "say"
ONCE: Final = "once"
SLEEP: Final = "sleep"
MARK: Final = "mark"
HAND_OVER: Final = "hand_over"
_VOID: Final = "-void"
"""No longer counts: an answer that was taken back, a question that the code no longer asks."""
_TRY: Final = "-try"
"""An event that a question took without being answered by it: an invalid answer, or a part of one."""
_KEPT: Final = "-kept/"
"""Done before the user went back; taken over when it comes again."""
EFFECTS: Final = frozenset({SAY, ONCE, HAND_OVER})
"""What others have seen of a dialog. It cannot be undone."""
TIMERS: Final = TIMERS_OF_STEPS


@frozen
class Divergence:
    """The code does something else than what was done."""

    position: int
    """Among the steps that count."""
    row: StepRecord | None
    """The step that was done; `None`: it comes after the last one."""
    kind: str = ""
    """What the code does in its place; empty: it has ended."""


def called(kind: str) -> str:
    """Return what a kind of step is called in a log."""
    return f"a question ({kind.removeprefix(ASK)})" if kind.startswith(ASK) else f"`{kind}`"


def timer_id(dialog: str, number: int, kind: str) -> str:
    """Return the id of a timer of a step."""
    return f"{dialog}/{number}/{kind}"


def message_key(dialog: str, number: int, part: int = 0) -> str:
    """Return the outbox key of a message of a step."""
    return f"dialog/{dialog}/{number}/{part}" if part else f"dialog/{dialog}/{number}"


def open_question(dialog: str, steps: Sequence[StepRecord]) -> str | None:
    """Return the outbox key of the question that a dialog waits at, by its steps; `None`: it is at none."""
    last = next((step for step in reversed(steps) if step.kind[0] != _NO_STEP), None)
    if last is None or last.value is not None or not last.kind.startswith(ASK):
        return None
    return message_key(dialog, last.number)


def is_void_for(event: str, steps: Iterable[StepRecord]) -> bool:
    """Return whether all that an event has done to a dialog no longer counts."""
    kinds = {step.kind for step in steps if step.event == event}
    return kinds == {_VOID}


@define(eq=False)
class Journal:
    """The steps of one dialog."""

    dialog: str
    first: int = 0
    """The number of its first step since it was begun again."""
    number: int = 0
    """That of the next step."""
    rows: list[StepRecord] = field(factory=list, repr=False)
    """The steps that count, as long as they are replayed."""
    position: int = 0
    tries: list[StepRecord] = field(factory=list, repr=False)
    """Those of the question that is open."""
    kept: list[StepRecord] = field(factory=list, repr=False)
    taken: set[str] = field(factory=set, repr=False)
    """The events that have been taken. One that was parked after that may come again days later."""
    pending: list[Effect] = field(factory=list, repr=False)
    """To be committed before anything is done that others see."""
    reworded: dict[str, int] = field(factory=dict, repr=False)

    @classmethod
    def of(cls, dialog: str, steps: Iterable[StepRecord], *, first: int, taken: str | None) -> "Journal":
        """Return the journal that a store holds."""
        journal = cls(dialog, first, first)
        steps = tuple(steps)
        journal.rows = rows = [step for step in steps if step.kind[0] != _NO_STEP]
        if len(rows) != len(steps):
            journal.kept = [step for step in steps if step.kind.startswith(_KEPT)]
            if rows and rows[-1].value is None:
                asked = rows[-1].number
                journal.tries = [step for step in steps if step.kind == _TRY and step.number > asked]
        if steps:
            journal.number = steps[-1].number + 1
            journal.taken.update([step.event for step in steps if step.event is not None])
        if taken:
            journal.taken.add(taken)
        return journal

    # --- replaying

    def take(self, kind: str, key: str) -> StepRecord | Divergence | None:
        """Return the step that was done at this place; `None` after the last one."""
        if self.position >= len(self.rows):
            return None
        row = self.rows[self.position]
        if row.kind != kind or row.key != key:
            return self._divergence(row, kind)
        self.position += 1
        return row

    def take_once(self, name: str) -> StepRecord | Divergence | None:
        """Return the step of a function by its name, whatever it was called with."""
        if self.position >= len(self.rows):
            return None
        row = self.rows[self.position]
        return self.take(ONCE, row.key if row.key.partition("\n")[0] == name else name)

    def take_said(self, key: str, *, is_literal: bool) -> StepRecord | Divergence | None:
        """Return the step of a message. Another wording is none the less the same message.

        Unless it is that of another step, or the next steps show that a message was put in between: what was
        said and cannot be unsaid must not be taken for something else.
        """
        if self.position >= len(self.rows):
            return Divergence(self.reworded[key], None, SAY) if key in self.reworded else None
        row = self.rows[self.position]
        if row.kind == SAY and row.key != key and (is_literal or not row.key.startswith("=")):
            if key in self.reworded or any(later.key == key for later in self.rows[self.position :]):
                return self._divergence(row, SAY)
            self.reworded.setdefault(row.key, self.position)
            key = row.key
        return self.take(SAY, key)

    def misfit(self, row: StepRecord) -> Divergence:
        """Return that the value of a step that was just taken cannot be read."""
        self.position -= 1
        return self._divergence(row, row.kind)

    def rest(self) -> Divergence | None:
        """Return what was done and not replayed, when the code has ended."""
        if self.position >= len(self.rows):
            return None
        return self._divergence(self.rows[self.position], "")

    def is_replayed(self) -> bool:
        """Return whether all steps that count have been gone along."""
        return self.position >= len(self.rows)

    def settle(self) -> None:
        """Forget what a dialog that waits in memory no longer needs."""
        self.rows, self.position, self.reworded = [], 0, {}

    def _divergence(self, row: StepRecord, kind: str) -> Divergence:
        # A message of another wording, and then something else: it was no rewording.
        position = min([self.position, *self.reworded.values()])
        return Divergence(position, self.rows[position] if position < self.position else row, kind)

    def can_forget(self, divergence: Divergence) -> bool:
        """Return whether nothing that others have seen comes at or after a divergence."""
        return all(row.kind not in EFFECTS for row in self.rows[divergence.position :])

    # --- writing

    def open(self, kind: str, key: str) -> StepRecord:
        """Return a new step that is not done yet."""
        return self._put(StepRecord(self.dialog, self._next(), kind, key))

    def add(self, kind: str, key: str, value: str, event: str | None = None) -> StepRecord:
        """Return a new step that is done."""
        return self._put(StepRecord(self.dialog, self._next(), kind, key, value, event))

    def add_try(self, value: str, event: str | None) -> StepRecord:
        """Return a step for an event that the open question took without being answered."""
        row = self.add(_TRY, "", value, event)
        self.tries.append(row)
        return row

    def fill(self, row: StepRecord, value: str, event: str | None = None) -> None:
        """Complete a step."""
        self._put(evolve(row, value=value, event=event))
        self.tries.clear()

    def reuse(self, kind: str, key: str) -> StepRecord | None:
        """Return a new step with what was done before the user went back, if it was the same."""
        found = next((row for row in self.kept if row.kind == f"{_KEPT}{kind}" and row.key == key), None)
        if found is None or found.value is None:
            return None
        self.kept.remove(found)
        self._void(found)
        return self.add(kind, key, found.value)

    def void_from(self, position: int, event: str) -> None:
        """Take back the steps from a place on: what others have seen of them is kept, the rest is void."""
        forgotten = self.rows[position:]
        for row in forgotten:
            if row.kind in EFFECTS and row.value is not None:
                kept = evolve(row, kind=f"{_KEPT}{row.kind}")
                self.kept.append(kept)
                self._put(kept)
            else:
                # The last of them, most often the question that was open, says for which event that was done.
                self._void(row, event if row is forgotten[-1] else row.event)
        for row in self.tries:
            self._void(row, row.event)
        del self.rows[position:]
        self.tries.clear()

    def cancel_timers(self, row: StepRecord, kinds: Iterable[str] = TIMERS) -> None:
        """Take back the timers of a step."""
        self.pending += [CancelTimer(timer_id(self.dialog, row.number, kind)) for kind in kinds]

    def count(self) -> int:
        """Return how many steps there are since the dialog was begun."""
        return self.number - self.first

    def _next(self) -> int:
        self.number += 1
        return self.number - 1

    def _void(self, row: StepRecord, event: str | None = None) -> None:
        self._put(evolve(row, kind=_VOID, key="", value=None, event=event or row.event))
        if row.value is None:
            self.cancel_timers(row)

    def _put(self, row: StepRecord) -> StepRecord:
        if row.event is not None:
            self.taken.add(row.event)
        self.pending.append(PutStep(row))
        return row
