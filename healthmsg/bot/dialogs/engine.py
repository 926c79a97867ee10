"""Dialogs: which event is for which, and those that are kept in memory."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final
from uuid import uuid4
from zoneinfo import ZoneInfo

import orjson

from healthmsg.bot.clock import BotClock
from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.asking import Ask, word_of
from healthmsg.bot.dialogs.brought import checked_answers
from healthmsg.bot.dialogs.check import Problem, check_dialog
from healthmsg.bot.dialogs.document import HANDED_OVER, Document, Held
from healthmsg.bot.dialogs.exits import Stopped
from healthmsg.bot.dialogs.fitting import (
    chat_of,
    hand_over_of,
    is_for,
    is_of_another_hand_over,
    is_older,
    later,
    may_answer,
    place_of_event,
)
from healthmsg.bot.dialogs.journal import SLEEP, TIMERS, open_question
from healthmsg.bot.dialogs.kept import Committed, Kept, Place
from healthmsg.bot.dialogs.orders import (
    HAND_OVER,
    START,
    STOP,
    TAKE_BACK,
    Orders,
    id_of_new,
    not_begun,
    those_for,
)
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.bot.dialogs.registration import RegisteredDialog, Resolve
from healthmsg.bot.dialogs.registry import Beginnings, Registry
from healthmsg.bot.dialogs.replay import run_of
from healthmsg.bot.dialogs.run import DialogStore, Identities, Places, Run, Tools
from healthmsg.bot.dialogs.steps import HandOver, Raised, Sleep
from healthmsg.bot.dialogs.turn import EventScope, Turn
from healthmsg.bot.dialogs.values import exit_to_json, from_json, to_json
from healthmsg.bot.sending import DialogOutbox
from healthmsg.bot.signals import ParkThis
from healthmsg.bot.store.effects import CloseDialog, PutDialog, PutTimer, Unpark, take_endings
from healthmsg.bot.store.records import DialogRecord, TimerRecord
from healthmsg.errors import DialogHeldError, DialogOpenError, ReplyNotSentError
from healthmsg.events import (
    Event,
    MessageCreated,
    QuestionAnswered,
    TimerDue,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.ids import ChatAddress
from healthmsg.log import log

Pressed = QuestionAnswered | VerificationAccepted | VerificationRejected
"""What names the message that it is an answer to."""
_STILL_HELD: Final = "The dialog %(dialog)s %(id)s was taken back, and is still held: `bot show` says why."


class DialogEngine:
    """All dialogs of a bot. `open` it before the first event.

    Events of one chat must come one after the other; those of different chats may come at once.
    """

    def __init__(  # noqa: PLR0913 - what dialogs work with
        self,
        store: DialogStore,
        outbox: DialogOutbox,
        clock: BotClock,
        *,
        dialogs: Iterable[RegisteredDialog[Any]] = (),
        texts: Texts | None = None,
        resolve: Resolve | None = None,
        identities: Identities | None = None,
        places: Places | None = None,
        time_zone: str = "Europe/Amsterdam",
        me: str = "",
        attempts: int = 3,
        keep: int = 1000,
    ) -> None:
        self._tools = Tools(
            store, outbox, clock, texts or Texts.dutch(), ZoneInfo(time_zone), identities, resolve, me, places
        )
        self.registry: Registry = Registry()
        for dialog in dialogs:
            self.registry.add(dialog)
        self._attempts = attempts
        self._kept = Kept(keep)
        self._committed = Committed()
        store.watchers.add_for(PutDialog, lambda put: self._committed.put(put.dialog))
        store.watchers.add_for(CloseDialog, lambda close: self._committed.forget(close.id))
        self._beginnings = Beginnings()
        self._orders = Orders(clock)

    def __repr__(self) -> str:
        return f"<DialogEngine of {len(self.registry.known)} dialogs>"

    async def open(self) -> None:
        """Learn which users are asked together, and which chats a person answers in."""
        for record in await self._tools.store.dialogs():
            self._committed.put(record)

    def undo(self, event: Event) -> None:
        """Forget the dialogs that an event has changed in memory: its end was not committed."""
        for run in self._kept.pop_those_at(self._tools.store.event_key(event.id)):
            run.close()

    def close(self) -> None:
        """Take all dialogs out of memory. They stay open."""
        self._kept.clear()

    # --- which event is for which dialog

    def wants(self, event: Event) -> bool:
        """Return whether a dialog may wait for an event; `handle` finds out. It looks into memory alone."""
        if isinstance(event, MessageCreated):
            user_id = event.user_id
            if user_id is None or event.is_own:
                return False
            place = event.chat.text, user_id
            return place not in self._kept.absent or place in self._committed.asking
        if isinstance(event, TimerDue):
            return event.dialog is not None
        return isinstance(event, Pressed) and not (event.is_own and isinstance(event, QuestionAnswered))

    def silenced(self, event: Event) -> frozenset[str] | None:
        """Return the commands that are handled in a chat that was handed over to a person; else `None`.

        Ask it before anything else: none of the bot's other handlers may have such an event.
        """
        if not self._committed.has_handed_over:
            return None
        place = place_of_event(event)
        return None if place is None else self._committed.handed_over(place)

    async def handle(self, scope: EventScope) -> bool:
        """Hand an event to the dialog that waits for it. Return whether one took it.

        Raises:
            DialogHeldError: the dialog is held. The event is to be parked: it was not handled.
            Exception: the dialog's code has failed; the event may be handled again.
        """
        event = scope.event
        if not self.wants(event):
            return False
        number: int | None = None
        if isinstance(event, TimerDue):
            return await self._take_timer(scope, event)
        if isinstance(event, MessageCreated):
            record = await self._record_at((event.chat.text, event.user_id or ""))
        else:
            found = await self._asked_in(event) if isinstance(event, Pressed) else None
            if found is None:
                return False
            dialog, number = found
            record = await self._record_of(dialog)
            if record is None:
                return await self._say_that_it_is_over(scope)
        if record is None:
            return False
        return await self._turn(scope, record, lambda turn: self._take(turn, number))

    async def _record_at(self, place: Place) -> DialogRecord | None:
        run = self._kept.at(place)
        if run is not None:
            return run.record
        record = None
        if place not in self._kept.absent:
            record = await self._tools.store.dialog(*place)
            if record is None:
                self._kept.note_absent(place)
        if record is None and (dialog := self._committed.newest_asking(place)) is not None:
            record = await self._record_of(dialog)
        return record

    async def _record_of(self, dialog: str) -> DialogRecord | None:
        run = self._kept.of(dialog)
        return run.record if run is not None else await self._tools.store.dialog_of(dialog)

    async def _asked_in(self, event: Pressed) -> tuple[str, int] | None:
        """Return the dialog and step whose question an answer is for; `None`: it is none of a dialog's."""
        run = self._kept.at((event.chat.text, event.user_id or ""))
        if run is not None and run.message_id == event.message_id and isinstance(run.waiting, Ask):
            row = run.waiting.row
            if row is not None:
                return run.id, row.number
        known = await self._tools.outbox.message_of(event.message_id, event.chat)
        parts = known.key.split("/") if known is not None else []
        if len(parts) < 3 or parts[0] != "dialog" or not parts[2].isdecimal():  # noqa: PLR2004 - dialog/{id}/{number}
            return None
        return parts[1], int(parts[2])

    async def may_wait_for(self, event: Event) -> bool:
        """Return whether an event that nothing took may be the answer to a dialog's question.

        It is not known whether that has arrived, nor could it be proven that this is the answer to it.
        """
        if not isinstance(event, Pressed) or event.is_own or event.user_id is None:
            return False
        record = await self._record_at((event.chat.text, event.user_id))
        if record is None:
            return False
        asked = open_question(record.id, await self._tools.store.steps(record.id))
        return asked is not None and await self._tools.outbox.is_unknown(asked)

    async def _say_that_it_is_over(self, scope: EventScope) -> bool:
        """Answer a button of a question that was answered, or whose dialog has ended."""
        if isinstance(scope.event, QuestionAnswered):
            await self._say(scope, self._tools.texts.answered_already)
        return True

    async def say_that_one_is_open(self, scope: EventScope) -> None:
        """Say in the event's chat that no other dialog can begin."""
        await self._say(scope, self._tools.texts.dialog_open)

    async def _say(self, scope: EventScope, said: str) -> None:
        chat = getattr(scope.event, "chat", None)
        if chat is not None:
            await self._tools.outbox.send(scope.next_key(), chat, Content(said))

    # --- one event

    async def _turn(
        self,
        scope: EventScope,
        record: DialogRecord,
        work: Callable[[Turn], Awaitable[bool]],
        run: Run | None = None,
    ) -> bool:
        """Let an event do its work on a dialog. Whatever fails, what is in memory is forgotten."""
        scope.taken_by, scope.dialog = record.name, record.id
        key = self._tools.store.event_key(scope.event.id)
        kept = self._kept.pop(record.id)
        turn = Turn(self._tools, self.registry.known, scope, key, self._attempts, record, run or kept)
        done = False
        try:
            taken = await self._begun(turn, work)
            turn.done()
            done = True
        except DialogHeldError:
            raise
        except Exception as error:
            is_last = scope.event.attempt >= self._attempts or isinstance(error, ReplyNotSentError)
            if turn.run is None or not turn.run.failed or not is_last:
                raise
            failure = error
        finally:
            if turn.run is not None and (not done or turn.is_over):
                turn.run.close()
        if not done:
            await turn.hold_failed(failure)
        self._note_turn(turn)
        return taken

    async def _begun(self, turn: Turn, work: Callable[[Turn], Awaitable[bool]]) -> bool:
        run = turn.run
        if run is not None and run.last_event == turn.key:
            # It comes again, though all went well: what was to be committed with its end may not have been.
            run.close()
            turn.run = None
            turn.record = await self._tools.store.dialog_of(run.id) or turn.record
        if turn.run is not None:
            turn.note_event(turn.run)
        return await work(turn)

    def _note_turn(self, turn: Turn) -> None:
        run = turn.run
        if run is None or turn.is_over:
            return
        if run.record.state == "open":
            self._kept.keep(run)
        else:
            run.close()

    async def _take(self, turn: Turn, number: int | None) -> bool:
        """Hand a message, an answer or a verification to the dialog."""
        document = turn.run.document if turn.run is not None else Document.of(turn.record.document)
        if document.started == turn.key or is_older(turn.scope.event, turn.record, document):
            return False
        if turn.record.state == "held":
            held = document.held
            if held is not None and held.why == HANDED_OVER:
                return True
            if held is None or held.why == "failed":
                raise DialogHeldError(turn.record.name, held.reason if held else "failed")
        if turn.run is not None and turn.key in turn.run.journal.taken:
            return True
        if turn.run is None and await turn.load():
            return True
        if turn.is_over:
            return number is not None and await self._say_that_it_is_over(turn.scope)
        return await self._take_in(turn, number)

    async def _take_in(self, turn: Turn, number: int | None) -> bool:
        event, run = turn.scope.event, _of(turn)
        step = run.waiting
        if isinstance(step, HandOver):
            return True
        if isinstance(event, MessageCreated):
            if event.user_id == run.record.user and await self._lead_out(turn, event):
                return True
            if not isinstance(step, Ask) or not may_answer(step, event):
                return False
        elif not isinstance(step, Ask) or step.row is None or step.row.number != number:
            return await self._say_that_it_is_over(turn.scope)
        elif not may_answer(step, event):
            return True
        await turn.go_on(await step.take(event, turn.key))
        return True

    async def _lead_out(self, turn: Turn, event: MessageCreated) -> bool:
        """Take a stop or back word. Return whether it was one."""
        run, word = _of(turn), word_of(event)
        step, code = run.waiting, run.code
        if word in code.stop and isinstance(step, Ask):
            await turn.go_on(step.stop(turn.key))
        elif word in code.stop and isinstance(step, Sleep) and step.row is not None:
            run.journal.fill(step.row, exit_to_json(Stopped), turn.key)
            run.journal.cancel_timers(step.row, (SLEEP,))
            await turn.go_on(Raised(Stopped()))
        elif word in code.back | code.checkpoint and isinstance(step, Ask):
            to = await turn.where_to_go_back(to_mark=word in code.checkpoint)
            if to is None:
                await step.say_that_it_is_the_first(turn.key)
            else:
                await turn.go_back(to)
        else:
            return False
        return True

    # --- timers

    async def _take_timer(self, scope: EventScope, event: TimerDue) -> bool:
        record = await self._record_of(event.dialog or "")
        if event.timer_kind == START and record is None:
            await self._start_due(scope, event)
        elif record is None:
            pass  # of a dialog that has ended meanwhile
        elif event.timer_kind == STOP:
            self._drop(record)
            scope.effects.append(CloseDialog(record.id))
        elif record.state == "held" and event.timer_kind == HAND_OVER:
            pass  # it is silent already
        elif event.timer_kind == TAKE_BACK:
            await self._take_back_due(scope, record, event)
        elif event.timer_kind not in TIMERS:
            await self._turn(scope, record, lambda turn: self._take_due(turn, event))
        elif record.state == "held" or not await self._is_taken_due(scope, record, event):
            scope.effects.append(PutTimer(later(event, record, self._tools.clock)))
        return True

    async def _take_back_due(self, scope: EventScope, record: DialogRecord, event: TimerDue) -> None:
        if is_of_another_hand_over(event, record):
            return  # that one was taken back already
        try:
            await self._turn(scope, record, lambda turn: self._take_due(turn, event))
        except DialogHeldError:
            log(logging.WARNING, _STILL_HELD, dialog=record.name, id=record.id)
            return
        parked = await self._tools.store.parked_reasons()
        scope.effects.extend(map(Unpark, those_for(record.id, parked)))

    async def _is_taken_due(self, scope: EventScope, record: DialogRecord, event: TimerDue) -> bool:
        """Hand a reminder or the like to its dialog. Return `False` if that is held now: it has to wait."""
        try:
            return await self._turn(scope, record, lambda turn: self._take_due(turn, event))
        except DialogHeldError:
            return False

    async def _take_due(self, turn: Turn, event: TimerDue) -> bool:
        was_handed_over = (held := Document.of(turn.record.document).held) and held.why == HANDED_OVER
        if (turn.run is None and await turn.load()) or turn.is_over:
            return True
        run, step = _of(turn), _of(turn).waiting
        if event.timer_kind == TAKE_BACK and was_handed_over:
            await turn.go_on(turn.was_handed_over())
        elif event.timer_kind == HAND_OVER:
            found = orjson.loads(event.document)
            run.document.held = Held(HANDED_OVER, found["reason"], tuple(found["resume"]))
            run.hold()
        elif isinstance(step, Ask):
            await turn.go_on(await step.take_timer(event, turn.key))
        elif isinstance(step, Sleep) and step.row is not None and is_for(event, step.row.number):
            run.journal.fill(step.row, "[null]", turn.key)
            await turn.go_on(None)
        return True

    async def _start_due(self, scope: EventScope, event: TimerDue) -> None:
        found, number = orjson.loads(event.document), event.dialog or ""
        chat, user, code = event.chat, event.user_id, self.registry.known.get(found["name"])
        if chat is None or user is None or code is None:
            why = "The bot has none of that name, or it is for no chat."
            raise ParkThis(not_begun(f"dialog {found['name']}", why))
        arguments, answers = tuple(from_json(found["args"])), from_json(found["answers"])
        has_begun = await self._tools.has_ended(code, number)
        other = None if has_begun else await self._tools.store.dialog(chat.text, user)
        if other is not None:
            error = DialogOpenError(other.name, is_held=other.state == "held")
            if not self._beginnings.note(number, has_begun=False, refused=error):
                raise ParkThis(not_begun(f"dialog {code.name}", str(error)))
            return
        try:
            if not has_begun:
                await self._begin(scope, number, code, (chat.text, user), arguments, answers)
            has_begun = True
        finally:
            self._beginnings.note(number, has_begun=has_begun)

    # --- beginning and ending

    async def start(  # noqa: PLR0913, PLR0917 - what a dialog begins with
        self,
        scope: EventScope | None,
        dialog: RegisteredDialog[Any] | str,
        chat: ChatAddress,
        user_id: str,
        args: tuple[object, ...] = (),
        answers: Mapping[str, object] | None = None,
        *,
        is_proven: bool = False,
    ) -> str:
        """Start a dialog, and return its id: at once in the event's chat, elsewhere in that chat's order.

        Raises:
            DialogOpenError: one is open for this chat and user.
            ConfigurationError: the bot has no such dialog.
            NotKeptError: an argument or answer cannot be kept.
            InvalidInputError: the user is not in the chat, unless that *is_proven*; or what is under a key of
                *answers* can be the answer to no question.
        """
        code, answers = self.registry.require(dialog), checked_answers(answers or {})
        # In this order: a key goes by the order of the calls alone, and not by what is waited for.
        key, chat = _key_of_new(scope), await self._tools.located(chat, user_id)
        place, number = (chat.text, user_id), id_of_new(key, code.name, chat.text, user_id)
        record = await self._tools.store.dialog(*place)
        if record is None or record.id != number:
            if scope is not None and await self._tools.has_ended(code, number):
                return number
            if not is_proven:
                await self._tools.proven(None if scope is None else scope.event, chat, user_id)
            self._require_free(scope, record)
        if scope is None or chat_of(scope.event) != chat.text:
            asked = {"name": code.name, "args": to_json([*args]), "answers": to_json(answers)}
            await self._put(scope, self._orders.start(number, place, asked))
        elif record is not None and record.id == number:
            await self._turn(scope, record, self._started_again)
        else:
            await self._begin(scope, number, code, place, args, answers)
        return number

    async def start_outside(
        self,
        dialog: str,
        chat: ChatAddress,
        user_id: str,
        answers: Mapping[str, object],
        within: float,
    ) -> tuple[str, bool]:
        """Start a dialog with a user who is proven to be in the chat, outside of any event.

        Return its id, and whether it has begun in that time.

        Raises:
            DialogOpenError: another one has begun before it.
            As `start`.
        """
        number = await self.start(None, dialog, chat, user_id, (), answers, is_proven=True)
        # It has not begun yet: nothing was waited for since it was asked for.
        return number, await self._beginnings.wait(number, within)

    async def _started_again(self, turn: Turn) -> bool:
        effects = turn.scope.effects
        effects[:] = [one for one in effects if one != CloseDialog(turn.record.id)]
        if turn.record.state == "held":
            raise DialogHeldError(turn.record.name, "its code does not fit, or fails")
        return turn.run is not None or await turn.load()

    async def _begin(  # noqa: PLR0913, PLR0917 - what a dialog begins with
        self,
        scope: EventScope,
        number: str,
        code: RegisteredDialog[Any],
        place: Place,
        args: tuple[object, ...],
        answers: Mapping[str, object],
    ) -> None:
        now = self._tools.clock.now()
        key = self._tools.store.event_key(scope.event.id)
        document = Document(args, answers, orjson.dumps(scope.event.to_dict()).decode(), key)
        record = DialogRecord(number, code.name, code.newest, *place, "open", document.text(), now, now)
        self._kept.forget_absent(place)
        run = run_of(self._tools, code, record, ())
        # One that this event has ended makes room for it.
        run.journal.pending.extend(take_endings(scope.effects))

        async def begin(turn: Turn) -> bool:
            await turn.begin()
            return True

        await self._turn(scope, record, begin, run)

    async def stop(self, scope: EventScope | None, chat: ChatAddress, user_id: str) -> bool:
        """End the dialog of a chat and user, without a word. Return whether there was one."""
        record = await self.find(chat, user_id)
        if record is None:
            return False
        if scope is not None and chat_of(scope.event) == record.chat:
            self._drop(record)
            scope.effects.append(CloseDialog(record.id))
        else:
            await self._put(scope, self._orders.of(STOP, record))
        return True

    async def take_back(self, scope: EventScope | None, chat: ChatAddress, user_id: str) -> bool:
        """Let a dialog go on that was handed over or is held, and take up what was parked for it meanwhile.

        Return whether there was one.
        """
        return await self._take_back(scope, await self.find(chat, user_id))

    async def _take_back(self, scope: EventScope | None, record: DialogRecord | None) -> bool:
        if record is None or record.state != "held":
            return False
        await self._put(scope, self._orders.of(TAKE_BACK, record, handed_over=hand_over_of(record)))
        return True

    async def stop_by_id(self, dialog: str) -> bool:
        """End a dialog, as `stop` does."""
        record = await self._tools.store.dialog_of(dialog)
        if record is not None:
            await self._put(None, self._orders.of(STOP, record))
        return record is not None

    async def take_back_by_id(self, dialog: str) -> bool:
        """Let a dialog go on, as `take_back` does."""
        return await self._take_back(None, await self._tools.store.dialog_of(dialog))

    async def hand_over(
        self, scope: EventScope | None, chat: ChatAddress, user_id: str, reason: str, resume: Iterable[str]
    ) -> bool:
        """Hand the chat of an open dialog to a person. Return whether there was one."""
        record = await self.find(chat, user_id)
        if record is None or record.state != "open":
            return False
        await self._put(scope, self._orders.of(HAND_OVER, record, reason=reason, resume=[*resume]))
        return True

    async def find(self, chat: ChatAddress, user_id: str) -> DialogRecord | None:
        """Return the dialog of a chat and user."""
        return await self._tools.store.dialog((await self._tools.located(chat, user_id)).text, user_id)

    async def check(self, records: Iterable[DialogRecord] | None = None) -> list[Problem]:
        """Replay all dialogs against this code, without asking or sending anything: which do not fit it."""
        store = self._tools.store
        found = []
        for record in await store.dialogs() if records is None else records:
            steps = await store.steps(record.id)
            found.append(check_dialog(self._tools, self.registry.known, record, steps))
        return [problem for problem in found if problem is not None]

    def _require_free(self, scope: EventScope | None, record: DialogRecord | None) -> None:
        """Refuse a further dialog where there is one, unless the event has ended that."""
        if record is not None and (scope is None or CloseDialog(record.id) not in scope.effects):
            raise DialogOpenError(record.name, is_held=record.state == "held")

    async def _put(self, scope: EventScope | None, timer: TimerRecord) -> None:
        if scope is None:
            await self._tools.store.commit(PutTimer(timer))
        else:
            scope.effects.append(PutTimer(timer))

    def _drop(self, record: DialogRecord) -> None:
        run = self._kept.pop(record.id)
        if run is not None:
            run.close()


def _key_of_new(scope: EventScope | None) -> str:
    return uuid4().hex if scope is None else scope.next_key()


def _of(turn: Turn) -> Run:
    if turn.run is None:
        raise AssertionError(turn.record.name)
    return turn.run
