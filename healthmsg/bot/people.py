"""Those who talk with a bot in a test: what they do, and what they see of it."""

from collections.abc import Awaitable, Callable, Sequence
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from healthmsg.models import Message, QuestionPayload, VerificationPayload

if TYPE_CHECKING:
    from datetime import datetime

    from healthmsg.sandbox import Sandbox, SandboxFile

Act = Callable[[Callable[[], object]], Awaitable[None]]
"""Does something, and waits until the bot is idle."""
SentFile = Path | tuple[str, bytes]
"""A file that is sent: by its path, or a name and what is in it."""
_ANY_TYPE: Final = "application/octet-stream"


@frozen
class Button:
    """A button of a question."""

    name: str
    label: str


@frozen
class SeenFile:
    """A file that the bot has sent."""

    name: str
    mime_type: str
    content: bytes = field(repr=False)


@frozen
class Seen:
    """A message of the bot's, as those in its chat see it."""

    id: str
    body: str
    buttons: tuple[Button, ...] = ()
    files: tuple[SeenFile, ...] = ()
    asks_for_verification: bool = False
    at: "datetime | None" = None
    """When it was sent, by the virtual clock, in whole seconds."""

    @property
    def options(self) -> tuple[str, ...]:
        """The labels of its buttons."""
        return tuple(button.label for button in self.buttons)


@frozen
class Talk:
    """A chat of the bot's."""

    address: str
    _sandbox: "Sandbox" = field(repr=False)
    _act: Act = field(repr=False)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages in it, the bot's and others', in order."""
        return self._sandbox.messages(self.address)

    @property
    def sees(self) -> list[Seen]:
        """The bot's messages in it, in order."""
        me = self._sandbox.user_id
        return [self._seen(message) for message in self.messages if message.sender_id == me]

    async def say(self, user: str, text: str, files: Sequence[SentFile] = ()) -> None:
        """Send a message as one of its members."""
        sent = [_sandbox_file(file) for file in files]
        await self._act(lambda: self._sandbox.say(user, self.address, text, files=sent))

    async def press(self, user: str, options: Sequence[str], of: str | None) -> None:
        """Press buttons of the last question that has them; of one with a given text."""
        message, names = self._question(options, of)
        await self._act(lambda: self._sandbox.answer(user, message.id, names))

    async def verify(self, user: str, *, accepted: bool) -> None:
        """Answer the last request for verification."""
        request = next((message for message in reversed(self.sees) if message.asks_for_verification), None)
        if request is None:
            raise AssertionError("the bot has not asked for verification here")
        await self._act(lambda: self._sandbox.verify(user, request.id, accepted=accepted))

    async def type(self, user: str, *, stopped: bool = False) -> None:
        """Begin to type, or stop."""
        await self._act(lambda: self._sandbox.type(user, self.address, stopped=stopped))

    def _question(self, options: Sequence[str], of: str | None) -> tuple[Seen, list[str]]:
        """Return the last question with these buttons, and their names."""
        for message in reversed(self.sees):
            names = [name for option in options if (name := _name_of(message, option)) is not None]
            if (of is None or message.body == of) and names and len(names) == len(options):
                return message, names
        there = [message.options for message in self.sees if message.buttons]
        raise AssertionError(f"the bot has asked nothing here with {', '.join(options)}; it asked: {there}")

    def _seen(self, message: Message) -> Seen:
        payload = message.payload
        options = payload.options if isinstance(payload, QuestionPayload) else ()
        return Seen(
            message.id,
            message.body or "",
            tuple(Button(option.name or "", option.label or "") for option in options),
            tuple(
                SeenFile(file.name or "", file.mime_type or "", self._sandbox.file_content(file.id))
                for file in message.attachments
            ),
            isinstance(payload, VerificationPayload),
            message.created_at,
        )


@frozen
class Group:
    """A group chat with the bot in it."""

    subject: str
    talk: Talk = field(repr=False)

    @property
    def address(self) -> str:
        """The chat's address: `groupchats/…`."""
        return self.talk.address

    @property
    def sees(self) -> list[Seen]:
        """The bot's messages in it, in order."""
        return self.talk.sees


@frozen
class Patient:
    """Someone who talks with the bot. Each thing they do returns when the bot is idle again.

    With `group`, it is done in a group chat that they are in, and else in their conversation with the bot.
    """

    name: str
    id: str
    talk: Talk = field(repr=False)

    @property
    def address(self) -> str:
        """The conversation's address: `conversations/…`."""
        return self.talk.address

    @property
    def sees(self) -> list[Seen]:
        """The bot's messages in the conversation, in order."""
        return self.talk.sees

    async def says(self, text: str, *, group: Group | None = None) -> None:
        """Send a text."""
        await self._in(group).say(self.id, text)

    async def answers(self, text: str, *, group: Group | None = None) -> None:
        """Answer a question by typing.

        Raises:
            AssertionError: the bot has said nothing yet that could be answered.
        """
        if not self._in(group).sees:
            raise AssertionError("the bot has asked nothing here")
        await self._in(group).say(self.id, text)

    async def presses(self, *options: str, of: str | None = None, group: Group | None = None) -> None:
        """Press a button, by its label or its name, of the last question that has it.

        Several are pressed at once where the question takes several. `of` is the question's whole text, for
        an older question than the last one.

        Raises:
            AssertionError: there is no such question.
        """
        await self._in(group).press(self.id, options, of)

    async def sends(self, *files: SentFile, text: str = "", group: Group | None = None) -> None:
        """Send files in one message: each a path, or a name and the bytes."""
        await self._in(group).say(self.id, text, files)

    async def verifies(self, *, accepted: bool = True, group: Group | None = None) -> None:
        """Answer the last request for verification: be verified, or refuse.

        Raises:
            AssertionError: there is none.
        """
        await self._in(group).verify(self.id, accepted=accepted)

    async def types(self, *, stopped: bool = False, group: Group | None = None) -> None:
        """Begin to type, or stop."""
        await self._in(group).type(self.id, stopped=stopped)

    def _in(self, group: Group | None) -> Talk:
        return self.talk if group is None else group.talk


def _name_of(message: Seen, option: str) -> str | None:
    by_label = (button.name for button in message.buttons if button.label == option)
    by_name = (button.name for button in message.buttons if button.name == option)
    return next(by_label, None) or next(by_name, None)


def _sandbox_file(file: SentFile) -> "SandboxFile":
    from healthmsg.sandbox import SandboxFile  # noqa: PLC0415 - aiohttp's server is loaded only when used

    name, content = (file.name, file.read_bytes()) if isinstance(file, Path) else file
    return SandboxFile(name, content, guess_type(name)[0] or _ANY_TYPE)
