"""What runs, watches and tests a bot knows of it, and what it says of itself."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, Protocol, Self

from attrs import asdict, field, frozen

from healthmsg.bot.clock import BotClock
from healthmsg.bot.store.effects import (
    Begin,
    Effect,
    Finish,
    Fire,
    Park,
    Postpone,
    PutDialog,
    PutStep,
    PutTimer,
    Unpark,
)
from healthmsg.bot.store.records import DialogRecord, ParkedEvent, StepRecord
from healthmsg.bulk.journal import JournalMessage
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject

STORE: Final = "Healthmsg-Store"
"""The header with the identity of the store that a request to a control surface is for."""
OTHER_STORE: Final = "other_store"
"""The code of the answer of a bot that has another one."""
HowItEnded = Literal["done", "ignored", "again", "parked"]
"""Ignored: no handler wanted it. Again: it is handled once more later."""


@frozen
class Handled:
    """One try of an event."""

    at: datetime
    """When it ended, by the bot's clock."""
    event_id: str = field(repr=False)
    kind: str
    chat: ChatAddress | None = field(repr=False)
    handler: str
    """Name, file and line of the handler, or the name of the dialog; empty: there was none."""
    seconds: float
    """How long it took, by a clock that is never set."""
    ended: HowItEnded
    attempt: int = 1
    reason: str = ""
    """Of one that is parked or comes again, without anything private: `ValueError`."""
    is_own: bool = False
    """Whether the bot's own user did it: each of its replies comes back as an event."""


@frozen(kw_only=True)
class BotStats:
    """The figures of a bot, as of now."""

    store: str
    """The identity of its store."""
    state: str
    """What its stream of events is doing, as in `EventsState`; or `draining`, or `closed`."""
    started_at: datetime
    connected_since: datetime | None = None
    """`None`: it is not connected."""
    handled: int = 0
    """Events that are done, since the start."""
    again: int = 0
    """How often an event was put off to be handled once more, since the start."""
    in_hand: int = 0
    waiting: int = 0
    """Events that wait, in memory and on the disk."""
    parked: int = 0
    open_dialogs: int = 0
    held_dialogs: int = 0
    """Dialogs that no longer fit the code."""
    unasked_dialogs: int = 0
    """Open dialogs that wait for an answer to a question of which it cannot be proven whether it arrived."""
    unknown_replies: int = 0
    """Replies of which it cannot be proven whether they arrived."""
    unreadable_journals: int = 0
    """Journals of campaigns that were there and could not be read when an answer was last looked for."""
    behind: int = 0
    """Chats that are still being read."""

    def to_dict(self) -> JSONObject:
        """Return the figures for JSON: moments in ISO 8601."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


def _address_of(chat: ChatAddress | str | None) -> ChatAddress | None:
    return ChatAddress.parse(chat) if isinstance(chat, str) else chat


@frozen(kw_only=True)
class DialogRequest:
    """A dialog that is to be started: with a user, in a chat or in the conversation with them."""

    dialog: str
    """The name under which it is registered."""
    user: str | None = field(default=None, repr=False)
    """The user's id; without it, the other side of the conversation `chat`."""
    chat: ChatAddress | None = field(default=None, repr=False, converter=_address_of)
    """Without it, the conversation with `user`. Text such as `conversations/c1` is read as an address."""
    answers: Mapping[str, object] = field(factory=dict, repr=False)
    """Prefilled answers, by the keys of the questions that they skip."""


@frozen
class StartedDialog:
    """A dialog that is to begin: that is stored, and outlives the process."""

    id: str
    has_begun: bool
    """False: its chat has not come to it yet. It may still be that it cannot begin: then the log says why."""


@frozen
class Scheduled:
    """A dialog that is to be started at a moment, or again and again."""

    id: str
    request: DialogRequest
    schedule: JSONObject
    """As `schedule_from_dict` reads it."""
    due: datetime | None
    """When it is due next; `None`: it has happened."""


@frozen(kw_only=True)
class Seams:
    """Where a test takes hold of a bot; in production, all of it is as it stands here."""

    clock: BotClock | None = None
    """`None`: the time of day."""
    settle: float | None = None
    """Seconds by which a list of messages may lag behind the gateway [A], for what is caught up on and for
    replies that are looked for. `None`: as `Client.events` and the outbox have it."""
    reconnect: float | None = None
    """Seconds that the first try to connect again waits at most; `None`: as the gateway's rules say."""
    most_crashes: int | None = 3
    """After so many deaths of the process while it was handled, an event is parked; `None`: never."""
    on_step: Callable[[str], object] | None = None
    """Called in the event loop after each step that is done for good: a commit of the store (with a text that
    is the same when the same step is done again, see `step_of`), a reply that is sent and noted
    (`sent KEY`), an event that is handled (`handled ID`)."""


def step_of(effects: Sequence[Effect]) -> str:
    """Return what a commit was about: the same when it is done again by the next process."""
    return ", ".join(sorted(f"{type(one).__name__} {_subject(one)}" for one in effects))


def _subject(effect: Effect) -> str:
    match effect:
        case PutDialog(dialog):
            return f"{dialog.id} {dialog.state}"
        case PutStep(step):
            return f"{step.dialog} {step.number} {step.value is None}"
        case PutTimer(timer):
            return f"{timer.kind} {timer.due.isoformat()}"
        case Begin(sequence) | Finish(sequence) | Park(sequence) | Postpone(sequence) | Unpark(sequence):
            return str(sequence)
        case Fire():
            return effect.event.kind
        case _:
            return ""


@frozen
class DialogProblem:
    """An open dialog that does not fit the code."""

    id: str
    name: str
    version: int
    problem: str
    """Where it no longer fits, in the words of the code: nothing that a patient said."""
    result: Literal["held", "asked_again"] = "held"
    """What would become of it: it sends nothing until a person decides, or it asks again from there."""


class StoredDialogs(Protocol):
    """A bot's store, as far as trying its dialogs needs it."""

    async def dialogs(self) -> list[DialogRecord]:
        """Return all dialogs that have not ended."""

    async def steps(self, dialog: str) -> list[StepRecord]:
        """Return the steps of a dialog, by number."""


class BotSurface(Protocol):
    """A bot, as those see it that run it, watch it and test it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def run(self, *, signals: bool = True) -> None:
        """Run until it is stopped and what was begun is done. Only with `signals` it takes SIGTERM itself."""

    @property
    def store_id(self) -> str:
        """The identity of its store, once it is entered: another bot has a store with another one."""

    @property
    def stands_by(self) -> bool:
        """Whether another process has its store, and this one waits for it."""

    async def begun(self) -> None:
        """Wait until this process has the store."""

    def stop(self) -> None:
        """Begin nothing more, and end when what runs is done."""

    async def stop_when_idle(self) -> None:
        """Wait until nothing is in hand and nothing is due, and stop then."""

    async def idle(self) -> None:
        """Wait until what has been received is written, nothing is in hand, and nothing that waits is due."""

    @property
    def is_alive(self) -> bool:
        """Whether it does its work: its tasks run, and its store has not failed."""

    @property
    def is_ready(self) -> bool:
        """Whether it is connected or catches up, its store can be written, and it is not stopping."""

    async def stats(self) -> BotStats:
        """Return its figures."""

    def watch(self, on_handled: Callable[[Handled], object]) -> None:
        """Have this called after each try of an event."""

    async def start_dialog(self, request: DialogRequest) -> StartedDialog:
        """Start a dialog, and say whether it has begun."""

    async def dialog(self, dialog_id: str) -> DialogRecord | None:
        """Return a dialog that has begun and not ended."""

    async def end_dialog(self, dialog_id: str) -> bool:
        """End a dialog; return whether there is one with this id."""

    async def take_back_dialog(self, dialog_id: str) -> bool:
        """Let a dialog go on that is held; return whether there is one with this id."""

    async def schedule(
        self,
        request: DialogRequest,
        schedule: JSONObject,
        *,
        schedule_id: str | None = None,
        replace: bool = False,
    ) -> Scheduled:
        """Have a dialog started later; `schedule` is as `schedule_from_dict` reads it."""

    async def scheduled(self, schedule_id: str) -> Scheduled | None:
        """Return what is scheduled under an id."""

    async def unschedule(self, schedule_id: str) -> bool:
        """Cancel it; return whether there was something to cancel."""

    async def parked(self) -> Sequence[ParkedEvent]:
        """Return the events that are left to a person."""

    async def retry(self, sequence: int | None) -> int:
        """Take a parked event up again, or with `None` all of them; return how many."""

    async def open_dialogs(self) -> Sequence[DialogRecord]:
        """Return all dialogs that have not ended."""

    async def unknown_replies(self) -> Sequence[JournalMessage]:
        """Return the replies of which it is not known whether they arrived."""

    async def check(self, store: StoredDialogs) -> Sequence[DialogProblem]:
        """Try the dialogs of a store against this code, without running it, and return what does not fit."""
