"""The vendor's example bot: `healthmsg bot run examples.vendor_bot.bot:bot`."""

import tempfile
from pathlib import Path
from typing import Final

from examples.vendor_bot import agreement, errands, form, groups, verify
from healthmsg import Option
from healthmsg.bot import Bot, BotChat, Dialogs, IncomingMessage, Router, Texts, command, in_group
from healthmsg.events import ConversationStarted, GroupChatCreated

router = Router("example bot")

PHOTO: Final = Path(__file__).with_name("bot.png")
COMMANDS: Final = (
    ("form", "Fill in a form by using a questionnaire", "Form", "blue"),
    ("photo", "Request a photo from me", "Photo", "yellow"),
    ("pdf", "Request a PDF chat log file from this chat", "PDF", "red"),
    ("ping", "Ping me", "Ping", "purple"),
    ("group", "Create a group chat", "Group", "green"),
    ("invite", "Invite a user into a new group chat", "Invite", "black"),
    ("agreement", "Make an agreement with one or more users", "Agreement", "orange"),
    ("verify", "Verify your account with my help", "Verify", "theme"),
)
HELP: Final = "Hello I am the Alterdesk Example Bot, here is a list of things I can do for you:\n"
HELP_BUTTON: Final = Option("Help", name="help", style="green")
UNKNOWN: Final = 'I did not understand what you said, type "help" to see what I can do for you.'


@router.message(command("help", "what", "support"))
async def help_(message: IncomingMessage) -> None:
    """List the commands, with a button for each."""
    lines = [f"\n • '{name}' - {what}" for name, what, _, _ in COMMANDS]
    buttons = [Option(label, name=name, style=style) for name, _, label, style in COMMANDS]
    await message.reply(HELP + "".join(lines), options=buttons)


@router.message(command("ping"))
async def ping(message: IncomingMessage) -> None:
    """Answer."""
    await message.reply("PONG!")


@router.message(command("photo"))
async def photo(message: IncomingMessage) -> None:
    """Send a picture."""
    await message.chat.upload(PHOTO, body="Here is the photo you requested")


@router.message(command("pdf"))
async def pdf(message: IncomingMessage) -> None:
    """Send what was said in the chat so far."""
    await message.reply("Generating pdf, one moment please")
    with tempfile.TemporaryDirectory() as folder:
        path = await message.chat.handle.download_pdf(to=Path(folder) / "Chat.pdf")
        await message.chat.upload(path)


@router.message(command("form"))
async def start_form(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Begin the form."""
    await dialogs.start(form.form, message)


@router.message(command("group"))
async def start_group(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Begin to ask for a group chat."""
    await dialogs.start(groups.group, message)


@router.message(command("invite"))
async def start_invite(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Begin to ask for a person."""
    await dialogs.start(groups.invite, message)


@router.message(command("agreement"), in_group)
async def start_agreement(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Begin to ask for an agreement."""
    await dialogs.start(agreement.agreement, message)


@router.message(command("agreement"))
async def no_agreement(message: IncomingMessage) -> None:
    """Say that it takes more than two."""
    await message.reply("Making an agreement is only available in group chats")


@router.message(command("verify"))
async def start_verify(message: IncomingMessage, dialogs: Dialogs) -> None:
    """Begin to ask for proof."""
    await dialogs.start(verify.verify, message)


@router.conversation_started
async def welcome(event: ConversationStarted, chat: BotChat) -> None:  # noqa: ARG001 - says which event
    """Welcome a new user."""
    await chat.ask("Welcome to the messenger!", options=[HELP_BUTTON])


@router.group_chat_created
async def thank(event: GroupChatCreated, chat: BotChat) -> None:  # noqa: ARG001 - says which event
    """Thank a new group."""
    await chat.ask("Thank you for adding me to the group!", options=[HELP_BUTTON])


@router.fallback
async def unknown(message: IncomingMessage) -> None:
    """Say that there is help."""
    await message.reply(UNKNOWN, options=[HELP_BUTTON])


def set_up(bot: Bot) -> None:
    """Put everything into a bot."""
    bot.include(router, form.router, groups.router, agreement.router, verify.router, errands.router)


def bot() -> Bot:
    """Return the bot."""
    made = Bot(store="vendor_bot.db", texts=Texts.english())
    set_up(made)
    return made
