"""One event for one dialog: loading it, letting it go on, and what becomes of it."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NoReturn, Protocol

from attrs import define, evolve, field

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.asking import Ask
from healthmsg.bot.dialogs.brought import report_unused
from healthmsg.bot.dialogs.check import described
from healthmsg.bot.dialogs.document import HANDED_OVER, Document, Held
from healthmsg.bot.dialogs.exits import DialogExit, HandedOver, NoAnswer, Stopped, TooManyTries
from healthmsg.bot.dialogs.journal import ASK, Divergence, Journal, is_void_for
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.dialogs.replay import advance, begin, run_of
from healthmsg.bot.dialogs.run import Finished, Run, Tools, Wanted
from healthmsg.bot.dialogs.steps import SUSPENDED, HandOver, Raised, Restarted, Step
from healthmsg.bot.failures import place_of
from healthmsg.bot.store.effects import CloseDialog, Effect, PutDialog
from healthmsg.bot.store.records import DialogRecord
from healthmsg.errors import DialogHeldError
from healthmsg.events import Event
from healthmsg.log import class_name, log

AGAIN: Final = timedelta(hours=1)
"""After how long a timer of a dialog that is held is looked at again."""


class EventScope(Protocol):
    """One event that is being handled, as far as dialogs need it."""

    @property
    def event(self) -> Event:
        """The event."""

    @property
    def effects(self) -> list[Effect]:
        """What is committed together with the event's end."""

    taken_by: str
    """The name of the dialog that the event is for."""
    dialog: str
    """The id of that one."""

    def next_key(self) -> str:
        """Return the key of the next reply: the same one when the event is handled again."""


@define(eq=False)
class Turn:
    """What one event does to one dialog."""

    tools: Tools = field(repr=False)
    registry: Mapping[str, RegisteredDialog[Any]] = field(repr=False)
    scope: EventScope = field(repr=False)
    key: str = field(repr=False)
    """The event's."""
    attempts: int
    """At which attempt a dialog whose code fails is held."""
    record: DialogRecord
    run: Run | None = field(default=None, repr=False)
    is_over: bool = False

    @property
    def _run(self) -> Run:
        if self.run is None:
            raise AssertionError(self.record.name)
        return self.run

    def note_event(self, run: Run) -> None:
        """Note in a dialog which event it goes on with."""
        run.last_event = self.key
        # It has been begun before, and begins again as new, where a person has taken it up again.
        run.retry_refused = self.scope.event.attempt == 1

    # --- loading

    async def load(self) -> bool:
        """Bring the dialog into memory, to where it waits. Return whether it has taken the event already.

        Raises:
            DialogHeldError: it does not fit the code.
        """
        code = self.registry.get(self.record.name)
        if code is None:
            await self.hold("changed", "there is no dialog of that name in the code")
        while True:
            steps = await self.tools.store.steps(self.record.id)
            self.run = run = run_of(self.tools, code, self.record, steps)
            self.note_event(run)
            try:
                standing = advance(run)
            except DialogExit as left:
                rest = run.journal.rest()
                if rest is None:
                    taken = self.key in run.journal.taken
                    await self._leave(left)
                    return taken
                standing = rest
            if not isinstance(standing, Divergence):
                break
            await self._forget(standing)
        if run.document.held is not None and run.document.held.why != HANDED_OVER:
            self._reopen()  # it fits now, or a person has given it back
        taken = self.key in run.journal.taken
        await self._go_on(standing)
        if self.is_over and is_void_for(self.key, steps):
            return False  # the question that it was for is gone, and nothing was asked in its place
        return taken

    async def _forget(self, divergence: Divergence) -> None:
        """Ask again from where the code differs, unless others have seen what came after."""
        run = self._run
        run.close()
        if not run.journal.can_forget(divergence):
            await self.hold("changed", described(divergence))
        log(
            logging.WARNING,
            "The dialog %(dialog)s %(id)s goes on from there, since its code was changed: %(what)s.",
            dialog=self.record.name,
            id=self.record.id,
            what=described(divergence),
        )
        run.journal.void_from(divergence.position, self.key)
        await run.flush()

    def _reopen(self) -> None:
        run = self._run
        run.document.held = None
        run.record = self.record = evolve(run.record, state="open")
        run.put_record()

    # --- going on

    async def go_on(self, outcome: object) -> None:
        """Let the dialog go on with what became of the step that it waits at."""
        if outcome is SUSPENDED:
            return
        await self._resume(outcome)

    async def begin(self) -> None:
        """Begin a dialog that is new."""
        run = self._run
        self.note_event(run)
        run.put_record()
        await self._resume(None)

    async def _resume(self, outcome: object) -> None:
        run = self._run
        run.waiting = None
        try:
            if isinstance(outcome, Raised):
                standing = advance(run, error=outcome.error)
            else:
                standing = advance(run, outcome)
        except DialogExit as exit_:
            left = exit_
        else:
            await self._go_on(standing)
            return
        await self._leave(left)

    async def _go_on(self, standing: Wanted | Divergence | Finished) -> None:
        while True:
            run = self._run
            if isinstance(standing, Finished):
                report_unused(run)
                self._end()
                return
            if isinstance(standing, Divergence):
                await self.hold("changed", described(standing))
            outcome = await standing.perform() if isinstance(standing, Step) else SUSPENDED
            if outcome is SUSPENDED:
                run.waiting = standing
                run.journal.settle()
                return
            if isinstance(outcome, Restarted):
                self._begin_again()
                outcome = None
            try:
                if isinstance(outcome, Raised):
                    standing = advance(run, error=outcome.error)
                else:
                    standing = advance(run, outcome)
            except DialogExit as exit_:
                left = exit_
                break
        await self._leave(left)

    def _begin_again(self) -> None:
        run = self._run
        run.close()
        first = run.document.first
        run.journal = Journal(run.id, first, first, pending=run.journal.pending)
        run.used.clear()
        begin(run)

    async def go_back(self, to: int) -> None:
        """Take back the steps from a number on, and ask again."""
        run = self._run
        run.close()
        steps = await self.tools.store.steps(run.id)
        record = run.record
        self.run = run = run_of(self.tools, run.code, record, steps)
        self.note_event(run)
        position = next(n for n, row in enumerate(run.journal.rows) if row.number >= to)
        run.journal.void_from(position, self.key)
        try:
            standing = advance(run)
        except DialogExit as exit_:
            left = exit_
        else:
            await self._go_on(standing)
            return
        await self._leave(left)

    async def where_to_go_back(self, *, to_mark: bool) -> int | None:
        """Return the number of the last answer, or of the first since the last mark, if there is one."""
        journal = self._run.journal
        steps = await self.tools.store.steps(self._run.id)
        found = None
        for row in reversed(Journal.of(journal.dialog, steps, first=0, taken=None).rows):
            if to_mark and row.kind == "mark" and found is not None:
                return found
            # What was known before, and what has passed without an answer, is passed over.
            if row.kind.startswith(ASK) and row.event is not None and (row.value or "{")[0] == "[":
                found = row.number
                if not to_mark:
                    return found
        return found

    # --- its end

    async def _leave(self, left: DialogExit) -> None:
        """End a dialog that the user has left, with a word on it where its code has none."""
        texts = self.tools.texts
        said = {
            Stopped: texts.stopped,
            NoAnswer: texts.no_answer,
            TooManyTries: texts.too_many_tries,
            HandedOver: texts.handed_over,
        }
        run = self._run
        body = said.get(type(left))
        if body is not None:
            await run.flush()
            await run.send(f"dialog/{run.id}/end", Content(body))
        self._end()

    def _end(self) -> None:
        self.is_over = True
        self._run.journal.pending.append(CloseDialog(self._run.id))
        self._run.close()

    def done(self) -> None:
        """Hand what is not committed yet to the event's end."""
        run = self.run
        if run is not None:
            # Only now: as long as the event may come again, its user must be known as one who was asked.
            others: set[str] = run.waiting.others() if isinstance(run.waiting, Ask) else set()
            if not self.is_over and others != {*run.document.others}:
                run.document.others = tuple(sorted(others))
                run.put_record()
            self.scope.effects.extend(run.journal.pending)
            run.journal.pending.clear()

    # --- held

    def was_handed_over(self) -> object:
        """Return what becomes of the step that waits when a person has given the chat back."""
        run = self._run
        step = run.waiting
        self._reopen()
        if isinstance(step, HandOver) and step.row is not None:
            run.journal.fill(step.row, "[null]", self.key)
            return None
        if isinstance(step, Ask):
            return step.end(HandedOver, self.key)
        return SUSPENDED

    async def hold_failed(self, failure: Exception) -> None:
        """Hold the dialog, since its code has failed; the failure itself if it has not begun.

        Raises:
            DialogHeldError: most often.
        """
        record = await self.tools.store.dialog_of(self.record.id)
        if record is None:
            raise failure  # it has not begun: that is its handler's failure
        self.record = record
        place = place_of(failure, self.run.code.origin if self.run else None)
        where = f" at {place[0]}:{place[1]}" if place is not None else ""
        await self.hold("failed", f"its code fails with {class_name(failure)}{where}")

    async def hold(self, why: str, reason: str) -> NoReturn:
        """Hold the dialog: it sends nothing more, and the log says so to a person.

        Raises:
            DialogHeldError: always.
        """
        document = Document.of(self.record.document)
        if self.record.state == "open" or document.held is None or document.held.why != why:
            document.held = Held(why, reason)
            held = evolve(
                self.record, state="held", document=document.text(), updated_at=self.tools.clock.now()
            )
            await self.tools.store.commit(PutDialog(held))
            log(
                logging.ERROR,
                "The dialog %(dialog)s %(id)s is held: %(reason)s. It sends nothing, and what comes for it is"
                " parked, until a person takes it back or ends it: `healthmsg bot take-back`, `bot end`.",
                dialog=self.record.name,
                id=self.record.id,
                reason=reason,
            )
        raise DialogHeldError(self.record.name, reason)
