"""The automatic `help` command: what the bot can do, made of its commands."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import field, frozen

from healthmsg.bot.filters import Command, Filter, command
from healthmsg.bot.incoming import IncomingMessage, Style

_WORDS: Final = ("help", "hulp")


@frozen
class Help:
    """The words of the automatic help, and what it says above the list of commands.

    It lists the commands that have a `help` text, and has a button for each with a `label`, as far as their
    other filters hold for the message. In a group it answers only when the bot is mentioned. A command of the
    bot's own with one of the words takes its place.
    """

    words: Sequence[str] = _WORDS
    text: str = "Dit kan ik voor u doen:"
    style: Style = "horizontal"
    """How the buttons stand."""


@frozen(eq=False)
class Entry:
    """A command, and the other conditions of its handler."""

    command: Command
    conditions: Sequence[Callable[[IncomingMessage], bool]] = field(repr=False)

    def is_for(self, message: IncomingMessage) -> bool:
        """Return whether it would be taken from the sender, in this chat."""
        return all(accepts(message) for accepts in self.conditions)


@frozen(eq=False)
class HelpCommand:
    """The handler of the automatic help."""

    help: Help
    entries: Sequence[Entry]

    def filter(self) -> Filter[IncomingMessage]:
        """Return when it is meant."""
        is_addressed: Filter[IncomingMessage] = Filter(
            lambda message: message.is_to_bot or not message.chat.kind.is_group
        )
        return command(*self.help.words) & is_addressed

    async def __call__(self, message: IncomingMessage) -> None:
        """Send what the bot can do."""
        entries = [one for one in self.entries if one.is_for(message)]
        lines = [f"• {one.command.words[0]}: {one.command.help}" for one in entries if one.command.help]
        buttons = [one.command.button for one in entries if one.command.button is not None]
        body = "\n".join([self.help.text, *lines])
        await message.reply(body, options=buttons or None, style=self.help.style)


def help_command(help_: Help, commands: Iterable[Entry]) -> HelpCommand | None:
    """Return the automatic help; `None` where there is nothing to say, or the bot has its own."""
    entries = tuple(commands)
    shown = tuple(one for one in entries if one.command.help or one.command.button is not None)
    taken = {name for one in entries for name in one.command.names}
    return HelpCommand(help_, shown) if shown and taken.isdisjoint(help_.words) else None
