"""The dialogs that a bot has, and those that are about to begin."""

import asyncio
from typing import Any

from attrs import define, field

from healthmsg.bot.dialogs.registration import RegisteredDialog
from healthmsg.errors import ConfigurationError, DialogOpenError


@define(eq=False)
class Registry:
    """The dialogs of a bot, by their names."""

    known: dict[str, RegisteredDialog[Any]] = field(factory=dict, init=False)

    def add(self, dialog: RegisteredDialog[Any]) -> None:
        """Add a dialog.

        Raises:
            ConfigurationError: there is another one of that name.
        """
        if self.known.setdefault(dialog.name, dialog) is not dialog:
            raise ConfigurationError(
                f"{dialog.where} and {self.known[dialog.name].where}: two dialogs are called"
                f" {dialog.name}. Name one of them with @router.dialog(name=...)."
            )
        dialog.look_again()

    def require(self, dialog: RegisteredDialog[Any] | str) -> RegisteredDialog[Any]:
        """Return a dialog.

        Raises:
            ConfigurationError: the bot has none of that name.
        """
        name = dialog if isinstance(dialog, str) else dialog.name
        found = self.known.get(name)
        if found is None:
            raise ConfigurationError(
                f"The bot has no dialog {name}. Register it with @router.dialog in a router of the bot."
            )
        return found


@define(eq=False)
class Beginnings:
    """Dialogs that were asked for outside of any event, as far as it is waited for that they begin."""

    _awaited: "dict[str, asyncio.Future[bool | DialogOpenError]]" = field(factory=dict, init=False)

    async def wait(self, dialog: str, within: float) -> bool:
        """Wait until a dialog has begun, and return whether it has in that time.

        False too where its code has failed: then its event is handled again.

        Raises:
            DialogOpenError: another one has begun before it.
        """
        begins: asyncio.Future[bool | DialogOpenError] = asyncio.get_running_loop().create_future()
        self._awaited[dialog] = begins
        try:
            async with asyncio.timeout(within):
                result = await begins
        except TimeoutError:
            return False
        finally:
            del self._awaited[dialog]
        if isinstance(result, DialogOpenError):
            raise result
        return result

    def note(self, dialog: str, *, has_begun: bool, refused: DialogOpenError | None = None) -> bool:
        """Note whether a dialog has begun, or why it will not; return whether that is waited for."""
        begins = self._awaited.get(dialog)
        if begins is None or begins.done():
            return False
        begins.set_result(has_begun if refused is None else refused)
        return True
