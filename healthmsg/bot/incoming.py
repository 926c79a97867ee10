"""Events as handlers see them: with a chat to answer in, each reply sent once."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from copy import copy
from datetime import datetime
from enum import Enum
from typing import Final, Generic, Literal, Self, TypeVar, cast

from healthmsg.bot.content import Content
from healthmsg.bot.options import options_of
from healthmsg.bot.scope import Scope, Services
from healthmsg.bot.sending import KnownMessage
from healthmsg.errors import InvalidInputError
from healthmsg.errors.base import hides_awaited_arguments
from healthmsg.events import (
    ChatEvent,
    MessageCreated,
    QuestionAnswered,
    VerificationAccepted,
    VerificationRejected,
)
from healthmsg.files import FileToUpload
from healthmsg.ids import ChatAddress, ChatKind
from healthmsg.live import Typing
from healthmsg.models import Attachment, IdentityProvider, Message, Option, Question, SentMessage, User
from healthmsg.resources.chat import Chat, question_json
from healthmsg.resources.group_chat import GroupChat
from healthmsg.validation import check_body, require_non_blank

O = TypeVar("O")  # noqa: E741 - the design's name: what an answer's option is
Style = Literal["horizontal", "vertical"]
_MENTION: Final = re.compile(r"\s*\[mention=([^\]\s]+)\][\s:,]*")


def fold(text: str) -> str:
    """Return a text as texts are compared: without blanks around, in whichever case, composed or not."""
    if text.isascii():
        return text.strip().lower()
    return unicodedata.normalize("NFC", text).strip().casefold()


class BotChat:
    """A chat, to send to. Inside a handler, what is sent goes through the outbox: never twice.

    A handler that runs again makes the same calls, and is given what was sent.
    """

    __slots__ = ("_scope", "_services", "address")

    def __init__(self, address: ChatAddress, services: Services, scope: Scope | None = None) -> None:
        self.address: ChatAddress = address
        self._services = services
        self._scope = scope

    def __repr__(self) -> str:
        return f"<BotChat {self.address.shown}>"

    @property
    def id(self) -> str:
        """The chat's id."""
        return self.address.id

    @property
    def kind(self) -> ChatKind:
        """A conversation or a group chat; see `kind.is_group`."""
        return self.address.kind

    @property
    def handle(self) -> Chat | GroupChat:
        """The client's handle of the chat, to read it. What is sent with it is sent again if a handler is."""
        return self._services.client.chat(self.address)

    def typing(self) -> Typing:
        """Say that the bot types, as long as the answer is entered: `async with chat.typing():`.

        It is sent over the gateway, and dropped while there is no connection.
        """
        return self.handle.typing()

    @hides_awaited_arguments
    async def send(self, body: str, *, files: Sequence[FileToUpload] = ()) -> SentMessage:
        """Send a text, with files if there are any.

        Raises:
            EmptyMessageError: there is nothing to read.
            CallError: the service refused it; it was not sent.
            DeliveryUnknownError: it may have been sent, and is never sent again.
        """
        content = Content(require_non_blank(body), files=tuple(files))
        del body
        return await self._send(content)

    @hides_awaited_arguments
    async def ask(  # noqa: PLR0913 - what a question has
        self,
        body: str,
        *,
        options: Iterable[Option] | type[Enum],
        name: str | None = None,
        users: Iterable[str | User] = (),
        multi_answer: bool = False,
        style: Style = "horizontal",
    ) -> SentMessage:
        """Send a question with buttons. `name` is that of `@router.answered(name)`.

        `options` are buttons, or an `Enum` whose values are their labels. Errors: as `send`.

        Raises:
            InvalidInputError: there is no option, or two have one name.
        """
        buttons, asked = options_of(options), tuple(users)
        question_json(buttons, asked, multi_answer=multi_answer, style=style)
        ids = tuple(user.id if isinstance(user, User) else user for user in asked)
        question = Question(buttons, ids, multi_answer, style)
        content = Content(require_non_blank(body), question=question, label=name)
        del body, options, buttons, question
        return await self._send(content)

    @hides_awaited_arguments
    async def upload(self, *files: FileToUpload, body: str = "") -> SentMessage:
        """Send files as one message, with an optional text. Errors: as `send`."""
        if not files:
            raise InvalidInputError("an upload needs at least one file")
        return await self._send(Content(check_body(body), files=files))

    async def request_verification(
        self, user: str | User, provider: IdentityProvider | str = "idin"
    ) -> SentMessage:
        """Ask a user to prove who they are, with a provider or the name of one, such as `idin` [V].

        Raises:
            InvalidInputError: the user cannot be verified with a provider of that name (any more).
            DeliveryUnknownError: the request may have been sent, and is never sent again.
        """
        user_id = user.id if isinstance(user, User) else user
        # The key goes by the order of the calls, not by when the providers have been read.
        key = None if self._scope is None else self._scope.next_key()
        if isinstance(provider, str):
            provider = await self._provider(user_id, provider)
        if key is None:
            return await self.handle.request_verification(user_id=user_id, provider_id=provider)
        return await self._services.outbox.request_verification(
            key, self.address, user_id, provider, retry_refused=self._is_taken_up()
        )

    def _is_taken_up(self) -> bool:
        """Whether a reply that was refused before was refused before a person took the event up again."""
        return self._scope is not None and self._scope.event.attempt == 1

    async def _provider(self, user_id: str, name: str) -> IdentityProvider:
        for found in await self._services.client.users.providers(user_id):
            if found.name == name:
                return found
        raise InvalidInputError(
            f"this user cannot be verified with {name!r}: the service does not offer it, or the user is"
            " verified with it already, which client.users.verifications(…) says. Nothing was sent."
        )

    async def _send(self, content: Content) -> SentMessage:
        if self._scope is not None:
            key, outbox = self._scope.next_key(), self._services.outbox
            return await outbox.send(key, self.address, content, retry_refused=self._is_taken_up())
        chat, question = self.handle, content.question
        if content.files:
            return await chat.upload(*content.files, body=content.body)
        if question is None:
            return await chat.send(content.body)
        return await chat.ask(
            content.body,
            options=question.options,
            users=question.users,
            multi_answer=question.multi_answer,
            style=question.style,
        )


EventT_co = TypeVar("EventT_co", bound=ChatEvent, covariant=True)


class InChat(Generic[EventT_co]):
    """What happened in a chat, as handlers see it: the chat to send to, and a reply."""

    __slots__ = ("_chat", "_event", "_scope")

    def __init__(self, scope: Scope, event: EventT_co) -> None:
        self._scope = scope
        self._event = event
        self._chat: BotChat | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self._event.chat.shown}>"

    @property
    def event(self) -> EventT_co:
        """The event itself."""
        return self._event

    @property
    def chat(self) -> BotChat:
        """The chat, to send to."""
        if self._chat is None:
            self._chat = BotChat(self._event.chat, self._scope.services, self._scope)
        return self._chat

    def in_scope(self, scope: Scope) -> Self:
        """Return the same with the replies of another scope."""
        other = copy(self)
        other._scope, other._chat = scope, None  # noqa: SLF001 - of this class
        return other

    @hides_awaited_arguments
    async def reply(  # noqa: PLR0913 - what a message has
        self,
        body: str,
        *,
        options: Iterable[Option] | type[Enum] | None = None,
        name: str | None = None,
        multi_answer: bool = False,
        style: Style = "horizontal",
        files: Sequence[FileToUpload] = (),
    ) -> SentMessage:
        """Send a text to the chat, with buttons or files: what `chat.send` and `chat.ask` do.

        Raises:
            InvalidInputError: there are files and options, or an argument cannot be right.
        """
        if options is None:
            return await self.chat.send(body, files=files)
        if files:
            raise InvalidInputError("a message has buttons or files, not both: send two. Nothing was sent.")
        return await self.chat.ask(body, options=options, name=name, multi_answer=multi_answer, style=style)


class IncomingMessage(InChat[MessageCreated | QuestionAnswered]):
    """A message that a user wrote, or a command that a user chose by a button (`is_pressed`)."""

    __slots__ = ("_message", "body", "folded", "text")

    is_pressed: bool = False
    """Whether it is a button of the bot's that stands for a command; its `event` is the answer then."""

    def __init__(self, scope: Scope, event: MessageCreated | QuestionAnswered, message: Message) -> None:
        # All of it is written out here: this runs for each message.
        self._scope = scope
        self._event = event
        self._message = message
        self._chat = None
        body = message.body or ""
        self.body: str = body
        """The text as it was written; empty where there are files alone."""
        if "[" in body and (found := _MENTION.match(body)) and found[1].lower() == scope.services.me.lower():
            body = body[found.end() :]
        text = body.strip()
        self.text: str = text
        """The text without blanks around, and without a mention of this bot that it begins with."""
        self.folded: str = text.lower() if text.isascii() else fold(text)
        """The `text` as it is compared: in lower case."""

    @property
    def id(self) -> str:
        """The message's id; of a button that was pressed, that of its question."""
        return self._event.message_id

    @property
    def user_id(self) -> str:
        """The sender's id. A message without a sender is handed to `@router.event` alone."""
        return self._message.sender_id or ""

    @property
    def user(self) -> User:
        """The sender; often known by `id` alone."""
        return self._message.user or User(self.user_id)

    @property
    def mentions(self) -> tuple[User, ...]:
        """Who is mentioned, each once; `@all` stands for everybody in the group."""
        return self._message.mentioned

    @property
    def is_to_bot(self) -> bool:
        """Whether the bot itself is mentioned; `@all` does not count."""
        if "[" not in self.body and not self._message.mentions:
            return False
        me = self._scope.services.me.lower()
        return any(user.id.lower() == me for user in self._message.mentioned)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files; `chat.handle.download(…)` reads one."""
        return self._message.attachments

    @property
    def sent_at(self) -> datetime:
        """When it was written, as the service says; as the gateway has it, when this program got it."""
        return self._message.created_at or self._event.received_at


class PressedCommand(IncomingMessage):
    """A command that was chosen by a button. Handlers see an `IncomingMessage`."""

    __slots__ = ()

    is_pressed: bool = True

    def __init__(self, scope: Scope, event: QuestionAnswered) -> None:
        super().__init__(
            scope, event, Message(event.message_id, body=event.options[0], user_id=event.user_id)
        )

    @property
    def is_to_bot(self) -> bool:
        """True: the button is the bot's own."""
        return True


class Answer(InChat[QuestionAnswered], Generic[O]):
    """What a user chose of a question's buttons, perhaps of a question that was sent last week.

    `Answer[Visit]` is that of `@router.answered("visit", options=Visit)`; without an enum, `Answer[str]`.
    """

    __slots__ = ("_asked", "_options")

    def __init__(self, scope: Scope, event: QuestionAnswered) -> None:
        super().__init__(scope, event)
        self._asked: KnownMessage | None = None
        self._options: tuple[object, ...] = event.options

    @property
    def id(self) -> str:
        """What tells this answer from all others, and says nothing of it: a hash.

        It is the same when the handler runs again, as well as for a second tap: an idempotency key for calls.
        """
        return self._scope.services.store.event_key(self._event.id)

    @property
    def question(self) -> str | None:
        """The question's name, or the campaign's; `None` where it has none, or was not asked by this bot."""
        return None if self._asked is None else self._asked.label or _campaign_of(self._asked)

    def is_to(self, question: str) -> bool:
        """Return whether it is of the question with this name, or of the campaign.

        Where a question of one campaign is named like another campaign, the name is the other campaign's.
        """
        return question in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which a handler may ask for it: the question's, and that of the campaign."""
        return () if self._asked is None else self._asked.names

    @property
    def key(self) -> str | None:
        """The key under which the question was sent: of a campaign, the recipient's."""
        return None if self._asked is None else self._asked.key

    @property
    def message_id(self) -> str:
        """The id of the question's message."""
        return self._event.message_id

    @property
    def options(self) -> tuple[O, ...]:
        """What was chosen: members of the enum, or names of options."""
        return cast("tuple[O, ...]", self._options)

    @property
    def option(self) -> O:
        """What was chosen first; a question with `multi_answer` has more in `options`."""
        return self.options[0]

    @property
    def user_id(self) -> str:
        """Who answered."""
        return self._event.user_id

    @property
    def user(self) -> User:
        """Who answered; known by `id` alone."""
        return User(self._event.user_id)


def _campaign_of(asked: KnownMessage) -> str | None:
    campaign: str | None = getattr(asked, "campaign", None)  # of a campaign's message alone
    return campaign


class _OfRequest(InChat[EventT_co]):
    __slots__ = ()

    @property
    def message_id(self) -> str:
        """The id of the message with the request, which `request_verification` returned."""
        return cast("VerificationAccepted", self._event).message_id

    @property
    def user_id(self) -> str | None:
        """Who was asked; `None` where the service does not say."""
        return cast("VerificationAccepted", self._event).user_id

    @property
    def user(self) -> User | None:
        """Who was asked; `None` where the service does not say."""
        return None if self.user_id is None else User(self.user_id)


class Verified(_OfRequest[VerificationAccepted]):
    """A user proved who they are."""

    __slots__ = ()


class NotVerified(_OfRequest[VerificationRejected]):
    """A user did not prove who they are. One that was missed is not learnt later: have a time limit too."""

    __slots__ = ()
