"""What all dialogs of this bot have in common."""

from datetime import timedelta
from typing import Final

from healthmsg import Client, Option, User
from healthmsg.bot import Dialog

WAIT: Final = timedelta(minutes=2)
"""How long a question waits for its answer."""
STOP: Final = ("stop", "abort")
TOO_LATE: Final = "You waited too long to answer, stopped listening."


async def offer_again(d: Dialog, text: str, command: str, label: str) -> None:
    """Say how the dialog ended, with a button that starts it again: its name is the command."""
    await d.say(text, options=[Option(label, name=command, style="blue")])


def capitalized(text: str) -> str:
    """Return it with its first letter in upper case, and the others as they are: `an` is `An`."""
    return text[:1].upper() + text[1:]


def last_name(text: str) -> str:
    """Return it with the last word capitalized: `de boer` is `de Boer`."""
    *before, last = text.split(" ")
    return " ".join([*before, capitalized(last)])


async def completed(client: Client, chat: str, users: list[User]) -> list[User]:
    """Return users with their names, each once; all members of the group for one that stands for them."""
    found = await client.chat(chat).complete_mentions(users)
    return [*{user.id: user for user in found}.values()]


def shown(user: User) -> str:
    """Return a user's name, and the company's."""
    company = f" ({user.company_name})" if user.company_name else ""
    return f"{user.full_name or user.id}{company}"


def listed(users: list[User]) -> str:
    """Return users, each on a line of its own."""
    return "".join(f"\n    {shown(user)}" for user in users)
