"""Dialogs, as handlers work with them."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from healthmsg.bot.dialogs.engine import DialogEngine
from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.bot.dialogs.turn import EventScope
from healthmsg.bot.store.records import DialogRecord
from healthmsg.ids import ChatAddress


class InChat(Protocol):
    """What has the address of a chat."""

    @property
    def address(self) -> ChatAddress:
        """The chat."""


class FromUser(Protocol):
    """A message, an answer or the like: what a user did in a chat."""

    @property
    def chat(self) -> InChat:
        """Where."""

    @property
    def user_id(self) -> str | None:
        """Who."""


With = FromUser | tuple[ChatAddress | str, str]
"""Who a dialog is held with: who wrote or answered, or a chat and the id of a user in it."""


class Dialogs:
    """Starts and ends dialogs. There is at most one of a chat and user.

    Inside a handler all of it is done once, however often the event is handled: a dialog in the event's chat
    begins at once, one elsewhere when that chat has handled what came before.
    """

    __slots__ = ("_engine", "_scope")

    def __init__(self, engine: DialogEngine, scope: EventScope | None = None) -> None:
        self._engine = engine
        self._scope = scope

    async def start(
        self,
        dialog: RegisteredDialog[Any] | str,
        to: With,
        *args: object,
        answers: Mapping[str, object] | None = None,
    ) -> str:
        """Start a dialog with a user, and return its id.

        *answers*, by the keys of their questions, are checked as if they were typed, and their questions are
        not asked. One that is `None` is asked for; so is one that is no answer to its question, and the log
        names its key. At the end of the dialog the log names the keys of which no question has come. *args*
        come after the dialog's `Dialog`; what they do not fill is provided by type.

        Raises:
            DialogOpenError: one is open for this chat and user. Nothing was begun.
            ConfigurationError: the bot has no such dialog.
            NotKeptError: an argument or answer cannot be kept.
            CallError: it could not be found out who is in the chat.
            InvalidInputError: the user is not in this chat, or the service does not say so; or what is
                under a key of *answers* can be the answer to no question, such as bytes. Nothing was begun.
        """
        chat, user_id = _place(to)
        return await self._engine.start(self._scope, dialog, chat, user_id, args, answers)

    async def stop(self, to: With) -> bool:
        """End the dialog with a user, without a word. Return whether there was one."""
        return await self._engine.stop(self._scope, *_place(to))

    async def take_back(self, to: With) -> bool:
        """Take the chat back from a person: the dialog goes on. So does one that was held, if it fits now.

        Return whether there was one.
        """
        return await self._engine.take_back(self._scope, *_place(to))

    async def hand_over(self, to: With, reason: str, *, resume: Iterable[str] = ()) -> bool:
        """Hand the chat of an open dialog to a person, as `d.hand_over` does. Return whether there was one.

        Its question gets no answer: when the chat is taken back, the dialog sees `HandedOver` there.
        """
        return await self._engine.hand_over(self._scope, *_place(to), reason, resume)

    async def open(self, to: With) -> DialogRecord | None:
        """Return the dialog with a user, open or held."""
        return await self._engine.find(*_place(to))


def _place(to: With) -> tuple[ChatAddress, str]:
    if isinstance(to, tuple):
        chat, user_id = to
        return chat if isinstance(chat, ChatAddress) else ChatAddress.parse(chat), user_id
    return to.chat.address, to.user_id or ""
