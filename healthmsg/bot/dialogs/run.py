"""One dialog in memory: its coroutine, driven by hand, and what it works with."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import date
from types import FrameType
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from attrs import define, evolve, field, frozen

from healthmsg.bot.clock import BotClock
from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.document import Document
from healthmsg.bot.dialogs.exits import DialogExit
from healthmsg.bot.dialogs.journal import MOST_STEPS, Divergence, Journal, called, message_key
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.bot.dialogs.registration import RegisteredDialog, Resolve
from healthmsg.bot.failures import author_of, is_of_python, place_of
from healthmsg.bot.sending import DialogOutbox
from healthmsg.bot.store.effects import Effect, PutDialog, Watchers
from healthmsg.bot.store.records import DialogRecord, StepRecord
from healthmsg.errors import (
    CallError,
    DeliveryUnknownError,
    ForeignAwaitError,
    ProgramExitError,
    ReplyNotSentError,
    StepNotAwaitedError,
    StepOutsideDialogError,
    TooManyStepsError,
)
from healthmsg.events import Event
from healthmsg.ids import ChatAddress
from healthmsg.log import class_name, log
from healthmsg.models import IdentityProvider, SentMessage, Verification

_WARNING: Final = 30
_HAS_ENDED: Final = (
    "The dialog %(dialog)s %(id)s has begun for this event before, and has ended: it does not begin again."
)


class DialogStore(Protocol):
    """A bot's store, as far as dialogs need it."""

    watchers: Watchers
    """Learn what was committed."""

    def event_key(self, event_id: str) -> str:
        """Return a salted hash of an event's id."""

    async def commit(self, *effects: Effect) -> None:
        """Change all of this in one transaction."""

    async def dialogs(self) -> list[DialogRecord]:
        """Return all dialogs that have not ended."""

    async def dialog(self, chat: str, user: str) -> DialogRecord | None:
        """Return that of a chat and user."""

    async def dialog_of(self, dialog: str) -> DialogRecord | None:
        """Return one by its id."""

    async def has_ended(self, dialog: str) -> bool:
        """Return whether one with this id has ended before."""

    async def steps(self, dialog: str) -> list[StepRecord]:
        """Return the steps of one, in order."""

    async def parked_reasons(self) -> list[tuple[int, str]]:
        """Return the sequences of parked events, each with why it is."""


class Places(Protocol):
    """Where chats are, and who is in them."""

    async def locate(self, chat: ChatAddress, user: str) -> ChatAddress:
        """Return the address of a chat with a user as events have it, however the chat was addressed."""

    async def prove(self, chat: ChatAddress, user: str, event: Event | None = None) -> ChatAddress:
        """Return the same if the user is in the chat, as an event may have shown; else it is refused."""


Identities = Callable[[str], Awaitable[tuple[Sequence[IdentityProvider], Sequence[Verification]]]]
"""Returns with what a user can be verified, and with what a user is."""


@frozen
class Tools:
    """What all dialogs of a bot work with."""

    store: DialogStore
    outbox: DialogOutbox
    clock: BotClock
    texts: Texts
    time_zone: ZoneInfo
    """Where the users are: it says which day "tomorrow" is."""
    identities: Identities | None = None
    resolve: Resolve | None = None
    """Returns what was provided for an argument: of which dialog, its name and its annotation."""
    me: str = field(default="", repr=False)
    """The id of the bot's own user."""
    places: Places | None = None

    async def located(self, chat: ChatAddress, user: str) -> ChatAddress:
        """Return the address of a chat as events have it, whether the user is in it or not."""
        return chat if self.places is None else await self.places.locate(chat, user)

    async def proven(self, event: Event | None, chat: ChatAddress, user: str) -> ChatAddress:
        """Return the address of a chat as events have it, if the user is in it.

        Raises:
            InvalidInputError: the user is not.
        """
        return chat if self.places is None else await self.places.prove(chat, user, event)

    async def has_ended(self, code: RegisteredDialog[Any], dialog: str) -> bool:
        """Return whether an event that comes again has begun a dialog that has ended since."""
        has_ended = await self.store.has_ended(dialog)
        if has_ended:
            log(_WARNING, _HAS_ENDED, dialog=code.name, id=dialog)
        return has_ended

    def today(self) -> date:
        """Return which day it is for the users."""
        return self.clock.now().astimezone(self.time_zone).date()


@frozen
class Finished:
    """A dialog has ended."""

    result: object = field(repr=False)


class Wanted:
    """What a dialog waits for: the base of all steps."""

    __slots__ = ("run",)

    def __init__(self, run: "Run") -> None:
        self.run: Run = run


class Halt:
    """Yielded by a step for which the dialog cannot go on: the coroutine never gets an answer."""

    __slots__ = ("reason",)

    def __init__(self, reason: Divergence | Exception) -> None:
        self.reason: Divergence | Exception = reason


@define(eq=False)
class Run:
    """A dialog whose coroutine is in memory."""

    tools: Tools = field(repr=False)
    record: DialogRecord
    document: Document = field(repr=False)
    journal: Journal = field(repr=False)
    code: RegisteredDialog[Any] = field(repr=False)
    coroutine: Coroutine[Any, Any, object] = field(init=False, repr=False)
    waiting: Wanted | None = field(default=None, repr=False)
    """Where it is suspended."""
    message_id: str | None = None
    """That of the question that is open."""
    last_event: str | None = field(default=None, repr=False)
    retry_refused: bool = False
    """Whether a message that was refused before is sent now: a person has taken this up again."""
    failed: bool = False
    """Whether its code, or a message that was refused, is why it cannot go on."""
    used: set[str] = field(factory=set, repr=False)
    """Of the questions with an answer that was there before, the keys of those that have come."""
    outside: StepOutsideDialogError | None = field(default=None, repr=False)
    """Of the first step that was made or awaited outside of the dialog, since that was last looked for."""
    _is_active: bool = False
    _let_go: StepNotAwaitedError | None = field(default=None, repr=False)
    """Of the first step that its code has made and never awaited."""

    @property
    def id(self) -> str:
        """The dialog's id."""
        return self.record.id

    @property
    def address(self) -> ChatAddress:
        """Its chat."""
        return ChatAddress.of_text(self.record.chat)

    def check_active(self, kind: str) -> None:
        """Refuse a step of a kind that does not come from the dialog's own coroutine.

        Raises:
            GeneratorExit: the coroutine is being closed, and its `finally` wants to go on.
            StepOutsideDialogError: it comes from a task, a thread or a function given to `once`.
        """
        if self._is_active:
            return
        if self.coroutine.cr_running:  # type: ignore[attr-defined] # a coroutine of an `async def`
            raise GeneratorExit
        error = StepOutsideDialogError(called(kind), *(author_of(sys._getframe(1)) or (self.code.origin, 0)))  # noqa: SLF001 - who asks
        self.outside = self.outside or error
        raise error

    def advance(self, value: object = None, error: Exception | None = None) -> Wanted | Divergence | Finished:
        """Let the dialog go on until it needs something.

        Raises:
            ForeignAwaitError: it awaits what is no step.
            StepNotAwaitedError: it has made a step and not awaited it: nothing that comes after it is done.
            ProgramExitError: it has raised what is no `Exception`, such as SystemExit.
            Exception: whatever its code raises.
        """
        self._is_active, wanted = True, None
        try:
            wanted = self.coroutine.send(value) if error is None else self.coroutine.throw(error)
        except StopIteration as end:
            wanted = Finished(end.value)
        except DialogExit:
            if self._let_go is None:
                raise
        except (Exception, asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as ended:  # noqa: BLE001 - such as SystemExit: it is the code's failure, as any other
            place = place_of(ended, self.code.origin) or (self.code.origin, 0)
            wanted = Halt(ProgramExitError(class_name(ended), *place))
        finally:
            self._is_active = False
        if self._let_go is not None:
            raise self._let_go
        return self._standing(wanted)

    def _standing(self, wanted: object) -> Wanted | Divergence | Finished:
        if isinstance(wanted, Finished):
            return self.journal.rest() or wanted
        if isinstance(wanted, Wanted) and wanted.run is self:
            return wanted
        if isinstance(wanted, Halt):
            if isinstance(wanted.reason, Divergence):
                return wanted.reason
            raise wanted.reason
        raise self._refusal(wanted)

    def note_let_go(self, kind: str) -> None:
        """Note that a step was let go of that was never awaited, where that is the code's own doing."""
        if not self._is_active or self._let_go is not None:
            return  # the coroutine is being closed, or it has happened before
        frame = sys._getframe(2)  # noqa: SLF001 - that which was running when the last hold on it was lost
        code = frame.f_code
        place = (code.co_filename, frame.f_lineno)
        if code is _ADVANCE:  # it was held until the dialog has ended
            own = self.code.code_of(self.record.version).function.__code__
            place = own.co_filename, own.co_firstlineno
        self._let_go = StepNotAwaitedError(called(kind), *place)

    def _refusal(self, wanted: object) -> ForeignAwaitError:
        frame, awaited = _innermost(self.coroutine)
        if asyncio.isfuture(wanted):
            wanted._asyncio_future_blocking = False  # noqa: SLF001 - nothing waits for it any more
            wanted.cancel()
        where = (frame.f_code.co_filename, frame.f_lineno) if frame else (self.code.origin, 0)
        return ForeignAwaitError(awaited or class_name(wanted), *where)

    def close(self) -> None:
        """Take the coroutine out of memory. Its steps stay where they are."""
        with suppress(Exception, GeneratorExit):
            self.coroutine.close()

    async def flush(self) -> None:
        """Commit what has been done so far."""
        if self.journal.count() > MOST_STEPS:
            self.failed = True
            raise TooManyStepsError(self.record.name, MOST_STEPS)
        if self.journal.pending:
            await self.tools.store.commit(*self.journal.pending)
            self.journal.pending.clear()

    def put_record(self) -> None:
        """Have the record written, with its document as it is now."""
        document = self.document.text()
        self.record = evolve(self.record, document=document, updated_at=self.tools.clock.now())
        self.journal.pending.append(PutDialog(self.record))

    def hold(self) -> None:
        """Have the dialog held; its document says why."""
        self.record = evolve(self.record, state="held")
        self.put_record()

    def key(self, number: int, part: int = 0) -> str:
        """Return the outbox key of a message of a step."""
        return message_key(self.id, number, part)

    async def send(self, key: str, content: Content) -> SentMessage | None:
        """Send a message once. `None`: whether it arrived is not known, and it is never sent again."""
        retry = self.retry_refused
        return await self._once(self.tools.outbox.send(key, self.address, content, retry_refused=retry))

    async def request_verification(self, key: str, provider: IdentityProvider) -> SentMessage | None:
        """Ask the dialog's user to prove who they are, once. `None`: as of `send`."""
        outbox, user, retry = self.tools.outbox, self.record.user, self.retry_refused
        return await self._once(
            outbox.request_verification(key, self.address, user, provider, retry_refused=retry)
        )

    async def _once(self, sending: Awaitable[SentMessage]) -> SentMessage | None:
        try:
            return await sending
        except DeliveryUnknownError:
            pass
        except (CallError, ReplyNotSentError):
            self.failed = True
            raise
        log(
            _WARNING,
            "It is not known whether a message of the dialog %(dialog)s arrived. It is not sent again, and"
            " the dialog goes on.",
            dialog=self.record.name,
        )
        return None


_ADVANCE: Final = Run.advance.__code__


def _innermost(coroutine: object) -> tuple[FrameType | None, str]:
    """Return the innermost frame that is not Python's own, and the name of what it awaits."""
    found: FrameType | None = None
    awaited = ""
    this: Any = coroutine
    while this is not None:
        frame = (
            getattr(this, "cr_frame", None)
            or getattr(this, "gi_frame", None)
            or getattr(this, "ag_frame", None)
        )
        if frame is None:
            return found, awaited or class_name(this)
        if is_of_python(frame):
            return found, awaited or f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"
        found, awaited = frame, ""
        this = (
            getattr(this, "cr_await", None)
            or getattr(this, "gi_yieldfrom", None)
            or getattr(this, "ag_await", None)
        )
    return found, awaited
