"""Routers on fakes: events go in, and what was sent comes out."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from attrs import define, evolve, field

from healthmsg.bot.arguments import Provided
from healthmsg.bot.dispatch import Dispatcher
from healthmsg.bot.helping import Help
from healthmsg.bot.router import Router
from healthmsg.bot.scope import OpenDialogs, Scope, Services
from healthmsg.bot.sending import KnownMessage
from healthmsg.errors import NotFoundError
from healthmsg.events import Event, MessageCreated, QuestionAnswered
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.models import IdentityProvider, Message, SentMessage
from tests.bot.fakes import FakeClock, FakeOutbox, FakeStore

ME: Final = "0b0b0b0b-0000-4000-8000-00000000000b"
AN: Final = "a0a0a0a0-0000-4000-8000-00000000000a"
NOON: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
CONVERSATION: Final = ChatAddress(ChatKind.CONVERSATION, "c1")
GROUP: Final = ChatAddress(ChatKind.GROUP_CHAT, "g1")


@define
class Known:
    key: str
    label: str | None

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.label is None else (self.label,)


class Outbox(FakeOutbox):
    async def request_verification(
        self,
        key: str,
        chat: ChatAddress,
        user_id: str,
        provider: IdentityProvider,
        *,
        retry_refused: bool = False,  # noqa: ARG002 - as the outbox has it
    ) -> SentMessage:
        self.requests[key] = chat, user_id, provider.provider_id
        return SentMessage(self.id_of(key))


@define(eq=False)
class Client:
    """Says of each message who has sent it, and which providers there are."""

    senders: dict[str, str] = field(factory=dict)
    read: list[str] = field(factory=list)
    calls: list[str] = field(factory=list)

    @property
    def users(self) -> "Client":
        return self

    async def providers(self, _: str) -> tuple[IdentityProvider, ...]:
        return (IdentityProvider("p1", "idin"),)

    def chat(self, _: ChatAddress) -> "Client":
        return self

    async def send(self, _: str) -> None:
        self.calls.append("send")

    async def ask(self, _: str, **__: object) -> None:
        self.calls.append("ask")

    async def upload(self, *_: object, **__: object) -> None:
        self.calls.append("upload")

    async def request_verification(self, **_: object) -> None:
        self.calls.append("request_verification")

    async def message(self, message_id: str) -> Message:
        self.read.append(message_id)
        if message_id not in self.senders:
            raise NotFoundError("GET …/messages/{id}", 404)
        return Message(message_id, user_id=self.senders[message_id])


@define(eq=False)
class Dialogs:
    """Has a dialog that wants some kinds of events."""

    wanted: tuple[type[Event], ...] = ()
    takes: bool = True
    in_doubt: tuple[type[Event], ...] = ()
    got: list[Event] = field(factory=list)

    def wants(self, event: Event) -> bool:
        return isinstance(event, self.wanted)

    async def handle(self, scope: Scope) -> bool:
        self.got.append(scope.event)
        return self.takes

    async def may_wait_for(self, event: Event) -> bool:
        return isinstance(event, self.in_doubt)

    async def say_that_one_is_open(self, scope: Scope) -> None:  # noqa: ARG002 - as the others have it
        raise AssertionError("no dialog is started here")


@define(eq=False)
class Bot:
    """A dispatcher with its fakes."""

    router: Router = field(factory=Router)
    provided: Provided = field(factory=Provided)
    outbox: Outbox = field(factory=Outbox)
    client: Client = field(factory=Client)
    known: Mapping[str, KnownMessage] = field(factory=dict)
    asked_in: list[ChatAddress] = field(factory=list)
    """In which chats messages were looked for."""
    dialogs: OpenDialogs | None = None
    help: Help | None = None
    scopes: list[Scope] = field(factory=list)
    _dispatcher: Dispatcher | None = None

    def start(self, random: Callable[[], float] = lambda: 1.0) -> Dispatcher:
        self._dispatcher = Dispatcher([self.router], self.provided, help=self.help, random=random)
        return self._dispatcher

    async def message_of(
        self,
        message_id: str,
        chat: ChatAddress,
        user_id: str | None = None,  # noqa: ARG002 - as campaigns have it
    ) -> KnownMessage | None:
        self.asked_in.append(chat)
        return self.known.get(message_id)

    async def handle(self, event: Event) -> bool:
        services = Services(
            client=cast("Any", self.client),
            outbox=self.outbox,
            store=FakeStore(),
            clock=FakeClock(),
            me=ME,
            dialogs=self.dialogs,
            sent=[self],
        )
        scope = Scope(event, services)
        self.scopes.append(scope)
        return await (self._dispatcher or self.start()).handle(scope)

    async def hears(self, *bodies: str, chat: ChatAddress = CONVERSATION, **changes: Any) -> list[bool]:
        return [await self.handle(evolve(message(body, chat), **changes)) for body in bodies]

    @property
    def said(self) -> list[str]:
        return [*self.outbox.bodies()]


def message(
    body: str | None, chat: ChatAddress = CONVERSATION, user: str | None = AN, **more: Any
) -> MessageCreated:
    return MessageCreated.of(chat, Message("m1", body=body, user_id=user, **more), me=ME, received_at=NOON)


def answer(*options: str, question: str = "q1", chat: ChatAddress = CONVERSATION) -> QuestionAnswered:
    return QuestionAnswered.of(chat, question, AN, options, me=ME, received_at=NOON)
