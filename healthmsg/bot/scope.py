"""One event that is being handled, and what its handler works with.

The parts of a bot are known here by what they do, so that none of them needs another one to be built.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from attrs import define, field

from healthmsg.bot.clock import BotClock
from healthmsg.bot.sending import Replies, SentMessages
from healthmsg.bot.store.effects import Effect
from healthmsg.bot.within import schedule_id
from healthmsg.client import Client
from healthmsg.errors import ClientUsageError
from healthmsg.events import Event

_IN_A_TASK: Final = (
    "A handler's replies are awaited one after the other, in the handler itself: not in a task, in"
    " asyncio.gather(...), or in asyncio.wait_for(...), for which there is asyncio.timeout(...). Otherwise,"
    " when the event is handled again, one of them could be taken for another. Nothing was sent."
)


class EventKeys(Protocol):
    """A bot's store, as far as routing needs it."""

    def event_key(self, event_id: str) -> str:
        """Return a salted hash of an event's id, which may hold what a patient answered."""


class OpenDialogs(Protocol):
    """The dialogs that wait for something."""

    def wants(self, event: Event) -> bool:
        """Return whether a dialog of the event's chat and user may wait for it."""

    async def handle(self, scope: "Scope") -> bool:
        """Hand the event to its dialog. Return whether it took it."""

    async def may_wait_for(self, event: Event) -> bool:
        """Return whether an event may be the answer to a question of which it is not known if it arrived."""

    async def say_that_one_is_open(self, scope: "Scope") -> None:
        """Say in the event's chat that no other dialog can begin."""


@define(eq=False)
class Services:
    """What a bot's handlers work with: the same for all events."""

    client: Client
    outbox: Replies
    store: EventKeys
    clock: BotClock
    me: str = field(repr=False)
    """The id of the bot's own user."""
    dialogs: OpenDialogs | None = None
    sent: Sequence[SentMessages] = ()
    """Where the question of an answer is looked for, in this order."""
    bot: object = None


class Scope:
    """One event that is being handled. Its replies get their keys here, in the order of the calls."""

    __slots__ = (  # noqa: RUF023 - by subject
        "event",
        "services",
        "waits",
        "effects",
        "incoming",
        "target",
        "error",
        "task",
        "handled",
        "taken_by",
        "dialog",
        "is_open",
        "_number",
        "_schedules",
        "_start",
    )

    def __init__(self, event: Event, services: Services, waits: int = 0) -> None:
        self.event: Event = event
        self.services: Services = services
        self.waits: int = waits
        """How often it was begun and only waited; its `attempt` does not count these."""
        self.effects: list[Effect] = []
        """What is committed together with the event's end."""
        self.incoming: object = event
        """The event, as handlers see it."""
        self.target: object = None
        """The handler that was chosen, as the dispatcher knows it."""
        self.error: Exception | None = None
        """What an error handler is about."""
        self.task: asyncio.Task[object] | None = None
        """The one that the handler runs in. `None`: any may reply."""
        self.handled: bool = False
        self.taken_by: str = ""
        """The name of the dialog that the event is for."""
        self.dialog: str = ""
        """The id of that one."""
        self.is_open: bool = True
        """Whether it takes further replies."""
        self._number = self._schedules = 0
        self._start = ""

    def __repr__(self) -> str:
        return f"<Scope {self.event.kind}>"

    @property
    def store(self) -> object:
        """What the effects are committed to."""
        return self.services.store

    def next_key(self) -> str:
        """Return the key of the next reply: the same one when the event is handled again.

        Raises:
            ClientUsageError: the event's handler has ended, or it replies from another task than its own.
        """
        if not self.is_open:
            raise ClientUsageError(
                "This event's handler has ended, and with it the replies to it. Nothing was sent. Await what"
                " replies within the handler; to send something later, use bot.at(…) or the client."
            )
        if self.task is not None and self.task is not asyncio.current_task():
            raise ClientUsageError(_IN_A_TASK)
        self._number += 1
        return f"{self._keys()}{self._number}"

    def next_schedule(self) -> str:
        """Return the id of the next schedule that is set: the same one when the event is handled again."""
        self._schedules += 1
        return schedule_id(self._keys(), self._schedules)

    def _keys(self) -> str:
        self._start = self._start or f"{self.services.store.event_key(self.event.id)}/"
        return self._start

    def forget(self) -> None:
        """Let go of what refers to this scope: no cycle is left for the garbage collector."""
        self.incoming = self.event
        self.error = None

    def for_error(self) -> "Scope":
        """Return a scope for the error handler: its replies have keys of their own."""
        scope = Scope(self.event, self.services)
        scope.task = self.task
        scope._start = f"{self.services.store.event_key(self.event.id)}/error/"
        return scope
