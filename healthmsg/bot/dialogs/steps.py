"""The steps of a dialog: what a coroutine awaits.

A step that was done before is answered where it is awaited, out of the journal. Any other one is yielded to
the engine, which performs it.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar

import orjson

from healthmsg.aio import in_thread, start
from healthmsg.bot.content import Content
from healthmsg.bot.dialogs import journal as kinds
from healthmsg.bot.dialogs.document import HANDED_OVER, Held
from healthmsg.bot.dialogs.journal import Divergence, Journal, called, timer_id
from healthmsg.bot.dialogs.run import Halt, Run, Wanted
from healthmsg.bot.dialogs.values import (
    copied,
    error_from_json,
    error_to_json,
    fingerprint,
    from_json,
    kept_value,
    to_json,
    value_of,
)
from healthmsg.bot.failures import last_place_of, place_of
from healthmsg.bot.store.effects import CancelTimers, ForgetSteps, PutTimer
from healthmsg.bot.store.records import StepRecord, TimerRecord
from healthmsg.bot.within import CURRENT, WithinStep
from healthmsg.errors import ClientUsageError, NotKeptError, OnceFailedError, ProgramExitError
from healthmsg.files import FileToUpload
from healthmsg.log import class_name, log
from healthmsg.models import Question, SentMessage

T = TypeVar("T")


_TWICE: Final = (
    "A step of a dialog, {}, was awaited twice. It is asked or done once: make another one, with another call"
    " of the dialog's method, for the second time. Nothing was asked or sent."
)


class Suspended:
    """What `perform` returns of a step that an event will complete."""


SUSPENDED: Final = Suspended()


class Restarted:
    """What `perform` returns when the dialog begins again."""


class Raised:
    """What `perform` returns when the step ends with an error, which is raised in the dialog."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error: Exception = error


class Step(Wanted, Generic[T]):
    """Something that a dialog needs and that outlives the process."""

    __slots__ = ("is_awaited", "key", "kind", "row")

    def __init__(self, run: Run, kind: str, key: str) -> None:
        # Already here: in a function given to `once`, one that is not awaited would be seen by nothing.
        run.check_active(kind)
        super().__init__(run)
        self.kind: str = kind
        self.key: str = key
        self.row: StepRecord | None = None
        """What there is of it already."""
        self.is_awaited: bool = False

    def __del__(self) -> None:
        # One that is not awaited goes as soon as the code lets go of it: here its place is known for nothing.
        try:
            if not self.is_awaited:
                self.run.note_let_go(self.kind)
        except AttributeError:
            pass  # it could not be made

    def open(self) -> StepRecord:
        """Enter it as begun, and return what there is of it now."""
        self.row = row = self.run.journal.open(self.kind, self.key)
        return row

    def __await__(self) -> Generator[object, object, T]:  # noqa: C901 - a replay's time goes by here: no calls
        """Wait for it, unless it was done before."""
        run = self.run
        if self.is_awaited:
            raise ClientUsageError(_TWICE.format(called(self.kind)))
        self.is_awaited = True
        if not run._is_active:  # noqa: SLF001 - the run's other half
            run.check_active(self.kind)
        journal = run.journal
        position, rows = journal.position, journal.rows
        # A replay goes through here once for each answer: what matches at once is taken at once.
        if position < len(rows) and (row := rows[position]).key == self.key and row.kind == self.kind:
            journal.position = position + 1
            if run.document.answers:
                run.used.add(self.key)
        else:
            done = self.done(journal)
            if done is None:
                return (yield self)  # type: ignore[return-value] # the engine sends what `perform` returned
            if isinstance(done, Divergence):
                yield Halt(done)
                raise GeneratorExit
            row = done
        if row.value is None:
            self.row = row
            return (yield self)  # type: ignore[return-value] # as above
        if row.value[0] == "[":
            try:
                return self.decode(row.value)
            except Exception:  # noqa: BLE001, S110 - whatever it is: the value is not one of this step
                pass
            yield Halt(journal.misfit(row))
        error = _error_in(row.value)
        if error is None:
            yield Halt(journal.misfit(row))
        raise error or GeneratorExit

    def done(self, journal: Journal) -> StepRecord | Divergence | None:
        """Return what was done at this place."""
        return journal.take(self.kind, self.key)

    def decode(self, text: str) -> T:
        """Return the value that a step's text holds."""
        return value_of(text)  # type: ignore[return-value] # what was kept of such a step

    async def perform(self) -> object:
        """Do it, and return its value, or what became of it instead."""
        raise NotImplementedError


class Known(Step[T]):
    """What is computed in place, and kept: a moment, a random number, a mark."""

    __slots__ = ("make",)

    def __init__(self, run: Run, kind: str, key: str, make: Callable[[], T]) -> None:
        super().__init__(run, kind, key)
        self.make: Callable[[], T] = make

    async def perform(self) -> object:
        """Compute and keep it. It is committed before anything is done that others see."""
        text = kept_value(self.make())
        self.run.journal.add(self.kind, self.key, text)
        return self.decode(text)


class Say(Step[SentMessage | None]):
    """A message that waits for no answer."""

    __slots__ = ("body", "files", "is_literal", "question")

    def __init__(
        self,
        run: Run,
        body: str,
        files: Sequence[FileToUpload],
        key: str | None,
        question: Question | None = None,
    ) -> None:
        self.is_literal: bool = key is None
        name = (
            f"={key}" if key is not None else f"#{sha256(body.encode()).hexdigest()[:16]}{len(files) or ''}"
        )
        super().__init__(run, kinds.SAY, name)
        self.body: str = body
        self.files: Sequence[FileToUpload] = files
        self.question: Question | None = question

    def done(self, journal: Journal) -> StepRecord | Divergence | None:
        """Return the message that was sent at this place."""
        return journal.take_said(self.key, is_literal=self.is_literal)

    def decode(self, text: str) -> SentMessage | None:
        """Return what was sent."""
        message_id = value_of(text)
        return SentMessage(message_id) if isinstance(message_id, str) else None

    async def perform(self) -> object:
        """Send it once."""
        run = self.run
        if self.row is None and (before := run.journal.reuse(self.kind, self.key)) is not None:
            return self.decode(before.value or "[null]")
        row = self.row or run.journal.open(self.kind, self.key)
        await run.flush()
        # The buttons of what is only said are commands, and no answers of this dialog, which may be over.
        start = "" if self.question is None else "said/"
        content = Content(self.body, self.question, self.files)
        sent = await run.send(f"{start}{run.key(row.number)}", content)
        run.journal.fill(row, kept_value(sent and sent.id))
        return sent


class Once(Step[T]):
    """A function that runs outside the dialog; what it returns or raises is kept."""

    __slots__ = ("arguments", "function")

    def __init__(
        self, run: Run, function: Callable[..., object], arguments: tuple[object, ...], key: str | None
    ) -> None:
        super().__init__(run, kinds.ONCE, (key or name_of(function)).replace("\n", " "))
        self.function: Callable[..., object] = function
        self.arguments: tuple[object, ...] = arguments

    def done(self, journal: Journal) -> StepRecord | Divergence | None:
        """Return what the function has returned at this place."""
        return journal.take_once(self.key)

    async def perform(self) -> object:
        """Run it. One that was begun when the process died runs again: it has to bear that."""
        run = self.run
        key = f"{self.key}\n{fingerprint(self.arguments)}"
        row = self.row or run.journal.reuse(self.kind, key)
        if row is None or row.value is None:
            row = row or run.journal.open(self.kind, key)
            await run.flush()
            text = await self._run(run.key(row.number))
            run.journal.fill(row, text)
            await run.flush()
        else:
            text = row.value
        return outcome_of(text)

    async def _run(self, key: str) -> str:
        run = self.run
        run.outside = None
        arguments, within = tuple(map(copied, self.arguments)), WithinStep(f"{key}/")
        # In a task of its own: what it does to "the current task" does not reach the bot's.
        task = start(_called(self.function, arguments, run.code.origin, within))
        try:
            await asyncio.wait([task])
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if task.cancelled():
            self._require_no_mistake(None)
            return _text_of(asyncio.CancelledError.__name__)
        error = task.exception()
        result = task.result() if error is None else None
        self._require_no_mistake(result)
        if error is None:
            try:
                return kept_value(result)
            except NotKeptError as failure:
                error = failure
        if not isinstance(error, Exception):
            raise error
        return orjson.dumps(error_to_json(error)).decode()

    def _require_no_mistake(self, result: object) -> None:
        """Fail where the function has ended as none may, be it that it has swallowed the error.

        The code has to be mended, and the function runs again then: nothing of this is kept.

        Raises:
            ProgramExitError: it has raised SystemExit or the like.
            StepOutsideDialogError: it has made or awaited a step.
        """
        run = self.run
        outside, run.outside = run.outside, None
        failure = outside or (result if isinstance(result, ProgramExitError) else None)
        if failure is not None:
            run.failed = True
            raise failure


class Sleep(Step[None]):
    """A wait, as long as it may be."""

    __slots__ = ("how_long",)

    def __init__(self, run: Run, how_long: timedelta, key: str | None) -> None:
        super().__init__(run, kinds.SLEEP, key or "")
        self.how_long: timedelta = how_long

    async def perform(self) -> object:
        """Set the timer that ends it."""
        run = self.run
        if self.row is None:
            row = self.open()
            set_timer(run, row.number, kinds.SLEEP, run.tools.clock.now() + self.how_long)
        return SUSPENDED


class HandOver(Step[None]):
    """A person answers in this chat until it is given back."""

    __slots__ = ("reason", "resume")

    def __init__(self, run: Run, reason: str, resume: Sequence[str]) -> None:
        super().__init__(run, kinds.HAND_OVER, "")
        self.reason: str = reason
        self.resume: tuple[str, ...] = tuple(resume)

    async def perform(self) -> object:
        """Fall silent."""
        run = self.run
        if self.row is None:
            self.open()
        if run.record.state == "open":
            run.document.held = Held(HANDED_OVER, self.reason, self.resume)
            run.hold()
            log(
                logging.WARNING,
                "The dialog %(dialog)s %(id)s has handed its chat over: a person has to answer there.",
                dialog=run.record.name,
                id=run.id,
            )
        return SUSPENDED


class Restart(Step[Any]):
    """The dialog from its beginning, with other arguments; its steps are forgotten."""

    __slots__ = ("arguments",)

    def __init__(self, run: Run, arguments: tuple[object, ...]) -> None:
        super().__init__(run, "restart", "")
        self.arguments: tuple[object, ...] = arguments

    async def perform(self) -> object:
        """Forget the steps. The numbers go on: they are part of the keys of messages."""
        run = self.run
        journal, document = run.journal, run.document
        try:
            document.arguments = tuple(from_json(to_json(one)) for one in self.arguments)
        except NotKeptError as failure:
            return Raised(failure)
        document.first, document.taken = journal.number, run.last_event
        # What happened until now need not be written any more, but for the dialog itself.
        journal.pending[:] = [ForgetSteps(run.id, 0), CancelTimers(run.id)]
        run.put_record()
        return Restarted()


def outcome_of(text: str) -> object:
    """Return the value that a step's text holds, or its error for the dialog."""
    return Raised(error_from_json(orjson.loads(text))) if text[0] == "{" else value_of(text)


def _error_in(text: str) -> Exception | None:
    """Return the error that a step's text holds; `None` where its class is no longer in the code."""
    with suppress(Exception):
        return error_from_json(orjson.loads(text))
    return None


def set_timer(run: Run, number: int, kind: str, due: datetime, **document: object) -> None:
    """Have a timer of a step set with what is committed next."""
    record = run.record
    text = orjson.dumps({"number": number, **document}).decode()
    timer = timer_id(run.id, number, kind)
    run.journal.pending.append(
        PutTimer(TimerRecord(timer, due, record.chat, record.user, record.id, kind, text))
    )


def name_of(function: Callable[..., object]) -> str:
    """Return the name of a function, by which it is known again after a restart."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


async def _called(
    function: Callable[..., object], arguments: tuple[object, ...], origin: str, within: WithinStep
) -> object | ProgramExitError:
    """Call a function of the author's, and return what it returns; of an exit, the failure that it is.

    An exit that came out of a task would end the event loop. So would KeyboardInterrupt, which is the code's
    own as well: Ctrl-C is taken by the bot, or by `asyncio.run`, which has the bot end first.
    """
    CURRENT.set(within)
    call = type(function).__call__
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    try:
        if is_async:
            result = function(*arguments)
        else:
            result = await in_thread(_called_in_thread, function, arguments, origin)
        return await result if inspect.isawaitable(result) else result
    except (Exception, asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as ended:  # noqa: BLE001 - as in the dialog's own code
        return _exit_of(ended, origin)


def _called_in_thread(
    function: Callable[..., object], arguments: tuple[object, ...], origin: str
) -> object | ProgramExitError:
    try:
        return function(*arguments)
    except Exception:
        raise
    except BaseException as ended:  # noqa: BLE001 - else the task that waits for the thread would end the loop
        return _exit_of(ended, origin)


def _exit_of(ended: BaseException, origin: str) -> ProgramExitError:
    return ProgramExitError(class_name(ended), *(place_of(ended, origin) or last_place_of(ended)))


def _text_of(type_name: str) -> str:
    return orjson.dumps(error_to_json(OnceFailedError(type_name))).decode()
