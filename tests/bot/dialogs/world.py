"""A bot without its other parts: events in the order of a chat, timers, a process that can be killed."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Literal

from attrs import define, field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dialogs.handlers import Dialogs
from healthmsg.bot.dialogs.orders import parked_for
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.store.effects import Begin, Effect, Finish, Fire, Park
from healthmsg.bot.store.records import DialogRecord
from healthmsg.errors import DialogHeldError
from healthmsg.events import Event, MessageCreated, QuestionAnswered, TimerDue
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import IdentityProvider, Message, SentMessage
from tests.bot.fakes import FakeClock, FakeOutbox, FakeStore

CHAT = ChatAddress(ChatKind.CONVERSATION, "c1")
GROUP = ChatAddress(ChatKind.GROUP_CHAT, "g1")
Mode = Literal["straight", "after", "before"]
MODES: Sequence[Mode] = ("straight", "after", "before")


class Killed(BaseException):
    """The process died."""


@frozen
class Known:
    key: str
    label: str | None = None
    names: tuple[str, ...] = ()


@define(eq=False)
class Death:
    """Kills the process at every step: after each one that was new, or before the first, the second, …"""

    mode: Mode
    attempt: int = 0
    steps: int = 0
    kills: int = 0

    def begin(self) -> None:
        self.attempt += 1
        self.steps = 0

    def before(self) -> None:
        self.steps += 1
        if self.mode == "before" and self.steps == self.attempt:
            self._kill()

    def after(self) -> None:
        if self.mode == "after":
            self._kill()

    def _kill(self) -> None:
        self.kills += 1
        assert self.kills < 1000, "it never gets on"
        raise Killed


@define(eq=False)
class DyingStore(FakeStore):
    death: Death = field(kw_only=True)
    looked_up: list[tuple[str, str]] = field(factory=list)

    async def dialog(self, chat: str, user: str) -> DialogRecord | None:
        self.looked_up.append((chat, user))
        return await super().dialog(chat, user)

    async def commit(self, *changes: Effect) -> None:
        self.death.before()
        await super().commit(*changes)
        self.death.after()


@define(eq=False)
class DyingOutbox(FakeOutbox):
    death: Death = field(kw_only=True)

    async def send(
        self, key: str, chat: ChatAddress, content: Content, *, retry_refused: bool = False
    ) -> SentMessage:
        self.death.before()
        is_new = key not in self.sent
        sent = await super().send(key, chat, content, retry_refused=retry_refused)
        if is_new:
            self.death.after()
        return sent

    async def request_verification(
        self,
        key: str,
        chat: ChatAddress,
        user_id: str,
        provider: IdentityProvider,
        *,
        retry_refused: bool = False,  # noqa: ARG002 - as the outbox has it
    ) -> SentMessage:
        self.death.before()
        is_new = key not in self.requests
        self.requests[key] = chat, user_id, provider.provider_id
        if is_new:
            self.death.after()
        return SentMessage(self.id_of(key))

    async def message_of(
        self,
        message_id: str,
        chat: ChatAddress,  # noqa: ARG002 - as the outbox has it
        user_id: str | None = None,  # noqa: ARG002 - as the outbox has it
    ) -> Known | None:
        keys = (*self.sent, *self.requests)
        return next((Known(key) for key in keys if self.id_of(key) == message_id), None)


@define(eq=False)
class Scope:
    event: Event
    store: FakeStore
    effects: list[Effect] = field(factory=list)
    taken_by: str = ""
    dialog: str = ""
    _number: int = 0

    def next_key(self) -> str:
        self._number += 1
        return f"{self.store.event_key(self.event.id)}/{self._number}"


Handler = Callable[["World", Scope], Awaitable[None]]


@define(eq=False)
class World:
    """The store and the outbox live on; the engine dies with its process."""

    dialogs: Sequence[RegisteredDialog[Any]]
    mode: Mode = "straight"
    handler: Handler | None = None
    options: dict[str, Any] = field(factory=dict)
    clock: FakeClock = field(factory=FakeClock)
    death: Death = field(init=False)
    store: DyingStore = field(init=False)
    outbox: DyingOutbox = field(init=False)
    engine: DialogEngine = field(init=False)
    unhandled: list[Event] = field(factory=list)
    errors: list[Exception] = field(factory=list)
    _messages: int = 0

    def __attrs_post_init__(self) -> None:
        self.death = Death(self.mode)
        self.store = DyingStore(death=self.death)
        self.outbox = DyingOutbox(death=self.death)
        self.boot()

    def boot(self) -> None:
        self.engine = DialogEngine(self.store, self.outbox, self.clock, dialogs=self.dialogs, **self.options)

    async def kill_and_restart(self) -> None:
        self.store.running.clear()
        self.boot()
        await self.engine.open()

    # --- what people do

    async def says(self, text: str, *, user: str = "an", chat: ChatAddress = CHAT) -> None:
        await self.takes(self.message(text, user=user, chat=chat))

    def message(self, text: str, *, user: str = "an", chat: ChatAddress = CHAT) -> MessageCreated:
        self._messages += 1
        message = Message(f"m{self._messages}", body=text, user_id=user)
        return MessageCreated.of(chat, message, me="bot", received_at=self.clock.now())

    async def presses(
        self, option: str, question: str | None = None, *, user: str = "an", chat: ChatAddress = CHAT
    ) -> None:
        """Press a button: of the last question with this text, or of the last one with buttons at all."""
        found = [
            key
            for key, (_, content) in self.outbox.sent.items()
            if content.question is not None and (question is None or content.body == question)
        ]
        await self.takes(
            QuestionAnswered.of(
                chat, self.outbox.id_of(found[-1]), user, (option,), me="bot", received_at=self.clock.now()
            )
        )

    async def passes(self, time: timedelta) -> None:
        """Let time go by; each timer comes when it is due."""
        end = self.clock.now() + time
        while (due := await self.store.next_due()) is not None and due <= end:
            self.clock.moment = max(due, self.clock.moment)
            await self.rings()
        self.clock.moment = end

    async def is_down_for(self, time: timedelta) -> None:
        """Let time go by without the bot, and start it again."""
        self.clock.moment += time
        await self.kill_and_restart()
        await self.rings()

    async def rings(self) -> None:
        for timer in await self.store.due(self.clock.now(), 100):
            event = TimerDue(
                id=f"timer/{timer.id}/{timer.due.isoformat()}",
                received_at=self.clock.now(),
                timer=timer.id,
                due=timer.due,
                chat=timer.chat,
                user_id=timer.user,
                dialog=timer.dialog,
                timer_kind=timer.kind,
                document=timer.document,
            )
            self.store._apply(Fire(timer.id, event))
        await self.works()

    async def takes(self, *events: Event) -> None:
        known = {waiting.event.id for waiting in self.store.events.values()}
        for event in events:
            if event.id not in known:
                self.store.add(event)
        await self.works()

    # --- the work loop

    async def works(self) -> None:
        self.death.attempt = 0
        while True:
            if not (waiting := await self.store.waiting(0, 1)):
                # What an event has set to begin at once elsewhere.
                if await self.store.due(self.clock.now(), 1):
                    await self.rings()
                return
            try:
                await self._handle(waiting[0].sequence)
                self.death.attempt = 0
            except Killed:
                await self.kill_and_restart()

    async def _handle(self, sequence: int) -> None:
        self.death.begin()
        event = self.store.events[sequence].event
        self.store._apply(Begin(sequence))
        scope = Scope(event, self.store)
        try:
            if self.engine.silenced(event) is None or not isinstance(event, MessageCreated):
                await self._route(scope)
            await self.store.commit(*scope.effects, Finish(sequence))
        except Exception as error:  # noqa: BLE001 - a work loop
            self.errors.append(error)
            self.store.running.discard(sequence)
            if isinstance(error, DialogHeldError) or event.attempt > 4:
                self.store._apply(Park(sequence, parked_for(scope.dialog, type(error).__name__)))

    async def _route(self, scope: Scope) -> None:
        if self.engine.wants(scope.event) and await self.engine.handle(scope):
            return
        if self.handler is not None:
            await self.handler(self, scope)
        elif isinstance(scope.event, MessageCreated) and scope.event.message.body == "start":
            await self.start(scope)
        elif scope.event.id not in {event.id for event in self.unhandled}:
            self.unhandled.append(scope.event)

    async def start(self, scope: Scope, *args: object, **options: Any) -> str:
        event = scope.event
        assert isinstance(event, MessageCreated)
        return await self.for_(scope).start(
            self.dialogs[0], (event.chat, event.user_id or ""), *args, **options
        )

    async def by_hand(self, name: str, *args: Any, **options: Any) -> object:
        """Call a method of `Dialogs` outside of any event, as a control surface does, and have it done."""
        mode, self.death.mode = self.death.mode, "straight"
        found: object = await getattr(self.for_(), name)(*args, **options)
        self.death.mode = mode
        await self.rings()
        return found

    def for_(self, scope: Scope | None = None) -> Dialogs:
        return Dialogs(self.engine, scope)

    # --- what can be seen

    @property
    def sees(self) -> list[str]:
        return [content.body for _, content in self.outbox.sent.values()]

    def is_open(self) -> bool:
        return bool(self.store.dialog_records)
